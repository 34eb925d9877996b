"""A session between two honest nodes: what both books say afterwards, however it ends."""

from pathlib import Path

import pytest

from tests.net.session.conftest import PROMPT, Mesh, opened_mesh
from tirami.core.errors import BadQuote, InsufficientFunds, PeerRefused
from tirami.infer import FinishReason
from tirami.net.session import serving


async def test_an_answer_is_bought_and_both_books_agree(mesh: Mesh) -> None:
    text, settlement = await mesh.buy(10)
    await mesh.quiet()
    assert text == "".join(f"{i} " for i in range(10))
    assert settlement.trade is not None
    assert settlement.cost == len(PROMPT) + 10
    assert (mesh.provider.net, mesh.payer.net) == (13, -13)
    books = mesh.provider.ledger.state.book, mesh.payer.ledger.state.book
    assert books[0].state_hash() == books[1].state_hash()
    assert [admitted.record_id for admitted in mesh.provider.booked] == [settlement.record_id]
    assert not mesh.payer.ledger.state.holds.open


async def test_a_long_answer_runs_inside_the_window(tmp_path: Path) -> None:
    async with opened_mesh(tmp_path, voucher_tokens=8) as mesh:
        mesh.desk.engine.length = 100
        _, settlement = await mesh.buy(100)
        await mesh.quiet()
        assert settlement.cost == 103 == mesh.provider.net


@pytest.mark.parametrize("window", [1, 2, 3, 64])
async def test_any_window_gets_through(tmp_path: Path, window: int) -> None:
    async with opened_mesh(tmp_path, voucher_tokens=window) as mesh:
        mesh.desk.engine.length = 20
        assert (await mesh.buy(20))[1].cost == 23


@pytest.mark.parametrize("together", [3, 4, 7, 40])
@pytest.mark.parametrize("window", [1, 2, 4, 5, 10])
async def test_pieces_of_many_tokens_get_through_any_window(tmp_path: Path, window: int, together: int) -> None:
    """What a payer has not signed for yet is less than half a window: no voucher would come for it."""
    async with opened_mesh(tmp_path, voucher_tokens=window) as mesh:
        mesh.desk.engine.length, mesh.desk.engine.together = 40, together
        text, settlement = await mesh.buy(40)
        assert len(text.split()) == 40
        assert settlement.cost == len(PROMPT) + 40


async def test_what_an_engine_held_back_for_long_is_sold_in_pieces(tmp_path: Path) -> None:
    """300 tokens at once, more than a piece may have."""
    async with opened_mesh(tmp_path, voucher_tokens=10) as mesh:
        mesh.desk.engine.length, mesh.desk.engine.together = 400, 300
        text, settlement = await mesh.buy(400)
        await mesh.quiet()
        assert len(text.split()) == 400
        assert settlement.cost == len(PROMPT) + 400 == mesh.provider.net


async def test_what_the_client_is_not_shown_yet_is_vouched_for_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text of a tool call is withheld until it is whole, and a stranger's window is a few tokens."""
    monkeypatch.setattr(serving, "IDLE_S", 0.5)
    async with opened_mesh(tmp_path, voucher_tokens=4) as mesh:
        mesh.desk.engine.length = 30
        bought = await mesh.asked(30)
        async with await mesh.begun(bought) as session:
            async for chunk in session:
                session.withheld += len(chunk.text)
            session.deliver()
        await bought.close()
        await mesh.quiet()
        assert session.settlement.reason is FinishReason.LENGTH
        assert session.settlement.cost == mesh.provider.net == len(PROMPT) + 30


async def test_who_leaves_early_pays_for_what_arrived(mesh: Mesh) -> None:
    mesh.desk.engine.length = 100
    mesh.desk.engine.delay = 0.001
    _, settlement = await mesh.buy(100, take=20)
    await mesh.quiet()
    assert settlement.reason is FinishReason.CANCELLED
    assert settlement.cost == mesh.provider.net == 3 + 20
    books = mesh.provider.ledger.state.book, mesh.payer.ledger.state.book
    assert books[0].state_hash() == books[1].state_hash()


async def test_a_dearer_provider_is_refused_by_itself_and_by_the_payer(mesh: Mesh) -> None:
    from dataclasses import replace

    from tirami.core.units import MicroTrm

    mesh.desk.price = replace(mesh.desk.price, completion=MicroTrm(2_000_000))
    with pytest.raises(PeerRefused, match="dearer"):
        await mesh.asked()


async def test_a_payer_without_means_promises_nothing(mesh: Mesh) -> None:
    with pytest.raises(InsufficientFunds):
        await mesh.begun(await mesh.asked(2000))
    assert not mesh.provider.ledger.state.claims.open


async def test_another_tokenizer_than_the_signal_named_is_not_bought(mesh: Mesh) -> None:
    with pytest.raises(BadQuote) as raised:
        await mesh.asked(tokenizer_digest=bytes(32))
    assert raised.value.param == "tokenizer_digest"
