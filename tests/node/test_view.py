"""What is seen of the mesh, and what a look costs."""

import asyncio
from pathlib import Path

import pytest

from tests.node.nodes import network_file, node
from tirami.core.keys import PublicKey, SigningKey, sha256
from tirami.core.units import MICRO
from tirami.infer.catalogue import CATALOGUE
from tirami.infer.pins import Pins
from tirami.net.address import PeerAddress
from tirami.net.addressbook import Trust
from tirami.node.mesh.view import LOOKED_AT, MeshView
from tirami.proto import Offering, Signal
from tirami.testing import ManualClock, MemoryNetwork

MANY = 250
QWEN = "qwen2.5:0.5b"


def offering(name: str = "m", trm: int = 1) -> Offering:
    return Offering(name, sha256(b"m"), sha256(b"t"), 4096, 10**9, 10**9, 10, 100, "q8", 1, trm * MICRO)


def offer(key: PublicKey, network: str, now: int, *models: Offering) -> Signal:
    return Signal(network, key, 10**6, 1_000, 1, 0, (), models or (offering(),), 90_000, now)


async def test_a_look_for_a_seller_goes_into_few_and_comes_to_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = network_file(tmp_path, ("a",))
    async with node(tmp_path / "a", file, MemoryNetwork(seed=1), **{"mesh.consume": "any", "mesh.peers": 0}) as a:
        ledger, view = a.parts.ledger, a.parts.membership.view
        assert view is not None
        keys = [SigningKey.generate().public_key for _ in range(MANY)]
        for number, key in enumerate(keys):
            a.mesh.peers.ingest(offer(key, ledger.network.id, ledger.now()), ledger.now())
            address = PeerAddress(key, (f"8.8.{number}.8:4000",), None)
            assert a.mesh.finding.book.hear(f"source {number // 50}", [address], Trust.OWNER)
        sells, asked = {keys[-1]}, 0

        def why_not(_: MeshView, key: PublicKey, model: str | None = None) -> str | None:
            nonlocal asked
            asked += 1
            return None if key in sells else "it is too dear"

        monkeypatch.setattr(MeshView, "why_not", why_not)

        clock = ManualClock()
        view._clock = clock

        def look(after_s: float = 1) -> tuple[bool, int]:
            nonlocal asked
            clock.advance(after_s)
            asked = 0
            return view.has_seller(), asked

        assert look() == (True, MANY), "the first look comes to all"
        assert look() == (True, 1), "whoever sold is asked first"
        assert look(0.5) == (True, 0), "once a second"
        assert look(0.5) == (True, 1)
        sells = {keys[2 * LOOKED_AT]}
        assert look() == (False, 1 + LOOKED_AT)
        assert look() == (False, LOOKED_AT)
        assert look() == (True, 1), "it goes on where it stopped"
        sells = set()
        assert look(2) == (False, 1 + 2 * LOOKED_AT), "who asks seldom is told as soon"
        assert look(MANY) == (False, MANY), "and of nobody twice"


async def test_who_is_connected_and_in_the_address_book_is_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = network_file(tmp_path, ("a", "b"))
    net = MemoryNetwork(seed=1)
    async with node(tmp_path / "b", file, net) as b, node(tmp_path / "a", file, net, **{"mesh.consume": "any"}) as a:
        a.mesh.mesh.keep(b.mesh.mesh.address())
        key = b.parts.key.public_key
        await a.mesh.mesh.wait_for(key, 10)
        ledger, view = a.parts.ledger, a.parts.membership.view
        assert view is not None
        while a.mesh.finding.book.get(key) is None:
            await asyncio.sleep(0.01)
        a.mesh.peers.ingest(offer(key, ledger.network.id, ledger.now()), ledger.now())
        asked: list[PublicKey] = []

        def why_not(_: MeshView, key: PublicKey, model: str | None = None) -> str | None:
            asked.append(key)
            return "it is too dear"

        monkeypatch.setattr(MeshView, "why_not", why_not)
        assert not view.has_seller()
        assert asked == [key]


async def test_what_is_wrong_with_it_makes_no_model_cheap_enough(tmp_path: Path) -> None:
    """Of two, one is not what its name stands for, the other costs too much."""
    file, _ = network_file(tmp_path, ("a",))
    async with node(tmp_path / "a", file, MemoryNetwork(seed=1), **{"mesh.consume": "any", "mesh.max_trm": 2}) as a:
        ledger, view = a.parts.ledger, a.parts.membership.view
        assert view is not None
        for source in CATALOGUE[QWEN]:
            Pins(a.parts.config.data_dir / "pins.json").add(source, sha256(b"another"))

        def shut(*models: Offering) -> str | None:
            key = SigningKey.generate().public_key
            a.mesh.peers.ingest(offer(key, ledger.network.id, ledger.now(), *models), ledger.now())
            known = a.mesh.peers.get(key)
            assert known is not None
            return view._shut(known, None)

        false, dear = offering(QWEN), offering(trm=5)
        assert "too dear" in str(shut(dear)) and "not the file" in str(shut(false))
        assert shut(false, dear) is not None, "nothing is to be bought there"
        assert shut(dear, false) is not None
        assert shut(false, dear, offering()) is None
