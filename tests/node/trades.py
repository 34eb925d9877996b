"""Many booked trades without an engine or a signature: what the journal admits when it reads itself."""

from collections.abc import Iterator

import msgspec

from tests.proto.samples import ACCEPTANCE, TRADE
from tirami.core.keys import PublicKey, sha256
from tirami.ledger import Ledger
from tirami.proto import Acceptance, Envelope, encode

GROUP = 1_000
NO_SIGNATURE = bytes(64)


async def book_trades(ledger: Ledger, provider: PublicKey, count: int, payers: int) -> None:
    """Book ``count`` network trades of 9 tokens for 9 TRM each, by ``payers`` in turn."""
    waiting: list[Envelope] = []
    for envelope in _envelopes(ledger, provider, count, payers):
        waiting.append(envelope)
        if len(waiting) == GROUP:
            await ledger.append(waiting)
            waiting = []
    if waiting:
        await ledger.append(waiting)


def _envelopes(ledger: Ledger, provider: PublicKey, count: int, payers: int) -> Iterator[Envelope]:
    change = msgspec.structs.replace
    for number in range(count):
        payer = sha256(b"payer", (number % payers).to_bytes(4))
        parties = {"network": ledger.network.id, "scope": 0, "payer": payer, "provider": provider}
        at_ms = ledger.now()
        acceptance = change(ACCEPTANCE, **parties, incarnation=0, number=number + 1, settled=0, open=(), at_ms=at_ms)
        body = encode(acceptance)
        trade = change(
            TRADE,
            **parties,
            incarnation=0,
            session=number + 1,
            quote_hash=acceptance.quote_hash,
            acceptance_hash=sha256(Acceptance.TAG, body),
            price_in=0,
            price_out=1_000_000,
            completion_tokens=9,
            amount=9,
            at_ms=at_ms,
        )
        yield Envelope("trade", encode(trade), (NO_SIGNATURE, NO_SIGNATURE), (body, NO_SIGNATURE))
