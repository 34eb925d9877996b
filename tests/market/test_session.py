"""A session against kills, clocks and disks: what is signed, how long it is held, how it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.ledger.disk import Disk
from tests.market.conftest import House, opened_house
from tests.market.scripted import ScriptedEngine, ScriptedGeneration
from tests.market.test_inference import nothing_is_held, order, serve
from tirami.core.errors import EngineFailed, KillSwitchActive, StorageUnavailable
from tirami.infer import FinishReason, Prompt, Sampling
from tirami.ledger import HoldVouched
from tirami.ledger.entries import EntryKind, decode_content
from tirami.market import Interrupted, inference
from tirami.testing.clock import ManualClock


class SilentEngine(ScriptedEngine):
    """Never says its first word: ``opening`` is set while it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.opening = asyncio.Event()

    @asynccontextmanager
    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncIterator[ScriptedGeneration]:
        async with super().generate(prompt, sampling) as generation:
            self.opening.set()
            await asyncio.Event().wait()
            yield generation


async def in_time(work: "asyncio.Future[object] | asyncio.Task[object]") -> float:
    """How long until ``work`` has ended, in seconds; how it ended does not matter."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.wait([work], timeout=10)
    assert work.done()
    return loop.time() - began


def vouchers(house: House) -> list[int]:
    rows = house.ledger._journal._database.execute("SELECT kind, body FROM entries ORDER BY seq")
    contents = [decode_content(kind, body) for kind, body in rows if kind == EntryKind.HOLD]
    return [content.amount for content in contents if isinstance(content, HoldVouched)]


# --- the kill switch -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_kill_while_the_hold_is_written_reaches_no_engine(
    house: House, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    disk = Disk(house.ledger, monkeypatch)
    disk.hold()
    begun = asyncio.create_task(house.market.begin_inference(await order(house)))
    await disk.writing.wait()
    killed = asyncio.create_task(house.ledger.set_kill(True, "test", "nobody"))
    await asyncio.sleep(0)
    disk.release()
    ticket = await begun
    with pytest.raises(KillSwitchActive):
        async with house.market.execute(ticket, ticket.payer.key, streamed=streamed):
            pytest.fail("the session was entered under a thrown switch")
    await killed
    assert house.engine.opened == 0
    assert nothing_is_held(house)
    assert not house.market.live
    assert not vouchers(house)


async def test_a_kill_reaches_a_session_whose_engine_has_not_opened(house: House) -> None:
    house.engine = engine = SilentEngine()
    ticket = await house.market.begin_inference(await order(house))

    async def enter() -> None:
        async with house.market.execute(ticket, ticket.payer.key, streamed=True):
            pytest.fail("the engine never opened")

    entering = asyncio.create_task(enter())
    await engine.opening.wait()
    await house.ledger.set_kill(True, "test", "nobody")
    assert await in_time(entering) < 0.2
    assert isinstance(entering.exception(), Interrupted)
    assert nothing_is_held(house)
    assert engine.running == 0
    assert not house.market.live


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_kill_reaches_a_session_that_waits_for_the_first_token(house: House, streamed: bool) -> None:
    house.engine.stall_after = 0
    ticket = await house.market.begin_inference(await order(house))

    async def wait() -> FinishReason:
        async with house.market.execute(ticket, ticket.payer.key, streamed=streamed) as session:
            assert await anext(session, None) is None
            return (await session.settle()).reason

    waiting = asyncio.create_task(wait())
    await house.engine.stalled.wait()
    await house.ledger.set_kill(True, "test", "nobody")
    assert await in_time(waiting) < 0.2
    assert waiting.result() is FinishReason.KILLED
    assert nothing_is_held(house)
    assert house.ledger.balance(house.agent.key).net == 0


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_hold_lives_while_tokens_move(tmp_path: Path, streamed: bool) -> None:
    """Ten tokens, nine minutes each, none of them vouched for before the end."""
    clock = ManualClock()
    async with opened_house(tmp_path, clock=clock) as house:
        ticket = await house.market.begin_inference(await order(house))
        async with house.market.execute(ticket, ticket.payer.key, streamed=streamed) as session:
            async for _ in session:
                clock.advance(540)
                assert await house.ledger.payables.expire_holds(house.market.live) == 0
            session.deliver()
            settlement = await session.settle()
        assert (settlement.reason, settlement.cost) == (FinishReason.STOP, 10)
        assert nothing_is_held(house)


async def test_what_a_request_owns_does_not_expire(tmp_path: Path) -> None:
    """One choice waits, one has ended, one is still reading its prompt: for longer than any hold says it lives."""
    clock = ManualClock()
    async with opened_house(tmp_path, clock=clock) as house:
        waiting, slow, ended = await house.market.begin([await order(house, max_tokens=10) for _ in range(3)])
        async with house.market.execute(ended, ended.payer.key, streamed=False) as session:
            async for _ in session:
                pass
            session.deliver()
            async with house.market.execute(slow, slow.payer.key, streamed=True) as reading:
                clock.advance(3600)
                assert await house.ledger.payables.expire_holds(house.market.live) == 0
                async for _ in reading:
                    pass
            assert (await session.settle()).cost == 10
        async with house.market.execute(waiting, waiting.payer.key, streamed=True) as last:
            async for _ in last:
                pass
        assert last.settlement.cost == 10
        assert nothing_is_held(house)


async def test_a_hold_of_nobody_ends_at_once(house: House) -> None:
    await house.market.begin_inference(await order(house))
    assert await house.ledger.payables.expire_holds(()) == 1
    assert nothing_is_held(house)


# --- vouchers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "expected"), [(4, [4, 8, 12, 16, 20]), (10, [10, 20]), (64, [20])])
async def test_the_network_file_says_how_many_tokens_run_ahead(
    tmp_path: Path, window: int, expected: list[int]
) -> None:
    async with opened_house(tmp_path, voucher_tokens=window) as house:
        house.engine.length = 20
        assert (await serve(house)).cost == 20
        assert vouchers(house) == expected


async def test_a_voucher_lost_on_the_way_to_the_disk_is_signed_again_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk refuses one group and is well again: what was delivered is billed, to the last token."""
    async with opened_house(tmp_path, voucher_tokens=4) as house:
        house.engine.length = 17
        disk = Disk(house.ledger, monkeypatch)
        ticket = await house.market.begin_inference(await order(house, max_tokens=17))
        disk.refuse = disk.groups + 2
        with pytest.raises(StorageUnavailable):
            async with house.market.execute(ticket, ticket.payer.key, streamed=True) as session:
                async for chunk in session:
                    got = chunk.count
        assert vouchers(house) == [4, got]
        assert -house.ledger.balance(house.agent.key).net == got == 8
        assert nothing_is_held(house)


@pytest.mark.parametrize(("lost", "billed"), [(3, 0), (4, 0), (5, 4), (9, 8), (13, 12), (17, 16)])
async def test_a_voucher_the_disk_refuses_bills_nothing_and_locks_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int, billed: int
) -> None:
    """From token ``lost`` on the disk is full; vouchers are due after every fourth."""
    async with opened_house(tmp_path, voucher_tokens=4) as house:
        house.engine.length = 17
        disk = Disk(house.ledger, monkeypatch)
        ticket = await house.market.begin_inference(await order(house, max_tokens=17))
        with pytest.raises(StorageUnavailable):
            async with house.market.execute(ticket, ticket.payer.key, streamed=True) as session:
                async for chunk in session:
                    disk.full = chunk.count >= lost
                await session.settle()
        with pytest.raises(StorageUnavailable):
            await session.settle()
        assert house.engine.running == 0
        assert ticket.hold_id in house.ledger.state.holds.open
        assert not house.market.live

        with pytest.raises(StorageUnavailable):
            await house.ledger.payables.expire_holds(house.market.live)
        disk.full = False
        await house.ledger.durable()  # the way back to what is on disk has ended
        assert await house.ledger.payables.expire_holds(house.market.live) == 1
        assert nothing_is_held(house)
        assert -house.ledger.balance(house.agent.key).net == billed
        assert max(vouchers(house), default=0) == billed
        house.engine.length = 5
        assert (await serve(house, max_tokens=1000 - billed)).cost == 5


# --- stopping --------------------------------------------------------------------------------------------------------


async def test_a_market_that_stops_settles_and_begins_nothing(house: House) -> None:
    house.engine.length, house.engine.stall_after = 100, 7
    unused = await house.market.begin_inference(await order(house, max_tokens=10))
    ticket = await house.market.begin_inference(await order(house, max_tokens=50))

    async def stream() -> tuple[FinishReason, int]:
        async with house.market.execute(ticket, ticket.payer.key, streamed=True) as session:
            async for _ in session:
                pass
            settlement = await session.settle()
        return settlement.reason, settlement.cost

    streaming = asyncio.create_task(stream())
    await house.engine.stalled.wait()
    await house.market.stop()
    assert streaming.done()
    assert streaming.result() == (FinishReason.STOPPED, 7)
    assert nothing_is_held(house)
    with pytest.raises(EngineFailed, match="stopping"):
        house.market.execute(unused, unused.payer.key, streamed=True)
    with pytest.raises(EngineFailed, match="stopping"):
        await house.market.begin_inference(await order(house))


async def test_a_hold_on_its_way_to_disk_when_the_node_stops(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(house.ledger, monkeypatch)
    disk.hold()
    begun = asyncio.create_task(house.market.begin_inference(await order(house)))
    await disk.writing.wait()
    stopped = asyncio.create_task(house.market.stop())
    await asyncio.sleep(0)
    disk.release()
    await stopped
    ticket = await begun
    with pytest.raises(EngineFailed, match="stopping"):
        house.market.execute(ticket, ticket.payer.key, streamed=True)
    assert nothing_is_held(house)
    assert house.engine.opened == 0


async def test_a_consumer_that_never_comes_back_keeps_no_node_from_stopping(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "LEAVING_S", 0.05)
    house.engine.length = 200
    ticket = await house.market.begin_inference(await order(house, max_tokens=200))
    with pytest.raises(StorageUnavailable):
        async with house.market.execute(ticket, ticket.payer.key, streamed=True) as session:
            for _ in range(100):
                await anext(session)
            await house.market.stop()
            assert nothing_is_held(house)
            assert await anext(session, None) is None
    assert -house.ledger.balance(house.agent.key).net == 64, "the last voucher"
    assert house.engine.running == 0
