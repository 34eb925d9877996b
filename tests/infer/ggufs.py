"""Small GGUF files: whole ones by the library's writer, broken ones by hand."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

NORMAL, CONTROL, BYTE = 1, 3, 6
F16 = 1

Tensors = Mapping[str, "numpy.typing.NDArray[numpy.float32]"]


def write_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    numbers: Mapping[str, int] | None = None,
    tokens: Sequence[bytes] = (),
    kinds: Sequence[int] = (),
    tokenizer: str = "gpt2",
    tensors: Tensors | None = None,
    quantized: Mapping[str, GGMLQuantizationType] | None = None,
) -> Path:
    """A file of ``numbers`` (keys below the architecture unless they start with ``general.``) and ``tensors``."""
    writer = GGUFWriter(path, architecture)
    for key, value in {"block_count": 2, "embedding_length": 32, "context_length": 64, **(numbers or {})}.items():
        writer.add_uint32(key if key.startswith("general.") else f"{architecture}.{key}", value)
    if tokens:
        writer.add_tokenizer_model(tokenizer)
        writer.add_token_list(list(tokens))
        writer.add_token_types(list(kinds) or [NORMAL] * len(tokens))
    for name, values in (tensors if tensors is not None else {"token_embd.weight": matrix(8, 32)}).items():
        kind = (quantized or {}).get(name)
        writer.add_tensor(name, values if kind is None else quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_header(
    path: Path, *, architecture: str, numbers: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]
) -> Path:
    """A file that describes tensors of these shapes and holds none of their weights."""
    pairs = b"".join(text(f"{architecture}.{key}") + u32(4) + u32(value) for key, value in numbers.items())
    tensors = b"".join(
        text(name) + u32(len(shape)) + b"".join(u64(size) for size in shape) + u32(F16) + u64(0)
        for name, shape in shapes.items()
    )
    described = named("general.architecture", architecture) + pairs + tensors
    path.write_bytes(head(len(shapes), 1 + len(numbers)) + described + bytes(1024))
    return path


def matrix(rows: int, columns: int, seed: int = 0) -> Any:
    return numpy.random.default_rng(seed).standard_normal((rows, columns)).astype(numpy.float32)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return u64(len(data)) + data


def head(tensors: int = 0, pairs: int = 0, *, magic: bytes = b"GGUF", version: int = 3) -> bytes:
    return magic + u32(version) + u64(tensors) + u64(pairs)


def named(name: str, value: str) -> bytes:
    """A pair of a key and a text."""
    return text(name) + u32(8) + text(value)
