"""A peer is asked for no more at a time than it lets anybody have."""

import asyncio
from pathlib import Path

import pytest

from tests.net.mesh import Grants, Member, in_a_line
from tests.net.test_gossip import meshed
from tests.net.test_logs import until
from tirami.net.budget import STREAMS
from tirami.net.places import SESSIONS, Places
from tirami.testing import Link, MemoryNetwork


def test_who_wants_more_waits_until_one_ends(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        in_a_line(nodes)
        await until(lambda: nodes[0].mesh.peers, 60)
        peer = nodes[0].mesh.peers[nodes[1].key.public_key]
        places = Places(peer.connection)
        assert SESSIONS < STREAMS
        opened = [await places.open() for _ in range(SESSIONS)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await places.open()
        await opened[0].reset()
        await opened[0].reset()
        opened[0] = await places.open()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await places.open()
        for stream in opened:
            await stream.reset()

    meshed(tmp_path, 2, Link(delay_s=0.02), play)
