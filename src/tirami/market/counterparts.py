"""The other side of a session, where it is another node: what it offered, and how it is paid (ARCHITECTURE §5)."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from tirami.core.keys import Digest, Signature
from tirami.core.units import TokenCount
from tirami.infer import Generation, ModelCard
from tirami.proto import Acceptance, Quote, Signed, SignedBody


class Counterpart(Protocol):
    """A provider at the other end of a stream. Nothing here raises because it is gone."""

    @property
    def window(self) -> TokenCount:
        """Tokens it lets run ahead of the vouchers (B11)."""

    @property
    def gone(self) -> bool:
        """Whether it can no longer be reached: nothing more is signed for then."""

    async def pay(self, voucher: Signed) -> None:
        """Send a voucher, which is durable here already."""

    async def countersigned(self, record_id: Digest) -> Signature | None:
        """Its signature under the last voucher's trade; ``None`` when it does not come in time: the rest is owed."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A signed quote: this node's own, or another's, checked against what was asked.

    Attributes:
        quote, signed, record_id: what it signed, as bytes and by name.
        secret: start of the running hash, derived from both nonces (B12).
        card: the model as the provider describes it.
        work: sends the acceptance, where it has to go anywhere, and yields the answer.
        counterpart: to pay and to be countersigned by; ``None`` where this node itself serves.
    """

    quote: Quote
    signed: SignedBody
    record_id: Digest
    secret: bytes
    card: ModelCard
    work: Callable[[Acceptance, Signed], AbstractAsyncContextManager[Generation]]
    counterpart: Counterpart | None


def signed_from(window: int) -> int:
    """Unsigned tokens from which on a payer signs: half of the window, so that its provider never waits."""
    return max(1, window // 2)
