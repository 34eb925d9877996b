"""The agent of a whole node: whom it serves, what it does by itself, and what it knows after a restart."""

from pathlib import Path

import pytest

from tests.market.scripted import CARD, ScriptedEngine
from tests.node.agent.test_errands import prefer, status, task
from tests.node.nodes import network_file, node
from tests.node.sellers import Market, market
from tests.waiting import until
from tirami.core.errors import AccessError, EngineFailed
from tirami.core.keys import SigningKey
from tirami.core.units import Ppm
from tirami.ledger import PreferencesSet
from tirami.mind import Preferences, StartEarning
from tirami.node.agent import Agent
from tirami.node.membership import Membership
from tirami.node.parts import Parts
from tirami.testing import MemoryNetwork

PROMPT_AND_20 = 21


def agent_of(parts: Parts) -> Agent:
    assert parts.agent is not None
    return parts.agent


async def sells(found: Market, **preferences: object) -> None:
    """The seller's owner says this."""
    default = Preferences()
    given: dict[str, object] = {
        "daily_spend_limit_trm": default.daily_spend_limit_trm,
        "per_task_budget_trm": default.per_task_budget_trm,
        "auto_earn_enabled": True,
        "auto_spend_enabled": True,
        "idle_utilization_threshold": default.idle_utilization_threshold,
        "idle_grace_seconds": default.idle_grace_seconds,
        "min_peer_reputation": default.min_peer_reputation,
        "content_filter": default.content_filter,
    }
    ledger = found.sellers[0].node.parts.ledger
    await ledger.record_facts(PreferencesSet(**given | preferences))  # type: ignore[arg-type]


async def test_whoever_has_too_little_reputation_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        await sells(found, min_peer_reputation=600_000)
        code, reply = await found.ask()
        error: dict[str, object] = reply["error"]  # type: ignore[assignment]
        assert (code, error["code"]) == (503, "peer_refused"), reply
        assert "a reputation of 0.5 is below 0.6" in str(error["message"])
        assert agent_of(found.sellers[0].node.parts).stats.last_action == "reject_serve"
        await sells(found)
        assert (await found.ask())[0] == 200
        assert agent_of(found.sellers[0].node.parts).stats.last_action == "serve"


async def test_an_owner_who_lets_it_earn_nothing_sells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        seller = found.sellers[0].node
        await sells(found, auto_earn_enabled=False)
        assert not seller.mesh.desk.open and seller.mesh.desk.sellable == []
        with pytest.raises(AccessError, match="auto_earn_enabled"):
            async with seller.mesh.desk.serve(CARD.digest, SigningKey.generate().public_key):
                pass
        await until(lambda: not found.ranked())
        await sells(found)
        await until(lambda: found.ranked())
        assert (await found.ask())[0] == 200


async def test_a_node_without_an_agent_serves_whom_it_served(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path, ["seller"])
    async with node(tmp_path / "seller", file, MemoryNetwork(seed=1), **{"agent.enabled": False}) as opened:
        opened.parts.engines.serve(ScriptedEngine(20))
        assert opened.parts.agent is None
        async with opened.mesh.desk.serve(CARD.digest, SigningKey.generate().public_key):
            pass


async def test_what_others_paid_today_was_earned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        seller = agent_of(found.sellers[0].node.parts)
        assert (await found.ask())[0] == 200
        await until(lambda: seller.purse.tally.earned == PROMPT_AND_20)
        assert (await status(found))["earned_today_trm"] == 0


async def test_it_looks_at_what_is_the_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        parts = found.sellers[0].node.parts
        agent = agent_of(parts)
        free = agent.context()
        assert free.utilization == 0 and free.balance > 0
        async with parts.engines.use("scripted", owner=True) as served, served.room.place(b"owner", owner=True):
            busy = agent.context()
            assert (busy.utilization, busy.idle_s) == (1_000_000 // served.room.slots, 0)
        agent.tick()
        assert (agent.stats.ticks, agent.stats.last_action) == (1, "idle")
        assert agent.stats.last_tick_ms


async def test_a_model_that_failed_to_load_is_loaded_again_when_the_node_is_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not in memory is not on offer, so no stranger would ask for it."""
    async with market(tmp_path, monkeypatch, 1) as found:
        parts = found.sellers[0].node.parts
        agent, begun = agent_of(parts), []
        monkeypatch.setattr(parts.engines.pool, "load", begun.append)
        await sells(found, idle_grace_seconds=0)
        agent.tick()
        assert (agent.stats.last_action, begun) == (StartEarning.tag, [])
        monkeypatch.setattr(parts.engines.pool, "failure", lambda _: EngineFailed("no memory"))
        agent.tick()
        assert begun == ["scripted"]


async def test_what_the_owner_set_outlives_the_node(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path, ["one"])
    wanted = Preferences(min_peer_reputation=Ppm(123_456), auto_spend_enabled=False, content_filter="none")
    async with node(tmp_path / "one", file, MemoryNetwork(seed=1)) as opened:
        assert agent_of(opened.parts).purse.preferences == Preferences()
        await agent_of(opened.parts).purse.prefer(wanted)
    async with node(tmp_path / "one", file, MemoryNetwork(seed=1)) as opened:
        assert agent_of(opened.parts).purse.preferences == wanted


async def test_off_the_mesh_everybody_has_the_reputation_of_a_newcomer() -> None:
    assert Membership().reputation(bytes(32)) >= Preferences().min_peer_reputation


async def test_under_the_switch_it_buys_nothing_and_asks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        await prefer(found)
        await found.buyer.parts.ledger.set_kill(True, "test", "nobody")
        for changed in ({}, {"size": "local"}, {"estimated_trm": 10**6}):
            code, reply = await task(found, **changed)
            assert (code, reply["error"]["code"]) == (423, "kill_switch_active")
        assert found.buyer.net == 0 and not found.buyer.parts.ledger.state.holds.open
        agent_of(found.buyer.parts).tick()
        assert found.sellers[0].engine.opened == 0
