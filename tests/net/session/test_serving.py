"""How a session ends on the provider's side: nothing that was said may be lost by what comes at the same moment."""

import asyncio
from pathlib import Path

import pytest

from tests.ledger.disk import Disk
from tests.net.session.conftest import PROMPT, Bind, Mesh, opened_mesh
from tests.waiting import until
from tirami.core.errors import EngineFailed
from tirami.infer import FinishReason
from tirami.net.frames import FrameWriter
from tirami.net.iroh import IrohEndpoint
from tirami.net.session import Sale, consumer, provider, remote_answer
from tirami.proto import Finish, Message, Payment

BINDS = pytest.mark.parametrize("bind", [None, IrohEndpoint.bind], ids=["memory", "iroh"])


def vouched(mesh: Mesh) -> int:
    """TRM signed for in the one session that is open."""
    return sum(claim.amount for claim in mesh.provider.ledger.state.claims.open.values())


@BINDS
async def test_who_cancels_with_everything_paid_gets_its_settlement(tmp_path: Path, bind: Bind | None) -> None:
    async with opened_mesh(tmp_path, bind=bind, voucher_tokens=1) as mesh:
        mesh.desk.engine.length, mesh.desk.engine.stall_after = 100, 5
        bought = await mesh.asked(100)

        async def leave() -> None:
            await until(lambda: vouched(mesh) == len(PROMPT) + 5)
            await asyncio.sleep(0.05)
            session.interrupt(FinishReason.CANCELLED)

        async with await mesh.begun(bought) as session:
            leaving = asyncio.create_task(leave())
            assert [chunk.count async for chunk in session] == [1, 2, 3, 4, 5]
            await leaving
        await bought.close()
        await mesh.quiet()
        assert session.settlement.trade is not None
        assert session.settlement.cost == mesh.provider.net == len(PROMPT) + 5
        assert bought.kept is not False


@BINDS
async def test_who_leaves_in_the_middle_is_settled_with(tmp_path: Path, bind: Bind | None) -> None:
    """A piece may be on its way out at that moment."""
    async with opened_mesh(tmp_path, bind=bind, voucher_tokens=8) as mesh:
        mesh.desk.engine.length = 60
        for _ in range(8):
            _, settlement = await mesh.buy(60, take=20)
            assert settlement.trade is not None
            assert settlement.cost == len(PROMPT) + 20
        await mesh.quiet()
        assert mesh.provider.net == 8 * (len(PROMPT) + 20)


async def test_a_voucher_that_is_being_sent_when_its_reader_leaves_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was signed, so it is owed: before, its provider never had it, and was blamed that it settled nothing."""
    saying = asyncio.Event()

    class Slow(FrameWriter):
        async def write(self, message: Message) -> None:
            if isinstance(message, Payment):
                saying.set()
                await asyncio.sleep(0.1)
            await super().write(message)

    monkeypatch.setattr(consumer, "FrameWriter", Slow)
    async with opened_mesh(tmp_path, voucher_tokens=8) as mesh:
        mesh.desk.engine.length, mesh.desk.engine.stall_after = 60, 4
        bought = await mesh.asked(60)
        session = await mesh.begun(bought)

        async def read() -> None:
            async with session:
                async for _ in session:
                    pass

        reading = asyncio.create_task(read())
        await saying.wait()
        reading.cancel()
        await asyncio.wait([reading])
        await bought.close()
        await mesh.quiet()
        assert reading.cancelled() and session.settlement.trade is not None
        assert session.settlement.cost == mesh.provider.net == len(PROMPT) + 4
        assert bought.kept is not False


async def test_the_last_voucher_while_the_end_is_told_costs_nobody_its_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened_mesh(tmp_path, voucher_tokens=1) as mesh:

        class Slow(FrameWriter):
            async def write(self, message: Message) -> None:
                if isinstance(message, Finish):
                    await until(lambda: vouched(mesh) == len(PROMPT) + 10)
                    await asyncio.sleep(0.05)
                await super().write(message)

        monkeypatch.setattr(provider, "FrameWriter", Slow)
        bought = await mesh.asked(10)
        async with await mesh.begun(bought) as session:
            async for _ in session:
                pass
        await bought.close()
        assert session.settlement.reason is FinishReason.LENGTH
        assert session.settlement.cost == len(PROMPT) + 10
        assert bought.kept is True


async def test_an_acceptance_that_is_lost_ends_the_engines_work_at_once(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh.desk.engine.stall_after = 0
    bought = await mesh.asked()
    disk = Disk(mesh.provider.ledger, monkeypatch)
    disk.full = True
    with pytest.raises(EngineFailed):
        async with asyncio.timeout(5), await mesh.begun(bought) as session:
            await anext(session)
    await bought.close()
    await until(lambda: not mesh.service.running)
    assert mesh.desk.engine.running == mesh.desk.engine.waiting == 0
    assert mesh.payer.ledger.books(mesh.payer.key.public_key).settled == 0


@pytest.mark.parametrize("order", [(0, 0, 1), (1, 0)], ids=["replayed", "reordered"])
async def test_a_voucher_that_does_not_go_beyond_the_last_ends_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[int, ...]
) -> None:
    """Each would be verified and written down, for ever, and keep the provider waiting: what was signed is settled."""
    for side in (consumer, remote_answer):
        monkeypatch.setattr(side, "IDLE_S", 1.0)
    async with opened_mesh(tmp_path, voucher_tokens=8) as mesh:
        mesh.desk.engine.length = 40
        kept: list[Message] = []

        class Shuffling(FrameWriter):
            async def write(self, message: Message) -> None:
                if not isinstance(message, Payment):
                    await super().write(message)
                    return
                kept.append(message)
                if len(kept) == 2:
                    for number in order:
                        await super().write(kept[number])

        monkeypatch.setattr(consumer, "FrameWriter", Shuffling)
        text, _ = await mesh.buy(40)
        await mesh.quiet()
        assert len(text.split()) < 40
        assert mesh.provider.net == len(PROMPT) + (4 if order[0] == 0 else 8)


async def test_a_voucher_that_is_being_written_when_its_session_is_cut_off_is_no_debt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is settled, and what it pays for was held against its payer as well."""
    monkeypatch.setattr(provider, "SESSION_S", 2.0)
    async with opened_mesh(tmp_path, voucher_tokens=8) as mesh:
        mesh.desk.engine.length, mesh.desk.engine.stall_after = 8, 4
        sales: list[Sale] = []
        monkeypatch.setattr(mesh.service, "_sold", sales.append)
        disk = Disk(mesh.provider.ledger, monkeypatch)

        async def cut_off() -> None:
            await disk.writing.wait()
            await asyncio.sleep(3)
            disk.release()

        cutting = asyncio.create_task(cut_off())
        bought = await mesh.asked(8)
        async with await mesh.begun(bought) as session:
            async for chunk in session:
                if chunk.count == 4:
                    disk.hold()
        await bought.close()
        await cutting
        await mesh.quiet()
        assert mesh.provider.net == session.settlement.cost == len(PROMPT) + 4
        assert [(sale.sent, sale.vouched, sale.unpaid) for sale in sales] == [(4, 4, 0)]
        assert list(mesh.provider.ledger.state.claims.debtors(mesh.provider.ledger.now())) == []
