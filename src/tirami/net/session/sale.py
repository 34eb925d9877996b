"""How one session ended for the provider: what it handed out, what was signed for, what it lost (PROTOCOL B11)."""

from dataclasses import dataclass

from tirami.core.keys import PublicKey
from tirami.core.units import TokenCount, Trm
from tirami.infer import FinishReason, Reading
from tirami.proto import Quote, amount_due


@dataclass(frozen=True, slots=True)
class Sale:
    """A session that was accepted, and is over.

    Attributes:
        reading: of the engine; ``None`` when it never began.
        sent: tokens handed to the payer.
        due: tokens of them that are paid for (B10).
        vouched: tokens it signed for.
        unpaid: what the rest of those due would have cost, TRM. At most the prompt's price and the window K, or a
            piece larger than half of K: a character of many tokens, or the payer's own stop text.
    """

    model: str
    payer: PublicKey
    reason: FinishReason
    reading: Reading | None
    sent: TokenCount
    due: TokenCount
    vouched: TokenCount
    unpaid: Trm


def unpaid(quote: Quote, due: int, vouched: int) -> Trm:
    """What ``due`` tokens cost above what ``vouched`` ones do."""
    if due <= vouched:
        return Trm(0)
    cost = amount_due(quote.price_in, quote.price_out, quote.prompt_tokens, due)
    paid = amount_due(quote.price_in, quote.price_out, quote.prompt_tokens, vouched) if vouched else Trm(0)
    return Trm(cost - paid)
