"""The composition root: builds a node from a configuration, runs it, closes it in order."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from tirami.core.clock import Clock, SystemClock
from tirami.core.config import Config
from tirami.core.errors import PublicBindRefused
from tirami.core.keyfile import load_or_create_node_key
from tirami.core.keys import PublicKey, SigningKey, local_user_key
from tirami.core.keystore import Keystore
from tirami.core.units import Ppm
from tirami.ledger import Heads, Ledger, grant_line, is_issuer
from tirami.market import InferenceMarket, Load, WaitingRoom
from tirami.node.chat import Chat
from tirami.node.engines import EngineRoom, Progress
from tirami.node.home import Home
from tirami.node.payers import Payers
from tirami.node.upkeep import Upkeep
from tirami.proto import NetworkFile

_log = structlog.get_logger()
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True, slots=True)
class Parts:
    """What a node is made of, handed to its services."""

    config: Config
    clock: Clock
    home: Home
    key: SigningKey
    key_created: bool
    keystore: Keystore
    ledger: Ledger
    heads: Heads
    load: Load
    market: InferenceMarket
    room: WaitingRoom
    engines: EngineRoom
    payers: Payers
    chat: Chat
    admin_token: str


@asynccontextmanager
async def open_parts(config: Config, clock: Clock) -> AsyncIterator[Parts]:
    """Everything but engine and HTTP. Raises ``StartError`` with the reason."""
    async with AsyncExitStack() as stack:
        home = Home.open(config.data_dir)
        stack.callback(home.close)
        key, created = load_or_create_node_key(home.key_path)
        network = _network(config, key.public_key)
        ledger = Ledger.open(
            home.journal_path,
            network=network,
            node=key,
            local_user=local_user_key(key).public_key,
            clock=clock,
            accept_rollback=config.journal.accept_rollback,
        )
        stack.push_async_callback(ledger.close)
        await ledger.start(os.urandom)
        heads, keystore = Heads(ledger, key), Keystore(key, config.keystore.passphrase)
        payers = Payers(ledger, keystore, key)
        load = _load(config, ledger)
        market = InferenceMarket(ledger, heads, key, load, os.urandom)
        room = WaitingRoom(config.infer.slots, config.infer.queue, clock)
        await _welcome(ledger, key)
        yield Parts(
            config=config,
            clock=clock,
            home=home,
            key=key,
            key_created=created,
            keystore=keystore,
            ledger=ledger,
            heads=heads,
            load=load,
            market=market,
            room=room,
            engines=EngineRoom(config, clock),
            payers=payers,
            chat=Chat(market, room, os.urandom),
            admin_token=home.admin_token(),
        )


def _network(config: Config, node: PublicKey) -> NetworkFile:
    if not config.network.file:
        return NetworkFile.regtest(node)
    return NetworkFile.load(Path(config.network.file).expanduser())


def _load(config: Config, ledger: Ledger) -> Load:
    pricing, settings = config.pricing, ledger.state.settings
    load = Load(
        follow=pricing.follow_load,
        half_life_ms=max(1, pricing.half_life_s * 1000),
        prompt_ppm=Ppm(pricing.prompt_ppm),
    )
    if settings.price is not None:
        load.restore(Ppm(settings.price.demand_ppm), settings.price_ms)
    return load


async def _welcome(ledger: Ledger, key: SigningKey) -> None:
    """An issuer grants itself its line once: the node starts with what the network file gives every newcomer."""
    if is_issuer(ledger, key.public_key) and ledger.state.settings.head is None:
        granted = grant_line(ledger, key, key.public_key)
        if granted is not None:
            await granted


class Node:
    """A running node; :meth:`open` is the only way to one."""

    def __init__(self, parts: Parts, url: str | None) -> None:
        self.parts = parts
        self.url = url
        """Where the API answers; ``None`` for a private node without HTTP."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, config: Config, *, clock: Clock | None = None, progress: Progress | None = None, serve: bool = True
    ) -> AsyncIterator["Node"]:
        """Start a node and stop it on leaving: streams end, holds settle, the journal closes.

        Args:
            progress: called with (bytes done, bytes in all) while a model is fetched.
            serve: whether to answer HTTP.

        Raises:
            StartError: the reason the node does not start. A model that cannot be had is none.
        """
        async with open_parts(config, clock or SystemClock()) as parts, AsyncExitStack() as stack:
            upkeep = asyncio.create_task(
                Upkeep(parts.ledger, parts.heads, parts.load, parts.room, parts.clock).run(), name="upkeep"
            )
            stack.push_async_callback(_ended, upkeep)
            stack.push_async_callback(parts.engines.close)
            url = None
            if serve:
                url = await stack.enter_async_context(_served(parts))
                parts.home.announce(url)
            await parts.engines.start(progress)
            _log.info("node_started", node=parts.key.public_key.hex(), url=url, network=parts.ledger.network.id)
            yield cls(parts, url)
            _log.info("node_stopping")

    @property
    def identity(self) -> PublicKey:
        return self.parts.key.public_key

    @property
    def model_name(self) -> str | None:
        engine = self.parts.engines.engine
        return engine.card.name if engine else None

    @property
    def model_problem(self) -> str | None:
        return self.parts.engines.problem

    async def run_until(self, stop: asyncio.Event) -> None:
        await stop.wait()


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@asynccontextmanager
async def _served(parts: Parts) -> AsyncIterator[str]:
    from tirami.node.http import HttpServer, build_app
    from tirami.node.services import NodeServices

    _check_bind(parts)
    server = HttpServer(build_app(NodeServices(parts)), parts.config.api.bind, parts.config.api.port)
    async with server:
        yield server.url


def _check_bind(parts: Parts) -> None:
    bind = parts.config.api.bind.strip().strip("[]").lower()
    if bind in _LOOPBACK:
        return
    now = parts.ledger.now()
    if all(token.expired(now) for token in parts.ledger.state.settings.tokens.values()):
        raise PublicBindRefused(f"binding to {bind} needs a token first: tirami token issue --scope inference")
