"""How many tokens an engine child computes at once: its physical batch.

Small, for a batch is not interrupted: it is how long a closed connection goes unnoticed. llama.cpp reserves a graph in
which every slot has as many tokens, and asserts that they fill the batch, so a batch is a multiple of the slots.
"""

from typing import Final

BATCH: Final = 64
"""Tokens at least. Larger values delay cancellation and read prompts no faster."""
MOST_SLOTS: Final = 256
"""What llama.cpp can compute at once (its ``LLAMA_MAX_SEQ``)."""


def batch_tokens(pooling: str | None, *, slots: int, context: int) -> int:
    """Tokens of one physical batch.

    Args:
        pooling: how the model says its vectors are made; such a model reads a whole input at once.
        slots: answers at once.
        context: tokens of one slot.
    """
    least = context if pooling else BATCH
    return -(-least // slots) * slots
