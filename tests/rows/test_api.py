"""Chat, models, balances, trades, network."""

import asyncio
import json
import time
from collections.abc import Callable

import httpx2
import openai
import pytest

from tests.processes import NodeProcess
from tests.rows.conftest import Agent, make_agent
from tests.rows.test_saf import chat
from tirami.api.schemas import BalanceQuery, TradesQuery
from tirami.core.errors import ForeignPayer, InsufficientFunds, InsufficientScope
from tirami.core.keys import SigningKey
from tirami.sdk import AsyncTirami, Tirami
from tirami.testing import RunningEngine

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 9}


@pytest.mark.row("API-01")
def test_the_official_client_chats_and_streams_and_is_told_the_cost(node: NodeProcess, agent: Agent) -> None:
    with openai.OpenAI(base_url=f"{node.url}/v1", api_key=agent.token, max_retries=0) as client:
        model = client.models.list().data[0].id
        whole = client.chat.completions.create(model=model, **HELLO)  # type: ignore[call-overload]
        assert whole.model_extra["x_tirami"]["trm_cost"] == whole.usage.completion_tokens == 9
        stream = client.chat.completions.create(model=model, stream=True, **HELLO)  # type: ignore[call-overload]
        chunks = list(stream)
    assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) == 9
    assert [hasattr(chunk, "x_tirami") for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].x_tirami["trm_cost"] == 9
    assert chunks[-1].choices[0].finish_reason == "length"


@pytest.mark.row("API-01")
@pytest.mark.parametrize("stream", [False, True])
def test_json_needs_no_content_type_and_the_old_name_of_the_cost_is_there_for_who_asks(
    node: NodeProcess, agent: Agent, stream: bool
) -> None:
    headers = {"authorization": f"Bearer {agent.token}"}
    data = json.dumps({**HELLO, "stream": stream}).encode()
    plain = httpx2.post(node.url + CHAT, content=data, headers=headers, trust_env=False)
    forge = httpx2.post(node.url + CHAT, content=data, headers={**headers, "x-tirami-compat": "forge"}, trust_env=False)
    assert (plain.status_code, forge.status_code) == (200, 200)
    assert "x_tirami" in plain.text and "x_forge" not in plain.text
    assert '"cu_cost":9' in forge.text.replace(": ", ":") and "x_tirami" in forge.text


@pytest.mark.row("API-01")
def test_an_answer_that_breaks_off_says_so_and_what_it_cost_in_its_last_chunk(node: NodeProcess, agent: Agent) -> None:
    """The upstream's connection breaks after 70 tokens; those were delivered and are paid for."""
    with httpx2.stream(
        "POST",
        node.url + CHAT,
        json={
            "messages": [{"role": "user", "content": "[[break_after=70 delay_ms=3]] x"}],
            "stream": True,
            "max_tokens": 100,
        },
        headers={"authorization": f"Bearer {agent.token}"},
        trust_env=False,
    ) as reply:
        events = [line[6:] for line in reply.iter_lines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["error"]["code"] == "engine_failed"
    last = json.loads(events[-3])
    pieces = sum('"content":' in event for event in events) - 1
    assert last["choices"][0]["finish_reason"] == "provider_failed"
    assert last["x_tirami"]["trm_cost"] == pieces
    assert 60 <= pieces <= 70, "what was still on the wire when it broke was neither delivered nor paid"
    assert agent.client.trades().trades[0].id == last["x_tirami"]["trade_id"]


@pytest.mark.row("API-03")
def test_a_header_bills_nobody_but_the_tokens_own_account(node: NodeProcess, agent: Agent) -> None:
    other = make_agent(node)
    stranger = SigningKey.generate().public_key.hex()

    def ask(token: str | None, account: str) -> httpx2.Response:
        headers = {"x-tirami-node-id": account} | ({"authorization": f"Bearer {token}"} if token else {})
        return httpx2.post(node.url + CHAT, json=HELLO, headers=headers, trust_env=False)

    for token, account in ((agent.token, other.account), (agent.token, stranger), (None, other.account)):
        refused = ask(token, account)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, ForeignPayer.code)
        assert refused.headers["x-should-retry"] == "false"
    assert ask(agent.token, agent.account).status_code == 200
    assert (agent.client.balance().consumed, other.client.balance().consumed) == (9, 0)
    other.client.close()


@pytest.mark.row("API-03")
def test_who_cannot_pay_is_refused_before_the_engine_starts(
    node: NodeProcess, engine: RunningEngine, agent: Agent
) -> None:
    asked = engine.asked()
    with pytest.raises(InsufficientFunds) as caught:
        agent.client.chat_completions(chat("x", 1001))
    assert caught.value.data == {"needed": 1001, "available": 1000}
    assert engine.asked() == asked
    assert agent.client.balance().reserved == 0


@pytest.mark.row("API-04")
@pytest.mark.parametrize("stream", [False, True])
def test_nine_tokens_leave_the_payer_991_and_tell_it_nothing_of_the_provider(
    node: NodeProcess, agent: Agent, stream: bool
) -> None:
    body, headers = {**HELLO, "stream": stream}, {"authorization": f"Bearer {agent.token}"}
    text = httpx2.post(node.url + CHAT, json=body, headers=headers, trust_env=False).text
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith(("{", "data: {"))]
    paid = json.loads(events[-1])["x_tirami"]
    assert (paid["trm_cost"], paid["effective_balance"]) == (9, 991)
    assert paid["provider_effective_balance"] is None
    with node.admin() as admin:
        provider = admin.balance(BalanceQuery(node=admin.status().node_id)).effective_balance
    assert f'effective_balance":{provider}' not in text.replace(" ", "")


@pytest.mark.row("API-04")
def test_the_owner_who_is_both_sides_sees_both_totals(node: NodeProcess) -> None:
    with node.client() as owner:
        paid = owner.chat_completions(chat("x", 9)).x_tirami
        assert paid.effective_balance == -(paid.provider_effective_balance or 0) < 0


@pytest.mark.row("API-05")
def test_a_token_sees_its_own_balance_and_pages_through_its_history(node: NodeProcess, agent: Agent) -> None:
    other = make_agent(node)
    paid = [agent.client.chat_completions(chat("x", n)).x_tirami.trade_id for n in range(1, 8)][::-1]
    balance = agent.client.balance()
    assert (balance.node_id, balance.consumed, balance.trade_count) == (agent.account, 28, 7)
    assert (balance.credit_limit, balance.credit_drawn, balance.effective_balance) == (1000, 28, 972)
    found, cursor = [], None
    while True:
        page = agent.client.balance(BalanceQuery(limit=3, cursor=cursor))
        found += [trade.id for trade in page.history]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == paid
    with pytest.raises(InsufficientScope):
        agent.client.balance(BalanceQuery(node=other.account))
    with node.admin() as admin:
        assert admin.balance(BalanceQuery(node=agent.account)).consumed == 28
    other.client.close()


@pytest.mark.row("API-07")
def test_trades_are_paged_filtered_signed_and_proved(node: NodeProcess, agent: Agent) -> None:
    paid = [agent.client.chat_completions(chat("x", 2)).x_tirami.trade_id for _ in range(5)][::-1]
    first = agent.client.trades(TradesQuery(limit=3, signatures=True))
    second = agent.client.trades(TradesQuery(limit=3, cursor=first.next_cursor))
    assert [trade.id for trade in (*first.trades, *second.trades)] == paid
    assert (first.count, second.count, second.next_cursor) == (3, 2, None)
    assert all(len(trade.signatures or ()) == 2 for trade in first.trades)
    middle = first.trades[2]
    later = agent.client.trades(TradesQuery(since=middle.timestamp + 1)).trades
    earlier = agent.client.trades(TradesQuery(until=middle.timestamp)).trades
    assert middle.id not in [trade.id for trade in (*later, *earlier)]
    assert agent.client.trades(TradesQuery(model="0" * 64)).count == 0
    assert agent.client.trades(TradesQuery(model=middle.model_id, scope="network")).count == 5
    assert agent.client.trades(TradesQuery(scope="local")).count == 0
    assert agent.client.trade_proof(middle.id).leaf_index == middle.leaf_index


@pytest.mark.alone("its times are figures")
@pytest.mark.row("API-08")
async def test_the_networks_totals_cost_the_same_however_long_the_history(
    node: NodeProcess, agent: Agent, record_property: Callable[[str, object], None]
) -> None:
    """Constant work by construction (running sums, remembered root); the times are printed, not asserted."""
    client = agent.client
    before, few = client.network(), timed(client)

    async def owner() -> None:
        async with AsyncTirami(node.url) as mine:
            for _ in range(50):
                await mine.chat_completions(chat("x", 1))

    await asyncio.gather(*(owner() for _ in range(8)))
    after, many = client.network(), timed(client)
    assert after.local_trades == before.local_trades + 400
    assert after.merkle_root == client.log_head().root
    assert after.log_size == client.log_head().size
    assert after.total_contributed_cu == after.total_contributed_trm == after.trade_volume
    assert after.sum_of_accounts == 0
    record_property("figure", f"{few:.2f} ms at {before.log_size} records, {many:.2f} ms at {after.log_size}")


def timed(client: Tirami) -> float:
    """Milliseconds, the least of ten calls."""
    least = 1e9
    for _ in range(10):
        began = time.perf_counter()
        client.network()
        least = min(least, (time.perf_counter() - began) * 1000)
    return least
