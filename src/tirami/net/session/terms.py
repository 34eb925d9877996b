"""What both sides of a session keep to: who may say what, how long they wait, how far an answer runs ahead."""

from typing import Final

from tirami.core.units import MICRO, TokenCount, Trm
from tirami.net.frames import registry
from tirami.proto import (
    Accept,
    Ask,
    Cancel,
    Finish,
    Offer,
    Parameters,
    Payment,
    Piece,
    Refused,
    Settled,
    Working,
    amount_due,
)

IDLE_S: Final = 20.0
"""Seconds without a word after which the other side counts as gone."""
WORKING_S: Final = 0.5
"""Seconds between two words of a provider whose engine has not begun to answer yet."""
IMPATIENT_S: Final = 1.5
"""Seconds without a word, before the first token, after which a payer who can ask somebody else does."""
PROMPTLY_S: Final = 2.0
"""Seconds in which a provider takes an acceptance, or a cancellation: somebody may wait for another answer."""
SESSION_S: Final = 30 * 60.0
"""Seconds a session may last: its provider ends it then, and its payer soon after, whoever still speaks."""
FIRST_S: Final = 60.0
READ_S: Final = 0.05
"""Seconds a payer waits for the first piece, whatever the provider says meanwhile, and more for each prompt token."""
ASKS: Final = registry(Ask)
TO_PROVIDER: Final = registry(Accept, Payment, Cancel)
TO_CONSUMER: Final = registry(Offer, Working, Piece, Finish, Settled, Refused)


def window(parameters: Parameters, price_out: int, *, known: bool = False) -> TokenCount:
    """K: how many tokens may run ahead of the vouchers: 16, or what 10 TRM pay for, at least one (B11).

    Args:
        parameters: of the network file.
        price_out: µTRM a completion token.
        known: no stranger, for a provider that chose to trust it: 64, or what U pays for, what the two may trade a day.
    """
    most, trusted = parameters.voucher_tokens, Trm(parameters.unwitnessed_daily_limit)
    if not known:
        most, trusted = min(most, parameters.stranger_tokens), Trm(parameters.voucher_trm)
    return TokenCount(max(1, min(most, trusted * MICRO // max(1, price_out))))


def afforded(price_in: int, price_out: int, prompt_tokens: int, ceiling: Trm, most: int) -> TokenCount:
    """Completion tokens a ceiling pays for, ``most`` at most: the provider stops there."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if amount_due(price_in, price_out, prompt_tokens, middle) <= ceiling:
            low = middle
        else:
            high = middle - 1
    return TokenCount(low)
