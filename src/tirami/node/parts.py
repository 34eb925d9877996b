"""What a node is made of, and the order in which it is put together and taken apart."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tirami.core.clock import Clock
from tirami.core.config import Config
from tirami.core.errors import QueueFull, SpendDenied
from tirami.core.keyfile import load_or_create_node_key
from tirami.core.keys import PublicKey, SigningKey, journal_key, local_user_key
from tirami.core.keystore import Keystore
from tirami.core.units import Ppm, UnixMs
from tirami.ledger import Heads, Ledger, grant_line, is_issuer
from tirami.market import InferenceMarket, Load, WaitingRoom
from tirami.node.chat import Chat
from tirami.node.engines import EngineRoom
from tirami.node.home import Home
from tirami.node.payers import Payers
from tirami.proto import NetworkFile


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
    started_ms: UnixMs


@asynccontextmanager
async def open_parts(config: Config, clock: Clock) -> AsyncIterator[Parts]:
    """Everything but engine and HTTP. Raises ``StartError`` with the reason."""
    async with AsyncExitStack() as stack:
        home = Home.open(config.data_dir)
        stack.callback(home.close)
        key, created = load_or_create_node_key(home.key_path)
        network = _network(config, key.public_key)
        ledger = await asyncio.to_thread(  # re-hashing a large journal takes seconds, and a start can be broken off
            Ledger.open,
            home.journal_path,
            network=network,
            node=key,
            local_user=local_user_key(key).public_key,
            clock=clock,
            journal_key=journal_key(key),
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
            started_ms=ledger.now(),
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
    if not is_issuer(ledger, key.public_key) or ledger.state.settings.head is not None:
        return
    with suppress(QueueFull, SpendDenied):
        granted = grant_line(ledger, key, key.public_key)
        if granted is not None:
            await granted
