"""Two nodes over a network in memory: one has an engine, the other buys from it through its own HTTP door."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.market.scripted import CARD, ScriptedEngine
from tests.node.nodes import CHAT, HELLO, Node, count_in_numbers, network_file, node
from tests.waiting import until
from tirami.api.schemas import PeersQuery
from tirami.ledger import SellingPaused
from tirami.node.mesh.shop import OTHER_FILE
from tirami.testing import MemoryNetwork


@dataclass
class Two:
    seller: Node
    buyer: Node
    engine: ScriptedEngine
    http: aiohttp.ClientSession

    async def ask(self, **changed: object) -> tuple[int, dict[str, object]]:
        async with self.http.post(self.buyer.url + CHAT, json=HELLO | changed) as reply:
            return reply.status, await reply.json(content_type=None)


@asynccontextmanager
async def two(home: Path, monkeypatch: pytest.MonkeyPatch, **buyer: object) -> AsyncIterator[Two]:
    file, _ = network_file(home, ("seller", "buyer"))
    count_in_numbers(monkeypatch)
    memory = MemoryNetwork(seed=1)
    async with node(home / "seller", file, memory) as seller:
        engine = ScriptedEngine(20)
        seller.parts.engines.serve(engine)
        flags = {"mesh.consume": "any", "mesh.bootstrap": str(seller.mesh.mesh.address())} | buyer
        async with node(home / "buyer", file, memory, **flags) as bought, aiohttp.ClientSession() as http:
            await until(lambda: bool(bought.mesh.peers.providers("scripted", bought.parts.ledger.now())))
            engine.opened = 0  # it has been tried, to know its speed
            yield Two(seller, bought, engine, http)


@pytest.mark.row("L0-12")
@pytest.mark.row("GEN-02")  # one provider, in memory
async def test_what_is_not_here_is_bought_and_both_books_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        status, reply = await mesh.ask()
        assert status == 200, reply
        assert reply["choices"][0]["message"]["content"] == "".join(f"{i} " for i in range(20))  # type: ignore[index]
        price = mesh.seller.parts.load.price(CARD.active_parameters)
        assert reply["x_tirami"]["price_out_utrm"] == price.completion  # type: ignore[index]
        paid = -mesh.buyer.net
        assert paid == reply["x_tirami"]["trm_cost"] > 0  # type: ignore[index]
        await until(lambda: mesh.seller.net == paid)
        await until(
            lambda: mesh.seller.parts.ledger.state.book.state_hash() == mesh.buyer.parts.ledger.state.book.state_hash()
        )


async def test_what_was_asked_locally_does_not_make_the_shared_books_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        async with mesh.http.post(mesh.seller.url + CHAT, json=HELLO) as reply:
            assert reply.status == 200, "by its owner, on loopback"
        assert (await mesh.ask())[0] == 200
        seller, buyer = (node.parts.ledger.state for node in (mesh.seller, mesh.buyer))
        await until(lambda: seller.book.state_hash() == buyer.book.state_hash())
        assert seller.local_totals.trades == 1
        assert seller.book.own_state_hash() != buyer.book.own_state_hash()


async def test_a_stream_comes_as_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        mesh.engine.stall_after = 5
        async with mesh.http.post(mesh.buyer.url + CHAT, json=HELLO | {"stream": True}) as reply:
            lines = [await reply.content.readline() for _ in range(8)]
            assert sum(line.startswith(b"data: {") for line in lines) >= 3, "while the engine stands still"
            mesh.engine.resume.set()
            rest = await reply.read()
        assert rest.rstrip().endswith(b"data: [DONE]")
        await until(lambda: mesh.seller.net == -mesh.buyer.net > 0)


async def test_without_consent_no_prompt_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch, **{"mesh.consume": "off"}) as mesh:
        status, reply = await mesh.ask()
        assert (status, reply["error"]["code"]) == (503, "no_model")  # type: ignore[index]
        assert mesh.engine.opened == 0


async def test_only_trusted_providers_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch, **{"mesh.consume": "trusted", "mesh.trusted": "ab" * 32}) as mesh:
        status, _ = await mesh.ask()
        assert status == 404
        (provider,) = mesh.buyer.mesh.peers.providers("scripted", mesh.buyer.parts.ledger.now())
        assert "trusted" in str(mesh.buyer.mesh.shop.objection(provider.peer.signal.node))


async def test_a_paused_provider_sells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        await mesh.seller.parts.ledger.record_facts(SellingPaused(True, "test"))
        status, reply = await mesh.ask()
        assert status in (503, 404), reply  # it refuses, or has said so before it was asked
        assert mesh.engine.opened == 0
        await until(lambda: not list(mesh.buyer.mesh.shop.providers("scripted", 20)))


async def test_the_most_an_answer_may_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch, **{"mesh.max_trm": 5}) as mesh:
        status, reply = await mesh.ask()
        assert (status, reply["error"]["param"]) == (400, "max_tokens")  # type: ignore[index]
        assert mesh.buyer.net == 0


async def test_who_goes_away_pays_for_what_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        mesh.engine.length, mesh.engine.delay = 2000, 0.005
        body = HELLO | {"stream": True, "max_tokens": 900}
        async with mesh.http.post(mesh.buyer.url + CHAT, json=body) as reply:
            for _ in range(20):
                await reply.content.readline()
        await until(lambda: mesh.engine.running == 0 and mesh.seller.net == -mesh.buyer.net > 0)
        await until(lambda: not mesh.buyer.parts.ledger.state.holds.open)
        assert mesh.seller.net < 900


async def test_a_peer_with_another_network_file_is_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alike in name: they connect, but the seller's file funds nobody here, so it would refuse every purchase."""
    file, _ = network_file(tmp_path, ("seller", "buyer"))
    other = tmp_path / "other.json"
    other.write_text(json.dumps(json.loads(file.read_text()) | {"seeds": ["nowhere"]}))
    count_in_numbers(monkeypatch)
    memory = MemoryNetwork(seed=1)
    async with node(tmp_path / "seller", file, memory) as seller:
        seller.parts.engines.serve(ScriptedEngine(20))
        flags = {"mesh.consume": "any", "mesh.bootstrap": str(seller.mesh.mesh.address())}
        async with node(tmp_path / "buyer", other, memory, **flags) as buyer:
            await until(lambda: bool(buyer.mesh.peers.providers("scripted", buyer.parts.ledger.now())))
            view, key = buyer.parts.membership.view, seller.parts.key.public_key
            assert view is not None and view.why_not(key) == OTHER_FILE
            assert not view.sellers(None) and not list(buyer.mesh.shop.providers("scripted", 20))
            (entry,) = view.peers(PeersQuery(), addresses=True).peers
            assert (entry.why_not, entry.same_network_file) == (OTHER_FILE, False)
