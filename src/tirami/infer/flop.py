"""FLOP of an answer: ``2·N_active`` a token plus the attention term ``4·L·h·c`` (spec 08 §3.1)."""

from tirami.core.units import Flop
from tirami.infer.engine import ModelCard


def flop(card: ModelCard, prompt_tokens: int, completion_tokens: int) -> Flop:
    """Exact integer FLOP of reading ``prompt_tokens`` and writing ``completion_tokens``.

    The token at position i attends to i + 1 positions, so the attention sum over n tokens is n(n + 1)/2.
    """
    tokens = prompt_tokens + completion_tokens
    weights = 2 * card.active_parameters * tokens
    attention = 2 * card.layers * card.hidden * tokens * (tokens + 1)
    return Flop(weights + attention)
