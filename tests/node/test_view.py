"""What is seen of the mesh, and what a look costs."""

from pathlib import Path

import pytest

from tests.node.nodes import network_file, node
from tirami.core.keys import PublicKey, SigningKey, sha256
from tirami.net.address import PeerAddress
from tirami.net.addressbook import Trust
from tirami.node.mesh.view import LOOKED_AT, MeshView
from tirami.proto import Offering, Signal
from tirami.testing import ManualClock, MemoryNetwork

MANY = 250


def offer(key: PublicKey, network: str, now: int) -> Signal:
    model = Offering("m", sha256(b"m"), sha256(b"t"), 4096, 10**9, 10**9, 10, 100, "q8", 1, 1_000_000)
    return Signal(network, key, 10**6, 1_000, 1, 0, (), (model,), 90_000, now)


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
