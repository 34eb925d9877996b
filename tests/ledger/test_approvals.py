"""Approvals: asked, decided, used once, forgotten."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.market.conftest import House, opened_house
from tests.market.test_inference import nothing_is_held, order, serve
from tirami.core.errors import (
    ApprovalDenied,
    ApprovalNotFound,
    ApprovalRequired,
    Conflict,
    EngineFailed,
    InsufficientFunds,
    KillSwitchActive,
)
from tirami.core.units import Ppm, Trm, UnixMs
from tirami.ledger import ApprovalRequested, Approvals, HoldOpened, Holds, Payer, PolicySet, Verdict, transfer
from tirami.ledger.approvals import MAX_LIVE, MAX_PER_ACCOUNT, PERMIT_MS, REQUEST_MS
from tirami.ledger.entries import (
    ApprovalDecided,
    ApprovalUsed,
    EntryKind,
    Hold,
    HoldCaptured,
    HoldOwed,
    HoldReleased,
    decode_content,
)
from tirami.market import Ticket
from tirami.testing import ManualClock

LIMITS = (None, None, None, 100, None)


async def asked(house: House, payer: Payer, most: int = 200) -> bytes:
    """The id of the request a spend leaves behind."""
    with pytest.raises(ApprovalRequired) as required:
        await house.market.begin_inference(await order(house, payer, max_tokens=most))
    assert required.value.data["ceiling"] == most
    return bytes.fromhex(str(required.value.data["approval_id"]))


async def decide(house: House, approval_id: bytes, approved: bool = True) -> None:
    approvals = house.ledger.state.settings.approvals
    await house.ledger.record_facts(approvals.decision(approval_id, approved, "dana", house.ledger.now()))


def showing(payer: Payer, permit: bytes) -> Payer:
    return Payer(payer.key, payer.signer, payer.scope, permit)


async def buys(house: House, payer: Payer, most: int = 200) -> None:
    await used(house, await house.market.begin_inference(await order(house, payer, max_tokens=most)))


async def used(house: House, ticket: Ticket) -> None:
    """One token of it is bought."""
    async with house.market.execute(ticket, ticket.payer.key, streamed=True) as session:
        async for chunk in session:
            if chunk.count > 1:
                break
    assert session.settlement.cost > 0


async def test_a_permit_is_for_one_spend(house: House) -> None:
    payer = await house.hosted(LIMITS)
    await buys(house, payer, 100)
    permit = await asked(house, payer)
    assert await asked(house, payer) == permit, "the same spend waits once"
    assert await asked(house, showing(payer, permit)) == permit, "waiting is no permit"
    await decide(house, permit)
    await buys(house, showing(payer, permit), 100)
    await buys(house, showing(payer, permit))
    assert await asked(house, showing(payer, permit)) != permit
    assert nothing_is_held(house)


async def test_a_permit_is_its_accounts_and_its_ceilings(house: House) -> None:
    payer, other = await house.hosted(LIMITS), await house.hosted(LIMITS)
    permit = await asked(house, payer)
    await decide(house, permit)
    assert await asked(house, showing(other, permit)) != permit
    assert await asked(house, showing(payer, permit), 201) != permit
    await buys(house, showing(payer, permit), 199)


def at(house: House, percent: int) -> None:
    """Load moves the price to so much of the list price."""
    house.market.load._follow, house.market.load.demand = True, Ppm(percent * 10_000)


async def test_a_permit_is_good_at_the_price_it_was_asked_at_and_at_a_lower_one(house: House) -> None:
    payer = await house.hosted(LIMITS)
    at(house, 100)
    permits = [await asked(house, payer, most) for most in (200, 300)]
    for permit in permits:
        await decide(house, permit)
    for percent, most, ceiling in ((300, 200, 200), (50, 300, 150)):
        at(house, percent)
        showing_it = showing(payer, permits.pop(0))
        ticket = await house.market.begin_inference(await order(house, showing_it, max_tokens=most))
        assert (ticket.ceiling, ticket.price.completion) == (ceiling, ceiling * 1_000_000 // most)
        await used(house, ticket)
        with pytest.raises(ApprovalRequired):
            await buys(house, showing_it, 201)


async def test_the_price_of_a_permit_is_for_the_spend_that_uses_it_up(house: House) -> None:
    payer = await house.hosted(LIMITS)
    at(house, 100)
    permit = await asked(house, payer)
    await decide(house, permit)
    at(house, 200)
    small = await house.market.begin_inference(await order(house, showing(payer, permit), max_tokens=50))
    assert small.ceiling == 100, "it needs no approval and has today's price"
    with pytest.raises(ApprovalRequired) as beyond:
        await buys(house, showing(payer, permit), 201)
    assert beyond.value.data["ceiling"] == 402, "more than was approved is asked for anew, at today's price"
    await buys(house, showing(payer, permit), 200)
    await house.market.cancel(small)


async def test_the_first_of_two_that_show_it_has_it(house: House) -> None:
    payer = await house.hosted(LIMITS)
    permit = await asked(house, payer)
    await decide(house, permit)
    ticket = await house.market.begin_inference(await order(house, showing(payer, permit), max_tokens=200))
    with pytest.raises(ApprovalRequired):
        await house.market.begin_inference(await order(house, showing(payer, permit), max_tokens=200))
    await house.market.cancel(ticket)
    assert nothing_is_held(house)


async def test_a_permit_is_good_until_something_was_bought_with_it(house: House) -> None:
    payer = await house.hosted(LIMITS)
    permit = await asked(house, payer)
    await decide(house, permit)
    wanted = await order(house, showing(payer, permit), max_tokens=200)
    await house.market.cancel(await house.market.begin_inference(wanted))
    house.engine.fail_after = 0
    with pytest.raises(EngineFailed):
        await buys(house, showing(payer, permit))
    house.engine.fail_after = None
    await buys(house, showing(payer, permit))
    assert await asked(house, showing(payer, permit)) != permit


async def test_a_permit_for_several_choices_is_good_until_one_of_them_was_bought(house: House) -> None:
    payer = await house.hosted(LIMITS)
    permit = await asked(house, payer)
    await decide(house, permit)
    half = await order(house, showing(payer, permit), max_tokens=100)
    for bought in (False, True):
        first, second = await house.market.begin([half, half])
        await house.market.cancel(first)
        with pytest.raises(ApprovalRequired):
            await buys(house, showing(payer, permit))
        await (used(house, second) if bought else house.market.cancel(second))
    with pytest.raises(ApprovalRequired):
        await buys(house, showing(payer, permit))


async def test_a_start_that_ends_what_was_open_gives_the_permit_back(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        payer = await house.hosted(LIMITS)
        permit = await asked(house, payer)
        await decide(house, permit)
        await house.market.begin_inference(await order(house, showing(payer, permit), max_tokens=200))
        assert house.ledger.state.settings.approvals.by_id[permit].holds
    async with opened_house(tmp_path, node=house.node) as again:
        await buys(again, showing(payer, permit))
        with pytest.raises(ApprovalRequired):
            await buys(again, showing(payer, permit))


PERMIT, PAYER = b"i" * 32, b"a" * 32
ENDS: dict[str, Callable[[bytes], Hold]] = {
    "release": lambda name: HoldReleased(name, "cancelled"),
    "capture": lambda name: HoldCaptured(name, bytes(32), 1),
    "owe": lambda name: HoldOwed(name, 1),
}


@given(st.lists(st.tuples(st.sampled_from(["begin", "transfer", *ENDS]), st.integers(0, 5)), max_size=40))
def test_a_permit_is_never_used_by_two_at_once_nor_for_two_charges(steps: list[tuple[str, int]]) -> None:
    """Against a literal count; a decision is a transfer, or one to three holds that end one by one."""
    approvals, holds = Approvals(), Holds()
    using: dict[bytes, int] = {}
    charged: set[int] = set()
    approvals.apply(ApprovalRequested(PERMIT, PAYER, 100, 10**9), UnixMs(0))
    approvals.apply(ApprovalDecided(PERMIT, True, "dana", 10**9), UnixMs(0))

    def tell(hold: Hold) -> None:
        session = holds.open.get(hold.id)
        holds.apply(hold, UnixMs(1))
        approvals.follow(hold, session)

    for number, (step, which) in enumerate(steps):
        free = approvals.shown(PERMIT, PAYER, 1) is not None
        assert free == (not using and not charged)
        if step == "transfer" and free:
            approvals.apply(ApprovalUsed(PERMIT), UnixMs(1))
            charged.add(number)
        elif step == "begin":
            for choice in range(1 + which % 3):
                name = (3 * number + choice).to_bytes(16)
                rest = ("inference", 10**15, "r", b"", b"", b"", b"", PERMIT if free else b"")
                tell(HoldOpened(name, PAYER, 0, 0, 3 * number + choice, 10, *rest))
                if free:
                    using[name] = number
        elif step in ENDS and holds.open:
            name = list(holds.open)[which % len(holds.open)]
            tell(ENDS[step](name))
            decision = using.pop(name, None)
            if decision is not None and step != "release":
                charged.add(decision)
    assert len(charged) <= 1


async def test_a_denied_spend_says_so_until_it_is_forgotten(house: House) -> None:
    payer = await house.hosted(LIMITS)
    request = await asked(house, payer)
    await decide(house, request, approved=False)
    with pytest.raises(ApprovalDenied):
        await buys(house, showing(payer, request))
    with pytest.raises(Conflict, match="denied"):
        await decide(house, request)
    with pytest.raises(ApprovalNotFound):
        await decide(house, b"?" * 32)


@pytest.mark.parametrize(("approved", "late_by", "good"), [(True, -1, True), (True, 0, False), (False, -1, True)])
async def test_everything_ends_after_ten_minutes(tmp_path: Path, approved: bool, late_by: int, good: bool) -> None:
    clock = ManualClock()
    async with opened_house(tmp_path, clock=clock) as house:
        payer = await house.hosted(LIMITS)
        permit = await asked(house, payer)
        clock.wall_ms += REQUEST_MS - 1
        if approved:
            await decide(house, permit)
            clock.wall_ms += PERMIT_MS + late_by
            if good:
                await buys(house, showing(payer, permit))
            else:
                assert await asked(house, showing(payer, permit)) != permit
        else:
            clock.wall_ms += 1
            with pytest.raises(ApprovalNotFound):
                await decide(house, permit)


async def test_the_queue_is_bounded_and_nobody_fills_it_alone(house: House) -> None:
    payer, other = await house.hosted(LIMITS), await house.hosted(LIMITS)
    ids = {await asked(house, payer, 200 + n) for n in range(MAX_PER_ACCOUNT)}
    assert {len(request) for request in ids} == {32}
    before = house.ledger.seq
    with pytest.raises(ApprovalRequired) as full:
        await buys(house, payer, 300)
    assert full.value.data["approval_id"] is None
    assert house.ledger.seq == before, "a full queue writes nothing"
    await asked(house, other)
    approvals = Approvals()
    for number in range(MAX_LIVE):
        approvals.apply(ApprovalRequested(number.to_bytes(32), number.to_bytes(32), 1, 1_000), UnixMs(0))
    assert approvals.full(b"somebody else", 999)
    assert not approvals.full(b"somebody else", 1_000)
    approvals.apply(ApprovalRequested(b"next", b"a", 1, 2_000), UnixMs(1_000))
    assert list(approvals.by_id) == [b"next"], "what expired is forgotten"


async def test_a_permit_opens_no_other_lock(house: House) -> None:
    payer = await house.hosted((None, None, None, 100, None))
    permit = await asked(house, payer, 900)
    await decide(house, permit)
    ticket = await house.market.begin_inference(await order(house, payer, max_tokens=100))
    await house.ledger.set_kill(True, "", "nobody")
    with pytest.raises(KillSwitchActive):
        await buys(house, showing(payer, permit), 900)
    await house.ledger.set_kill(False, "", "nobody")
    await buys(house, showing(payer, b""), 100)
    poor = await asked(house, payer, 890)
    await decide(house, poor)
    second = await house.market.begin_inference(await order(house, payer, max_tokens=100))
    with pytest.raises(InsufficientFunds):
        await buys(house, showing(payer, poor), 890)
    await house.market.cancel(ticket)
    await house.market.cancel(second)
    await buys(house, showing(payer, permit), 900)


async def test_a_default_ceiling_shrinks_to_the_threshold_or_the_permit(house: House) -> None:
    payer = await house.hosted(LIMITS)
    assert house.ledger.gate.headroom(payer.key) == 100
    permit = await asked(house, payer, 300)
    assert house.ledger.gate.headroom(payer.key, permit) == 100, "not decided yet"
    await decide(house, permit)
    assert house.ledger.gate.headroom(payer.key, permit) == 300
    ticket = await house.market.begin_inference(await order(house, payer))
    assert ticket.ceiling == 100
    await house.market.cancel(ticket)


async def test_permits_survive_a_restart_and_so_does_their_use(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        node, payer = house.node, await house.hosted(LIMITS)
        waiting, unused, spent = [await asked(house, payer, most) for most in (200, 300, 400)]
        await decide(house, unused)
        await decide(house, spent)
        await buys(house, showing(payer, spent), 400)
        before = house.ledger.state.settings.approvals
    async with opened_house(tmp_path, node=node) as again:
        assert again.ledger.state.settings.approvals == before
        assert {a.id: a.verdict for a in before.by_id.values()} == {
            waiting: Verdict.PENDING,
            unused: Verdict.APPROVED,
        }
        await buys(again, showing(payer, unused), 300)
        with pytest.raises(ApprovalRequired):
            await buys(again, showing(payer, spent), 400)


async def test_a_transfer_needs_the_same_permit(house: House) -> None:
    house.engine.length, ledger, node = 300, house.ledger, house.node
    await serve(house, max_tokens=300)
    to = (await house.hosted()).key
    await ledger.record_facts(PolicySet(node.public_key, None, None, None, 10, None))
    with pytest.raises(ApprovalRequired) as required:
        transfer(ledger, node, to, Trm(50))
    permit = bytes.fromhex(str(required.value.data["approval_id"]))
    await decide(house, permit)
    admitted, booked = transfer(ledger, node, to, Trm(50), permit)
    await booked
    assert ledger.state.stored(admitted.record_id) is not None
    with pytest.raises(ApprovalRequired):
        transfer(ledger, node, to, Trm(50), permit)


def test_a_request_of_an_older_node_remembers_no_price() -> None:
    old = msgspec.msgpack.encode(["approval_requested", b"i" * 32, b"a" * 32, 501, 1_000])
    assert decode_content(EntryKind.FACT, old) == ApprovalRequested(b"i" * 32, b"a" * 32, 501, 1_000, 0)


async def test_a_reservation_is_made_at_the_price_that_was_approved(house: House) -> None:
    payer = await house.hosted(LIMITS)
    at(house, 100)
    permit = await asked(house, payer)
    await decide(house, permit)
    at(house, 200)
    told = house.market.estimate([await order(house, showing(payer, permit), max_tokens=200)])
    assert told.ceiling == 200
    kept = await house.market.reserve(showing(payer, permit), house.engine.card, 0, 200, "request")
    assert (kept.held, kept.price) == (200, told.price)
