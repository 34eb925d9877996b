"""The mesh-wide kill from outside: one order at the operator's node freezes its others, through a node that is not."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import NodeProcess
from tests.rows.load import Crowd, crowd
from tests.rows.mesh import APART, LOOPBACK, eventually, network
from tirami.testing import RunningEngine

DRILLS = 3
OTHERS = ("one", "two")
STORY = "[[delay_ms=20]] a story"


@dataclass
class Fleet:
    """Nodes in a line, each connected to the ones beside it only, and a client of each; the second is a stranger's."""

    nodes: dict[str, NodeProcess]
    clients: dict[str, Crowd]
    keys: dict[str, str]

    async def order(self, active: bool) -> set[str]:
        """From the operator's node to all of its own; which of them the reply says obeyed, a second later."""
        boss = self.nodes["boss"]
        headers = {"authorization": f"Bearer {(boss.data_dir / 'admin.token').read_text().strip()}"}
        body = {"activate": active, "reason": "fire drill", "operator": "me", "mesh": True}
        async with self.clients["boss"].http.post(f"{boss.url}/v1/tirami/kill", json=body, headers=headers) as reply:
            assert reply.status == 200, await reply.text()
            told = (await reply.json())["mesh"]
            assert (told["peers"], told["refused"]) == (1, {})
            return set(told["obeyed"])

    async def says(self, name: str, status: int) -> float:
        """When a node, asked over and over, first answers with this status, and no other way than served or killed."""
        async with asyncio.timeout(60):
            while True:
                answer = await self.clients[name].ask("local", "hello", 2)
                assert (answer.status, answer.code) in ((200, None), (423, "kill_switch_active")), answer
                if answer.status == status:
                    return answer.ended


@asynccontextmanager
async def fleet(directory: Path, engine: RunningEngine) -> AsyncIterator[Fleet]:
    names = ("boss", "stranger", "one", "two")
    file, keys = network(directory, *names)
    nodes: dict[str, NodeProcess] = {}
    async with AsyncExitStack() as stack:
        for name in names:
            env = {"TIRAMI_MESH_ENABLED": "true", "TIRAMI_MESH_BIND": LOOPBACK[1], "TIRAMI_MESH_PEERS": "0"}
            if nodes:
                env["TIRAMI_MESH_BOOTSTRAP"] = await asyncio.to_thread(address, list(nodes.values())[-1])
            if name != "stranger":
                env["TIRAMI_MESH_OPERATOR"] = keys["boss"]
            node = NodeProcess(directory / name, "--upstream", engine.url, "--network", str(file), env=APART | env)
            await asyncio.to_thread(node.start)
            stack.callback(node.__exit__)
            nodes[name] = node
        clients = {name: await stack.enter_async_context(crowd(node.url)) for name, node in nodes.items()}
        await asyncio.to_thread(eventually, lambda: in_a_line(nodes))
        yield Fleet(nodes, clients, keys)


def address(node: NodeProcess) -> str:
    with node.admin() as admin:
        eventually(lambda: admin.mesh().address)
        return str(admin.mesh().address)


def peers(node: NodeProcess) -> int:
    with node.admin() as admin:
        return admin.mesh().peers


def in_a_line(nodes: dict[str, NodeProcess]) -> bool:
    return [peers(node) for node in nodes.values()] == [1, *[2] * (len(nodes) - 2), 1]


def told(seconds: list[float]) -> str:
    return "/".join(f"{1000 * each:.0f}" for each in seconds)


@pytest.mark.alone("within a second")
@pytest.mark.row("SAF-01", part="mesh-wide, by processes over QUIC")
@pytest.mark.row("API-51", part="mesh-wide")
@pytest.mark.timeout(300)
async def test_after_the_order_every_node_of_the_operator_refuses_within_a_second(
    engine: RunningEngine, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    refused, ended = [], []
    async with fleet(tmp_path, engine) as found:
        for name in found.nodes:
            await found.says(name, 200)
        assert in_a_line(found.nodes), "the order reaches the last by three hops, one of them a stranger's"
        for _ in range(DRILLS):
            streams = [asyncio.create_task(found.clients[n].ask("local", STORY, 2_000, stream=True)) for n in OTHERS]
            await asyncio.sleep(0.5)
            given, ordering = time.monotonic(), asyncio.create_task(found.order(True))
            refused.append(max(await asyncio.gather(*(found.says(name, 423) for name in OTHERS))) - given)
            answers = await asyncio.gather(*streams)
            assert {answer.finish for answer in answers} == {"killed"}
            ended.append(max(answer.ended for answer in answers) - given)
            assert await ordering == {found.keys[name] for name in OTHERS}
            await found.says("boss", 423)
            assert (await found.clients["stranger"].ask("local", "hello", 2)).status == 200, "it obeys another"
            await found.order(False)
            await asyncio.gather(*(found.says(name, 200) for name in OTHERS))
        figure = (
            f"four processes in a line, the second a stranger's, QUIC on loopback: 423 at the operator's other nodes"
            f" {told(refused)} ms after it was given, streams ended {told(ended)} ms after it"
        )
        print(figure)
        record_property("figure", figure)
        assert max(*refused, *ended) < 1
        await found.order(True)
        await found.says("one", 423)
        survivor = found.nodes["one"]
        survivor.kill()
        await asyncio.to_thread(survivor.start)
        async with crowd(survivor.url) as again:
            assert (await again.ask("local", "after kill -9", 2)).status == 423
