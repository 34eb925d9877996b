"""A ledger, a market and a scripted engine in a temporary directory."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from tests.market.scripted import ScriptedEngine
from tirami.core.clock import Clock, SystemClock
from tirami.core.keys import SigningKey, journal_key, local_user_key
from tirami.core.units import Ppm
from tirami.ledger import NETWORK, AccountCreated, Heads, Ledger, Payer, PolicySet, grant_line
from tirami.market import InferenceMarket, Load
from tirami.proto import NetworkFile

UNLIMITED = (None, None, None, None, None)


@dataclass
class House:
    ledger: Ledger
    heads: Heads
    market: InferenceMarket
    engine: ScriptedEngine
    node: SigningKey
    agent: Payer

    async def hosted(self, limits: tuple[int | None, ...] = UNLIMITED, key: SigningKey | None = None) -> Payer:
        """An account with a welcome line; limits not given are off."""
        key = key or SigningKey.generate()
        await self.ledger.record_facts(
            AccountCreated(key.public_key, "agent", b""), PolicySet(key.public_key, *limits, *UNLIMITED[len(limits) :])
        )
        granted = grant_line(self.ledger, self.node, key.public_key)
        if granted is not None:
            await granted
        return Payer(key.public_key, key, NETWORK)


@asynccontextmanager
async def opened_house(
    home: Path,
    *,
    clock: Clock | None = None,
    node: SigningKey | None = None,
    accept_rollback: bool = False,
    **parameters: int,
) -> AsyncIterator[House]:
    """A house under the built-in network with other ``parameters``; an existing ``node`` finds its journal again."""
    node, known = node or SigningKey.generate(), node
    regtest = NetworkFile.regtest(node.public_key)
    ledger = Ledger.open(
        home / "journal.db",
        network=msgspec.structs.replace(regtest, parameters=msgspec.structs.replace(regtest.parameters, **parameters)),
        node=node,
        local_user=local_user_key(node).public_key,
        clock=clock or SystemClock(),
        journal_key=journal_key(node),
        accept_rollback=accept_rollback,
    )
    await ledger.start(os.urandom)
    heads = Heads(ledger, node)
    load = Load(follow=False, half_life_ms=1_800_000, prompt_ppm=Ppm(0))
    market = InferenceMarket(ledger, heads, node, load, os.urandom)
    result = House(ledger, heads, market, ScriptedEngine(), node, None)  # type: ignore[arg-type]
    if known is None:
        result.agent = await result.hosted()
    try:
        yield result
    finally:
        await ledger.close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened_house(tmp_path) as result:
        yield result
