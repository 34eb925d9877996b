"""Begin, execute, settle against a scripted engine: what is billed, what is held, what is refused."""

import asyncio
from dataclasses import replace

import pytest

from tests.market.conftest import House
from tirami.core.errors import (
    BudgetExceeded,
    Conflict,
    ContextLengthExceeded,
    EngineFailed,
    InsufficientFunds,
    KillSwitchActive,
)
from tirami.infer import FinishReason, Sampling
from tirami.ledger import Payer
from tirami.market import Order, Settlement
from tirami.verify import verify_receipt


async def order(house: House, payer: Payer | None = None, max_tokens: int | None = None) -> Order:
    prompt = await house.engine.prepare([{"role": "user", "content": "one two three"}])
    sampling = Sampling(max_tokens=0, seed=1)
    return Order(payer or house.agent, house.engine, prompt, sampling, max_tokens, "req-1")


async def serve(house: House, *, stop_after: int | None = None, **options: object) -> Settlement:
    ticket = await house.market.begin_inference(await order(house, **options))  # type: ignore[arg-type]
    async with house.market.execute(ticket, ticket.payer.key, streamed=True) as session:
        async for chunk in session:
            if chunk.count == stop_after:
                break
        else:
            await session.settle()
    return session.settlement


def nothing_is_held(house: House) -> bool:
    return not house.ledger.state.holds.open and house.ledger.books(house.agent.key).held == 0


async def test_a_paid_answer_is_a_trade_with_a_receipt(house: House) -> None:
    house.engine.length = 9
    settlement = await serve(house)
    assert settlement.reason is FinishReason.STOP
    assert settlement.cost == 9
    assert settlement.record_id is not None
    balance = house.ledger.balance(house.agent.key)
    assert (balance.effective, balance.net) == (991, -9)
    assert house.ledger.balance(house.node.public_key).net == 9
    receipt = await house.heads.receipt(settlement.record_id)
    verified = verify_receipt(receipt)
    assert verified.amount == 9
    assert nothing_is_held(house)
    assert house.ledger.state.book.imbalance() == 0


async def test_only_delivered_tokens_are_billed(house: House) -> None:
    house.engine.length = 200
    settlement = await serve(house, stop_after=150)
    assert settlement.trade is not None
    assert settlement.trade.completion_tokens == 149, "the chunk on its way when the client left is not billed"
    assert settlement.reason is FinishReason.CANCELLED
    assert nothing_is_held(house)


async def test_nothing_delivered_nothing_billed(house: House) -> None:
    settlement = await serve(house, stop_after=1)
    assert settlement.trade is None
    assert house.ledger.balance(house.agent.key).effective == 1000
    assert nothing_is_held(house)


async def test_engine_dies_and_only_what_was_delivered_is_billed(house: House) -> None:
    house.engine.length, house.engine.fail_after = 100, 70
    ticket = await house.market.begin_inference(await order(house))
    with pytest.raises(EngineFailed):
        async with house.market.execute(ticket, ticket.payer.key, streamed=True) as session:
            async for _ in session:
                pass
    assert session.settlement.cost == 70
    assert session.settlement.reason is FinishReason.FAILED
    assert nothing_is_held(house)


@pytest.mark.row("L1-12")
async def test_a_ticket_is_single_use_and_bound_to_its_payer(house: House) -> None:
    other = await house.hosted()
    ticket = await house.market.begin_inference(await order(house))
    with pytest.raises(Conflict):
        house.market.execute(ticket, other.key, streamed=True)
    async with house.market.execute(ticket, house.agent.key, streamed=True) as session:
        async for _ in session:
            pass
    with pytest.raises(Conflict):
        house.market.execute(ticket, house.agent.key, streamed=True)


@pytest.mark.row("L1-12")
async def test_a_ticket_expires_with_its_hold(house: House) -> None:
    ticket = await house.market.begin_inference(await order(house))
    assert await house.ledger.payables.expire_holds(()) == 1
    with pytest.raises(Conflict, match="expired"):
        house.market.execute(ticket, house.agent.key, streamed=True)
    assert nothing_is_held(house)


@pytest.mark.row("L1-12")
async def test_tickets_cannot_be_guessed(house: House) -> None:
    """128 random bits each; a made-up ticket with everything else right is refused."""
    tickets = [await house.market.begin_inference(await order(house, max_tokens=1)) for _ in range(20)]
    assert {len(ticket.hold_id) for ticket in tickets} == {16}
    assert len({ticket.hold_id for ticket in tickets}) == 20
    for ticket in tickets:
        forged = replace(ticket, hold_id=bytes(16))
        with pytest.raises(Conflict):
            house.market.execute(forged, house.agent.key, streamed=True)
        await house.market.cancel(ticket)
    assert nothing_is_held(house)


async def test_default_ceiling_shrinks_and_an_explicit_one_is_refused(house: House) -> None:
    house.engine.length = 5000
    poor = await house.hosted((None, 40, None))
    settlement = await serve(house, payer=poor)
    assert settlement.cost == 40
    assert settlement.reason is FinishReason.LENGTH
    with pytest.raises(BudgetExceeded):
        await serve(house, payer=await house.hosted((30, None, None)), max_tokens=31)
    with pytest.raises(InsufficientFunds):
        await serve(house, max_tokens=1001)


@pytest.mark.parametrize("requests", [200])
async def test_two_hundred_requests_against_a_budget_for_ten(house: House, requests: int) -> None:
    payer = await house.hosted((None, 100, None))

    async def one() -> bool:
        while not house.ledger.gate.may_open(payer.key):
            await asyncio.sleep(0)
        try:
            return (await serve(house, payer=payer, max_tokens=10)).cost == 10
        except BudgetExceeded:
            return False

    results = await asyncio.gather(*(one() for _ in range(requests)))
    assert sum(results) == 10
    assert house.ledger.balance(payer.key).net == -100


async def test_kill_stops_streams_and_new_promises(house: House) -> None:
    house.engine.length, house.engine.stall_after = 500, 100
    ticket = await house.market.begin_inference(await order(house, max_tokens=400))
    idle = await house.market.begin_inference(await order(house, max_tokens=400))
    async with house.market.execute(ticket, ticket.payer.key, streamed=True) as session:
        counts = [(await anext(session)).count for _ in range(100)]
        pull = asyncio.ensure_future(anext(session, None))
        await asyncio.sleep(0.01)
        await house.ledger.set_kill(True, "test", "nobody")
        assert await pull is None
        settlement = await session.settle()
    assert settlement.reason is FinishReason.KILLED
    assert settlement.trade is not None
    assert settlement.trade.completion_tokens == 64, "what was vouched before the kill is booked, no more"
    assert counts[-1] == 100
    await house.market.cancel(idle)
    assert nothing_is_held(house)
    with pytest.raises(KillSwitchActive):
        await serve(house)
    await house.ledger.set_kill(False, "", "nobody")
    house.engine.stall_after = None
    assert (await serve(house, max_tokens=5)).cost == 5


@pytest.mark.parametrize("after", [0, 1, 63, 64, 65, 100])
async def test_cancellation_anywhere_leaves_no_hold(house: House, after: int) -> None:
    house.engine.length, house.engine.stall_after = 500, after

    async def client() -> None:
        await serve(house)

    task = asyncio.create_task(client())
    await asyncio.wait_for(house.engine.stalled.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert nothing_is_held(house)
    assert house.engine.running == 0
    assert -house.ledger.balance(house.agent.key).net == after


async def test_a_context_that_is_too_small_is_told_by_whose_limit_it_is(house: House) -> None:
    asked = await order(house, max_tokens=5)
    card = replace(house.engine.card, context_length=asked.prompt.count, trained_context=8192)
    house.engine.card = card
    with pytest.raises(ContextLengthExceeded, match=r"allows 3 a request \(infer.context\)"):
        await house.market.begin_inference(asked)
    house.engine.card = replace(card, context_length=7, trained_context=7)
    with pytest.raises(ContextLengthExceeded, match="the model's context is 7") as caught:
        await house.market.begin_inference(asked)
    assert caught.value.param == "max_tokens"
