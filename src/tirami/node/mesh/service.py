"""The mesh of a running node: its parts put together, and run until the node leaves."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from tirami.core.errors import KeyFileError
from tirami.core.keyfile import next_key
from tirami.core.keys import PublicKey, parse_node_id
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
from tirami.node.mesh.goods import Goods
from tirami.node.mesh.handover import Handover
from tirami.node.mesh.onlookers import Onlookers
from tirami.node.mesh.pace import Pace
from tirami.node.mesh.reception import Reception
from tirami.node.mesh.shop import Shop
from tirami.node.mesh.tokenizers import Tokenizers
from tirami.node.mesh.view import MeshView
from tirami.node.mesh.works import Work, running
from tirami.node.parts import Parts
from tirami.node.version import VERSION
from tirami.proto import Rotation

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class MeshService:
    """What a node has while it is on the mesh."""

    mesh: Mesh
    peers: PeerRegistry
    reputation: Reputation
    gossip: Gossip
    watch: Watch
    logs: Logs
    pace: Pace
    tokenizers: Tokenizers
    desk: EngineDesk
    provider: Provider
    signals: Signals
    kills: Kills
    handover: Handover
    finding: Finding
    opinions: Opinions
    prompters: Prompters
    shop: Shop

    def works(self) -> dict[str, Work]:
        """What runs for as long as the node is on the mesh, by the name of its part."""
        return {
            "gossip": self.gossip.run,
            "signals": self.signals.run,
            "watch": self.watch.run,
            "logs": self.logs.run,
            "finding": self.finding.run,
            "pace": partial(self.pace.run, lambda: self.desk.sellable),
            "tokenizers": partial(self.tokenizers.run, lambda: self.desk.sellable),
            "opinions": self.opinions.run,
        }


@asynccontextmanager
async def opened_mesh(
    parts: Parts, endpoint: Endpoint, sources: Sequence[Source] = (), call: Call | None = None
) -> AsyncIterator[MeshService]:
    """Join the mesh over ``endpoint`` until left; the endpoint is closed then.

    Leaving is a stop of the node: what it sells and buys is ended and settled while the other side is still there.

    Args:
        sources: where nodes are found beside what peers tell.
        call: how a peer is reached as by a stranger, for probes.
    """
    service, membership = composed(parts, endpoint, sources, call), parts.membership
    membership.claims = lambda: service.provider.claims
    for order, _ in parts.ledger.state.succession.orders(parts.key.public_key):
        _ended(parts, order)
    async with (
        aclosing(service.prompters),
        service.mesh.running(),
        running(service.works(), membership.alarms),
    ):
        for text in parts.config.mesh.bootstrap.split():
            service.mesh.keep(PeerAddress.parse(text))
        parts.chat.shop = service.shop
        membership.guests, membership.kills = service.finding.guests, service.kills
        membership.handover = service.handover
        membership.view = MeshView(parts.config.mesh, parts.ledger, service, parts.clock)
        try:
            yield service
        finally:
            parts.chat.shop = None
            await asyncio.gather(parts.market.stop(), service.provider.stop())
            await service.mesh.leave("this node stops")
            membership.leave()


def composed(parts: Parts, endpoint: Endpoint, sources: Sequence[Source], call: Call | None) -> MeshService:
    """All parts, acquainted with each other; none of them runs yet."""
    config, ledger, key = parts.config.mesh, parts.ledger, parts.key
    identity = Identity(ledger.network, f"tirami/{VERSION}", FEATURES, tuple(endpoint.address().direct)[:8])
    memory = Memory(ledger)
    clock, now = parts.clock, ledger.now
    mesh = Mesh(endpoint, identity, clock, seen=memory.of, refuse=lambda key: logs.objection(key), now=now)
    mesh.add(memory)  # before all others: what was forgotten is heard before anything is said
    reputation = Reputation(key.public_key)
    peers = PeerRegistry(reputation.of)
    reputation.on_change(peers.reconsider)
    watch = Watch(ledger, mesh)
    logs = Logs(parts.heads, memory, watch, mesh, parts.clock, partial(_contradicted, parts))
    onlookers = Onlookers(watch, ledger, reputation)
    gossip = Gossip(ledger, parts.heads, mesh, parts.clock, onlookers, logs.heard)
    pace = Pace(parts.engines, parts.meter, key.public_key, parts.clock)
    cache = BlockCache(Path(parts.config.data_dir) / "tokenizers")
    blocks = Blocks(parts.engines, cache)
    tokenizers = Tokenizers(blocks)
    desk = _desk(parts, pace, tokenizers)
    provider = Provider(ledger, parts.heads, key, desk, os.urandom, _booked, watch.see_all, parts.meter.sold)
    offer = partial(desk.signal, ledger.network.id, key.public_key)
    signals = Signals(mesh, peers, key, offer, ledger.now, parts.clock)
    operator = parse_node_id(config.operator) if config.operator else key.public_key
    kills = Kills(ledger, mesh, key, operator, parts.clock)
    handover = Handover(ledger, Rotations(ledger, mesh, partial(_ended, parts)), key)
    finding = Finding(parts, mesh, sources, call)
    latency = partial(_latency_ms, peers)
    opinions = Opinions(mesh, reputation, key, ledger.network.id, latency, ledger.now)
    prompters = Prompters(cache)
    goods = Goods(parts.engines.loader.pins)
    shop = Shop(config, ledger, mesh, peers, finding.dialler, prompters, opinions, parts.payers.node, goods)
    bringer = Bringer(blocks.get)
    mesh.on_stream(Reception(provider, bringer, gossip.reconciler, logs, finding).take)
    return MeshService(
        mesh=mesh,
        peers=peers,
        reputation=reputation,
        gossip=gossip,
        watch=watch,
        logs=logs,
        pace=pace,
        tokenizers=tokenizers,
        desk=desk,
        provider=provider,
        signals=signals,
        kills=kills,
        handover=handover,
        finding=finding,
        opinions=opinions,
        prompters=prompters,
        shop=shop,
    )


def _desk(parts: Parts, pace: Pace, tokenizers: Tokenizers) -> EngineDesk:
    ledger = parts.ledger
    return EngineDesk(
        parts.config.mesh,
        parts.engines,
        parts.load,
        pace.speed,
        tokenizers.canon,
        lambda key: key in ledger.state.settings.guests,
        partial(_silent, parts),
        lambda: ledger.state.settings.paused,
        parts.agent,
    )


def _silent(parts: Parts) -> bool:
    """Whether this node promises nothing to anybody: halted, killed, or its key has ended."""
    gate, key = parts.ledger.gate, parts.key.public_key
    killed = gate.kill is not None and gate.kill.active
    return killed or gate.halted is not None or parts.ledger.state.succession.ended(key)


def _ended(parts: Parts, order: Rotation) -> None:
    """Whoever has the node key can end it: this node's operator is to know, whoever it was."""
    if order.key == parts.key.public_key:
        then = "see `tirami key show`"
        try:
            follows = next_key(parts.home.path)
            if follows is not None and follows.public_key == order.successor:
                then = f"start it again, and it goes on under {order.successor.hex()}"
        except KeyFileError as error:
            then = f"{error.message}; until that is mended, this node does not start again"
        message = f"this node's key was rotated or revoked and promises nothing any more: {then}"
        parts.membership.alarms["own_key_ended"] = Alert("own_key_ended", message)


def _contradicted(parts: Parts, key: PublicKey, reason: str) -> None:
    message = f"the log of peer {key.hex()} contradicts what it signed before: {reason}"
    parts.membership.alarms["log_inconsistent"] = Alert("log_inconsistent", message)


def _latency_ms(peers: PeerRegistry, provider: bytes) -> int:
    known = peers.get(provider)
    return round(known.latency_ms) if known else 0


async def _booked(admitted: Admitted) -> None:
    _log.info("earned", trade=admitted.record_id.hex(), amount=admitted.demand.debit.amount)
