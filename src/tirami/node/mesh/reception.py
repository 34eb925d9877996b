"""Where a stream that a peer opens is taken: its first message says whose it is."""

import asyncio
from dataclasses import dataclass
from typing import Final

from tirami.core.errors import WireError
from tirami.net import FrameReader, Stream, registry
from tirami.net.blocks import Bringer
from tirami.net.logs import Logs
from tirami.net.peer import Peer
from tirami.net.reconciler import Reconciler
from tirami.net.session import Provider
from tirami.node.mesh.finding import FINDING, Finding
from tirami.proto import Ask, BlockWanted, ConsistencyWanted, Reconcile

FIRST_S: Final = 10.0
"""Seconds a stream may be open without saying what it is for."""
OPENINGS: Final = registry(Ask, BlockWanted, Reconcile, ConsistencyWanted, *FINDING)


@dataclass(frozen=True, slots=True)
class Reception:
    """Whoever answers streams."""

    provider: Provider
    bringer: Bringer
    reconciler: Reconciler
    logs: Logs
    finding: Finding

    async def take(self, peer: Peer, stream: Stream) -> None:
        """One stream to its end. Raises ``MeshError``, ``TimeoutError``."""
        async with asyncio.timeout(FIRST_S):
            first = await FrameReader(stream, OPENINGS).read()
        if not peer.may_ask(first):
            raise WireError(f"too many streams that begin with a {type(first).__name__}")
        match first:
            case Ask():
                await self.provider.serve(peer.key, stream, first)
            case BlockWanted():
                await self.bringer.bring(peer.key, stream, first)
            case Reconcile():
                await self.reconciler.answer(peer, stream, first)
            case ConsistencyWanted():
                await self.logs.answer(peer, stream, first)
            case _:
                await self.finding.answer(peer, stream, first)
