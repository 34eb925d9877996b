"""Several choices of one request: one decision, one bill for the prompt, all or none."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.market.conftest import House, house
from tests.market.test_inference import order as order_of
from tests.net.session.conftest import opened_mesh
from tirami.core.errors import (
    BudgetExceeded,
    Conflict,
    EngineFailed,
    KillSwitchActive,
    QueueFull,
    SpendDenied,
    StorageUnavailable,
)
from tirami.core.units import TokenCount
from tirami.infer import FinishReason, Prompt
from tirami.ledger import AccountDisabled, FraudProven, Payer
from tirami.ledger.admission import Admitted
from tirami.market import Order, WaitingRoom
from tirami.node.answer import ChatStream, written
from tirami.node.choice import Choice

__all__ = ["house"]
MORE = 3


async def orders(house: House, most: int | None, count: int = MORE, payer: Payer | None = None) -> list[Order]:
    first = await order_of(house, payer, most)
    return [first, *(replace(first, prompt_billed=False) for _ in range(count - 1))]


async def test_the_prompt_is_billed_once(house: House) -> None:
    house.market.load._prompt_ppm = 250_000  # type: ignore[assignment]
    tickets = await house.market.begin(await orders(house, 8))
    assert [ticket.price.prompt > 0 for ticket in tickets] == [True, False, False]
    assert len({ticket.price.completion for ticket in tickets}) == 1
    assert len({ticket.secret for ticket in tickets}) == MORE


async def test_all_pass_the_gate_or_none(house: House) -> None:
    agent = await house.hosted((25, None, None))
    tickets = await house.market.begin(await orders(house, 10, 2, agent))
    for ticket in tickets:
        await house.market.cancel(ticket)
    with pytest.raises(BudgetExceeded):
        await house.market.begin(await orders(house, 10, 3, agent))
    assert not house.ledger.state.holds.open
    assert not house.market.live


async def test_a_signature_that_fails_in_the_middle_takes_everything_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, sign = 0, house.market._sign

    def fails_late(offer: object) -> object:
        nonlocal made
        made += 1
        if made == 3:
            raise RuntimeError("scripted")
        return sign(offer)  # type: ignore[arg-type]

    monkeypatch.setattr(house.market, "_sign", fails_late)
    with pytest.raises(RuntimeError):
        await house.market.begin(await orders(house, 4))
    assert not house.ledger.state.holds.open
    assert not house.market.live


async def test_thirty_two_sessions_are_the_most(house: House) -> None:
    with pytest.raises(QueueFull):
        await house.market.begin(await orders(house, 1, 33))
    assert not house.ledger.state.holds.open


async def test_a_default_ceiling_is_shared(house: House) -> None:
    agent = await house.hosted((None, 90, None))
    tickets = await house.market.begin(await orders(house, None, 3, agent))
    assert sum(ticket.ceiling for ticket in tickets) <= 90
    assert {ticket.sampling.max_tokens for ticket in tickets} == {30}


async def stream_of(house: House, room: WaitingRoom, count: int = MORE, *, streamed: bool = False) -> ChatStream:
    tickets = await house.market.begin(await orders(house, 6, count))
    stack = AsyncExitStack()
    choices = [Choice(index, 0, house.market, ticket, streamed=streamed) for index, ticket in enumerate(tickets)]
    for ticket in tickets:
        stack.push_async_callback(house.market.cancel, ticket)
    await choices[0].begin(stack)
    return ChatStream(house.engine.card, stack, choices, room, house.agent.key)


@pytest.mark.parametrize("slots", [1, 2, 8])
async def test_a_full_house_serves_choices_in_turn(house: House, slots: int) -> None:
    room = WaitingRoom(slots, 8, house.ledger._clock)
    together = 0
    async with room.place(house.agent.key, owner=False):
        async with await stream_of(house, room) as stream:
            whole = await stream.whole(written)
            together = room.running
        assert [whole.told[index] for index in range(MORE)] == ["0 1 2 3 4 5 "] * MORE
    assert together == 1, "further places are given back when the answers are there"
    assert room.running == 0
    assert len({settlement.record_id for settlement in whole.settlements if settlement is not None}) == MORE
    assert not house.ledger.state.holds.open


async def test_what_fails_costs_nothing_and_leaves_no_ticket(house: House) -> None:
    house.engine.fail_after = 3
    room = WaitingRoom(8, 8, house.ledger._clock)
    with pytest.raises(Exception, match="scripted failure"):
        async with await stream_of(house, room) as stream:
            await stream.whole(written)
    assert not house.ledger.state.holds.open
    assert not house.market.live
    assert room.running == 0
    assert house.ledger.state.holds.books(house.agent.key).settled == 0


async def test_choices_that_never_began_are_not_settled(house: House) -> None:
    async with await stream_of(house, WaitingRoom(1, 8, house.ledger._clock), streamed=True) as stream:
        async for _ in stream.choices[0]:
            pass
        settled = await stream.settle_all()
    assert [settlement is not None for settlement in settled] == [True, False, False]
    assert settled[0] is not None
    assert settled[0].reason is FinishReason.LENGTH
    assert not house.market.live
    with pytest.raises(Conflict):
        house.market.execute(stream.choices[1].ticket, house.agent.key, streamed=True)


async def test_an_account_disabled_at_the_end_pays_and_gets_nothing(house: House) -> None:
    with pytest.raises(SpendDenied):
        async with await stream_of(house, WaitingRoom(8, 8, house.ledger._clock)) as stream:
            run = stream.run

            async def disabled_at_the_end(consume: Callable[[Choice], Awaitable[None]]) -> None:
                await run(consume)
                await house.ledger.record_facts(AccountDisabled(house.agent.key))

            stream.run = disabled_at_the_end  # type: ignore[method-assign]
            await stream.whole(written)
    assert house.ledger.state.holds.books(house.agent.key).settled == 0


async def test_a_choice_that_cannot_be_booked_is_not_given_and_the_others_are(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = house.ledger.payables.end_session

    async def failing(hold_id: bytes, *how: Any) -> Admitted | None:
        if hold_id == stream.choices[1].ticket.hold_id:
            raise StorageUnavailable("scripted")
        return await end(hold_id, *how)

    async with await stream_of(house, WaitingRoom(8, 8, house.ledger._clock)) as stream:
        monkeypatch.setattr(house.ledger.payables, "end_session", failing)
        whole = await stream.whole(written)
    assert [whole.told[index] for index in range(MORE)] == ["0 1 2 3 4 5 ", "", "0 1 2 3 4 5 "]
    assert [settlement is not None for settlement in whole.settlements] == [True, False, True]
    assert house.ledger.balance(house.agent.key).spent == 12


async def test_where_no_choice_can_be_booked_there_is_no_answer(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(*_: object) -> None:
        raise StorageUnavailable("scripted")

    with pytest.raises(StorageUnavailable):
        async with await stream_of(house, WaitingRoom(8, 8, house.ledger._clock)) as stream:
            monkeypatch.setattr(house.ledger.payables, "end_session", failing)
            await stream.whole(written)
    assert not house.market.live
    assert house.ledger.balance(house.agent.key).spent == 0


async def test_vectors_are_billed_by_the_tokens_read(house: House) -> None:
    house.market.load._prompt_ppm = 250_000  # type: ignore[assignment]
    inputs = [await house.engine.prepare_text("one two three"), await house.engine.prepare_text("four five")]
    joined = Prompt(tuple(range(5)), TokenCount(5), True, "", ())
    order = replace(await order_of(house, None, None), prompt=joined, vectors=inputs)
    ticket = await house.market.begin_inference(order)
    async with house.market.execute(ticket, house.agent.key, streamed=False) as session:
        chunks = [chunk async for chunk in session]
        session.deliver()
        settlement = await session.settle()
    assert len(chunks) == 2
    assert settlement.trade is not None
    assert (settlement.trade.prompt_tokens, settlement.trade.completion_tokens) == (5, 2)
    assert (settlement.trade.price_out, settlement.cost) == (0, 2), "⌈5 · 0.25⌉ TRM"


async def test_a_kill_before_a_choice_begins_leaves_the_settlement_of_those_that_did(house: House) -> None:
    room = WaitingRoom(1, 8, house.ledger._clock)
    async with room.place(house.agent.key, owner=False):
        async with await stream_of(house, room, 2, streamed=True) as stream:

            async def killed(choice: Choice) -> None:
                async for chunk in choice:
                    if chunk.count == 3:
                        await house.ledger.set_kill(True, "test", "nobody")

            with pytest.raises(KillSwitchActive):
                await stream.run(killed)
            first, second = await stream.settle_all()
    assert first is not None
    assert (first.reason, second) == (FinishReason.KILLED, None)
    assert not house.ledger.state.holds.open
    assert not house.market.live


async def test_what_ends_unbilled_because_the_seller_is_convicted_says_so(tmp_path: Path) -> None:
    """And names no time after which the same would go better."""
    async with opened_mesh(tmp_path) as mesh, AsyncExitStack() as stack:
        mesh.desk.engine.stall_after = 0
        bought = await mesh.asked()
        stack.push_async_callback(bought.close)
        choice = Choice(0, 0, mesh.payer.market, await mesh.ticket(bought), streamed=True)
        await choice.begin(stack)
        first = asyncio.create_task(choice.first())
        await asyncio.sleep(0.1)
        await mesh.payer.ledger.record_facts(FraudProven(mesh.provider.key.public_key, b"a proof"))
        with pytest.raises(EngineFailed, match="convicted .* not billed") as told:
            await first
    assert told.value.retry_after is None


async def test_what_cannot_be_read_is_not_billed(house: House) -> None:
    def unreadable(_: object) -> None:
        raise ValueError("scripted")

    with pytest.raises(ValueError, match="scripted"):
        async with await stream_of(house, WaitingRoom(8, 8, house.ledger._clock)) as stream:
            await stream.whole(unreadable)
    assert not house.ledger.state.holds.open
    assert house.ledger.state.holds.books(house.agent.key).settled == 0
