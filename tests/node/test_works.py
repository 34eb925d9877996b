"""A part of the mesh that ends by itself is logged and told to the operator; the others go on."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from tests.node.nodes import network_file, node
from tests.waiting import until
from tirami.net.gossip import Gossip
from tirami.node.alerts import Alert
from tirami.node.mesh.works import FAILED, running
from tirami.testing import MemoryNetwork


class Parts:
    """Three of them: one steady, one that breaks, one that is simply done."""

    def __init__(self) -> None:
        self.breaking = asyncio.Event()
        self.done = asyncio.Event()
        self.steady_cancelled = False

    async def steady(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.steady_cancelled = True
            raise

    async def breaks(self) -> None:
        await self.breaking.wait()
        raise ZeroDivisionError("it cannot be")

    async def ends(self) -> None:
        await self.done.wait()


async def test_each_that_ends_is_named_and_the_rest_goes_on() -> None:
    parts, alarms = Parts(), dict[str, Alert]()
    works = {"steady": parts.steady, "breaks": parts.breaks, "ends": parts.ends}
    with capture_logs() as logs:
        async with running(works, alarms):
            parts.breaking.set()
            await until(lambda: FAILED in alarms)
            assert "breaks;" in alarms[FAILED].message
            parts.done.set()
            await until(lambda: "breaks, ends;" in alarms[FAILED].message)
            assert not parts.steady_cancelled
    assert parts.steady_cancelled
    told = [(entry["part"], type(entry["exc_info"]).__name__) for entry in logs if entry["event"] == "mesh_part_ended"]
    assert told == [("breaks", "ZeroDivisionError"), ("ends", "NoneType")]


async def test_who_leaves_in_order_raises_no_alarm() -> None:
    alarms = dict[str, Alert]()

    async def obliging() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    with capture_logs() as logs:
        async with running({"obliging": obliging, "steady": Parts().steady}, alarms):
            await asyncio.sleep(0)
    assert not alarms and not logs


async def test_a_failure_while_leaving_is_still_in_the_log() -> None:
    async def clumsy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("disk")

    with capture_logs() as logs:
        async with running({"clumsy": clumsy}, {}):
            await asyncio.sleep(0)
    (entry,) = logs
    assert (entry["event"], entry["part"], str(entry["exc_info"])) == ("mesh_part_ended", "clumsy", "disk")


async def test_a_node_whose_gossip_died_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dying(_: Gossip) -> None:
        raise RuntimeError("no more news")

    monkeypatch.setattr(Gossip, "run", dying)
    file, _ = network_file(tmp_path, ("a",))
    async with node(tmp_path / "a", file, MemoryNetwork(seed=1)) as a, aiohttp.ClientSession() as http:
        await until(lambda: FAILED in a.parts.membership.alarms)
        async with http.get(f"{a.url}/readyz") as reply:
            assert FAILED in (await reply.json())["warnings"]
        async with http.get(f"{a.url}/status") as reply:
            warnings = {warning["code"]: warning["message"] for warning in (await reply.json())["warnings"]}
        assert "gossip" in warnings[FAILED]
        assert a.parts.membership.view is not None, "the rest of the mesh goes on"
