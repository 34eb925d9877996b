"""The mesh-wide kill through the operator's own API, over QUIC, between two whole nodes."""

import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.waiting import until
from tirami.core.config import load_config
from tirami.core.keyfile import load_or_create_node_key
from tirami.node.node import Node


def config(home: Path, network: Path, **flags: object) -> dict[str, object]:
    return {
        "data_dir": str(home),
        "network.file": str(network),
        "infer.models_dir": str(home / "models"),
        "infer.model": "",
        "api.port": 0,
        "mesh.enabled": True,
        "mesh.lan": False,
        "mesh.bind": "127.0.0.1:0",
        **flags,
    }


@pytest.mark.row("SAF-01", part="mesh-wide, over QUIC")
async def test_the_operators_node_freezes_the_other_over_quic(tmp_path: Path) -> None:
    homes, keys = [tmp_path / name for name in ("boss", "worker")], []
    for home in homes:
        home.mkdir(mode=0o700)
        keys.append(load_or_create_node_key(home / "node.key")[0].public_key.hex())
    network = tmp_path / "network.json"
    network.write_text(
        '{"format": "tirami/1/network", "id": "testnet", "parameters": {"witnesses": 1, "quorum": 1}, '
        f'"issuers": [{{"key": "{keys[0]}"}}], "witnesses": ["{keys[0]}"]}}'
    )
    async with Node.open(load_config(None, {}, config(homes[0], network))) as boss:
        assert boss.mesh is not None
        flags = {"mesh.bootstrap": str(boss.mesh.mesh.address()), "mesh.operator": keys[0]}
        async with (
            Node.open(load_config(None, {}, config(homes[1], network, **flags))) as worker,
            aiohttp.ClientSession() as http,
        ):
            assert worker.mesh is not None
            mesh = worker.mesh.mesh
            await until(lambda: mesh.peers and boss.mesh and boss.mesh.mesh.peers, 60)
            gate = worker.parts.ledger.gate

            async def told(node: Node, activate: bool, *, mesh: bool = True) -> tuple[int, dict[str, Any]]:
                headers = {"authorization": f"Bearer {node.parts.admin_token}"}
                body = {"activate": activate, "reason": "drill", "operator": "me", "mesh": mesh}
                async with http.post(f"{node.url}/v1/tirami/kill", json=body, headers=headers) as reply:
                    return reply.status, await reply.json()

            async def kill(node: Node, activate: bool) -> int:
                return (await told(node, activate))[0]

            began = time.monotonic()
            assert await kill(boss, True) == 200
            await until(lambda: gate.kill is not None and gate.kill.active, 60)
            print(f"two nodes, QUIC on loopback: frozen {(time.monotonic() - began) * 1000:.0f} ms after the request")
            assert boss.parts.ledger.gate.kill is not None
            assert boss.parts.ledger.gate.kill.active
            await until(lambda: worker.parts.ledger.state.settings.kill_orders, 60)
            assert await kill(worker, False) == 409, "it is not the operator's"
            assert await kill(boss, False) == 200
            await until(lambda: gate.kill is not None and not gate.kill.active, 60)

            assert (await told(worker, True, mesh=False))[0] == 200
            status, reply = await told(boss, False)
            assert (status, reply["mesh"]["obeyed"]) == (200, [])
            assert "release it there" in reply["mesh"]["refused"][keys[1]]
            assert gate.kill is not None and gate.kill.active
            assert (await told(worker, False, mesh=False))[0] == 200
            assert gate.kill is not None and not gate.kill.active
