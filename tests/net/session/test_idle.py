"""A client that stops reading for longer than anybody waits: what becomes of its answer is no fault of its provider."""

import asyncio
from collections.abc import Container
from pathlib import Path

import msgspec
import pytest

from tests.net.session.conftest import PROMPT, opened_mesh
from tirami.core.errors import EngineFailed
from tirami.infer import FinishReason
from tirami.market import Settlement, session
from tirami.net.frames import FrameWriter
from tirami.net.session import consumer, provider, remote_answer, serving
from tirami.proto import Ask, Finish, Message, Piece

IDLE_S = 0.3


async def read(home: Path, length: int, pause_s: float, at: Container[int] = (2,)) -> "Read":
    """Buy an answer of a window of 8, and wait after its second piece, or after those in ``at``."""
    async with opened_mesh(home, voucher_tokens=8) as mesh:
        mesh.desk.engine.length = length
        bought, tokens = await mesh.asked(length), 0
        async with await mesh.begun(bought) as buying:
            async for chunk in buying:
                tokens = chunk.count
                if tokens in at:
                    await asyncio.sleep(pause_s)
        await bought.close()
        await mesh.quiet()
        return Read(tokens, buying.settlement, bought.kept)


class Read(msgspec.Struct):
    tokens: int
    settlement: Settlement
    kept: bool | None


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for side in (consumer, remote_answer, serving):
        monkeypatch.setattr(side, "IDLE_S", IDLE_S)


async def test_who_does_not_read_on_blames_nobody_for_the_end_of_its_answer(tmp_path: Path) -> None:
    found = await read(tmp_path, 40, 3 * IDLE_S)
    assert 2 <= found.tokens < 40
    assert (found.settlement.reason, found.kept) == (FinishReason.IDLE, None)


async def test_who_reads_slowly_signs_in_time_for_the_little_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pause is long, but so many pieces as half a window has take it longer than anybody waits."""
    monkeypatch.setattr(session, "SLOW_S", IDLE_S / 4)
    found = await read(tmp_path, 12, IDLE_S / 2, range(12))
    assert (found.tokens, found.settlement.reason, found.kept) == (12, FinishReason.LENGTH, True)
    assert found.settlement.cost == len(PROMPT) + 12


async def test_nor_does_who_reads_so_slowly_that_it_signs_too_late(tmp_path: Path) -> None:
    """It never pauses for long, but the pieces up to its next voucher take it longer than anybody waits."""
    found = await read(tmp_path, 40, IDLE_S / 2, range(40))
    assert 2 <= found.tokens < 40
    assert (found.settlement.reason, found.kept) == (FinishReason.IDLE, None)


async def test_nor_for_a_settlement_that_could_not_wait_for_the_last_voucher(tmp_path: Path) -> None:
    """The whole answer was on its way when it stopped reading."""
    found = await read(tmp_path, 6, 3 * IDLE_S)
    assert found.kept is None
    assert found.settlement.trade is None


async def test_who_reads_on_in_time_is_served_to_the_end(tmp_path: Path) -> None:
    found = await read(tmp_path, 40, IDLE_S / 3)
    assert (found.tokens, found.settlement.reason, found.kept) == (40, FinishReason.LENGTH, True)
    assert found.settlement.cost == len(PROMPT) + 40


async def test_a_lie_is_one_however_late_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "IDLE_S", 20.0)

    class Lying(FrameWriter):
        async def write(self, message: Message) -> None:
            if isinstance(message, Piece) and message.count == 5:
                message = msgspec.structs.replace(message, running_hash=bytes(32))
            await super().write(message)

    monkeypatch.setattr(provider, "FrameWriter", Lying)
    found = await read(tmp_path, 40, 3 * IDLE_S)
    assert (found.tokens, found.settlement.reason, found.kept) == (4, FinishReason.FAILED, False)


@pytest.mark.parametrize(
    ("pause_s", "reason", "kept"), [(0, FinishReason.FAILED, False), (3 * IDLE_S, FinishReason.IDLE, None)]
)
async def test_that_nobody_read_on_is_believed_where_it_is_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause_s: float, reason: FinishReason, kept: bool | None
) -> None:
    monkeypatch.setattr(serving, "IDLE_S", 20.0)

    class Excused(FrameWriter):
        async def write(self, message: Message) -> None:
            if isinstance(message, Finish):
                message = msgspec.structs.replace(message, reason="idle_timeout")
            await super().write(message)

    monkeypatch.setattr(provider, "FrameWriter", Excused)
    found = await read(tmp_path, 6, pause_s)
    assert (found.tokens, found.settlement.reason, found.kept) == (6, reason, kept)


async def test_who_does_not_listen_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The acceptance never gets through, and is not waited for as long as any word."""
    for side in (consumer, remote_answer):
        monkeypatch.setattr(side, "IDLE_S", 60.0)
    monkeypatch.setattr(consumer, "PROMPTLY_S", 0.1)

    class Deaf(FrameWriter):
        async def write(self, message: Message) -> None:
            if not isinstance(message, Ask):
                await asyncio.Event().wait()
            await super().write(message)

    monkeypatch.setattr(consumer, "FrameWriter", Deaf)
    async with opened_mesh(tmp_path) as mesh, asyncio.timeout(10):
        bought = await mesh.asked()
        with pytest.raises(EngineFailed, match="does not take"):
            async with await mesh.begun(bought):
                pass
        await bought.close()
        assert bought.kept is None
        assert not mesh.payer.ledger.state.holds.open
