"""Engines, model catalogue and downloads, GGUF metadata, FLOP metering (room L0)."""

from tirami.core.config import default_models_dir
from tirami.infer.calls import CallDelta, CallReader, TextDelta
from tirami.infer.card import read_card
from tirami.infer.catalogue import CATALOGUE
from tirami.infer.chat import unrendered
from tirami.infer.child import ChildEngine
from tirami.infer.counting import Count
from tirami.infer.digests import DigestBook
from tirami.infer.download import Progress
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
    TokenLogprob,
)
from tirami.infer.flop import flop
from tirami.infer.gguf import Header
from tirami.infer.memory import memory_bytes
from tirami.infer.metadata_block import MAX_BLOCK_BYTES, BlockCache, MetadataBlock
from tirami.infer.models import LocalModel, available, installed, known_digests, pinned, remove, resolve
from tirami.infer.pins import Pins
from tirami.infer.prompter import Prompter, Prompters
from tirami.infer.shaping import ANY_OBJECT, Shaping
from tirami.infer.size import ModelSize
from tirami.infer.sources import Source, SourceKind
from tirami.infer.tokenizer import Tokenizer
from tirami.infer.tools import Tools
from tirami.infer.upstream import UpstreamEngine
from tirami.infer.wording import shown

__all__ = [
    "ANY_OBJECT",
    "CATALOGUE",
    "MAX_BLOCK_BYTES",
    "BlockCache",
    "CallDelta",
    "CallReader",
    "ChildEngine",
    "Chunk",
    "Count",
    "CountedBy",
    "DigestBook",
    "Engine",
    "EngineStatus",
    "FinishReason",
    "Generation",
    "Header",
    "LocalModel",
    "Message",
    "MetadataBlock",
    "ModelCard",
    "ModelSize",
    "Pins",
    "Progress",
    "Prompt",
    "Prompter",
    "Prompters",
    "Reading",
    "Sampling",
    "Shaping",
    "Source",
    "SourceKind",
    "TextDelta",
    "TokenLogprob",
    "Tokenizer",
    "Tools",
    "UpstreamEngine",
    "available",
    "default_models_dir",
    "flop",
    "installed",
    "known_digests",
    "memory_bytes",
    "pinned",
    "read_card",
    "remove",
    "resolve",
    "shown",
    "unrendered",
]
