"""Metadata blocks without a model, and the least models that llama.cpp loads with a tokenizer of ours."""

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gguf import GGUFWriter

from tests.infer.ggufs import CONTROL, NORMAL, head, matrix, text, u32, u64
from tirami.core.keys import sha256
from tirami.infer.metadata_block import MetadataBlock

USER_DEFINED = 4
HIDDEN = 32
REPOSITORY = Path(__file__).resolve().parents[2]


def block(pairs: Mapping[str, object]) -> MetadataBlock:
    data = packed(pairs)
    return MetadataBlock.of_bytes(data, sha256(data))


def packed(pairs: Mapping[str, object]) -> bytes:
    """Keys below ``tokenizer.ggml.`` unless they hold a dot; numbers are unsigned, arrays of what is in them."""
    told = {"general.architecture": "llama", **pairs}
    return head(0, len(told)) + b"".join(
        text(key if "." in key else f"tokenizer.ggml.{key}") + _value(value) for key, value in told.items()
    )


def _value(value: object) -> bytes:
    match value:
        case bool():
            return u32(7) + bytes([value])
        case int():
            return u32(4) + u32(value)
        case str() | bytes():
            return u32(8) + text(value)
        case [str() | bytes(), *_] | []:
            return u32(9) + u32(8) + u64(len(value)) + b"".join(map(text, value))
        case [int(), *_]:
            return u32(9) + u32(5) + u64(len(value)) + struct.pack(f"<{len(value)}i", *value)
        case [float(), *_]:
            return u32(9) + u32(6) + u64(len(value)) + struct.pack(f"<{len(value)}f", *value)
    raise AssertionError(value)


def alphabet() -> list[str]:
    """The letters of byte-level BPE, in the order of the bytes."""
    printing = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printing]
    return [chr(byte) if byte in printing else chr(256 + others.index(byte)) for byte in range(256)]


def byte_level(pre: str, merges: Sequence[str] = (), added: Mapping[str, int] = {}, **more: object) -> dict[str, Any]:
    """A byte-level tokenizer: token n is byte n, then what the merges make, then ``added`` tokens with their kinds."""
    made = dict.fromkeys(merge.replace(" ", "") for merge in merges)
    tokens = [*alphabet(), *made]
    return {
        "model": "gpt2",
        "pre": pre,
        "tokens": [*tokens, *added],
        "token_type": [*[NORMAL] * len(tokens), *added.values()],
        "merges": list(merges),
        **more,
    }


def sentence_piece(pieces: Iterable[str], added: Mapping[str, int] = {}, **more: object) -> dict[str, Any]:
    """A SentencePiece tokenizer: unknown, begin, end, 256 bytes, ``pieces`` with falling scores, ``added`` tokens."""
    pieces = list(dict.fromkeys(pieces))
    special = {"<unk>": 2, "<s>": CONTROL, "</s>": CONTROL, **{f"<0x{byte:02X}>": 6 for byte in range(256)}}
    return {
        "model": "llama",
        "tokens": [*special, *pieces, *added],
        "token_type": [*special.values(), *[NORMAL] * len(pieces), *added.values()],
        "scores": [*[0.0] * len(special), *[-float(rank) for rank in range(len(pieces))], *[0.0] * len(added)],
        **more,
    }


@cache
def learned_merges(count: int = 1200) -> tuple[str, ...]:
    """Merges learned from this repository's own text without a pre-tokenizer: they cross every place where one cuts."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    learner = Tokenizer(BPE())
    learner.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = BpeTrainer(vocab_size=256 + count, initial_alphabet=alphabet(), show_progress=False)
    learner.train_from_iterator([line[:60] for line in repository_lines()], trainer)
    return tuple(" ".join(merge) for merge in json.loads(learner.to_str())["model"]["merges"])


def repository_lines() -> list[str]:
    """Prose and code at hand."""
    files = [*sorted(REPOSITORY.glob("src/**/*.py"))[:60], *sorted(REPOSITORY.glob("docs/*.md"))]
    return [line for file in files for line in file.read_text().splitlines()]


def write_model(path: Path, pairs: Mapping[str, Any]) -> Path:
    """A llama of one layer and random weights with this tokenizer."""
    writer = GGUFWriter(path, "llama")
    for key, number in {
        "block_count": 1, "embedding_length": HIDDEN, "context_length": 512, "feed_forward_length": HIDDEN,
        "attention.head_count": 2, "attention.head_count_kv": 2, "rope.dimension_count": 16,
        "vocab_size": len(pairs["tokens"]),
    }.items():  # fmt: skip
        writer.add_uint32(f"llama.{key}", number)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    for key, value in pairs.items():
        name = key if "." in key else f"tokenizer.ggml.{key}"
        match value:
            case bool():
                writer.add_bool(name, value)
            case int():
                writer.add_uint32(name, value)
            case str():
                writer.add_string(name, value)
            case _:
                writer.add_array(name, value)
    writer.add_tensor("token_embd.weight", matrix(len(pairs["tokens"]), HIDDEN))
    writer.add_tensor("output_norm.weight", matrix(1, HIDDEN)[0])
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", matrix(1, HIDDEN)[0])
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", matrix(HIDDEN, HIDDEN))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
