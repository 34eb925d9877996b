"""How whole nodes find each other, over a network in memory."""

import json
from base64 import b64decode
from pathlib import Path

from tests.node.nodes import network_file, node
from tests.waiting import until
from tirami.core.keys import Signature, verify
from tirami.net import PeerAddress
from tirami.proto import Probe, decode
from tirami.testing import MemoryNetwork

NAMES = ("a", "b", "c")


async def test_peers_of_a_peer_meet_and_find_back_after_a_restart(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path, NAMES)
    memory = MemoryNetwork(seed=1)
    async with node(tmp_path / "a", file, memory) as a:
        flags = {"mesh.bootstrap": str(a.mesh.mesh.address())}
        async with node(tmp_path / "b", file, memory, **flags) as b:
            async with node(tmp_path / "c", file, memory, **flags) as c:
                await until(lambda: c.mesh.mesh.key in b.mesh.mesh.peers)
            saved = tmp_path / "c" / "peers.json"
            assert saved.stat().st_mode & 0o777 == 0o600
            async with node(tmp_path / "c", file, memory) as c:
                await until(lambda: {a.mesh.mesh.key, b.mesh.mesh.key} <= set(c.mesh.mesh.peers))


async def test_seeds_of_the_network_file_are_asked_first(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path, NAMES)
    memory = MemoryNetwork(seed=1)
    async with node(tmp_path / "a", file, memory) as a:
        file.write_text(json.dumps(json.loads(file.read_text()) | {"seeds": [str(a.mesh.mesh.address()), "nonsense"]}))
        async with node(tmp_path / "b", file, memory) as b:
            await until(lambda: a.mesh.mesh.key in b.mesh.mesh.peers)


async def reached(_: PeerAddress, __: float) -> float:
    """Everybody is, in memory."""
    return 0.001


async def test_what_a_peer_signed_about_reaching_this_node_is_there_after_a_restart(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path, NAMES)
    memory = MemoryNetwork(seed=1)
    async with node(tmp_path / "a", file, memory, reached) as a:
        flags = {"mesh.bootstrap": str(a.mesh.mesh.address())}
        async with node(tmp_path / "b", file, memory, **flags) as b:
            probes = b.mesh.finding.probes
            await until(lambda: probes.reachable is not None, 10)
            said = probes.book.newest
            assert said is not None and said == a.mesh.finding.probes.newest()[b.mesh.mesh.key]
            assert (said.observer, said.observed, said.reached) == (a.mesh.mesh.key, b.mesh.mesh.key, True)
    saved = tmp_path / "b" / "probes.json"
    assert saved.stat().st_mode & 0o777 == 0o600
    (entry,) = json.loads(saved.read_text())["probes"]
    body, signature = b64decode(entry["probe"]), Signature(b64decode(entry["signature"]))
    assert decode(Probe, body) == said and verify(a.parts.key.public_key, signature, Probe.TAG + body)
    async with node(tmp_path / "b", file, memory) as b:
        await until(lambda: b.mesh.finding.probes.reachable is not None)
        shown = b.parts.membership.view.probe(addresses=True)
        assert not b.mesh.mesh.peers and shown is not None
        assert (shown.by, shown.reached, shown.at_ms) == (a.mesh.mesh.key.hex(), True, said.at_ms)
