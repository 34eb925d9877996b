"""Whole nodes of a mesh without engines: ledger, connections and gossip, over any transport."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from random import Random

import msgspec
import pytest

from tests.proto.samples import ACCEPTANCE, TRADE
from tirami.core.clock import Clock
from tirami.core.errors import WireError
from tirami.core.keys import PublicKey, SigningKey, journal_key, local_user_key, sha256
from tirami.core.units import DAY_MS
from tirami.ledger import Heads, Ledger
from tirami.net import Endpoint, FrameReader, Stream, registry
from tirami.net.gossip import Gossip
from tirami.net.hello import Identity
from tirami.net.logs import Logs
from tirami.net.memory import Memory
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.net.watch import Watch
from tirami.proto import (
    Acceptance,
    ConsistencyWanted,
    Envelope,
    Grant,
    Issuer,
    NetworkFile,
    Parameters,
    Reconcile,
    amount_due,
    encode,
    sign,
)
from tirami.testing import Traffic

OPENINGS = registry(Reconcile, ConsistencyWanted)


@dataclass
class Member:
    """One node."""

    key: SigningKey
    ledger: Ledger
    mesh: Mesh
    gossip: Gossip
    watch: Watch
    logs: Logs
    alarms: dict[PublicKey, str]

    @property
    def state_hash(self) -> bytes:
        return self.ledger.state.book.state_hash()

    @property
    def records(self) -> int:
        return len(self.ledger.state.records)


class Grants:
    """A made-up issuer's grants: records that need nothing but a signature."""

    def __init__(self, clock: Clock, **parameters: int) -> None:
        self.issuer = SigningKey.generate()
        self.network = NetworkFile(
            "tirami/1/network",
            "testnet",
            Parameters(**{"witnesses": 1, "quorum": 1, **parameters}),
            (Issuer(self.issuer.public_key.hex(), 10**6),),
        )
        self._clock = clock
        self._number = 0

    def next(self, to: SigningKey | None = None) -> Envelope:
        self._number += 1
        now = self._clock.now_ms()
        grant = Grant(
            network=self.network.id,
            issuer=self.issuer.public_key,
            incarnation=0,
            number=self._number,
            settled=1_000 * (self._number - 1),
            to=(to or SigningKey.generate()).public_key,
            limit=1_000,
            due_ms=now + DAY_MS,
            period=now // DAY_MS,
            at_ms=now,
        )
        return Envelope("grant", encode(grant), (sign(grant, self.issuer),), ())

    def bought(self, payer: SigningKey, provider: SigningKey, tokens: int = 9, ceiling: int = 9) -> Envelope:
        """A trade of as many TRM as tokens, in the first session of this payer: signed by both, with its acceptance."""
        change, now = msgspec.structs.replace, self._clock.now_ms()
        parties = {"network": self.network.id, "payer": payer.public_key, "provider": provider.public_key}
        numbers = {"incarnation": 0, "number": 1, "settled": 0, "open": (), "ceiling": ceiling}
        acceptance = change(ACCEPTANCE, **parties, **numbers, at_ms=now)
        accepted = encode(acceptance)
        trade = change(
            TRADE,
            **parties,
            session=1,
            acceptance_hash=sha256(Acceptance.TAG, accepted),
            price_in=0,
            price_out=1_000_000,
            completion_tokens=tokens,
            amount=amount_due(0, 1_000_000, TRADE.prompt_tokens, tokens),
            at_ms=now,
        )
        signatures = sign(trade, payer), sign(trade, provider)
        return Envelope("trade", encode(trade), signatures, (accepted, sign(acceptance, payer)))

    async def trade(self, node: "Member") -> None:
        """Two records at this node: a line for somebody new, and what it buys here with it."""
        payer = SigningKey.generate()
        await node.ledger.book_record(self.next(payer))[1]
        await node.ledger.book_record(self.bought(payer, node.key))[1]


@asynccontextmanager
async def member(
    home: Path, endpoint: Endpoint, key: SigningKey, network: NetworkFile, clock: Clock, seed: int
) -> AsyncIterator[Member]:
    ledger = Ledger.open(
        home / "journal.db",
        network=network,
        node=key,
        local_user=local_user_key(key).public_key,
        clock=clock,
        journal_key=journal_key(key),
    )
    await ledger.start(os.urandom)
    heads = Heads(ledger, key)
    memory = Memory(ledger)
    identity, random = Identity(network, "test"), Random(seed)
    mesh = Mesh(endpoint, identity, clock, seen=memory.of, refuse=lambda key: logs.objection(key), random=random)
    mesh.add(memory)
    watch = Watch(ledger, mesh)
    alarms: dict[PublicKey, str] = {}
    logs = Logs(heads, memory, watch, mesh, clock, alarms.__setitem__)
    gossip = Gossip(ledger, heads, mesh, clock, watch, logs.heard)

    async def asked(peer: Peer, stream: Stream) -> None:
        first = await FrameReader(stream, OPENINGS).read()
        if not peer.may_ask(first):
            raise WireError("too many streams of this kind")
        if isinstance(first, ConsistencyWanted):
            await logs.answer(peer, stream, first)
        else:
            assert isinstance(first, Reconcile)
            await gossip.reconciler.answer(peer, stream, first)

    mesh.on_stream(asked)
    try:
        async with mesh.running():
            running = [asyncio.create_task(work) for work in (gossip.run(), watch.run(), logs.run())]
            try:
                yield Member(key, ledger, mesh, gossip, watch, logs, alarms)
            finally:
                for task in running:
                    task.cancel()
                await asyncio.wait(running)
    finally:
        await ledger.close()


@asynccontextmanager
async def members(
    home: Path, count: int, bind: Callable[[SigningKey], Awaitable[Endpoint]], network: NetworkFile, clock: Clock
) -> AsyncIterator[list[Member]]:
    async with AsyncExitStack() as stack:
        result = []
        for number in range(count):
            key = SigningKey.generate()
            entered = member(home / str(number), await bind(key), key, network, clock, number)
            result.append(await stack.enter_async_context(entered))
        yield result


def in_a_line(line: Sequence[Member]) -> None:
    for left, right in zip(line, line[1:], strict=False):
        left.mesh.keep(right.mesh.address())


async def converged(nodes: Sequence[Member], records: int, clock: Clock, within_s: float) -> float:
    """Seconds until every node has ``records`` and all books are equal. Raises ``TimeoutError``."""
    began = clock.monotonic()
    async with asyncio.timeout(within_s):
        while any(node.records < records for node in nodes) or len({node.state_hash for node in nodes}) > 1:
            await asyncio.sleep(0.05)
    return clock.monotonic() - began


class Spread:
    """What it took to bring records to everybody, heartbeats and heads included; from its making on.

    Args:
        traffic: of all nodes, counted on.
        medium: between them, for people.
    """

    def __init__(self, traffic: Traffic, medium: str, clock: Clock) -> None:
        self._traffic = traffic
        self._medium = medium
        self._clock = clock
        self._before = copy(traffic)
        self._began = clock.monotonic()

    def told(self, what: str, nodes: int, records: int) -> float:
        """Prints the figures; returns the seconds."""
        took = self._clock.monotonic() - self._began
        each = self.each(nodes, records)
        print(f"{what}, {self._medium}: {records} records at {nodes} nodes in {took:.2f} s; {each}")
        return took

    def each(self, nodes: int, records: int) -> str:
        """Messages and bytes a record and node that it had to be brought to."""
        messages, size = self.cost(nodes, records)
        lost = self._traffic.lost_packets - self._before.lost_packets
        return f"a record and node: {messages:.2f} messages, {size:.0f} bytes" + (f"; {lost} packets lost" * bool(lost))

    def cost(self, nodes: int, records: int) -> tuple[float, float]:
        """The same as numbers."""
        now, before, deliveries = self._traffic, self._before, records * (nodes - 1)
        return (now.messages - before.messages) / deliveries, (now.bytes - before.bytes) / deliveries


def counted(streams: type[Stream], monkeypatch: pytest.MonkeyPatch) -> Traffic:
    """What is handed to streams of this type from now on, of all endpoints of this process: frames and their bytes.

    What the transport adds below, headers, acknowledgements and repetitions, is not in it.
    """
    traffic, write = Traffic(), streams.write

    async def counting(stream: Stream, data: bytes) -> None:
        traffic.messages += 1
        traffic.bytes += len(data)
        await write(stream, data)

    monkeypatch.setattr(streams, "write", counting)
    return traffic
