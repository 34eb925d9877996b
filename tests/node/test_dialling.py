"""Three nodes in a line, A – B – C: what A asks for is bought of C, which A has only heard of."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from msgspec.structs import replace

from tests.market.scripted import ScriptedEngine
from tests.node.nodes import CHAT, HELLO, Bound, Node, count_in_numbers, network_file, node
from tests.waiting import until
from tirami.core.keyfile import load_or_create_node_key
from tirami.core.keys import PublicKey, SigningKey
from tirami.net import Connection, Endpoint, PeerAddress
from tirami.net.addressbook import Trust
from tirami.net.budget import Bucket
from tirami.net.iroh import IrohEndpoint
from tirami.node.mesh import inquiry
from tirami.node.mesh.inquiry import CALLS
from tirami.node.mesh.shop import OTHER_FILE
from tirami.testing import MemoryNetwork

NAMES = ("a", "b", "c")


class Sockets:
    """UDP on loopback; see :class:`Bound`."""

    def __init__(self) -> None:
        self._bound: dict[PublicKey, Endpoint] = {}

    async def bind(self, home: Path) -> None:
        key, _ = load_or_create_node_key(home / "node.key")
        self._bound[key.public_key] = await IrohEndpoint.bind(key)

    def endpoint(self, key: PublicKey) -> Endpoint:
        return self._bound[key]


@dataclass
class Line:
    a: Node
    b: Node
    c: Node
    engine: ScriptedEngine
    """Of C."""
    http: aiohttp.ClientSession

    @property
    def far(self) -> PublicKey:
        return self.c.mesh.mesh.key

    @property
    def met(self) -> bool:
        return self.far in self.a.mesh.mesh.peers

    async def ask(self, **changed: object) -> tuple[int, dict[str, object]]:
        async with self.http.post(self.a.url + CHAT, json=HELLO | changed) as reply:
            return reply.status, await reply.json(content_type=None)

    async def get(self, path: str) -> dict[str, object]:
        async with self.http.get(self.a.url + path) as reply:
            body: dict[str, object] = await reply.json()
            assert reply.status == 200, body
            return body

    async def entry(self) -> dict[str, object]:
        """What A shows of C."""
        peers = (await self.get("/v1/tirami/peers"))["peers"]
        (found,) = [peer for peer in peers if peer["node_id"] == self.far.hex()]  # type: ignore[attr-defined]
        return found  # type: ignore[no-any-return]


@asynccontextmanager
async def line(
    home: Path, monkeypatch: pytest.MonkeyPatch, wire: Bound | None = None, **flags: object
) -> AsyncIterator[Line]:
    """Each has as many connections as it wants with those it is given; ``flags`` are of A."""
    file, _ = network_file(home, NAMES)
    count_in_numbers(monkeypatch)
    wire = wire or MemoryNetwork(seed=1)
    if isinstance(wire, Sockets):
        for name in NAMES:
            await wire.bind(home / name)
    async with AsyncExitStack() as stack:
        b = await stack.enter_async_context(node(home / "b", file, wire, **{"mesh.peers": 0}))
        joined = {"mesh.bootstrap": str(b.mesh.mesh.address()), "mesh.peers": 1}
        c = await stack.enter_async_context(node(home / "c", file, wire, **joined))
        engine = ScriptedEngine(20)
        c.parts.engines.serve(engine)
        await until(lambda: b.mesh.peers.providers("scripted", b.parts.ledger.now()))
        a = await stack.enter_async_context(node(home / "a", file, wire, **joined, **{"mesh.consume": "any"} | flags))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        made = Line(a, b, c, engine, http)
        await until(lambda: a.mesh.peers.get(made.far) is not None and a.mesh.finding.book.get(made.far) is not None)
        yield made


@pytest.mark.parametrize("sockets", [False, True], ids=["memory", "sockets"])
async def test_who_is_only_heard_of_is_called_where_nobody_connected_serves_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sockets: bool
) -> None:
    async with line(tmp_path, monkeypatch, Sockets() if sockets else None) as nodes:
        assert not nodes.met
        (model,) = (await nodes.get("/v1/models"))["data"]  # type: ignore[misc]
        assert (model["id"], model["state"]) == ("scripted", "remote")  # type: ignore[index]
        route = await nodes.get("/v1/tirami/route?model=scripted")
        assert route["provider"] == nodes.far.hex()
        entry = await nodes.entry()
        assert (entry["connected"], entry["why_not"]) == (False, None)
        status, reply = await nodes.ask()
        assert status == 200, reply
        assert reply["x_tirami"]["provider"] == nodes.far.hex()  # type: ignore[index]
        assert nodes.met and nodes.a.mesh.mesh.peers[nodes.far].called_to_buy
        await until(lambda: nodes.c.net == -nodes.a.net > 0)


async def test_one_that_cannot_be_reached_is_named_and_left_alone_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = MemoryNetwork(seed=1)
    async with line(tmp_path, monkeypatch, memory) as nodes:
        memory.cut(nodes.a.mesh.mesh.key, nodes.far)
        status, reply = await nodes.ask()
        assert (status, reply["error"]["code"]) == (503, "peer_unreachable")  # type: ignore[index]
        why = (await nodes.entry())["why_not"]
        assert str(why).startswith("not connected: dial failed, again in ")
        (entry,) = (await nodes.get("/v1/tirami/providers?model=scripted"))["providers"]  # type: ignore[misc]
        assert str(entry["why_not"]).startswith("not connected: dial failed")  # type: ignore[index]
        assert (await nodes.get("/v1/models"))["data"] == []
        status, reply = await nodes.ask()
        assert (status, reply["error"]["code"]) == (404, "model_not_found")  # type: ignore[index]


def flood(nodes: Line, monkeypatch: pytest.MonkeyPatch, count: int) -> list[PublicKey]:
    """A hears of so many providers that are not there, all of them cheaper than C. Returns whom A calls from now on."""
    registry, finding = nodes.a.mesh.peers, nodes.a.mesh.finding
    known = registry.get(nodes.far)
    assert known is not None
    cheap = tuple(replace(one, price_in=1, price_out=1) for one in known.signal.models)
    made_up = [SigningKey.generate().public_key for _ in range(count)]
    for key in made_up:
        assert registry.ingest(replace(known.signal, node=key, models=cheap), nodes.a.parts.ledger.now(), by=b"liar")
    finding.book.hear("liar", [PeerAddress(key, (f"10.{n}.9.9:1",)) for n, key in enumerate(made_up)], Trust.NEAR)
    first = next(nodes.a.mesh.shop.providers("scripted", 20))
    assert first.peer.signal.node in made_up
    called, connect = [], nodes.a.mesh.mesh._endpoint.connect

    async def counted(address: PeerAddress, timeout_s: float) -> Connection:
        called.append(address.key)
        return await connect(address, timeout_s)

    monkeypatch.setattr(nodes.a.mesh.mesh._endpoint, "connect", counted)
    monkeypatch.setattr(inquiry, "IMPATIENT_S", 0.3)
    return called


async def test_the_honest_one_is_found_behind_a_flood_of_one_liar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line(tmp_path, monkeypatch) as nodes:
        called = flood(nodes, monkeypatch, 40)
        status, reply = await nodes.ask()
        assert status == 200, reply
        assert reply["x_tirami"]["provider"] == nodes.far.hex()  # type: ignore[index]
        assert len(called) == 2 and called[-1] == nodes.far


async def test_the_honest_one_is_found_behind_several_liars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them comes before the honest one; a call in vain is no try."""
    async with line(tmp_path, monkeypatch) as nodes:
        called = flood(nodes, monkeypatch, 5)
        for number, known in enumerate(nodes.a.mesh.finding.book._known.values()):
            if known.source == "liar":
                known.source = f"liar {number}"
        status, reply = await nodes.ask()
        assert status == 200, reply
        assert len(called) == 6 and called[-1] == nodes.far


async def test_calls_in_vain_end_and_then_who_is_connected_is_asked_though_it_broke_its_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = MemoryNetwork(seed=1)
    async with line(tmp_path, monkeypatch, memory) as nodes:
        memory.cut(nodes.a.mesh.mesh.key, nodes.far)
        called = flood(nodes, monkeypatch, 40)
        status, reply = await nodes.ask()
        assert (status, reply["error"]["code"]) == (503, "peer_unreachable"), reply  # type: ignore[index]
        assert len(called) == CALLS
        monkeypatch.setattr(nodes.a.mesh.finding.dialler, "_calls", Bucket(1, 100, 0))
        near, key = ScriptedEngine(20), nodes.b.mesh.mesh.key
        nodes.b.parts.engines.serve(near)
        await until(lambda: (known := nodes.a.mesh.peers.get(key)) and known.signal.free_tokens)
        nodes.a.mesh.shop._note(key, broke=True)
        status, reply = await nodes.ask()
        assert status == 200, reply
        assert reply["x_tirami"]["provider"] == key.hex()  # type: ignore[index]
        assert len(called) == 2 * CALLS


async def test_without_an_address_or_leave_to_call_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with line(tmp_path, monkeypatch) as nodes:
        monkeypatch.setattr(nodes.a.mesh.finding.dialler, "_may", False)
        assert "mesh.peers = 0" in str((await nodes.entry())["why_not"])
        monkeypatch.setattr(nodes.a.mesh.finding.dialler, "_may", True)
        nodes.a.mesh.finding.book._known.clear()
        assert (await nodes.entry())["why_not"] == "not connected: no address of it is known"
        assert (await nodes.ask())[0] == 404 and not nodes.met


async def test_an_address_that_is_not_known_is_asked_for_and_the_next_request_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line(tmp_path, monkeypatch) as nodes:
        finding = nodes.a.mesh.finding
        finding.book._known.clear()
        finding.exchange._asked.clear()
        nodes.b.mesh.finding.exchange._answered.clear()
        assert (await nodes.ask(model="another"))[0] == 404
        assert not finding.exchange._asked, "nobody serves it: there is nobody to look for"
        assert (await nodes.ask())[0] == 404
        await until(lambda: finding.book.get(nodes.far) is not None)
        status, reply = await nodes.ask()
        assert (status, nodes.met) == (200, True), reply


async def test_who_is_clearly_better_is_called_and_chosen_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B serves the model, too: nobody waits for a call while somebody connected does."""
    async with line(tmp_path, monkeypatch) as nodes:
        near = ScriptedEngine(20)
        nodes.b.parts.engines.serve(near)
        registry, key = nodes.a.mesh.peers, nodes.b.mesh.mesh.key
        await until(lambda: (known := registry.get(key)) and known.signal.free_tokens)
        near.opened = 0
        status, _ = await nodes.ask()
        assert (status, near.opened, nodes.met) == (200, 1, False), "one as good is not called"
        for _ in range(20):
            registry.update_latency(key, 3_000)
        status, reply = await nodes.ask()
        assert (status, near.opened) == (200, 2), reply
        await until(lambda: nodes.met)
        for _ in range(20):
            registry.update_latency(key, 3_000)
        status, reply = await nodes.ask()
        assert (status, near.opened) == (200, 2)
        assert reply["x_tirami"]["provider"] == nodes.far.hex()  # type: ignore[index]


async def test_who_turns_out_to_use_another_network_file_is_asked_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line(tmp_path, monkeypatch) as nodes:
        introduced = nodes.a.mesh.finding.dialler.reach

        async def reach(key: PublicKey, patience_s: float) -> object:
            peer = await introduced(key, patience_s)
            assert peer.hello is not None
            peer.hello = replace(peer.hello, network_hash=bytes(32))
            return peer

        monkeypatch.setattr(nodes.a.mesh.finding.dialler, "reach", reach)
        opened = nodes.engine.opened
        status, reply = await nodes.ask()
        assert (status, reply["error"]["code"]) == (503, "peer_unreachable"), reply  # type: ignore[index]
        assert OTHER_FILE in str(reply["error"]) and nodes.engine.opened == opened  # type: ignore[index]
