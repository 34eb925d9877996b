"""Answers that are cut inside a character, are no text, or cannot be named to their end: nobody honest is blamed."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.infer.test_answer import end, merged, said, spelling
from tests.market.scripted import CARD, ScriptedEngine
from tests.net.session.conftest import PROMPT, Mesh, mesh, opened_mesh
from tests.net.session.test_unpaid import mute
from tirami.core.errors import EngineFailed
from tirami.core.units import TokenCount
from tirami.infer import Chunk, FinishReason, Prompt, Sampling, Shaping
from tirami.infer.answer import ChildGeneration
from tirami.infer.llama import Event
from tirami.infer.wording import Wording
from tirami.market import Settlement
from tirami.net.frames import FrameWriter
from tirami.net.session import Sale, provider, purchase
from tirami.net.session.pieces import divided
from tirami.proto import Message, Piece, RunningHash

__all__ = ["mesh"]
CAT = "猫".encode()
WORDING = Wording([b"", CAT[:1], CAT[1:], b"\x9f\x98", b"foo", b"foo.", b"."])


class Child(ScriptedEngine):
    """The real generation over what the engine's server says."""

    def __init__(self, *events: Event) -> None:
        super().__init__()
        self._events = events

    @asynccontextmanager
    async def generate(  # type: ignore[override]
        self, prompt: Prompt, sampling: Sampling
    ) -> AsyncIterator[ChildGeneration]:
        generation = spelling(WORDING, CARD, prompt, sampling, *self._events)
        yield generation
        await generation.close()


class Letters:
    """The payer's tokenizer, which has the same vocabulary: one canonical token a byte."""

    def __init__(self) -> None:
        self._count = 0

    def decode(self, ids: tuple[int, ...]) -> bytes:
        spelled = WORDING.spell(ids)
        assert spelled is not None
        return spelled

    def feed(self, data: bytes) -> int:
        self._count += len(data)
        return self._count


class Bought(NamedTuple):
    chunks: list[Chunk]
    settlement: Settlement
    kept: bool | None
    secret: bytes

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)


async def buy(mesh: Mesh, *events: Event, stop: tuple[str, ...] = ()) -> Bought:
    """The answer of a child that says ``events``. Raises what the payer is told."""
    mesh.desk.engine = Child(*events)
    wanted = mesh.wanted(sampling=Sampling(max_tokens=9, seed=7, temperature=0.5, shaping=Shaping(stop=stop)))
    stream, now = await mesh.connection.open(), mesh.payer.ledger.now()
    bought = await purchase(stream, wanted, Letters(), os.urandom, now)
    try:
        async with await mesh.begun(bought) as session:
            chunks = [chunk async for chunk in session]
    finally:
        await bought.close()
        await mesh.quiet()
    return Bought(chunks, session.settlement, bought.kept, bought.offered.secret)


def assert_paid(mesh: Mesh, bought: Bought, *pieces: tuple[tuple[int, ...], bytes]) -> None:
    """Both have signed for these pieces, ids and bytes, and for nothing else."""
    running = RunningHash(bought.secret)
    for ids, raw in pieces:
        running.update(ids, raw)
    tokens = sum(len(ids) for ids, _ in pieces)
    trade, (booked,) = bought.settlement.trade, mesh.provider.booked
    assert trade is not None and trade == booked.body
    assert len(booked.envelope.signatures) == 2
    assert (trade.completion_tokens, trade.running_hash) == (tokens, running.digest())
    assert bought.settlement.cost == mesh.provider.net == -mesh.payer.net == len(PROMPT) + tokens


@pytest.fixture
def sales(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> list[Sale]:
    sales: list[Sale] = []
    monkeypatch.setattr(mesh.service, "_sold", sales.append)
    return sales


@pytest.mark.parametrize(("kind", "reason"), [("limit", FinishReason.LENGTH), ("eos", FinishReason.STOP)])
async def test_an_answer_that_is_cut_inside_a_character_ends_before_it(
    mesh: Mesh, sales: list[Sale], kind: str, reason: FinishReason
) -> None:
    bought = await buy(mesh, said("foo", 4, 1), merged("猫", 2, 3), end(kind, 5))
    assert (bought.text, bought.settlement.reason, bought.kept) == ("foo猫", reason, True)
    assert_paid(mesh, bought, ((4,), b"foo"), ((1, 2), CAT))
    assert [(sale.reason, sale.sent, sale.vouched, sale.unpaid) for sale in sales] == [(reason, 3, 3, 0)]


async def test_an_answer_that_is_cut_inside_its_first_character_is_empty(mesh: Mesh, sales: list[Sale]) -> None:
    bought = await buy(mesh, end("limit", 2))
    assert (bought.text, bought.settlement.reason, bought.kept) == ("", FinishReason.LENGTH, None)
    assert bought.settlement.bill is None
    assert mesh.provider.net == mesh.payer.net == 0
    assert mesh.payer.ledger.books(mesh.payer.key.public_key).settled == 0
    assert [(sale.reason, sale.sent, sale.unpaid) for sale in sales] == [(FinishReason.LENGTH, 0, 0)]


async def test_bytes_that_are_no_text_are_sold_as_they_are(mesh: Mesh) -> None:
    bought = await buy(mesh, said("\ufffd\ufffd", 3, 1), said("foo", 4, 2), said("\ufffd", 3, 3), end("limit", 3))
    assert (bought.text, bought.kept) == ("\ufffd\ufffdfoo\ufffd\ufffd", True)
    assert_paid(mesh, bought, ((3,), b"\x9f\x98"), ((4,), b"foo"), ((3,), b"\x9f\x98"))


async def test_what_the_engine_cannot_name_ends_the_answer_and_blames_nobody(mesh: Mesh, sales: list[Sale]) -> None:
    bought = await buy(mesh, said("foo", 4, 1), merged("\ufffdfoo", 4, 3), said("foo", 4, 4), end("limit", 4))
    assert (bought.text, bought.settlement.reason, bought.kept) == ("foo", FinishReason.UNCHECKABLE, None)
    assert_paid(mesh, bought, ((4,), b"foo"))
    assert [(sale.reason, sale.sent, sale.unpaid) for sale in sales] == [(FinishReason.UNCHECKABLE, 1, 0)]


async def test_an_answer_of_which_nothing_can_be_named_is_empty_and_no_failure(mesh: Mesh) -> None:
    """Whoever else was asked would draw the same tokens."""
    bought = await buy(mesh, merged("\ufffdfoo", 4, 2), end("limit", 2))
    assert (bought.text, bought.settlement.reason, bought.kept) == ("", FinishReason.UNCHECKABLE, None)
    assert bought.settlement.bill is None and mesh.provider.net == 0


async def test_a_stop_text_inside_a_token_is_sold_and_not_shown(mesh: Mesh) -> None:
    bought = await buy(mesh, said("foo", 4, 1), said("foo", 5, 2), end("word", 2), stop=(".",))
    assert (bought.text, bought.settlement.reason, bought.kept) == ("foofoo", FinishReason.STOP, True)
    assert_paid(mesh, bought, ((4,), b"foo"), ((5,), b"foo."))


async def test_the_payer_ends_an_answer_at_its_stop_text_whatever_comes(mesh: Mesh) -> None:
    """An engine overlooks one that stands before a character in pieces; it is bought up to there."""
    bought = await buy(mesh, said("foo.", 5, 1), said("foo", 4, 2), said("foo", 4, 3), end("limit", 3), stop=("o.",))
    assert (bought.text, bought.settlement.reason, bought.kept) == ("fo", FinishReason.STOP, True)
    assert_paid(mesh, bought, ((5,), b"foo."))


DOTS = [*(said("", 6, number) for number in range(1, 7)), said("....", 4, 7), end("word", 7)]
"""Six tokens that an engine held back, because of the stop text ``..f``, and the one in which it came."""


async def test_what_was_held_back_before_a_stop_text_goes_out_in_parts(mesh: Mesh) -> None:
    mesh.desk.canon = Letters
    bought = await buy(mesh, *DOTS, stop=("..f",))
    assert (bought.text, bought.settlement.reason, bought.kept) == ("....", FinishReason.STOP, True)
    assert [chunk.ids for chunk in bought.chunks] == [(6,), (6,), (6,), (6,), (6, 6, 4)]
    assert_paid(mesh, bought, *[((6,), b".")] * 4, ((6, 6, 4), b"..foo"))


async def test_who_never_signs_gets_one_window_of_what_was_held_back_before_a_stop_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened_mesh(tmp_path, voucher_tokens=4) as mesh:
        mesh.desk.canon = Letters
        sales: list[Sale] = []
        monkeypatch.setattr(mesh.service, "_sold", sales.append)
        with mute(monkeypatch):
            await buy(mesh, *DOTS, stop=("..f",))
        assert [sale.sent for sale in sales] == [4]


@pytest.mark.parametrize(
    ("chunk", "parts"),
    [
        (Chunk("foo\ufffd\ufffdfoo", (4, 3, 4), TokenCount(9), raw=b"foo\x9f\x98foo"), ["foo", "\ufffd\ufffd", "foo"]),
        (Chunk(".fo", (6, 4), TokenCount(2), raw=b".foo"), [".", "fo"]),
        (Chunk("", (6, 4), TokenCount(2), raw=b".foo"), [""]),
        (Chunk("猫.", (1, 2, 0, 6), TokenCount(4)), ["猫", "", "."]),
        (Chunk("foo", (4, 1), TokenCount(2), raw=b"foo" + CAT[:1]), ["foo"]),
        (Chunk("foo", (6, 6), TokenCount(2)), ["foo"]),
        (Chunk("", (0,), TokenCount(1)), [""]),
    ],
    ids=["no text", "stop text", "only a stop text", "character", "half a character", "other ids", "a silent token"],
)
def test_a_chunk_is_divided_as_far_as_each_part_can_be_checked(chunk: Chunk, parts: list[str]) -> None:
    divisions = list(divided(chunk, Letters().decode))
    assert [part.text for part in divisions] == parts
    assert b"".join(part.spelled for part in divisions) == chunk.spelled
    assert sum((part.ids for part in divisions), ()) == chunk.ids
    assert divisions[-1].count == chunk.count


async def test_what_might_have_begun_a_stop_text_is_sold(mesh: Mesh) -> None:
    bought = await buy(mesh, said("foo", 4, 1), said("", 6, 2), end("limit", 2), stop=(".x",))
    assert (bought.text, bought.kept) == ("foo.", True)
    assert_paid(mesh, bought, ((4,), b"foo"), ((6,), b"."))


@pytest.mark.parametrize(("ids", "raw"), [((1,), CAT[:1]), ((3,), "\ufffd\ufffd".encode()), ((5,), b"foo"), ((), b"")])
async def test_a_piece_that_its_ids_do_not_spell_or_that_ends_within_a_character_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: tuple[int, ...], raw: bytes
) -> None:
    """As a provider would have it who joins the hash and the count to its lie."""

    class Lying(FrameWriter):
        async def write(self, message: Message) -> None:
            if isinstance(message, Piece):
                running = RunningHash(bought.offered.secret)
                running.update(ids, raw)
                message = Piece(ids, raw, TokenCount(len(ids)), running.digest())
            await super().write(message)

    monkeypatch.setattr(provider, "FrameWriter", Lying)
    async with opened_mesh(tmp_path) as mesh:
        mesh.desk.engine = Child(said("foo", 4, 1), end("limit", 1))
        wanted = mesh.wanted(sampling=Sampling(max_tokens=9, seed=7, shaping=Shaping(stop=(".",))))
        stream, now = await mesh.connection.open(), mesh.payer.ledger.now()
        bought = await purchase(stream, wanted, Letters(), os.urandom, now)
        with pytest.raises(EngineFailed, match=r"what its tokens say|within a character"):
            async with await mesh.begun(bought) as session:
                await anext(session)
        await bought.close()
        assert bought.kept is False and mesh.payer.net == 0
