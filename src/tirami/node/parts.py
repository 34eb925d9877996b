"""What a node is made of, and the order in which it is put together and taken apart."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tirami.core.clock import Clock
from tirami.core.config import Config
from tirami.core.errors import QueueFull, SpendDenied
from tirami.core.keyfile import NodeKeys
from tirami.core.keys import PublicKey, SigningKey
from tirami.core.keystore import Keystore
from tirami.core.units import Ppm, UnixMs
from tirami.ledger import Heads, Ledger, grant_line, is_issuer
from tirami.market import InferenceMarket, Load
from tirami.node.activity import Activity
from tirami.node.agent import Agent
from tirami.node.alerts import Alert, alerts, clock_ahead, clock_differs
from tirami.node.chat import Chat
from tirami.node.engines import EngineRoom
from tirami.node.home import NETWORK, Home, journal_path
from tirami.node.membership import Membership
from tirami.node.meter import NodeMeter
from tirami.node.payers import Payers
from tirami.node.staging import Staging
from tirami.node.takeover import opened_ledger
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
    engines: EngineRoom
    payers: Payers
    chat: Chat
    meter: NodeMeter
    activity: Activity
    admin_token: str
    started_ms: UnixMs
    staging: Staging
    membership: Membership
    agent: Agent | None

    def alerts(self) -> list[Alert]:
        """What the operator should see to now."""
        membership = self.membership
        clocks = clock_differs(membership.view.clocks_ahead_ms if membership.view else ())
        raised = [*clock_ahead(self.ledger.ahead_ms), *clocks, *self.payers.alerts(), *membership.alarms.values()]
        return alerts(self.config, raised)


@asynccontextmanager
async def open_parts(config: Config, clock: Clock) -> AsyncIterator[Parts]:
    """Everything but engine and HTTP. Raises ``StartError`` with the reason."""
    async with AsyncExitStack() as stack:
        home = Home.open(config.data_dir)
        stack.callback(home.close)
        keys = NodeKeys.of(home.path)
        network, journal = network_of(config, keys.node.public_key), journal_path(config)
        home.check_journal(journal, accept=config.journal.accept_rollback)
        keys, ledger = await opened_ledger(config, keys, network, clock)
        key = keys.node
        stack.push_async_callback(ledger.close)
        keystore = Keystore(keys.seal, config.keystore.passphrase)
        payers = Payers(ledger, keystore, keys)
        await payers.check(accept_locked=config.keystore.accept_locked)
        await ledger.start(os.urandom)
        await payers.unite()
        home.note_journal(journal)
        staging = Staging(home.path)
        staging.clear()
        heads = Heads(ledger, key)
        load = _load(config, ledger)
        meter = NodeMeter()
        market = InferenceMarket(ledger, heads, key, load, os.urandom, meter)
        engines = EngineRoom(config, clock)
        chat, membership = Chat(market, engines, os.urandom, meter), Membership()
        agent = None
        if config.agent.enabled:
            agent = Agent(config.agent, ledger, market, chat, engines, payers, membership)
        await _welcome(ledger, key)
        yield Parts(
            config=config,
            clock=clock,
            home=home,
            key=key,
            key_created=keys.created,
            keystore=keystore,
            ledger=ledger,
            heads=heads,
            load=load,
            market=market,
            engines=engines,
            payers=payers,
            chat=chat,
            meter=meter,
            activity=Activity(ledger),
            admin_token=home.admin_token(),
            started_ms=ledger.now(),
            staging=staging,
            membership=membership,
            agent=agent,
        )


def network_of(config: Config, node: PublicKey) -> NetworkFile:
    """The network the settings name, else that of the data directory's own file. Raises ``NetworkFileError``."""
    if config.network.file:
        return NetworkFile.load(Path(config.network.file).expanduser())
    own = config.data_dir / NETWORK
    return NetworkFile.load(own) if own.exists() else NetworkFile.regtest(node)


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
