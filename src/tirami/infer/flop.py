"""Floating point operations of one answer, as a formula of model and counts.

Source: mission rows GEN-04 and L1-31. A token costs ``2·N_active`` (one multiply and one add for every weight
it touches) plus the attention term ``4·L·h·c``: in each of ``L`` layers of width ``h`` the token at context
position ``c`` is compared with ``c`` keys and sums ``c`` values, at 2 operations an element each. Both sides
of a trade compute the same integer; what a prefix cache saved is not subtracted.
"""

from tirami.core.units import Flop
from tirami.infer.engine import ModelCard


def flop(card: ModelCard, prompt_tokens: int, completion_tokens: int) -> Flop:
    """Exact operations for reading the prompt and writing the answer.

    Summed over the positions ``c = 1 … n`` of the ``n`` tokens, in closed form:
    ``Σ (2·N + 4·L·h·c) = 2·N·n + 2·L·h·n·(n + 1)``.

    Args:
        card: the model; the attention term is 0 where its layers or width are unknown (an upstream).
        prompt_tokens: tokens read.
        completion_tokens: tokens generated.
    """
    tokens = prompt_tokens + completion_tokens
    weights = 2 * card.active_parameters * tokens
    attention = 2 * card.layers * card.hidden * tokens * (tokens + 1)
    return Flop(weights + attention)
