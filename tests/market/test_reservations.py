"""Reservations: kept funds and a kept price, for one call of the one who reserved them."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.market.conftest import House, opened_house
from tests.market.test_inference import order
from tirami.core.errors import ApprovalRequired, Conflict, InsufficientFunds, KillSwitchActive, QueueFull
from tirami.core.units import MicroTrm, Ppm
from tirami.ledger import MAX_OPEN, Payer, Price
from tirami.ledger.approvals import PERMIT_MS
from tirami.market import Reservation
from tirami.market.reservations import LIFETIME_MS
from tirami.testing import ManualClock

PRICE = Price(MicroTrm(0), MicroTrm(2_000_000))


def at(house: House, percent: int) -> None:
    """Load moves the price to so much of the list price."""
    house.market.load._follow, house.market.load.demand = True, Ppm(percent * 10_000)


async def reserve(house: House, amount: int, payer: Payer | None = None) -> Reservation:
    """While the price is ``PRICE``; before and after it is half of that."""
    at(house, 200)
    try:
        return await house.market.reserve(payer or house.agent, house.engine.card, 3, amount // 2, "req-r")
    finally:
        at(house, 100)


async def test_the_call_that_names_it_gets_its_funds_and_its_price(house: House) -> None:
    kept = await reserve(house, 1000)
    assert house.ledger.balance(house.agent.key).reserved == 1000
    with pytest.raises(InsufficientFunds):
        await house.market.begin_inference(await order(house, max_tokens=1))
    wanted = replace(await order(house, max_tokens=500), ticket=kept.hold_id)
    ticket = await house.market.begin_inference(wanted)
    assert (ticket.price, ticket.ceiling) == (PRICE, 1000)
    assert house.ledger.balance(house.agent.key).reserved == 1000, "one hold in place of the other"
    with pytest.raises(Conflict):
        await house.market.begin_inference(wanted)
    assert house.ledger.books(house.agent.key).velocity.count(house.ledger.now()) == 2, "nothing takes a spend back"
    await house.market.cancel(ticket)
    assert house.ledger.balance(house.agent.key).effective == 1000


async def test_what_was_approved_when_it_was_reserved_is_not_asked_about_again(house: House) -> None:
    payer = await house.hosted((None, None, None, 100))
    with pytest.raises(ApprovalRequired) as required:
        await reserve(house, 300, payer)
    request = bytes.fromhex(str(required.value.data["approval_id"]))
    approvals = house.ledger.state.settings.approvals
    await house.ledger.record_facts(approvals.decision(request, True, "dana", house.ledger.now()))
    kept = await reserve(house, 300, replace(payer, permit=request))
    wanted = await order(house, payer, max_tokens=150)
    ticket = await house.market.begin_inference(replace(wanted, ticket=kept.hold_id))
    assert ticket.ceiling == 300
    with pytest.raises(ApprovalRequired):
        await house.market.begin_inference(await order(house, payer, max_tokens=101))
    approved = await order(house, replace(payer, permit=request), max_tokens=101)
    with pytest.raises(ApprovalRequired):
        await house.market.begin_inference(approved)
    await house.market.cancel(ticket)
    await house.market.cancel(await house.market.begin_inference(approved))


async def test_what_was_reserved_is_had_although_its_approval_has_expired(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened_house(tmp_path, clock=clock) as house:
        payer = await house.hosted((None, None, None, 100))
        with pytest.raises(ApprovalRequired) as required:
            await reserve(house, 300, payer)
        request = bytes.fromhex(str(required.value.data["approval_id"]))
        approvals = house.ledger.state.settings.approvals
        await house.ledger.record_facts(approvals.decision(request, True, "dana", house.ledger.now()))
        clock.advance(PERMIT_MS / 1000 - 1)
        kept = await reserve(house, 300, replace(payer, permit=request))
        clock.advance(2)
        wanted = await order(house, payer, max_tokens=150)
        assert (await house.market.begin_inference(replace(wanted, ticket=kept.hold_id))).ceiling == 300


async def test_an_approved_one_is_made_at_the_price_it_was_approved_at(house: House) -> None:
    payer, card = await house.hosted((None, None, None, 100)), house.engine.card
    at(house, 100)
    with pytest.raises(ApprovalRequired) as required:
        await house.market.reserve(payer, card, 0, 200, "req-r")
    request = bytes.fromhex(str(required.value.data["approval_id"]))
    approvals = house.ledger.state.settings.approvals
    await house.ledger.record_facts(approvals.decision(request, True, "dana", house.ledger.now()))
    at(house, 200)
    approved = replace(payer, permit=request)
    unneeded = await house.market.reserve(approved, card, 0, 50, "req-r")
    assert unneeded.held == 100, "what needs no approval has today's price"
    kept = await house.market.reserve(approved, card, 0, 200, "req-r")
    assert (kept.held, kept.price.completion) == (200, 1_000_000)
    ticket = await house.market.begin_inference(replace(await order(house, payer, max_tokens=200), ticket=kept.hold_id))
    assert (ticket.ceiling, ticket.price) == (200, kept.price)


async def test_more_than_was_reserved_is_asked_about(house: House) -> None:
    payer = await house.hosted((None, None, None, 100))
    kept = await reserve(house, 90, payer)
    dearer = await order(house, payer, max_tokens=60)  # 2 TRM a token, the price that is kept
    with pytest.raises(ApprovalRequired):
        await house.market.begin_inference(replace(dearer, ticket=kept.hold_id))
    assert not house.ledger.state.holds.open


async def test_it_is_good_for_nobody_else_and_nothing_else(house: House) -> None:
    kept, other = await reserve(house, 100), await house.hosted()
    for payer, digest in ((other, house.engine.card.digest), (house.agent, bytes(32))):
        with pytest.raises(Conflict):
            house.market.reservations.find(kept.hold_id, payer, digest)  # type: ignore[arg-type]
    with pytest.raises(Conflict):
        house.market.reservations.find(b"unknown", house.agent, house.engine.card.digest)
    assert house.market.reservations.find(kept.hold_id, house.agent, house.engine.card.digest) is kept


async def test_it_expires_and_gives_everything_back(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened_house(tmp_path, clock=clock) as house:
        kept = await reserve(house, 600)
        assert await house.ledger.payables.expire_holds(house.market.live) == 0
        clock.advance(LIFETIME_MS / 1000)
        with pytest.raises(Conflict):
            house.market.reservations.find(kept.hold_id, house.agent, house.engine.card.digest)
        assert await house.ledger.payables.expire_holds(house.market.live) == 1
        assert house.ledger.balance(house.agent.key).effective == 1000
        assert not house.market.live
        await reserve(house, 700)
    async with opened_house(tmp_path, clock=clock, node=house.node) as again:
        assert again.ledger.balance(house.agent.key).effective == 1000, "a restart releases it"


async def test_the_gate_stands_before_it_and_behind_it(house: House) -> None:
    with pytest.raises(InsufficientFunds):
        await reserve(house, 1002)
    kept = await reserve(house, 10)
    await house.ledger.set_kill(True, "", "")
    with pytest.raises(KillSwitchActive):
        await reserve(house, 2)
    with pytest.raises(KillSwitchActive):
        await house.market.begin_inference(replace(await order(house, max_tokens=1), ticket=kept.hold_id))
    assert house.ledger.balance(house.agent.key).reserved == 0


async def test_even_who_reserved_every_place_may_use_one(house: House) -> None:
    kept = [await reserve(house, 2) for _ in range(MAX_OPEN)]
    with pytest.raises(QueueFull):
        await reserve(house, 2)
    ticket = await house.market.begin_inference(replace(await order(house, max_tokens=1), ticket=kept[0].hold_id))
    await house.market.cancel(ticket)


async def test_an_estimate_is_what_would_be_held_and_holds_nothing(house: House) -> None:
    before = house.ledger.seq
    for most in (None, 7, 3000):
        wanted = await order(house, max_tokens=most)
        estimate = house.market.estimate([wanted])
        try:
            ticket = await house.market.begin_inference(wanted)
        except InsufficientFunds as error:
            assert estimate.denied is not None and estimate.denied.data == error.data
            continue
        assert (estimate.ceiling, estimate.denied, estimate.price) == (ticket.ceiling, None, ticket.price)
        assert estimate.max_tokens == ticket.sampling.max_tokens
        assert 0 < estimate.least <= estimate.ceiling
        await house.market.cancel(ticket)
    seq = house.ledger.seq
    house.market.estimate([await order(house, max_tokens=5)])
    assert before < seq == house.ledger.seq


async def test_whether_it_is_one_is_known_before_anything_else_is(house: House) -> None:
    kept, other = await reserve(house, 100), await house.hosted()
    house.market.check(house.agent, kept.hold_id)
    for payer, ticket in ((other, kept.hold_id), (house.agent, b"unknown")):
        with pytest.raises(Conflict):
            house.market.check(payer, ticket)


async def test_an_estimate_of_several_choices_is_what_they_would_hold_together(house: House) -> None:
    for most in (None, 7):
        wanted = [replace(await order(house, max_tokens=most), prompt_billed=choice == 0) for choice in range(3)]
        estimate = house.market.estimate(wanted)
        tickets = await house.market.begin(wanted)
        assert estimate.ceiling == sum(ticket.ceiling for ticket in tickets)
        assert (estimate.price, estimate.max_tokens) == (tickets[0].price, tickets[0].sampling.max_tokens)
        assert 3 <= estimate.least <= estimate.ceiling
        for ticket in tickets:
            await house.market.cancel(ticket)
