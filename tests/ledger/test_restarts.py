"""Who signs elsewhere with the node's key binds that key, and no longer than the node has it (PROTOCOL B9, A-31)."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.ledger.described import same
from tests.ledger.promised import gift
from tirami.core.errors import CounterLost
from tirami.core.keys import SigningKey, journal_key, local_user_key
from tirami.core.units import Trm
from tirami.ledger import AccountCreated, KeyRotated, Ledger, PolicySet, grant_line
from tirami.ledger.entries import NodeStarted
from tirami.ledger.lineage import RESTART_MS
from tirami.ledger.restarts import Restarts
from tirami.proto import Cited, Envelope, NetworkFile, Successor, encode, rotation, sign, signed
from tirami.testing.clock import ManualClock

A, B, AGENT, OTHER = (SigningKey.generate() for _ in range(4))
OWNER = local_user_key(A).public_key
FILE = NetworkFile.regtest(A.public_key)
LAST = (1 << 64) - 1


@asynccontextmanager
async def opened(home: Path, node: SigningKey, clock: ManualClock) -> AsyncIterator[Ledger]:
    """The ledger in ``home``, sealed under the first key; an agent lives there."""
    path = home / "journal.db"
    ledger = Ledger.open(path, network=FILE, node=node, local_user=OWNER, clock=clock, journal_key=journal_key(A))
    await ledger.start(os.urandom)
    if AGENT.public_key not in ledger.state.settings.accounts:
        limits = None, None, None, None, None
        await ledger.record_facts(AccountCreated(AGENT.public_key, "", b""), PolicySet(AGENT.public_key, *limits))
        granted = grant_line(ledger, A, AGENT.public_key)
        assert granted is not None
        await granted
    try:
        yield ledger
    finally:
        await ledger.close()


def begun(ledger: Ledger) -> NodeStarted:
    started = ledger.state.settings.started
    assert started is not None
    return started


async def steal(ledger: Ledger, incarnation: int, *, record: bool = False, key: SigningKey = A) -> None:
    """A thief of ``key`` signs a debit, and this node hears of it: in the book, or from a peer that remembers."""
    more = {"network": FILE.id, "payer": key.public_key, "to": OTHER.public_key, "incarnation": incarnation}
    body = gift(10**15, 3, **more)
    if record:
        await ledger.book_record(Envelope("transfer", encode(body), (sign(body, key),), ()))[1]
    else:
        ledger.restarts.heard([Cited("transfer", encode(body), sign(body, key))])
        await ledger.durable()


async def rotate(ledger: Ledger) -> None:
    order = signed(rotation(FILE.id, A, Successor.agreeing(FILE.id, A.public_key, B), (0, 0), ledger.now()), A)
    await ledger.append([KeyRotated(order.body, order.signature)])


def buys(ledger: Ledger, *accounts: SigningKey) -> None:
    for account in accounts:
        ledger.gate.check_open(account.public_key)
    ledger.gate.check(AGENT.public_key, Trm(1))
    ledger.gate.check(OWNER, Trm(1))


@pytest.mark.parametrize("record", [True, False], ids=["booked", "shown"])
@pytest.mark.parametrize("again", [False, True], ids=["before", "and after the rotation"])
async def test_another_key_is_not_bound_by_what_a_thief_signed_with_the_former(
    tmp_path: Path, record: bool, again: bool
) -> None:
    clock = ManualClock()
    async with opened(tmp_path, A, clock) as ledger:
        await steal(ledger, 0, record=record)
        first = begun(ledger).incarnation
        assert first > 0
        clock.advance(1)
        await steal(ledger, first, record=record)
        for account in (A, AGENT):
            with pytest.raises(CounterLost):
                ledger.gate.check_open(account.public_key)
        await rotate(ledger)
        if again:
            await steal(ledger, first + 5, record=record)
        same(ledger)
    async with opened(tmp_path, B, clock) as ledger:
        buys(ledger, B)
        assert begun(ledger).incarnation > first, "who signed may have been a newer copy of this journal"
        fresh = begun(ledger)
        await steal(ledger, fresh.incarnation, record=record)
        buys(ledger, B)
        same(ledger)
    async with opened(tmp_path, B, clock) as ledger:
        now = begun(ledger)
        assert (now.incarnation, now.log_id) == (fresh.incarnation, fresh.log_id), "it is begun once"
        buys(ledger, B)


@pytest.mark.parametrize("record", [True, False], ids=["booked", "shown"])
@pytest.mark.parametrize("far", [(LAST,), (LAST - 1, LAST), (LAST - 1, LAST - 1)])
async def test_nobody_uses_up_the_incarnations_of_a_node(tmp_path: Path, record: bool, far: tuple[int, ...]) -> None:
    clock = ManualClock()
    async with opened(tmp_path, A, clock) as ledger:
        for incarnation in far:
            await steal(ledger, incarnation, record=record)
        with pytest.raises(CounterLost, match="another key"):
            ledger.gate.check_open(A.public_key)
        buys(ledger)  # the others go on
        assert begun(ledger).incarnation == ledger.now()
        written = ledger.seq
        await steal(ledger, far[0])
        assert ledger.seq == written, "it is known"
        await rotate(ledger)
        await steal(ledger, LAST, record=record)
    async with opened(tmp_path, B, clock) as ledger:
        buys(ledger, B)
        assert begun(ledger).incarnation <= ledger.now() + 1
        clock.advance(RESTART_MS / 1000)
        old = begun(ledger).incarnation
        await steal(ledger, old + 3, key=B)
        assert begun(ledger).incarnation > old + 3, "its own copies are found out as ever"
        ledger.gate.check_open(B.public_key)
        same(ledger)


async def test_a_journal_that_went_on_in_the_lost_incarnation_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As versions did that waited for the 7 days of the former key: until then nobody signs what may be stale."""
    clock = ManualClock()
    async with opened(tmp_path, A, clock) as ledger:
        await steal(ledger, 0)
        first = begun(ledger).incarnation
        await steal(ledger, first)
        await rotate(ledger)
    with monkeypatch.context() as patched:
        patched.setattr(Restarts, "follow", lambda _: None)
        async with opened(tmp_path, B, clock) as ledger:
            assert begun(ledger).incarnation == first
            with pytest.raises(CounterLost):
                ledger.gate.check_open(AGENT.public_key)
    async with opened(tmp_path, B, clock) as ledger:
        assert begun(ledger).incarnation > first
        buys(ledger, B)


async def test_a_rotation_alone_begins_no_incarnation(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, A, clock) as ledger:
        await rotate(ledger)
    async with opened(tmp_path, B, clock) as ledger:
        assert begun(ledger).incarnation == 0
        buys(ledger, B)


async def test_an_agent_that_signed_elsewhere_binds_the_new_key_too(tmp_path: Path) -> None:
    """Its key is not the one that was rotated, and the new one's counter is the same."""
    clock = ManualClock()
    async with opened(tmp_path, A, clock) as ledger:
        await steal(ledger, 0, key=AGENT)
        await steal(ledger, begun(ledger).incarnation, key=AGENT)
        lost = begun(ledger).incarnation
        await rotate(ledger)
    async with opened(tmp_path, B, clock) as ledger:
        assert begun(ledger).incarnation > lost
        await steal(ledger, begun(ledger).incarnation, key=AGENT)
        with pytest.raises(CounterLost):
            ledger.gate.check_open(B.public_key)
