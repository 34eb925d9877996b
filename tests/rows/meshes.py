"""Two real nodes of one network on this machine's loopback, for rows of the mesh."""

import json
from dataclasses import dataclass
from pathlib import Path

from tests.processes import NodeProcess
from tirami.core.keyfile import load_or_create_node_key

LOOPBACK = {
    "TIRAMI_MESH_ENABLED": "true",
    "TIRAMI_MESH_BIND": "127.0.0.1:0",
    "TIRAMI_MESH_LAN": "false",
    "TIRAMI_LOG_LEVEL": "debug",
    "TIRAMI_API_RATE_PER_SECOND": "9999",
}


@dataclass(frozen=True)
class Homes:
    """Data directories with keys in them, and the network file both belong to."""

    paths: tuple[Path, ...]
    keys: tuple[str, ...]
    network: Path

    def node(self, number: int, *options: str, command: str = "start", **environment: str) -> NodeProcess:
        options = (*options, "--no-model", "--network", str(self.network))
        return NodeProcess(self.paths[number], *options, command=command, env=LOOPBACK | environment)


def homes(directory: Path, count: int = 2) -> Homes:
    """The first is the network's issuer."""
    paths = tuple(directory / f"home{number}" / ".tirami" for number in range(count))
    keys = []
    for path in paths:
        path.mkdir(parents=True, mode=0o700)
        keys.append(load_or_create_node_key(path / "node.key")[0].public_key.hex())
    network = directory / "network.json"
    parameters = {"witnesses": 1, "quorum": 1}
    document = {"format": "tirami/1/network", "id": "testnet", "parameters": parameters}
    network.write_text(json.dumps(document | {"issuers": [{"key": keys[0]}], "witnesses": keys[:1]}))
    return Homes(paths, tuple(keys), network)
