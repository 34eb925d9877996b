"""Tickets: what one admitted request may do, held in memory and used once."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from tirami.core.errors import Conflict
from tirami.core.keys import Digest, PublicKey
from tirami.core.units import Trm
from tirami.infer import Generation, ModelCard, Prompt, Sampling
from tirami.ledger import Payer, Price
from tirami.market.counterparts import Counterpart
from tirami.proto import Acceptance

Work = Callable[[], AbstractAsyncContextManager[Generation]]
"""Something an engine does for a payer."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to be served once, at most ``ceiling`` TRM.

    Attributes:
        hold_id: 16 random bytes; the journaled hold behind this ticket.
        payer, provider: both keys of the trade to come.
        acceptance: what the payer signed.
        quote_hash, acceptance_hash: record ids of both.
        work: what the engine is to do.
        secret: start of the running hash (PROTOCOL B12); never stored.
        request_id: the id that runs through HTTP, engine and journal.
        counterpart: the provider, where it is another node.
    """

    hold_id: bytes
    payer: Payer
    provider: PublicKey
    card: ModelCard
    prompt: Prompt
    sampling: Sampling
    work: Work
    price: Price
    ceiling: Trm
    quote_hash: Digest
    acceptance_hash: Digest
    acceptance: Acceptance
    secret: bytes
    request_id: str
    counterpart: Counterpart | None = None


class TicketOffice:
    """Knows which tickets are good: each is taken in once, by the payer it was issued to."""

    def __init__(self) -> None:
        self._valid: dict[bytes, Ticket] = {}

    @property
    def ids(self) -> set[bytes]:
        """Hold ids of tickets not used yet."""
        return set(self._valid)

    def issue(self, ticket: Ticket) -> None:
        self._valid[ticket.hold_id] = ticket

    def take(self, ticket: Ticket, payer: PublicKey) -> None:
        """Raises ``Conflict`` for a ticket used before, expired, unknown or of somebody else."""
        if self._valid.get(ticket.hold_id) is not ticket or ticket.payer.key != payer:
            raise Conflict("this ticket is not valid: used before, expired, or issued to somebody else")
        del self._valid[ticket.hold_id]

    def forget(self, hold_id: bytes) -> Ticket | None:
        """Take an unused ticket back; ``None`` when it was used or never existed."""
        return self._valid.pop(hold_id, None)
