"""How whole nodes find each other, over a network in memory."""

import json
from pathlib import Path

from tests.node.nodes import network_file, node
from tests.waiting import until
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
