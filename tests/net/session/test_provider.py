"""Whom a provider gives a place, for how long, and what it leaves behind."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.net.session.conftest import PROMPT, Bind, Desk, Mesh, opened_mesh
from tests.waiting import until
from tirami.core.errors import EngineFailed, InvalidRequest, PeerRefused, QueueFull
from tirami.core.keys import Digest, PublicKey
from tirami.infer import Prompt, Sampling, Shaping
from tirami.net.iroh import IrohEndpoint
from tirami.net.session import Terms, provider, serving
from tirami.testing.clock import ManualClock


class OnePlace(Desk):
    """One place for all."""

    taken = False

    @asynccontextmanager
    async def serve(self, model_digest: Digest, payer: PublicKey) -> AsyncIterator[Terms]:
        if self.taken:
            raise QueueFull("the place is taken", retry_after=1)
        self.taken = True
        try:
            async with super().serve(model_digest, payer) as terms:
                yield terms
        finally:
            self.taken = False


def one_place(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> OnePlace:
    desk = OnePlace()
    desk.engine = mesh.desk.engine
    monkeypatch.setattr(mesh.service, "_desk", desk)
    return desk


# --- streams --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bind", [None, IrohEndpoint.bind], ids=["memory", "iroh"])
async def test_a_session_that_has_ended_takes_no_stream_any_more(tmp_path: Path, bind: Bind | None) -> None:
    """A peer may have a hundred: whoever bought as many answers could open none, for nothing, ever."""
    clock = ManualClock()
    async with opened_mesh(tmp_path, clock, bind=bind) as mesh:
        mesh.desk.engine.length = 1
        for _ in range(120):
            clock.advance(3)  # a payer spends thirty times a minute at most
            _, settlement = await mesh.buy(1)
            assert settlement.cost == len(PROMPT) + 1
        await mesh.quiet()
        assert len(mesh.provider.booked) == 120


# --- the kill --------------------------------------------------------------------------------------------------------


async def test_a_switch_thrown_while_a_place_is_found_is_obeyed_before_anything_is_signed(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Desk):
        @asynccontextmanager
        async def serve(self, model_digest: Digest, payer: PublicKey) -> AsyncIterator[Terms]:
            await mesh.provider.ledger.set_kill(True, "test", "test")
            async with super().serve(model_digest, payer) as terms:
                yield terms

    monkeypatch.setattr(mesh.service, "_desk", Killed())
    with pytest.raises(PeerRefused) as refused:
        await mesh.asked()
    assert refused.value.data["refused"] == "kill_switch_active"


# --- places ---------------------------------------------------------------------------------------------------------


async def test_an_offer_that_nobody_accepts_gives_way(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "OFFER_S", 0.1)
    desk = one_place(mesh, monkeypatch)
    idle = await mesh.asked()
    assert desk.taken
    with pytest.raises(PeerRefused, match="taken"):
        await mesh.asked()
    await until(lambda: not desk.taken)
    assert (await mesh.buy(10))[1].cost == len(PROMPT) + 10
    await idle.close()


async def test_an_offer_that_gave_way_is_still_good_where_there_is_a_place(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "OFFER_S", 0.05)
    desk = one_place(mesh, monkeypatch)
    late = await mesh.asked()
    await until(lambda: not desk.taken)
    async with await mesh.begun(late) as session:
        assert [chunk.count async for chunk in session][-1] == 10
        assert desk.taken
    await late.close()
    assert session.settlement.cost == len(PROMPT) + 10


async def test_an_offer_that_gave_way_is_void_where_there_is_none(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "OFFER_S", 0.05)
    desk = one_place(mesh, monkeypatch)
    late = await mesh.asked()
    await until(lambda: not desk.taken)
    desk.taken = True
    with pytest.raises(EngineFailed, match="taken"):
        async with await mesh.begun(late) as session:
            await anext(session)
    await late.close()
    await mesh.quiet()
    assert mesh.desk.engine.opened == 0
    assert not mesh.payer.ledger.state.holds.open
    assert mesh.payer.ledger.books(mesh.payer.key.public_key).settled == 0


async def test_an_engine_that_was_exchanged_meanwhile_serves_no_old_offer(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "OFFER_S", 0.05)
    desk = one_place(mesh, monkeypatch)
    late = await mesh.asked()
    await until(lambda: not desk.taken)
    desk.engine = type(desk.engine)()
    with pytest.raises(EngineFailed, match="unloaded"):
        async with await mesh.begun(late) as session:
            await anext(session)
    await late.close()
    await until(lambda: not desk.taken)


async def test_a_payer_that_reads_nothing_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its window is closed: no write gets through, and each has its time."""
    monkeypatch.setattr(serving, "IDLE_S", 0.3)
    async with opened_mesh(tmp_path) as mesh:
        mesh.desk.engine.length = 64
        mesh.desk.engine.pieces = ["x" * 8192] * 64
        bought = await mesh.asked(64)
        async with await mesh.begun(bought):
            await until(lambda: mesh.service.running == 1)
            await mesh.quiet()
        await bought.close()
        assert mesh.provider.net == 0


# --- what shapes the answer -----------------------------------------------------------------------------------------


def shaped(**shaping: object) -> Sampling:
    return Sampling(max_tokens=10, seed=7, temperature=0.5, shaping=Shaping(**shaping))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stop", ("x" * 1000,)),
        ("presence_penalty", 1e6),
        ("logit_bias", tuple((number, 1.0) for number in range(1000))),
        ("schema", '{"type":"string","pattern":"^(a{1000}){1000}$"}'),
        ("schema", '{"items":' * 60 + "{}" + "}" * 60),
        ("schema", '{}}, "n_predict": 100000, "x": {'),
    ],
)
async def test_what_shapes_an_answer_is_bounded_before_an_engine_sees_it(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, field: str, value: object
) -> None:
    async def never(*_: object) -> Prompt:
        raise AssertionError("the engine was asked")

    monkeypatch.setattr(mesh.desk.engine, "prepare_text", never)
    with pytest.raises(PeerRefused, match=field) as raised:
        await mesh.asked(sampling=shaped(**{field: value}))
    assert raised.value.data["refused"] == "invalid_request"


async def test_a_schema_the_engine_cannot_hold_an_answer_to_gets_no_quote(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go on without the schema, and the payer would pay for free text."""
    prepare, seen = mesh.desk.engine.prepare_text, []

    async def strict(text: str | Sequence[int], schema: str | None = None) -> Prompt:
        seen.append(schema)
        if schema is not None:
            raise InvalidRequest("answers cannot be held to this schema: scripted", param="schema")
        return await prepare(text)

    monkeypatch.setattr(mesh.desk.engine, "prepare_text", strict)
    with pytest.raises(PeerRefused, match="cannot be held"):
        await mesh.asked(sampling=shaped(schema='{"type":"object"}'))
    assert seen == ['{"type":"object"}']
    assert (await mesh.buy(10))[1].cost == len(PROMPT) + 10
