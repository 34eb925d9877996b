"""Engines, models and metering: everything that answers a prompt; knows nothing of money."""

from tirami.infer.engine import (
    Chunk,
    CountedBy,
    Engine,
    EngineStatus,
    FinishReason,
    Generation,
    Message,
    ModelCard,
    Prompt,
    Reading,
    Sampling,
)
from tirami.infer.flop import flop

__all__ = [
    "Chunk",
    "CountedBy",
    "Engine",
    "EngineStatus",
    "FinishReason",
    "Generation",
    "Message",
    "ModelCard",
    "Prompt",
    "Reading",
    "Sampling",
    "flop",
]
