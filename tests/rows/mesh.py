"""A provider and a consumer as processes of their own, over QUIC on loopback, on a network that funds both."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import NodeProcess
from tirami.core.keyfile import load_or_create_node_key

LOOPBACK = ("--p2p-bind", "127.0.0.1:0")
APART = {"TIRAMI_API_RATE_PER_SECOND": "9999", "TIRAMI_MESH_LAN": "false"}
"""Whatever else runs on this machine is not met."""
PATIENCE_S = 60.0


def network(directory: Path, *homes: str, **parameters: int) -> tuple[Path, dict[str, str]]:
    """A network file in which every home's key is issuer and witness, of these parameters; the keys by home."""
    keys = {}
    for name in homes:
        home = directory / name
        home.mkdir(mode=0o700)
        keys[name] = load_or_create_node_key(home / "node.key")[0].public_key.hex()
    file = directory / "network.json"
    rules = {"witnesses": 1, "quorum": 1} | parameters
    document = {"format": "tirami/1/network", "id": "testnet", "parameters": rules}
    issuers = [{"key": key} for key in keys.values()]
    file.write_text(json.dumps(document | {"issuers": issuers, "witnesses": list(keys.values())}))
    return file, keys


def address_of(node: NodeProcess) -> str:
    """Where it said others find it."""
    eventually(lambda: "on the mesh as" in node.log().lower())
    found = re.findall(r"on the mesh as (\S+)", node.log(), re.IGNORECASE)
    return str(found[-1])


def eventually(condition: Callable[[], object], within: float = PATIENCE_S) -> float:
    """Wait for it; seconds it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within, f"it did not come about within {within:g} s"
        time.sleep(0.05)
    return time.monotonic() - began


@contextmanager
def seed(
    home: Path, file: Path, *options: str, env: dict[str, str] | None = None, program: str = "tirami.cli"
) -> Iterator[NodeProcess]:
    given = ("--network", str(file), *LOOPBACK, *options)
    with NodeProcess(home, *given, command="seed", program=program, env=APART | (env or {})) as node:
        yield node


@contextmanager
def worker(
    home: Path,
    file: Path,
    *seeds: str,
    env: dict[str, str] | None = None,
    options: tuple[str, ...] = (),
    program: str = "tirami.cli",
) -> Iterator[NodeProcess]:
    named = [part for address in seeds for part in ("--seed", address)]
    given = ("--daemon", *named, "--network", str(file), *LOOPBACK, *options)
    own = {"TIRAMI_INFER_MODELS_DIR": str(home / "models")}  # what this machine has is not bought
    settings = APART | own | (env or {})
    with NodeProcess(home, *given, command="worker", program=program, env=settings) as node:
        yield node
