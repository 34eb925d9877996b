"""For tests only, and public: an engine process, clocks, a network in memory. Nothing that ships imports this.

The testing engine speaks the OpenAI dialect from a process of its own and is reached through the ordinary upstream
adapter, so no fake stands on a production path. It says what it is in every answer. The network in
memory keeps the contract of ``tirami.net.transport``. ``tirami.testing.rogue`` is a node that cheats, and
``tirami.testing.ahead`` starts any program on a clock that is ahead.
"""

from tirami.testing.clock import ManualClock
from tirami.testing.links import Link, Traffic
from tirami.testing.loop import Deadlock, VirtualClock, VirtualTimeLoop, run_virtually
from tirami.testing.network import MemoryEndpoint, MemoryNetwork
from tirami.testing.process import EngineProcess, RunningEngine, start_engine
from tirami.testing.streams import MemoryConnection, MemoryStream

__all__ = [
    "Deadlock",
    "EngineProcess",
    "Link",
    "ManualClock",
    "MemoryConnection",
    "MemoryEndpoint",
    "MemoryNetwork",
    "MemoryStream",
    "RunningEngine",
    "Traffic",
    "VirtualClock",
    "VirtualTimeLoop",
    "run_virtually",
    "start_engine",
]
