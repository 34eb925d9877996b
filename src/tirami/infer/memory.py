"""What an engine child takes of this machine's memory, told from the header of its model file.

The weights are mapped as they lie in the file. Each of ``slots × context`` positions keeps a key and a value of 16-bit
numbers in every layer. The rest is the interpreter with the library, and what one batch of tokens is computed in: each
needs a row of 32-bit logits.
"""

from typing import Final

from tirami.infer.batch import batch_tokens
from tirami.infer.embedding import declared_pooling
from tirami.infer.gguf import Header

KV_NUMBER_BYTES: Final = 2
BASE_BYTES: Final = 64 << 20
"""The child's own process: interpreter, library, threads (measured)."""


def memory_bytes(header: Header, size_bytes: int, *, slots: int, context: int) -> int:
    """Resident bytes of a child that serves this file, an estimate from above.

    Args:
        header: of the model file.
        size_bytes: of the whole file.
        slots: answers at once.
        context: tokens of one slot; as served, so at most what the model was trained for.
    """
    positions = slots * context
    logits = batch_tokens(declared_pooling(header), slots=slots, context=context) * _vocabulary(header) * 4
    return size_bytes + positions * kv_bytes_per_token(header) + logits + BASE_BYTES


def kv_bytes_per_token(header: Header) -> int:
    """Bytes of keys and values of one position over all layers."""
    layers, heads = header.number("block_count"), header.number("attention.head_count")
    width = header.number("embedding_length") // max(heads, 1)
    key = header.number("attention.key_length") or width
    value = header.number("attention.value_length") or width
    a_layer = header.numbers(f"{header.architecture}.attention.head_count_kv")
    kv_heads = sum(a_layer) if a_layer else layers * (header.number("attention.head_count_kv") or max(heads, 1))
    return kv_heads * (key + value) * KV_NUMBER_BYTES


def _vocabulary(header: Header) -> int:
    span = header.arrays.get("tokenizer.ggml.tokens")
    return span.count if span else header.number("vocab_size")
