"""Trades without an engine: one that both have signed, or many without signatures, as the journal admits its own."""

from collections.abc import Iterator

import msgspec

from tests.proto.samples import ACCEPTANCE, TRADE
from tirami.core.keys import PublicKey, SigningKey, sha256
from tirami.ledger import Ledger
from tirami.proto import Acceptance, Envelope, Trade, encode, record_id, sign

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


def paid_between(ledger: Ledger, payer: SigningKey, provider: SigningKey, amount: int) -> Envelope:
    """The payer's first trade, of so many TRM, signed by both: what anybody's book takes."""
    acceptance, trade = _bought(ledger, payer.public_key, provider.public_key, 1, amount)
    accepted = encode(acceptance), sign(acceptance, payer)
    return Envelope("trade", encode(trade), (sign(trade, payer), sign(trade, provider)), accepted)


def _envelopes(ledger: Ledger, provider: PublicKey, count: int, payers: int) -> Iterator[Envelope]:
    for number in range(count):
        payer = PublicKey(sha256(b"payer", (number % payers).to_bytes(4)))
        acceptance, trade = _bought(ledger, payer, provider, number + 1, 9)
        yield Envelope("trade", encode(trade), (NO_SIGNATURE, NO_SIGNATURE), (encode(acceptance), NO_SIGNATURE))


def _bought(
    ledger: Ledger, payer: PublicKey, provider: PublicKey, number: int, amount: int
) -> tuple[Acceptance, Trade]:
    """One TRM a token."""
    change, at_ms = msgspec.structs.replace, ledger.now()
    parties = {"network": ledger.network.id, "scope": 0, "payer": payer, "provider": provider}
    numbers = {"incarnation": 0, "number": number, "settled": 0, "open": (), "ceiling": max(9, amount)}
    acceptance = change(ACCEPTANCE, **parties, **numbers, at_ms=at_ms)
    trade = change(
        TRADE,
        **parties,
        incarnation=0,
        session=number,
        quote_hash=acceptance.quote_hash,
        acceptance_hash=record_id(acceptance),
        price_in=0,
        price_out=1_000_000,
        completion_tokens=amount,
        amount=amount,
        at_ms=at_ms,
    )
    return acceptance, trade
