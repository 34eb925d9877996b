"""How whole nodes find each other, over a network in memory."""

import json
from pathlib import Path

from tests.node.test_mesh import node
from tests.waiting import until
from tirami.core.keyfile import load_or_create_node_key
from tirami.testing import MemoryNetwork


def network_file(home: Path, *issuers: str) -> tuple[Path, list[str]]:
    """A network whose issuers are the nodes named; keys of every node below ``home``, by name."""
    keys = {}
    for name in ("a", "b", "c"):
        (home / name).mkdir(mode=0o700)
        keys[name] = load_or_create_node_key(home / name / "node.key")[0].public_key.hex()
    document = {"format": "tirami/1/network", "id": "testnet", "parameters": {"witnesses": 1, "quorum": 1}}
    chosen = [keys[name] for name in issuers or keys]
    file = home / "network.json"
    file.write_text(json.dumps(document | {"issuers": [{"key": key} for key in chosen], "witnesses": chosen}))
    return file, list(keys.values())


async def test_peers_of_a_peer_meet_and_find_back_after_a_restart(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path)
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
    file, _ = network_file(tmp_path)
    memory = MemoryNetwork(seed=1)
    async with node(tmp_path / "a", file, memory) as a:
        file.write_text(json.dumps(json.loads(file.read_text()) | {"seeds": [str(a.mesh.mesh.address()), "nonsense"]}))
        async with node(tmp_path / "b", file, memory) as b:
            await until(lambda: a.mesh.mesh.key in b.mesh.mesh.peers)
