"""The mesh of a running node: endpoint, peers, gossip, signals, sessions, put together and taken apart in order."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

import structlog

from tirami.core.errors import WireError
from tirami.core.keys import Digest
from tirami.core.units import MICRO, Ppm
from tirami.infer import BlockCache, MetadataBlock, Prompters
from tirami.ledger import Admitted
from tirami.market import PeerRegistry
from tirami.net import Endpoint, FrameReader, PeerAddress, Stream, registry
from tirami.net.blocks import bring
from tirami.net.gossip import Gossip
from tirami.net.hello import Identity
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.net.session import Provider
from tirami.net.signals import Signals
from tirami.net.watch import Watch
from tirami.node.mesh.desk import FEATURES, EngineDesk
from tirami.node.mesh.shop import Shop
from tirami.node.mesh.view import MeshView
from tirami.node.parts import Parts
from tirami.node.version import VERSION
from tirami.proto import Ask, BlockWanted, Reconcile

_log = structlog.get_logger()
FIRST_S = 10.0
"""Seconds a stream may be open without saying what it is for."""
OPENINGS = registry(Ask, BlockWanted, Reconcile)
REPUTATION = Ppm(MICRO // 2)


@dataclass(frozen=True, slots=True)
class MeshService:
    """What a node has while it is on the mesh."""

    mesh: Mesh
    peers: PeerRegistry
    gossip: Gossip
    desk: EngineDesk
    provider: Provider
    shop: Shop


@asynccontextmanager
async def opened_mesh(parts: Parts, endpoint: Endpoint) -> AsyncIterator[MeshService]:
    """Join the mesh over ``endpoint`` until left; the endpoint is closed then."""
    config, ledger, key = parts.config.mesh, parts.ledger, parts.key
    identity = Identity(ledger.network, f"tirami/{VERSION}", FEATURES, tuple(endpoint.address().direct)[:8])
    mesh = Mesh(endpoint, identity, parts.clock)
    peers = PeerRegistry(lambda _: REPUTATION)
    watch = Watch(ledger, mesh)
    gossip = Gossip(ledger, parts.heads, mesh, parts.clock, SystemRandom(), watch)
    blocks = BlockCache(Path(parts.config.data_dir) / "tokenizers")
    kill = ledger.gate
    desk = EngineDesk(
        config,
        parts.engines,
        parts.load,
        lambda: provider.running,
        lambda: kill.halted is not None or (kill.kill is not None and kill.kill.active),
        lambda: ledger.state.settings.paused,
    )

    async def booked(admitted: Admitted) -> None:
        _log.info("earned", trade=admitted.record_id.hex(), amount=admitted.demand.debit.amount)

    provider = Provider(ledger, parts.heads, key, desk, os.urandom, booked, watch.see_all)
    signals = Signals(
        mesh,
        peers,
        key,
        lambda: desk.signal(ledger.network.id, key.public_key),
        ledger.now,
        parts.clock,
        SystemRandom(),
    )
    shop = Shop(config, ledger, mesh, peers, Prompters(blocks), parts.payers.node)

    def block(digest: Digest) -> bytes | None:
        """Of a model here, or one fetched before."""
        if (kept := blocks.load(digest)) is not None:
            return kept.data
        for name, path in parts.engines.loader.installed().items():
            place = parts.engines.pool.places.get(name)
            card = place.engine.card if place and place.engine else None
            if card is not None and card.tokenizer_digest == digest:
                found = MetadataBlock.of_file(path)
                blocks.store(found)
                return found.data
        return None

    async def asked(peer: Peer, stream: Stream) -> None:
        async with asyncio.timeout(FIRST_S):
            first = await FrameReader(stream, OPENINGS).read()
        match first:
            case Ask():
                await provider.serve(peer.key, stream, first)
            case BlockWanted():
                await bring(stream, first, block)
            case Reconcile():
                await gossip.answer(peer, stream, first)
            case _:
                raise WireError("this opens no stream")

    mesh.on_stream(asked)
    async with mesh.running():
        tasks = [asyncio.create_task(work, name="mesh") for work in (gossip.run(), signals.run(), watch.run())]
        for text in config.bootstrap.split():
            mesh.keep(PeerAddress.parse(text))
        service = MeshService(mesh, peers, gossip, desk, provider, shop)
        parts.chat.shop, parts.membership.view = shop, MeshView(config, ledger, service)
        try:
            yield service
        finally:
            parts.chat.shop = parts.membership.view = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
