"""The gate denies whatever goes wrong inside it (SAF-06), and says how much may pass."""

from collections.abc import Callable

import pytest

from tests.market.conftest import House
from tests.market.test_inference import nothing_is_held, order, serve
from tirami.core.clock import SystemClock
from tirami.core.errors import BudgetExceeded, InsufficientFunds, KillSwitchActive, SafetyUnknown, SpendDenied
from tirami.core.keys import SigningKey
from tirami.core.units import Trm
from tirami.ledger import AccountDisabled, Book, PayerBooks, PolicySet
from tirami.ledger import gate as gate_module
from tirami.ledger import safety as safety_module
from tirami.ledger.gate import Gate

PLACES: dict[str, tuple[object, str]] = {
    "the kill switch": (Gate, "kill"),
    "the halt": (Gate, "_check_halted"),
    "the clock": (SystemClock, "now_ms"),
    "the policy": (Gate, "policy"),
    "the means": (Gate, "means"),
    "the credit line": (Gate, "line"),
    "the income": (Book, "income"),
    "the holds": (PayerBooks, "held"),
    "the sliding hour": (PayerBooks, "spent_in_hour"),
    "the decision": (gate_module, "refusal"),
    "the budgets": (safety_module, "_budgets"),
}
SWITCHES_ONLY = {"the kill switch", "the halt", "the decision"}
"""Not asked for headroom, which looks at funds and budgets."""
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
    ticket = await house.market.begin_inference(await order(house, max_tokens=50))
    entries = house.ledger.seq
    named, unnamed = await order(house, max_tokens=10), await order(house)
    async with house.market.execute(ticket, ticket.payer.key, streamed=True) as session:
        await anext(session)
        session.deliver()
        owner, name = PLACES[place]
        with monkeypatch.context() as fails:
            fails.setattr(owner, name, property(broken(fault)) if place in PROPERTIES else broken(fault))
            for wanted in (named, unnamed):
                with pytest.raises(SafetyUnknown):
                    await house.market.begin_inference(wanted)
            with pytest.raises(SafetyUnknown):
                session._vouch()
            if place not in SWITCHES_ONLY:
                with pytest.raises(SafetyUnknown):
                    house.ledger.gate.headroom(house.agent.key)
        assert house.ledger.seq == entries, "nothing was signed and nothing is held"
        assert set(house.ledger.state.holds.open) == {ticket.hold_id}
        assert (await session.settle()).cost == 1
    assert nothing_is_held(house)


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
        await ledger.record_facts(PolicySet(house.agent.key, *budgets))
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
