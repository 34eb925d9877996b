"""A key that begins anew: a day without credit, its former incarnation over, the next one in a week (PROTOCOL B9)."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from tests.ledger.described import same
from tests.ledger.promised import gift
from tests.node.trades import paid_between
from tests.proto.samples import ACCEPTANCE, QUOTE
from tirami.core.errors import CounterLost, InsufficientFunds
from tirami.core.keys import SigningKey, journal_key, local_user_key, sha256
from tirami.core.units import DAY_MS, Trm
from tirami.ledger import Ledger, grant_line
from tirami.proto import Envelope, NetworkFile, Quote, SignedBody, encode, sign
from tirami.testing.clock import ManualClock

NODE, PAYER, PATRON = (SigningKey.generate() for _ in range(3))
REGTEST = NetworkFile.regtest(NODE.public_key)
PARAMETERS = msgspec.structs.replace(REGTEST.parameters, welcome_hours=24 * 30, unwitnessed_daily_limit=10**6)
FILE = msgspec.structs.replace(REGTEST, parameters=PARAMETERS)
LINE = PARAMETERS.welcome_limit
DAY_S, MOMENT_S = DAY_MS / 1000, 0.001
change = msgspec.structs.replace


@dataclass
class Seller:
    """A provider's book in which a stranger has a line, and what it takes of that stranger."""

    ledger: Ledger
    clock: ManualClock
    number: int = 0
    """Of the payer's last acceptance."""

    async def take(self, incarnation: int, ceiling: int = 1) -> None:
        """An acceptance of the payer, in a session that ends unpaid; raises what the provider answers it."""
        ledger, self.number = self.ledger, self.number + 1
        parties = {"network": FILE.id, "payer": PAYER.public_key, "provider": NODE.public_key}
        quote = change(QUOTE, **parties, price_in=0, price_out=1_000_000, max_tokens=10**6, at_ms=ledger.now())
        offered = SignedBody(encode(quote), sign(quote, NODE))
        accepted = change(
            ACCEPTANCE,
            **parties,
            incarnation=incarnation,
            number=self.number,
            settled=0,
            open=(),
            quote_hash=sha256(Quote.TAG, offered.body),
            ceiling=ceiling,
            at_ms=ledger.now(),
        )
        claim, said = os.urandom(16), SignedBody(encode(accepted), sign(accepted, PAYER))
        _, written = ledger.receivables.open(claim, quote, offered, said)
        await written
        await ledger.receivables.settle(claim, "cancelled")

    async def earn(self, amount: int) -> None:
        """The payer is paid by somebody with a line of his own."""
        granted = grant_line(self.ledger, NODE, PATRON.public_key)
        assert granted is not None
        await granted
        await self.ledger.book_record(paid_between(self.ledger, PATRON, PAYER, amount))[1]

    @property
    def honoured(self) -> Trm:
        return self.ledger.gate.line(PAYER.public_key)


@asynccontextmanager
async def opened(home: Path, clock: ManualClock) -> AsyncIterator[Seller]:
    own, sealed = local_user_key(NODE).public_key, journal_key(NODE)
    path = home / "journal.db"
    ledger = Ledger.open(path, network=FILE, node=NODE, local_user=own, clock=clock, journal_key=sealed)
    await ledger.start(os.urandom)
    if (granted := grant_line(ledger, NODE, PAYER.public_key)) is not None:
        await granted
    try:
        yield Seller(ledger, clock)
    finally:
        await ledger.close()


@pytest.fixture
async def seller(tmp_path: Path) -> AsyncIterator[Seller]:
    async with opened(tmp_path, ManualClock()) as made:
        yield made


@pytest.mark.parametrize("known", [True, False], ids=["a payer of before", "nobody has met it"])
async def test_a_new_incarnation_has_no_credit_until_a_day_is_over(seller: Seller, known: bool) -> None:
    if known:
        await seller.take(0, LINE)
    assert seller.honoured == LINE
    for wait_s in (0, DAY_S / 2, DAY_S / 2 - MOMENT_S):
        seller.clock.advance(wait_s)
        with pytest.raises(InsufficientFunds) as refused:
            await seller.take(5)
        assert refused.value.data == {"needed": 1, "available": 0}, "to ask again does not make it longer"
        assert seller.honoured == 0
        assert seller.ledger.state.book.limit(PAYER.public_key) == LINE, "the fold takes no line back (B4)"
    seller.clock.advance(MOMENT_S)
    assert seller.honoured == LINE
    await seller.take(5, LINE)
    same(seller.ledger)


async def test_what_the_key_owns_is_good_at_once(seller: Seller) -> None:
    await seller.earn(40)
    with pytest.raises(InsufficientFunds) as refused:
        await seller.take(5, 41)
    assert refused.value.data == {"needed": 41, "available": 40}
    await seller.take(5, 40)
    seller.clock.advance(DAY_S)
    await seller.take(5, 40 + LINE)


async def test_a_record_shows_a_new_incarnation_as_an_acceptance_does(seller: Seller) -> None:
    for number, wait_s in ((1, DAY_S / 2), (2, DAY_S / 2 - MOMENT_S)):
        given = gift(number, 5, network=FILE.id, payer=PAYER.public_key, to=NODE.public_key, incarnation=5)
        await seller.ledger.book_record(Envelope("transfer", encode(given), (sign(given, PAYER),), ()))[1]
        seller.clock.advance(wait_s)
        assert seller.honoured == 0
    seller.clock.advance(MOMENT_S)
    assert seller.honoured == LINE, "a later one of the same incarnation does not make it longer"


async def test_a_restart_of_the_provider_does_not_shorten_the_day(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock) as seller:
        with pytest.raises(InsufficientFunds):
            await seller.take(5)
    clock.advance(DAY_S - MOMENT_S)
    async with opened(tmp_path, clock) as seller:
        with pytest.raises(InsufficientFunds):
            await seller.take(5)
        clock.advance(MOMENT_S)
        await seller.take(5)


async def test_the_former_incarnation_is_over_and_another_begins_after_a_week(seller: Seller) -> None:
    with pytest.raises(InsufficientFunds):
        await seller.take(5)
    with pytest.raises(CounterLost, match="newer"):
        await seller.take(0)
    seller.clock.advance(7 * DAY_S - MOMENT_S)
    with pytest.raises(CounterLost, match="7 days"):
        await seller.take(6)
    assert seller.honoured == LINE, "what is refused takes nothing from the one that goes on"
    seller.clock.advance(MOMENT_S)
    with pytest.raises(InsufficientFunds):
        await seller.take(6)
    with pytest.raises(CounterLost, match="newer"):
        await seller.take(5)
    seller.clock.advance(DAY_S)
    await seller.take(6, LINE)
