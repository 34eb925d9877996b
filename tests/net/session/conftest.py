"""Two nodes of one network with a connection between them: a provider with a scripted engine, and a payer without."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.market.scripted import CARD, ScriptedEngine
from tirami.core.clock import Clock, SystemClock
from tirami.core.keys import Digest, PublicKey, SigningKey, journal_key, local_user_key
from tirami.core.units import MicroTrm, Ppm, TokenCount
from tirami.infer import Prompt, Sampling
from tirami.ledger import NETWORK, Admitted, Heads, Ledger, Payer, Price
from tirami.market import InferenceMarket, Load, MeteredSession, Order, Settlement, Ticket
from tirami.net import Connection, Endpoint, FrameReader, Stream
from tirami.net.session import ASKS, Provider, Purchase, Terms, Wanted, purchase
from tirami.net.session.counted import Canon
from tirami.proto import Ask, Envelope, Grant, Issuer, NetworkFile, Parameters, encode, sign
from tirami.testing import MemoryNetwork

PRICE = Price(MicroTrm(1_000_000), MicroTrm(1_000_000))
"""One TRM a token, prompt and answer."""
PROMPT = tuple(range(3))


class Words:
    """Checks answers of the scripted engine: token ``i`` is the number and a space. One canonical token each."""

    def __init__(self) -> None:
        self.count = 0

    def decode(self, ids: tuple[int, ...]) -> bytes:
        return "".join(f"{number} " for number in ids).encode()

    def feed(self, data: bytes) -> int:
        self.count += len(data.split())
        return self.count


@dataclass
class Node:
    """A ledger with its market, and what it booked."""

    key: SigningKey
    ledger: Ledger
    heads: Heads
    market: InferenceMarket
    booked: list[Admitted] = field(default_factory=list)

    @property
    def payer(self) -> Payer:
        return Payer(self.key.public_key, self.key, NETWORK)

    @property
    def net(self) -> int:
        return self.ledger.balance(self.key.public_key).net


@asynccontextmanager
async def opened_node(home: Path, key: SigningKey, network: NetworkFile, clock: Clock) -> AsyncIterator[Node]:
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
    load = Load(follow=False, half_life_ms=1_800_000, prompt_ppm=Ppm(1_000_000))
    try:
        yield Node(key, ledger, heads, InferenceMarket(ledger, heads, key, load, os.urandom))
    finally:
        await ledger.close()


class Desk:
    """Everybody gets a place at the scripted engine."""

    def __init__(self) -> None:
        self.engine = ScriptedEngine()
        self.price = PRICE
        self.canon: Callable[[], Canon] = Words
        self.known = False
        """Whether its payers are guests."""

    @asynccontextmanager
    async def serve(self, model_digest: Digest, payer: PublicKey) -> AsyncIterator[Terms]:
        yield Terms(self.engine, self.price, self.canon(), self.known)


Bind = Callable[[SigningKey], Awaitable[Endpoint]]


def _in_memory() -> Bind:
    memory = MemoryNetwork(seed=1)

    async def bind(key: SigningKey) -> Endpoint:
        return memory.endpoint(key.public_key)

    return bind


@dataclass
class Mesh:
    """Provider and payer. ``connection`` is the payer's end."""

    provider: Node
    payer: Node
    desk: Desk
    service: Provider
    connection: Connection
    serving: "asyncio.Task[None]"

    def wanted(self, max_tokens: int = 10, **changed: object) -> Wanted:
        fields: dict[str, object] = {
            "network": self.payer.ledger.network,
            "provider": self.provider.key.public_key,
            "payer": self.payer.key.public_key,
            "model_digest": CARD.digest,
            "tokenizer_digest": CARD.tokenizer_digest,
            "prompt": Prompt(PROMPT, TokenCount(len(PROMPT)), True, "", ()),
            "sampling": Sampling(max_tokens=max_tokens, seed=7, temperature=0.5),
            "most": PRICE,
            "request_id": "req-1",
        }
        return Wanted(**(fields | changed))  # type: ignore[arg-type]

    async def asked(self, max_tokens: int = 10, **changed: object) -> Purchase:
        stream = await self.connection.open()
        now = self.payer.ledger.now()
        return await purchase(stream, self.wanted(max_tokens, **changed), Words(), os.urandom, now)

    async def ticket(self, bought: Purchase) -> Ticket:
        wanted = bought._wanted
        order = Order(
            self.payer.payer,
            self.desk.engine,
            wanted.prompt,
            wanted.sampling,
            wanted.sampling.max_tokens,
            wanted.request_id,
            offered=bought.offered,
        )
        return await self.payer.market.begin_inference(order)

    async def begun(self, bought: Purchase) -> MeteredSession:
        ticket = await self.ticket(bought)
        return self.payer.market.execute(ticket, ticket.payer.key, streamed=True)

    async def buy(self, max_tokens: int = 10, take: int | None = None) -> tuple[str, Settlement]:
        """Buy an answer and read it, or only ``take`` chunks of it."""
        bought = await self.asked(max_tokens)
        text = ""
        try:
            async with await self.begun(bought) as session:
                async for chunk in session:
                    text += chunk.text
                    if take is not None and chunk.count >= take:
                        break
            return text, session.settlement
        finally:
            await bought.close()

    async def quiet(self) -> None:
        """Until the provider has ended what it served."""
        async with asyncio.timeout(5):
            while self.service.running or self.provider.ledger.state.claims.open:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def opened_mesh(
    home: Path,
    clock: Clock | None = None,
    *,
    bind: Bind | None = None,
    payer_clock: Clock | None = None,
    **parameters: int,
) -> AsyncIterator[Mesh]:
    """``bind``: an endpoint of another transport than the network in memory. K is ``voucher_tokens``, unless told."""
    clock = clock or SystemClock()
    issuer, provider_key, payer_key = (SigningKey.generate() for _ in range(3))
    network = NetworkFile(
        "tirami/1/network",
        "testnet",
        Parameters(**{"witnesses": 1, "quorum": 1, "stranger_tokens": 64, "voucher_trm": 1_000, **parameters}),
        (Issuer(issuer.public_key.hex()),),
    )
    bind = bind or _in_memory()
    async with (
        opened_node(home / "provider", provider_key, network, clock) as provider,
        opened_node(home / "payer", payer_key, network, payer_clock or clock) as payer,
    ):
        line = a_line(network, issuer, payer_key.public_key, clock.now_ms())
        for node in (provider, payer):
            await node.ledger.book_record(line)[1]
        ends = await bind(provider_key), await bind(payer_key)
        connection = await ends[1].connect(ends[0].address(), 5)
        answered = await ends[0].accept()
        assert answered is not None
        desk = Desk()

        async def booked(admitted: Admitted) -> None:
            provider.booked.append(admitted)

        service = Provider(provider.ledger, provider.heads, provider_key, desk, os.urandom, booked)
        serving = asyncio.create_task(serve(answered, service))
        try:
            yield Mesh(provider, payer, desk, service, connection, serving)
        finally:
            for end in ends:
                await end.close()
            serving.cancel()
            await asyncio.wait([serving])


async def serve(connection: Connection, service: Provider) -> None:
    """What a node does with the streams of a peer that asks."""

    async def one(stream: Stream) -> None:
        ask = await FrameReader(stream, ASKS).read()
        assert isinstance(ask, Ask)
        await service.serve(connection.peer, stream, ask)

    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(one(await connection.accept()))


def a_line(network: NetworkFile, issuer: SigningKey, to: PublicKey, now_ms: int) -> Envelope:
    limit = network.parameters.welcome_limit
    grant = Grant(
        network=network.id,
        issuer=issuer.public_key,
        incarnation=0,
        number=1,
        settled=0,
        to=to,
        limit=limit,
        due_ms=now_ms + 3_600_000,
        period=now_ms // 86_400_000,
        at_ms=now_ms,
    )
    return Envelope("grant", encode(grant), (sign(grant, issuer),), ())


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with opened_mesh(tmp_path) as result:
        yield result
