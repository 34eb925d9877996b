"""For tests only, and public: an engine process, a clock that stands still. Nothing that ships imports this.

The testing engine speaks the OpenAI dialect from a process of its own and is reached through the ordinary upstream
adapter, so no fake stands on a production path. It says what it is in every answer.
"""

from tirami.testing.clock import ManualClock
from tirami.testing.process import EngineProcess, RunningEngine, start_engine

__all__ = ["EngineProcess", "ManualClock", "RunningEngine", "start_engine"]
