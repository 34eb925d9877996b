"""The mesh of a running node: endpoint, peers, gossip, signals, sessions, put together and taken apart in order."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

import structlog

from tirami.core.keys import PublicKey
from tirami.infer import BlockCache, Prompters
from tirami.ledger import Admitted
from tirami.market import PeerRegistry, Reputation
from tirami.net import Endpoint, PeerAddress
from tirami.net.blocks import Bringer
from tirami.net.gossip import Gossip
from tirami.net.hello import Identity
from tirami.net.kills import Kills
from tirami.net.logs import Logs
from tirami.net.memory import Memory
from tirami.net.mesh import Mesh
from tirami.net.opinions import Opinions
from tirami.net.probes import Call
from tirami.net.rotations import Rotations
from tirami.net.session import Provider
from tirami.net.signals import Signals
from tirami.net.watch import Watch
from tirami.node.alerts import Alert
from tirami.node.mesh.blocks import Blocks
from tirami.node.mesh.desk import FEATURES, EngineDesk
from tirami.node.mesh.finding import Finding, Source
from tirami.node.mesh.onlookers import Onlookers
from tirami.node.mesh.pace import Pace
from tirami.node.mesh.reception import Reception
from tirami.node.mesh.shop import Shop
from tirami.node.mesh.view import MeshView
from tirami.node.parts import Parts
from tirami.node.version import VERSION

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class MeshService:
    """What a node has while it is on the mesh."""

    mesh: Mesh
    peers: PeerRegistry
    reputation: Reputation
    gossip: Gossip
    desk: EngineDesk
    provider: Provider
    shop: Shop
    finding: Finding
    rotations: Rotations


@asynccontextmanager
async def opened_mesh(
    parts: Parts, endpoint: Endpoint, sources: Sequence[Source] = (), call: Call | None = None
) -> AsyncIterator[MeshService]:
    """Join the mesh over ``endpoint`` until left; the endpoint is closed then.

    Args:
        sources: where nodes are found beside what peers tell.
        call: how a peer is reached as by a stranger, for probes.
    """
    config, ledger, key = parts.config.mesh, parts.ledger, parts.key
    identity = Identity(ledger.network, f"tirami/{VERSION}", FEATURES, tuple(endpoint.address().direct)[:8])
    memory = Memory(ledger)
    mesh = Mesh(endpoint, identity, parts.clock, seen=memory.of, refuse=lambda key: logs.objection(key))
    mesh.add(memory)  # before all others: what was forgotten is heard before anything is said
    reputation = Reputation(key.public_key)
    peers = PeerRegistry(reputation.of)
    reputation.on_change(peers.reconsider)
    watch = Watch(ledger, mesh)

    def alarm(key: PublicKey, reason: str) -> None:
        message = f"the log of peer {key.hex()} contradicts what it signed before: {reason}"
        parts.membership.alarms["log_inconsistent"] = Alert("log_inconsistent", message)

    logs = Logs(parts.heads, memory, watch, parts.clock, alarm)
    mesh.add(logs)
    onlookers = Onlookers(watch, ledger, reputation)
    gossip = Gossip(ledger, parts.heads, mesh, parts.clock, SystemRandom(), onlookers, logs.heard)
    blocks = BlockCache(Path(parts.config.data_dir) / "tokenizers")
    kill = ledger.gate
    pace = Pace(parts.engines, parts.meter, key.public_key, parts.clock)
    desk = EngineDesk(
        config,
        parts.engines,
        parts.load,
        pace.speed,
        lambda: provider.running,
        lambda key: key in ledger.state.settings.guests,
        lambda: kill.halted is not None or (kill.kill is not None and kill.kill.active),
        lambda: ledger.state.settings.paused,
    )

    async def booked(admitted: Admitted) -> None:
        _log.info("earned", trade=admitted.record_id.hex(), amount=admitted.demand.debit.amount)

    provider = Provider(ledger, parts.heads, key, desk, os.urandom, booked, watch.see_all, parts.meter.sold)
    signals = Signals(
        mesh,
        peers,
        key,
        lambda: desk.signal(ledger.network.id, key.public_key),
        ledger.now,
        parts.clock,
        SystemRandom(),
    )
    operator = PublicKey(bytes.fromhex(config.operator)) if config.operator else key.public_key
    kills = Kills(ledger, mesh, key, operator, parts.clock)
    rotations = Rotations(ledger, mesh)
    finding = Finding(parts, mesh, sources, call)
    opinions = Opinions(
        mesh,
        reputation,
        key,
        ledger.network.id,
        lambda provider: round(known.latency_ms) if (known := peers.get(provider)) else 0,
        ledger.now,
        SystemRandom(),
    )
    shop = Shop(config, ledger, mesh, peers, Prompters(blocks), opinions, parts.payers.node)

    bringer = Bringer(Blocks(parts.engines, blocks).get)
    mesh.on_stream(Reception(provider, bringer, gossip, logs, finding).take)
    async with mesh.running():
        works = (
            gossip.run(),
            signals.run(),
            watch.run(),
            logs.run(),
            finding.run(),
            pace.run(lambda: desk.sellable),
            opinions.run(),
        )
        tasks = [asyncio.create_task(work, name="mesh") for work in works]
        for text in config.bootstrap.split():
            mesh.keep(PeerAddress.parse(text))
        service = MeshService(mesh, peers, reputation, gossip, desk, provider, shop, finding, rotations)
        membership, parts.chat.shop = parts.membership, shop
        membership.guests, membership.kill = finding.guests, kills.order
        membership.view = MeshView(config, ledger, service)
        try:
            yield service
        finally:
            parts.chat.shop = None
            membership.leave()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
