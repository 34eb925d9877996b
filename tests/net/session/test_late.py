"""A settlement that comes late, or more than once: the books say what was signed, whenever it arrives (PROTOCOL B7)."""

import asyncio
from pathlib import Path

import pytest

from tests.ledger.disk import Disk
from tests.net.session.conftest import PROMPT, Mesh, mesh, opened_mesh
from tests.waiting import until
from tirami.infer import FinishReason
from tirami.ledger import Ledger
from tirami.ledger.countersigner import countersigned
from tirami.market import MeteredSession
from tirami.net.session import Sale, consumer, remote_answer
from tirami.proto import Envelope
from tirami.testing.clock import ManualClock

__all__ = ["mesh"]
MINUTE, YEAR = 60, 365 * 86_400


async def vouched(mesh: Mesh, amount: int) -> None:
    """Until the one open claim has a voucher of so much that is on disk."""
    claims = mesh.provider.ledger.state.claims
    await until(lambda: [claim.amount for claim in claims.open.values()] == [amount])
    await mesh.provider.ledger.durable()


async def ended_unsettled(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> tuple[MeteredSession, Disk]:
    """A session of five tokens, paid one by one, whose provider finds its disk full when it would settle."""
    mesh.desk.engine.length, mesh.desk.engine.stall_after = 100, 5
    bought, sales = await mesh.asked(100), list[Sale]()
    disk = Disk(mesh.provider.ledger, monkeypatch)
    mesh.service._sold = sales.append

    async def leave() -> None:
        await vouched(mesh, len(PROMPT) + 5)
        disk.full = True
        session.interrupt(FinishReason.CANCELLED)

    async with await mesh.begun(bought) as session:
        leaving = asyncio.create_task(leave())
        async for _ in session:
            pass
        await leaving
    await bought.close()
    await until(lambda: not mesh.service.running)
    assert session.settlement.trade is None and session.settlement.cost == len(PROMPT) + 5
    assert len(mesh.provider.ledger.state.claims.open) == 1
    (sale,) = sales
    assert (sale.sent, sale.vouched, sale.unpaid) == (5, 5, 0), "whoever counts sales hears of it all the same"
    return session, disk


async def newest_trade(ledger: Ledger) -> Envelope:
    await ledger.durable()
    state = ledger.state
    found = (state.records[number].envelope for number in reversed(range(len(state.records))))
    return next(envelope for envelope in found if envelope.kind == "trade")


@pytest.mark.parametrize("after_s", [0, 11 * MINUTE, YEAR], ids=["at once", "11 minutes", "a year"])
async def test_a_claim_that_could_not_be_settled_is_settled_when_the_disk_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after_s: int
) -> None:
    """Neither side lets go of it: a hold says ten minutes, and a signature has no end."""
    for side in (consumer, remote_answer):
        monkeypatch.setattr(side, "IDLE_S", 0.5)
    clock = ManualClock()
    async with opened_mesh(tmp_path, clock, voucher_tokens=1) as mesh:
        await ended_unsettled(mesh, monkeypatch)
        provider, payer = mesh.provider.ledger, mesh.payer.ledger
        assert payer.books(mesh.payer.key.public_key).settled == len(PROMPT) + 5
        monkeypatch.undo()
        clock.advance(after_s)
        await payer.payables.expire_holds(())
        assert await provider.receivables.expire_claims(mesh.service.claims) == 1
        assert not provider.state.claims.open
        await payer.book_record(await newest_trade(provider))[1]
        assert (mesh.provider.net, mesh.payer.net) == (len(PROMPT) + 5, -len(PROMPT) - 5)
        assert not payer.state.holds.open
        assert provider.state.book.state_hash() == payer.state.book.state_hash()
        assert provider.check_balance() == payer.check_balance() == 0


async def test_what_a_running_session_will_settle_is_left_to_it(tmp_path: Path) -> None:
    async with opened_mesh(tmp_path, voucher_tokens=1) as mesh:
        mesh.desk.engine.stall_after = 5
        bought = await mesh.asked(10)

        async def look() -> int:
            await vouched(mesh, len(PROMPT) + 5)
            expired = await mesh.provider.ledger.receivables.expire_claims(mesh.service.claims)
            mesh.desk.engine.resume.set()
            return expired

        async with await mesh.begun(bought) as session:
            looking = asyncio.create_task(look())
            async for _ in session:
                pass
        await bought.close()
        assert await looking == 0
        assert session.settlement.cost == len(PROMPT) + 10


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0)], ids=str)
async def test_of_several_vouchers_that_were_countersigned_the_highest_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[int, ...]
) -> None:
    """A provider signs an older voucher, then the newest, in whatever order they arrive: it is paid once."""
    async with opened_mesh(tmp_path, voucher_tokens=1) as mesh:
        mesh.desk.engine.stall_after = 3
        bought = await mesh.asked(10)
        trades: list[Envelope] = []

        async def sign_early() -> None:
            await vouched(mesh, len(PROMPT) + 3)
            (claim,) = mesh.provider.ledger.state.claims.open.values()
            assert claim.voucher is not None
            trades.append(countersigned(claim.voucher, mesh.provider.key))
            mesh.desk.engine.resume.set()

        async with await mesh.begun(bought) as session:
            signing = asyncio.create_task(sign_early())
            async for _ in session:
                pass
            await signing
        await bought.close()
        await mesh.quiet()
        trades.append(await newest_trade(mesh.provider.ledger))
        for number in order:
            for node in (mesh.provider, mesh.payer):
                await node.ledger.book_record(trades[number])[1]
        assert session.settlement.cost == len(PROMPT) + 10
        assert (mesh.provider.net, mesh.payer.net) == (len(PROMPT) + 10, -len(PROMPT) - 10)
        books = mesh.provider.ledger.state.book, mesh.payer.ledger.state.book
        assert books[0].state_hash() == books[1].state_hash()
        assert not mesh.payer.ledger.state.settings.convicted
