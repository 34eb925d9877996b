"""What a payer was given and never pays bounds what else it is given (B6, B11): the loss to one key, in TRM."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ledger.disk import Disk
from tests.net.session.conftest import PROMPT, Mesh, opened_mesh, opened_node
from tests.waiting import until
from tirami.core.errors import EngineFailed, PeerRefused, StorageUnavailable, TiramiError
from tirami.ledger import receivables
from tirami.net.frames import FrameWriter
from tirami.net.session import Sale, consumer, serving
from tirami.net.session.provider import MOST_PER_PEER
from tirami.proto import Message, Payment
from tirami.testing.clock import ManualClock

WINDOW = 10
SESSION = len(PROMPT) + WINDOW
"""What one session can cost its provider at a TRM a token: the prompt's price and K (B11)."""
U = 1_000
BOUND = U // 10
DAY_S = 86_400


@contextmanager
def mute(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A payer that never signs for anything."""

    class Mute(FrameWriter):
        async def write(self, message: Message) -> None:
            if not isinstance(message, Payment):
                await super().write(message)

    with monkeypatch.context() as patched:
        patched.setattr(consumer, "FrameWriter", Mute)
        patched.setattr(serving, "IDLE_S", 0.1)
        yield


def watched(mesh: Mesh) -> list[Sale]:
    mesh.desk.engine.length = 100
    sales: list[Sale] = []
    mesh.service._sold = sales.append
    return sales


async def stolen(mesh: Mesh) -> bool:
    """One session that takes what there is without paying; whether it was served."""
    try:
        await mesh.buy(40)
    except EngineFailed as error:
        assert isinstance(error.__cause__, PeerRefused)
        assert error.__cause__.data["refused"] == "unpaid_limit"
        assert error.__cause__.retry_after is not None
        return False
    finally:
        await mesh.quiet()
    return True


async def test_who_never_signs_is_served_until_a_tenth_of_u_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, for ever: 12 sessions in a row lost 156 TRM, and so on."""
    async with opened_mesh(tmp_path, ManualClock(), voucher_tokens=WINDOW) as mesh:
        sales = watched(mesh)
        with mute(monkeypatch):
            served = 0
            while await stolen(mesh):
                served += 1
        lost = sum(sale.unpaid for sale in sales)
        assert served == len(sales) == -(-BOUND // SESSION)
        assert BOUND <= lost == served * SESSION < BOUND + SESSION
        ledger, payer = mesh.provider.ledger, mesh.payer.key.public_key
        assert ledger.state.claims.within_day(payer, ledger.now()) == lost, "and counts towards U"
        assert mesh.desk.engine.opened == served


async def test_sessions_side_by_side_lose_one_session_each_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened_mesh(tmp_path, voucher_tokens=WINDOW) as mesh:
        sales = watched(mesh)
        mesh.desk.engine.length = 40

        async def one() -> bool:
            try:
                await mesh.buy(40)
            except TiramiError:
                return False
            return True

        with mute(monkeypatch):
            while any(await asyncio.gather(*(one() for _ in range(MOST_PER_PEER)))):
                await mesh.quiet()
        assert BOUND <= sum(sale.unpaid for sale in sales) < BOUND + MOST_PER_PEER * SESSION


async def test_it_is_remembered_over_a_restart_and_for_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    async with opened_mesh(tmp_path, clock, voucher_tokens=WINDOW) as mesh:
        watched(mesh)
        with mute(monkeypatch):
            while await stolen(mesh):
                pass
        key, network, payer = mesh.provider.key, mesh.provider.ledger.network, mesh.payer.key.public_key
        lost = mesh.provider.ledger.state.claims.debtor(payer).unpaid_since(0)
        assert mesh.provider.ledger.receivables.refuses(payer)
    for _ in range(2):  # folded from entries, and from a snapshot
        async with opened_node(tmp_path / "provider", key, network, clock) as provider:
            assert provider.ledger.state.claims.debtor(payer).unpaid_since(0) == lost
            assert provider.ledger.receivables.refuses(payer)
    clock.advance(DAY_S)
    async with opened_node(tmp_path / "provider", key, network, clock) as provider:
        assert not provider.ledger.receivables.refuses(payer)
        assert provider.ledger.state.claims.within_day(payer, provider.ledger.now()) == 0


async def test_it_is_remembered_when_the_disk_refuses_the_end_of_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ends the claim later has heard nothing of what was handed out."""
    async with opened_mesh(tmp_path, voucher_tokens=WINDOW) as mesh:
        mesh.desk.engine.length = 100
        ledger, payer = mesh.provider.ledger, mesh.payer.key.public_key
        disk = Disk(ledger, monkeypatch)
        with mute(monkeypatch):
            bought = await mesh.asked(40)
            async with await mesh.begun(bought) as session:
                await anext(session)
                disk.full = True
                async for _ in session:
                    pass
            await bought.close()
            await until(lambda: not mesh.service.running)
        assert ledger.state.claims.debtor(payer).unpaid_since(0) == 0 and len(ledger.state.claims.open) == 1
        with pytest.raises(StorageUnavailable):
            await ledger.receivables.expire_claims(mesh.service.claims)
        disk.full = False
        assert await ledger.receivables.expire_claims(mesh.service.claims) == 1
        assert ledger.state.claims.debtor(payer).unpaid_since(0) == SESSION
        assert not ledger.receivables._unpaid


async def test_what_is_paid_late_is_no_debt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last voucher comes when the answer has long ended: the provider waits for it, and has lost nothing."""
    async with opened_mesh(tmp_path, voucher_tokens=64) as mesh:
        sales = watched(mesh)

        class Late(FrameWriter):
            async def write(self, message: Message) -> None:
                if isinstance(message, Payment):
                    await asyncio.sleep(0.1)
                await super().write(message)

        monkeypatch.setattr(consumer, "FrameWriter", Late)
        for _ in range(3):
            await mesh.buy(20)
        await mesh.quiet()
        assert [sale.unpaid for sale in sales] == [0, 0, 0]
        assert list(mesh.provider.ledger.state.claims.debtors(mesh.provider.ledger.now())) == []


async def test_who_pays_for_what_it_reads_may_leave_as_often_as_it_likes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was on its way when an honest payer left is lost, and is less than it paid: that is held against nobody."""
    monkeypatch.setattr(receivables, "FORGIVEN", U)
    async with opened_mesh(tmp_path, voucher_tokens=WINDOW) as mesh:
        sales = watched(mesh)
        for _ in range(10):
            await mesh.buy(40, take=20)
            await mesh.quiet()
        assert len(sales) == 10
        assert sum(sale.unpaid for sale in sales) > U // receivables.FORGIVEN, "the rest it may owe because it paid"


async def test_who_reads_one_token_of_each_answer_and_leaves_has_paid_for_it(tmp_path: Path) -> None:
    """Before, it paid for nothing, and was refused after 25 answers: it did not come back for the second token."""
    async with opened_mesh(tmp_path, voucher_tokens=WINDOW) as mesh:
        sales = watched(mesh)
        mesh.desk.engine.stall_after = 1
        for _ in range(30):
            text, settlement = await mesh.buy(20, take=1)
            assert text == "0 " and settlement.trade is not None
            assert settlement.cost == len(PROMPT) + 1
            await mesh.quiet()
        assert [(sale.sent, sale.unpaid) for sale in sales] == [(1, 0)] * 30


async def test_one_large_prompt_that_was_not_paid_shuts_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection may break in the moment before the first voucher."""
    async with opened_mesh(tmp_path, voucher_tokens=WINDOW, unwitnessed_daily_limit=100) as mesh:
        sales = watched(mesh)
        assert SESSION > 100 // 10
        with mute(monkeypatch):
            assert await stolen(mesh)
        assert [sale.unpaid for sale in sales] == [SESSION]
        _, settlement = await mesh.buy(40)
        assert settlement.trade is not None
        await until(lambda: mesh.provider.net == len(PROMPT) + 40)
