"""An honest node that lost its counter is told before it signs, and begins anew (PROTOCOL B9)."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from tests.market.scripted import ScriptedEngine
from tests.node.nodes import CHAT, HELLO, Node, count_in_numbers, network_file, node
from tests.node.trades import paid_between
from tests.waiting import until
from tirami.core.keyfile import load_or_create_node_key
from tirami.core.keys import SigningKey
from tirami.ledger import Evidence, grant_line, key_account
from tirami.net.hello import Remembered
from tirami.net.memory import Memory
from tirami.proto import Acceptance, Cited, Shown, cited_in, encode, sign
from tirami.testing import MemoryNetwork

WAIT_S = 60


@dataclass
class Town:
    """A seller that stays, and homes from which the buyer's one key may come."""

    seller: Node
    home: Path
    file: Path
    memory: MemoryNetwork
    http: aiohttp.ClientSession
    promises: list[Cited] = field(default_factory=list)
    """Every acceptance the seller was given, also those that no record shows."""

    @asynccontextmanager
    async def buyer(self, home: Path) -> AsyncIterator[Node]:
        flags = {"mesh.consume": "any", "mesh.bootstrap": str(self.seller.mesh.mesh.address())}
        async with node(home, self.file, self.memory, **flags) as buyer:
            await until(lambda: buyer.mesh.peers.providers("scripted", buyer.parts.ledger.now()), WAIT_S)
            yield buyer

    async def buy(self, buyer: Node) -> tuple[int, dict[str, object]]:
        async with self.http.post(buyer.url + CHAT, json=HELLO) as reply:
            return reply.status, await reply.json(content_type=None)

    async def bought(self, buyer: Node) -> None:
        async with asyncio.timeout(WAIT_S):
            while (answer := await self.buy(buyer))[0] in (404, 503):  # of two connections at once one has just ended
                await asyncio.sleep(0.1)
        assert answer[0] == 200, answer[1]
        await self.equal(buyer)

    async def equal(self, buyer: Node) -> None:
        books = [one.parts.ledger.state for one in (self.seller, buyer)]
        await until(lambda: len({state.book.state_hash() for state in books}) == 1, WAIT_S)

    async def fund(self, buyer: Node) -> None:
        """Money of its own, earned from a third: a new incarnation has no credit."""
        ledger, patron = self.seller.parts.ledger, SigningKey.generate()
        granted = grant_line(ledger, self.seller.parts.key, patron.public_key)
        assert granted is not None
        await granted
        await ledger.book_record(paid_between(ledger, patron, buyer.parts.key, 500))[1]
        await self.equal(buyer)
        assert buyer.parts.ledger.state.book.income(key_account(buyer.parts.key.public_key)) == 500

    def nobody_is_guilty(self) -> None:
        evidence = Evidence(self.seller.parts.ledger.network.id)
        records = [piece for stored in self.seller.parts.ledger.state.records for piece in cited_in(stored.envelope)]
        for piece in records + self.promises:
            assert evidence.see(piece) is None
        assert not self.seller.parts.ledger.state.settings.convicted


@pytest.fixture
async def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    file, _ = network_file(tmp_path, ("seller", "buyer"))
    count_in_numbers(monkeypatch)
    memory = MemoryNetwork(seed=1)
    async with node(tmp_path / "seller", file, memory) as seller, aiohttp.ClientSession() as http:
        seller.parts.engines.serve(ScriptedEngine(20))
        made = Town(seller, tmp_path / "buyer", file, memory, http)
        shown = seller.mesh.provider._seen

        def seen(pieces: Sequence[Cited]) -> None:
            made.promises.extend(pieces)
            shown(pieces)

        monkeypatch.setattr(seller.mesh.provider, "_seen", seen)
        yield made


def counter(buyer: Node) -> tuple[int, bytes]:
    started = buyer.parts.ledger.state.settings.started
    assert started is not None
    return started.incarnation, started.log_id


@pytest.mark.row("L1-05")
async def test_who_puts_back_an_old_copy_is_told_and_buys_on(town: Town, tmp_path: Path) -> None:
    """Journal and tip are put back together, so the node itself cannot see it."""
    async with town.buyer(town.home) as buyer:
        await town.bought(buyer)
        await town.fund(buyer)
        former = counter(buyer)
    shutil.copytree(town.home, tmp_path / "old")
    async with town.buyer(town.home) as buyer:
        await town.bought(buyer)
        assert counter(buyer) == former
    shutil.rmtree(town.home)
    shutil.copytree(tmp_path / "old", town.home)
    async with town.buyer(town.home) as buyer:
        incarnation, log_id = counter(buyer)
        assert incarnation > former[0]
        assert log_id != former[1]
        await town.equal(buyer)
        await town.bought(buyer)
        assert counter(buyer)[0] == incarnation
    town.nobody_is_guilty()


async def test_an_ordinary_restart_is_no_restart_of_the_key(town: Town) -> None:
    seen = []
    for _ in range(2):
        async with town.buyer(town.home) as buyer:
            await town.bought(buyer)
            seen.append(counter(buyer))
    assert seen[0] == seen[1]
    assert seen[0][0] == 0
    town.nobody_is_guilty()


async def test_one_key_on_two_machines_signs_on_one_of_them_only(town: Town, tmp_path: Path) -> None:
    """Each hears of the other from whom it buys; providers take one new incarnation a week, so one goes on."""
    async with town.buyer(town.home) as buyer:
        await town.bought(buyer)
        await town.fund(buyer)
    twin = tmp_path / "twin"
    shutil.copytree(town.home, twin)
    async with town.buyer(twin) as one:
        await town.bought(one)
        assert counter(one)[0] == 0
    async with town.buyer(town.home) as other:
        await town.bought(other)
        assert counter(other)[0] > 0
    async with town.buyer(twin) as one:  # its first new incarnation, the key's second within 7 days
        assert counter(one)[0] > counter(other)[0]
        status, _ = await town.buy(one)
        assert status != 200
    async with town.buyer(town.home) as other:
        await town.bought(other)
    town.nobody_is_guilty()


@pytest.mark.parametrize("claim", [(0, 2**64 - 1), (2**64 - 1, 2**64 - 1)])
async def test_a_lie_about_numbers_moves_nothing(
    town: Town, monkeypatch: pytest.MonkeyPatch, claim: tuple[int, int]
) -> None:
    """In hello and offer, without a signature of the buyer, or with one that is none."""
    network = town.seller.parts.ledger.network.id
    key = load_or_create_node_key(town.home / "node.key")[0].public_key
    forged = Acceptance(
        network=network,
        scope=0,
        payer=key,
        provider=town.seller.parts.key.public_key,
        incarnation=claim[0],
        number=claim[1],
        settled=0,
        open=(),
        quote_hash=bytes(32),
        ceiling=1,
        at_ms=0,
    )
    shown = Cited("acceptance", encode(forged), sign(forged, town.seller.parts.key))
    lie = Remembered(*claim, (Shown(*shown), Shown("head", b"\x01", bytes(64))))
    monkeypatch.setattr(Memory, "of", lambda *_: lie)
    monkeypatch.setattr(town.seller.mesh.mesh, "_seen", lambda _: lie)
    monkeypatch.setattr(town.seller.parts.ledger.state, "last_signed", lambda _: (*claim, [shown]))
    async with town.buyer(town.home) as buyer:
        await town.bought(buyer)
        assert counter(buyer)[0] == 0
    town.nobody_is_guilty()
