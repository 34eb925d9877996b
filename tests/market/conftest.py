"""A ledger, a market and a scripted engine in a temporary directory."""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.market.scripted import ScriptedEngine
from tirami.core.clock import SystemClock
from tirami.core.keys import SigningKey, journal_key, local_user_key
from tirami.core.units import Ppm
from tirami.ledger import NETWORK, AccountCreated, Heads, Ledger, Payer, PolicySet, grant_line
from tirami.market import InferenceMarket, Load
from tirami.proto import NetworkFile

UNLIMITED = (None, None, None)


@dataclass
class House:
    ledger: Ledger
    heads: Heads
    market: InferenceMarket
    engine: ScriptedEngine
    node: SigningKey
    agent: Payer

    async def hosted(self, budgets: tuple[int | None, int | None, int | None] = UNLIMITED) -> Payer:
        key = SigningKey.generate()
        await self.ledger.record_facts(
            AccountCreated(key.public_key, "agent", b""), PolicySet(key.public_key, *budgets)
        )
        granted = grant_line(self.ledger, self.node, key.public_key)
        assert granted is not None
        await granted
        return Payer(key.public_key, key, NETWORK)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    node = SigningKey.generate()
    ledger = Ledger.open(
        tmp_path / "journal.db",
        network=NetworkFile.regtest(node.public_key),
        node=node,
        local_user=local_user_key(node).public_key,
        clock=SystemClock(),
        journal_key=journal_key(node),
    )
    await ledger.start(os.urandom)
    heads = Heads(ledger, node)
    load = Load(follow=False, half_life_ms=1_800_000, prompt_ppm=Ppm(0))
    market = InferenceMarket(ledger, heads, node, load, os.urandom)
    result = House(ledger, heads, market, ScriptedEngine(), node, None)  # type: ignore[arg-type]
    result.agent = await result.hosted()
    yield result
    await ledger.close()
