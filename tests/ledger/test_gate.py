"""The gate denies whatever goes wrong inside it (SAF-06), and says how much may pass."""

from collections.abc import Callable

import pytest

from tests.market.conftest import House
from tests.market.test_inference import nothing_is_held, order, serve
from tirami.core.clock import SystemClock
from tirami.core.errors import (
    ApprovalRequired,
    BudgetExceeded,
    InsufficientFunds,
    KillSwitchActive,
    SafetyUnknown,
    SpendDenied,
    VelocityExceeded,
)
from tirami.core.keys import SigningKey
from tirami.core.units import Trm
from tirami.ledger import (
    AccountDisabled,
    Approvals,
    Book,
    Breaker,
    Holds,
    Ledger,
    Payer,
    PayerBooks,
    PolicySet,
    Velocity,
)
from tirami.ledger import gate as gate_module
from tirami.ledger import safety as safety_module
from tirami.ledger.gate import Gate

SPEND, VOUCHER, HEADROOM = "spend", "voucher", "headroom"
EVERYTHING = {SPEND, VOUCHER, HEADROOM}
PLACES: dict[str, tuple[object, str, set[str]]] = {
    "the kill switch": (Gate, "kill", {SPEND, VOUCHER}),
    "the halt": (Gate, "_check_halted", {SPEND, VOUCHER}),
    "the switches": (Gate, "_check_switches", {VOUCHER}),
    "the clock": (SystemClock, "now_ms", EVERYTHING),
    "the policy": (Gate, "policy", EVERYTHING),
    "the default policy": (gate_module, "Policy", EVERYTHING),
    "the means": (Gate, "means", EVERYTHING),
    "the bundle of means": (gate_module, "Means", EVERYTHING),
    "the credit line": (Gate, "line", EVERYTHING),
    "the limit of the line": (Book, "limit", EVERYTHING),
    "the income": (Book, "income", EVERYTHING),
    "the account": (gate_module, "key_account", EVERYTHING),
    "the books": (Holds, "books", EVERYTHING),
    "the holds": (PayerBooks, "held", EVERYTHING),
    "the sliding hour": (PayerBooks, "spent_in_hour", {SPEND, HEADROOM}),
    "the rules": (Gate, "_pass", {SPEND}),
    "the decision": (gate_module, "refusal", {SPEND}),
    "the budgets": (safety_module, "_budgets", {SPEND, HEADROOM}),
    "one budget": (safety_module, "_over", {SPEND}),
    "the breaker": (safety_module, "_tripped", {SPEND}),
    "the breaker's state": (Breaker, "lets_through", {SPEND}),
    "the velocity": (safety_module, "_too_fast", {SPEND}),
    "the sliding minute": (Velocity, "count", {SPEND}),
    "the funds": (safety_module, "_unfunded", {SPEND}),
    "the approval": (Gate, "_permit", {SPEND}),
    "the permit shown": (Approvals, "shown", {SPEND, HEADROOM}),
    "what waits already": (Approvals, "waiting", {SPEND}),
    "room in the queue": (Approvals, "full", {SPEND}),
    "the request": (Gate, "_request", {SPEND}),
    "the approval's id": ("instance", "random", {SPEND}),
    "the journal of the request": (Ledger, "append", {SPEND}),
    "what fits": (gate_module, "headroom", {HEADROOM}),
}
"""What the gate reads or calls, and which questions it is asked for. Every spend of the test needs an approval."""
PROPERTIES = {"the kill switch", "the holds"}
FAULTS = (RuntimeError("bug"), KeyError("missing"), MemoryError())


def broken(fault: Exception) -> Callable[..., object]:
    def fail(*_: object) -> object:
        raise fault

    return fail


@pytest.mark.row("SAF-06")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("place", PLACES)
async def test_a_fault_inside_the_gate_is_a_denial(
    house: House, monkeypatch: pytest.MonkeyPatch, place: str, fault: Exception
) -> None:
    house.engine.length = 100
    payer = Payer(house.agent.key, house.agent.signer, house.agent.scope, permit=b"x" * 32)
    ticket = await house.market.begin_inference(await order(house, max_tokens=50))
    await house.ledger.record_facts(PolicySet(payer.key, None, 900, None, 0, 30))
    if place == "the default policy":
        house.ledger.state.settings.policies.clear()
    named, unnamed = await order(house, payer, max_tokens=510), await order(house, payer)
    async with house.market.execute(ticket, ticket.payer.key, streamed=True) as session:
        await anext(session)
        session.deliver()
        entries = house.ledger.seq
        owner, name, asked = PLACES[place]
        owner = house.ledger.gate if owner == "instance" else owner
        with monkeypatch.context() as fails:
            fails.setattr(owner, name, property(broken(fault)) if place in PROPERTIES else broken(fault))
            if SPEND in asked:
                with pytest.raises(SafetyUnknown):
                    await house.market.begin_inference(named)
            if HEADROOM in asked:
                with pytest.raises(SafetyUnknown):
                    await house.market.begin_inference(unnamed)
            if VOUCHER in asked:
                with pytest.raises(SafetyUnknown):
                    await session._vouch()
        assert house.ledger.seq == entries, "nothing was signed and nothing is held"
        assert set(house.ledger.state.holds.open) == {ticket.hold_id}
        assert (await session.settle()).cost == 1
    assert nothing_is_held(house)
    if place not in ("the clock", "the switches"):
        assert {denial.code for denial in house.ledger.gate.denials.latest(payer.key)} == {"safety_unknown"}


def test_thirty_places_are_broken() -> None:
    assert len(PLACES) >= 30


async def test_a_trip_that_cannot_be_written_is_still_a_denial(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    payer = await house.hosted((None, None, None, None, 1))
    await house.market.cancel(await house.market.begin_inference(await order(house, payer)))
    with monkeypatch.context() as fails:
        fails.setattr(Ledger, "append", broken(RuntimeError("bug")))
        with pytest.raises(SafetyUnknown):
            house.ledger.gate.check(payer.key, Trm(1))
    with pytest.raises(VelocityExceeded):
        house.ledger.gate.check(payer.key, Trm(1))


async def test_a_fault_at_the_last_voucher_bills_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = await house.market.begin_inference(await order(house))
    async with house.market.execute(ticket, ticket.payer.key, streamed=True) as session:
        async for _ in session:
            pass
        monkeypatch.setattr(Book, "income", broken(RuntimeError("bug")))
        settlement = await session.settle()
    monkeypatch.undo()
    assert isinstance(settlement.denied, SafetyUnknown)
    assert settlement.trade is None
    assert nothing_is_held(house)


async def test_headroom_is_the_least_of_funds_and_budgets(house: House) -> None:
    ledger = house.ledger

    async def headroom(*budgets: int | None) -> Trm | None:
        await ledger.record_facts(PolicySet(house.agent.key, *budgets, None, None))
        return ledger.gate.headroom(house.agent.key)

    await serve(house)
    assert await headroom(None, None, None) == 990
    assert await headroom(400, None, None) == 400
    assert await headroom(400, 300, None) == 290
    assert await headroom(400, 300, 200) == 190
    assert await headroom(None, None, 5) == 0
    payer = await house.hosted((None, 100, None))
    ticket = await house.market.begin_inference(await order(house, payer, max_tokens=60))
    assert ledger.gate.headroom(ticket.payer.key) == 40
    await house.market.cancel(ticket)
    assert ledger.gate.headroom(ticket.payer.key) == 100
    assert ledger.gate.headroom(house.ledger._local_user) is None


@pytest.mark.parametrize("amount", [0, 1, 289, 290])
async def test_what_fits_into_the_headroom_passes_the_gate(house: House, amount: int) -> None:
    payer = await house.hosted((None, 290, None))
    house.ledger.gate.check(payer.key, Trm(amount))
    with pytest.raises(BudgetExceeded):
        house.ledger.gate.check(payer.key, Trm(291))


async def test_the_first_reason_wins(house: House) -> None:
    ledger, poor = house.ledger, await house.hosted((10, 20, 30))
    with pytest.raises(BudgetExceeded) as denied:
        ledger.gate.check(poor.key, Trm(5_000))
    assert denied.value.data == {"limit": 10, "window": "request", "spent": 0}
    with pytest.raises(InsufficientFunds):
        ledger.gate.check(house.agent.key, Trm(1_001))
    await ledger.record_facts(AccountDisabled(poor.key))
    with pytest.raises(SpendDenied, match="disabled"):
        ledger.gate.check(poor.key, Trm(5_000))
    with pytest.raises(SafetyUnknown, match="policy"):
        ledger.gate.check(SigningKey.generate().public_key, Trm(1))
    await ledger.set_kill(True, "", "nobody")
    with pytest.raises(KillSwitchActive):
        ledger.gate.check(poor.key, Trm(5_000))


async def test_an_early_question_is_about_the_smallest_spend_and_asks_for_no_approval(house: House) -> None:
    payer = await house.hosted((None, None, None, 0))
    house.ledger.gate.check_early(payer.key)
    with pytest.raises(ApprovalRequired):
        house.ledger.gate.check(payer.key, Trm(1))
    broke = await house.hosted((None, 0))
    with pytest.raises(BudgetExceeded):
        house.ledger.gate.check_early(broke.key)
    assert [denial.amount for denial in house.ledger.gate.denials.latest(broke.key)] == [1]
    house.ledger.gate.halted = "test"
    with pytest.raises(SafetyUnknown):
        house.ledger.gate.check_early(payer.key)


async def test_foresight_says_what_the_gate_would_and_leaves_no_trace(house: House) -> None:
    gate, payer = house.ledger.gate, await house.hosted((800, None, None, 500))
    entries = house.ledger.seq
    assert gate.foreseen(payer.key, Trm(500)) is None
    waits = gate.foreseen(payer.key, Trm(501))
    assert isinstance(waits, ApprovalRequired)
    assert waits.data == {"approval_id": None, "threshold": 500, "ceiling": 501}
    assert isinstance(gate.foreseen(payer.key, Trm(801)), BudgetExceeded)
    gate.halted = "test"
    assert isinstance(gate.foreseen(payer.key, Trm(1)), SafetyUnknown)
    gate.halted = None
    assert house.ledger.seq == entries
    assert not list(gate.denials.latest(payer.key))
    assert not house.ledger.state.settings.approvals.live(house.ledger.now())


async def test_foresight_without_a_threshold_needs_no_approval(house: House) -> None:
    payer = await house.hosted()
    assert house.ledger.gate.foreseen(payer.key, Trm(1000)) is None
    assert isinstance(house.ledger.gate.foreseen(payer.key, Trm(1001)), InsufficientFunds)


async def test_a_fault_in_foresight_is_a_denial(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Book, "income", broken(RuntimeError("bug")))
    assert isinstance(house.ledger.gate.foreseen(house.agent.key, Trm(1)), SafetyUnknown)
