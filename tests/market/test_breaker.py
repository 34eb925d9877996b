"""What counts as an error for the breaker: engines and settlements that fail after admission, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.market.conftest import House, opened_house
from tests.market.scripted import ScriptedEngine
from tests.market.test_inference import nothing_is_held, order, serve
from tirami.core.errors import (
    BudgetExceeded,
    CircuitBreakerOpen,
    EngineFailed,
    InvalidProof,
    InvalidRequest,
    KillSwitchActive,
    SpendDenied,
    UpstreamUnavailable,
)
from tirami.core.keys import local_user_key
from tirami.infer import FinishReason, Prompt, Sampling
from tirami.ledger import LOCAL, Breaker, Circuit, Payer
from tirami.ledger.breaker import MAX_ERRORS, OPEN_MS
from tirami.testing import ManualClock


def breaker(house: House, payer: Payer | None = None) -> Breaker:
    return house.ledger.books((payer or house.agent).key).breaker


async def fail(house: House, payer: Payer | None = None) -> None:
    """An answer whose engine dies on the way."""
    house.engine.fail_after = 3
    with pytest.raises(EngineFailed):
        await serve(house, payer=payer)
    house.engine.fail_after = None


class BrokenAtTheDoor(ScriptedEngine):
    error: Exception = EngineFailed("will not open")

    @asynccontextmanager
    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncIterator[None]:  # type: ignore[override]
        raise self.error
        yield


async def test_an_engine_that_fails_five_times_is_asked_no_more(house: House) -> None:
    for number in range(MAX_ERRORS):
        assert breaker(house).errors == number
        await fail(house)
    with pytest.raises(CircuitBreakerOpen) as opened:
        await serve(house)
    assert opened.value.data["cause"] == "errors"
    assert 299 <= (opened.value.retry_after or 0) <= 300
    other = await house.hosted()
    assert (await serve(house, payer=other)).cost == 10, "each account has its own"
    assert nothing_is_held(house)


@pytest.mark.parametrize("error", [EngineFailed("503"), RuntimeError("bug")], ids=["engine", "bug"])
async def test_an_engine_that_does_not_open_is_an_error(house: House, error: Exception) -> None:
    house.engine = BrokenAtTheDoor()
    house.engine.error = error
    with pytest.raises(type(error)):
        await serve(house)
    assert breaker(house).errors == 1


async def test_the_owner_has_a_breaker_and_no_velocity(house: House) -> None:
    user = local_user_key(house.node)
    owner = Payer(user.public_key, user, LOCAL)
    for _ in range(40):
        await serve(house, payer=owner)
    for _ in range(MAX_ERRORS):
        await fail(house, owner)
    with pytest.raises(CircuitBreakerOpen):
        await serve(house, payer=owner)


async def test_neither_denials_nor_clients_nor_the_switch_count(house: House) -> None:
    poor = await house.hosted((5, None, None))
    for _ in range(2 * MAX_ERRORS):
        with pytest.raises(BudgetExceeded):
            await house.market.begin_inference(await order(house, poor, max_tokens=6))
    assert breaker(house, poor) == Breaker()
    house.engine.length = 200
    for _ in range(MAX_ERRORS):
        await serve(house, stop_after=1)
        await house.market.cancel(await house.market.begin_inference(await order(house)))
    house.engine = BrokenAtTheDoor()
    house.engine.error = InvalidRequest("the client asked for something impossible")
    for _ in range(MAX_ERRORS):
        with pytest.raises(InvalidRequest):
            await serve(house)
    assert breaker(house) == Breaker()


async def test_an_upstream_that_is_away_is_no_error(house: House) -> None:
    house.engine = BrokenAtTheDoor()
    house.engine.error = UpstreamUnavailable("cannot be reached")
    for _ in range(MAX_ERRORS + 1):
        with pytest.raises(UpstreamUnavailable):
            await serve(house)
    assert breaker(house) == Breaker()
    assert nothing_is_held(house)


async def test_an_answer_that_is_killed_stopped_or_cancelled_is_no_error(house: House) -> None:
    house.engine.stall_after = 2
    for end in ("kill", "cancel"):
        house.engine.stalled.clear()
        serving = asyncio.create_task(serve(house))
        await house.engine.stalled.wait()
        if end == "cancel":
            serving.cancel()
        else:
            await house.ledger.set_kill(True, "", "test")
        try:
            assert (await serving).reason is FinishReason.KILLED
        except asyncio.CancelledError:
            assert end == "cancel"
        await house.ledger.set_kill(False, "", "test")
    with pytest.raises(KillSwitchActive):
        ticket = await house.market.begin_inference(await order(house))
        await house.ledger.set_kill(True, "", "test")
        async with house.market.execute(ticket, house.agent.key, streamed=True):
            pass
    assert breaker(house).errors == 0


async def test_a_settlement_that_fails_is_one_error_until_it_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise InvalidProof("the countersigner is out of order")

    async with opened_house(tmp_path, voucher_tokens=4) as house:
        with monkeypatch.context() as broken:
            broken.setattr(house.ledger.payables._countersigner, "countersign", refuse)
            with pytest.raises(InvalidProof):
                await serve(house)
            for _ in range(2 * MAX_ERRORS):
                assert await house.ledger.payables.expire_holds(()) == 0
        assert breaker(house).errors == 1
        assert await house.ledger.payables.expire_holds(()) == 1
        assert nothing_is_held(house)


async def test_a_signature_that_cannot_be_made_is_an_error(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("tirami.market.session.signed", None)
        with pytest.raises(TypeError):
            await serve(house)
    assert breaker(house).errors == 1


async def test_after_five_minutes_one_spend_decides(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened_house(tmp_path, clock=clock) as house:
        for _ in range(MAX_ERRORS):
            await fail(house)
        clock.wall_ms += OPEN_MS - 1
        with pytest.raises(CircuitBreakerOpen, match="is open"):
            await serve(house)
        clock.wall_ms += 1
        await fail(house)
        with pytest.raises(CircuitBreakerOpen):
            await serve(house)
        clock.wall_ms += OPEN_MS
        probe = await house.market.begin_inference(await order(house))
        with pytest.raises(CircuitBreakerOpen, match="half open"):
            await serve(house)
        await house.market.cancel(probe)
        assert (await serve(house)).cost == 10
        assert breaker(house) == Breaker()


async def test_breaker_and_minute_are_the_same_after_a_restart(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened_house(tmp_path, clock=clock) as house:
        node, agent = house.node, house.agent
        fast = await house.hosted((None, None, None, None, 3))
        for _ in range(3):
            await serve(house, payer=fast)
        with pytest.raises(SpendDenied):
            await serve(house, payer=fast)
        for _ in range(MAX_ERRORS):
            await fail(house)
        before = {payer.key: house.ledger.books(payer.key) for payer in (agent, fast)}
    async with opened_house(tmp_path, clock=clock, node=node) as again:
        for payer in (agent, fast):
            books = again.ledger.books(payer.key)
            assert (books.breaker, books.velocity) == (before[payer.key].breaker, before[payer.key].velocity)
            assert books.breaker.circuit(again.ledger.now()) is Circuit.OPEN
            with pytest.raises(CircuitBreakerOpen):
                await serve(again, payer=payer)
