"""Records that peers bring, on their way into the book: checked off the event loop, charged, written."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Sequence
from typing import Final

from tirami.core.clock import Clock
from tirami.core.errors import InvalidProof, VerificationError, WireError
from tirami.core.keys import PublicKey
from tirami.core.units import Trm
from tirami.ledger import Account, Admitted, Ledger, admit
from tirami.net.shared import is_local, record_id
from tirami.net.unfunded import Unfunded
from tirami.proto import Envelope

SOURCES: Final = 100_000
"""Records of which is known who brought them."""
REFUSED: Final = 16_384
"""Records that had no place: nobody checks them again while nothing has changed."""
REFUSED_S: Final = 600.0
"""After this there may be a place all the same."""


class Intake:
    """Of one ledger."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._unfunded = Unfunded(self._is_settled)
        self._source: OrderedDict[bytes, PublicKey] = OrderedDict()
        self._refused: OrderedDict[bytes, tuple[Account, Trm, float]] = OrderedDict()
        """Which account had too little, how much that was, and when."""
        self.taken = 0
        """Records that the book took."""

    def source(self, record_id: bytes) -> PublicKey | None:
        """Who brought a record; it is not told to them."""
        return self._source.get(record_id)

    async def take(self, source: PublicKey, envelopes: Sequence[Envelope], *, same_file: bool = True) -> int:
        """Book what is new and has a place; returns how many, once they are durable.

        Args:
            same_file: whether who brought them has this network file, byte by byte. Else it may know issuers and
                lines that this one does not name: a grant of those is left out, and blames nobody.

        Raises ``WireError`` for a record that is none; ``StorageUnavailable``: what was not written comes again.
        """
        new = [envelope for envelope in envelopes if self._is_news(record_id(envelope))]
        if not new:
            return 0
        try:
            admitted = await asyncio.to_thread(self._admit, new, same_file)
        except VerificationError as error:
            raise WireError(f"a record that is none: {error.message}") from error
        if any(is_local(envelope) for envelope in new):
            raise WireError("a record of local scope is nobody else's business")
        return await self._write(source, admitted)

    def _admit(self, envelopes: Sequence[Envelope], same_file: bool) -> list[Admitted]:
        admitted = []
        for envelope in envelopes:
            try:
                admitted.append(admit(envelope, self._ledger.network))
            except InvalidProof:
                if same_file or envelope.kind != "grant":
                    raise
        return admitted

    async def _write(self, source: PublicKey, admitted: Sequence[Admitted]) -> int:
        written: Awaitable[None] | None = None
        taken = 0
        for one in admitted:
            if one.record_id in self._ledger.state.book:
                continue
            if not self._affords(source, one):
                self._refuse(one)
                continue
            written = self._ledger.append([one.envelope], one)
            self._source[one.record_id] = source
            taken += 1
        while len(self._source) > SOURCES:
            self._source.popitem(last=False)
        if written is not None:
            await written
        self.taken += taken
        return taken

    def _affords(self, source: PublicKey, admitted: Admitted) -> bool:
        """Storing is not honouring (B16): records nothing covers are bounded for payer and peer."""
        account, debit = admitted.demand.account, admitted.demand.debit
        state, (incarnation, number, _) = self._ledger.state, debit.order
        late = state.succession.too_late(account.owner, incarnation, number)  # of a key that has ended: no funding
        idle = {state.book.outdone(account, debit)}  # of two trades of one session one never counts
        if late or not state.book.covers(account, debit):
            idle.add(admitted.record_id)
        now = self._clock.monotonic()
        return all(self._unfunded.take(one, account.owner, source, now) for one in idle if one is not None)

    def _is_news(self, record_id: bytes) -> bool:
        if record_id in self._ledger.state.book:
            return False
        if (refused := self._refused.get(record_id)) is None:
            return True
        account, means, since = refused
        if means == self._ledger.state.book.means(account) and self._clock.monotonic() - since < REFUSED_S:
            return False
        del self._refused[record_id]
        return True

    def _refuse(self, admitted: Admitted) -> None:
        account = admitted.demand.account
        self._refused[admitted.record_id] = account, self._ledger.state.book.means(account), self._clock.monotonic()
        while len(self._refused) > REFUSED:
            self._refused.popitem(last=False)

    def _is_settled(self, record_id: bytes) -> bool:
        book = self._ledger.state.book
        return record_id not in book or book.is_applied(record_id)
