"""Logs and metrics."""

import asyncio
import json
import time
from pathlib import Path

import httpx2
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.processes import NodeProcess
from tests.rows.conftest import Agent, make_agent
from tests.rows.load import crowd, journal_entries
from tests.rows.mesh import eventually
from tests.rows.test_saf import chat
from tirami.api.schemas import TokenRequest
from tirami.ledger import HoldCaptured, HoldOpened
from tirami.testing import RunningEngine

CANARY = "xylophone-7f3a-zebra"


def lines(node: NodeProcess) -> list[dict[str, object]]:
    """Every line of the log: all of them are JSON objects."""
    return [json.loads(line) for line in node.log().splitlines()]


@pytest.mark.row("OBS-07")
def test_one_id_runs_through_http_engine_and_journal(engine: RunningEngine, tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "home", "--upstream", engine.url, "--json") as node:
        agent = make_agent(node)
        for stream in (False, True):
            name = f"trace-{stream}"
            reply = httpx2.post(
                node.url + "/v1/chat/completions",
                json={"messages": [{"role": "user", "content": "hello"}], "max_tokens": 70, "stream": stream},
                headers={"authorization": f"Bearer {agent.token}", "x-tirami-request-id": name},
                trust_env=False,
            )
            assert reply.headers["x-tirami-request-id"] == name
        refused = httpx2.post(
            node.url + "/v1/chat/completions", json={}, headers={"x-tirami-request-id": "bad"}, trust_env=False
        )
        assert refused.json()["error"]["request_id"] == "bad"
        agent.client.close()
        assert node.stop() == 0
    contents = [entry.content for entry in journal_entries(node.data_dir)]
    holds = {content.request_id: content.id for content in contents if isinstance(content, HoldOpened)}
    captured = {content.id: content for content in contents if isinstance(content, HoldCaptured)}
    for name in ("trace-False", "trace-True"):
        told = [line for line in lines(node) if line.get("request_id") == name]
        assert [line["event"] for line in told] == ["generated", "settled", "request"]
        assert told[1]["hold"] == holds[name].hex()
        assert told[1]["trade"] == captured[holds[name]].record_id.hex()
        assert (told[0]["completion_tokens"], told[1]["delivered"]) == (70, 70)
    assert [line["status"] for line in lines(node) if line.get("request_id") == "bad"] == [400]


@pytest.mark.row("OBS-07")
async def test_no_word_of_a_prompt_or_answer_and_no_token_is_in_any_file(engine: RunningEngine, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with NodeProcess(home, "--upstream", engine.url, "--log-level", "debug", "--json") as node:
        agent = make_agent(node)
        prompts = [f"{CANARY} {directive}" for directive in ("", "[[error=500]]", "[[error=400]]", "[[break_after=5]]")]
        async with crowd(node.url) as people:
            asks = [
                people.ask(agent.token, prompt, 30, stream=stream) for prompt in prompts for stream in (True, False)
            ]
            await asyncio.gather(*asks, return_exceptions=True)
            await people.ask(agent.token, CANARY, 5_000)
            await people.ask("wrong-" + CANARY, CANARY, 5)
            body = f'{{"messages": [{{"role": "user", "content": "{CANARY}'.encode()
            async with people.http.post(node.url + "/v1/chat/completions", data=body) as reply:
                assert CANARY not in await reply.text()
            nonsense = {"messages": [{"role": CANARY, "content": 5}], CANARY: CANARY}
            async with people.http.post(node.url + "/v1/chat/completions", json=nonsense) as reply:
                await reply.read()
        admin = (home / "admin.token").read_text().strip()
        found = files_with(home, [CANARY, "lorem ipsum", agent.token, admin])
        assert found == {("admin.token", admin)}
        node.kill()
        assert files_with(home, [CANARY, agent.token]) == set()
        agent.client.close()


def files_with(home: Path, words: list[str]) -> set[tuple[str, str]]:
    return {
        (path.name, word)
        for path in home.rglob("*")
        if path.is_file()
        for word in words
        if word.encode() in path.read_bytes()
    }


@pytest.mark.row("OBS-07")
def test_a_failed_answer_leaves_its_line_too(node: NodeProcess, agent: Agent) -> None:
    reply = httpx2.post(
        node.url + "/v1/chat/completions",
        json={"messages": [{"role": "user", "content": "[[error=500]] x"}]},
        headers={"authorization": f"Bearer {agent.token}", "x-tirami-request-id": "failed-1"},
        trust_env=False,
    )
    assert reply.status_code == 503
    eventually(lambda: '"failed-1"' in node.log())  # a line is written beside the reply
    told = [json.loads(line) for line in node.log().splitlines() if '"failed-1"' in line]
    assert [(line["event"], line["status"]) for line in told] == [("request", 503)]
    assert agent.client.balance().reserved == 0


# --- metrics -----------------------------------------------------------------------------------------------------

LEGACY = [
    "cu_contributed_total",
    "cu_consumed_total",
    "reputation",
    "trade_count_total",
    "active_loan_count",
    "pool_total_trm",
    "pool_reserve_ratio",
    "collusion_tight_cluster_score",
    "collusion_volume_spike_score",
    "collusion_round_robin_score",
    "collusion_trust_penalty",
    "active_proposals",
    "total_votes",
    "total_minted",
    "supply_factor",
    "current_epoch",
    "yield_rate",
    "total_staked",
    "total_burned",
    "referral_bonus_minted",
]
OPENMETRICS = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
Figures = dict[tuple[str, str], float]


def scrape(url: str, token: str | None = None, **headers: str) -> httpx2.Response:
    bearer = {"authorization": f"Bearer {token}"} if token else {}
    return httpx2.get(f"{url}/metrics", headers=bearer | headers, trust_env=False)


def figures(text: str, label: str = "model") -> Figures:
    """(name, value of one label) → value."""
    families = text_string_to_metric_families(text)
    return {(s.name, s.labels.get(label, "")): s.value for family in families for s in family.samples}


@pytest.mark.row("OBS-01")
@pytest.mark.row("API-60", part="formats, names, loans and governance as they are; no collusion detector yet")
def test_a_scrape_parses_in_both_formats_and_keeps_the_names_of_the_original(node: NodeProcess, agent: Agent) -> None:
    agent.client.chat_completions(chat("hello", 9))
    plain, rich = scrape(node.url), scrape(node.url, **OPENMETRICS)
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert rich.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    for families in (list(text_string_to_metric_families(plain.text)), list(parse_openmetrics(rich.text))):
        series = {(s.name, *s.labels.items()) for f in families for s in f.samples if not s.name.endswith("_bucket")}
        assert len(series) >= 30
    typed = {line.split()[2] for line in plain.text.splitlines() if line.startswith("# TYPE")}
    assert typed >= {f"tirami_{name}" for name in LEGACY}
    assert len(LEGACY) == 20
    assert not [name for name in typed if name.startswith("forge_")]
    found = figures(plain.text, "node_id")
    own = figures(agent.client.metrics().decode(), "node_id")
    assert own["tirami_cu_consumed_total", agent.account] == 9
    assert found["tirami_active_proposals", ""] == found["tirami_total_votes", ""] == 0


@pytest.mark.row("OBS-02", part="issued, burned, epoch, yield of the ledger; nobody stakes or refers yet")
def test_tokenomics_are_those_of_the_ledger_at_the_time(node: NodeProcess, agent: Agent) -> None:
    agent.client.chat_completions(chat("hello", 9))
    with node.admin() as admin:
        network, text = admin.network(), admin.metrics().decode()
    found = figures(text, "scope")
    assert found["tirami_total_minted", ""] == network.minted
    assert found["tirami_total_burned", ""] == network.burned
    assert found["tirami_credit_drawn_trm", ""] == network.credit_outstanding
    assert found["tirami_trade_volume_trm_total", "network"] == network.trade_volume
    assert found["tirami_trade_count_total", ""] == network.total_trades + network.local_trades
    assert found["tirami_flop_total", "network"] == network.total_flop
    assert (found["tirami_supply_factor", ""], found["tirami_current_epoch", ""]) == (1, 0)
    assert found["tirami_yield_rate", ""] == 0.001


@pytest.mark.row("GEN-04", part="the median of TRM × 10⁹ ÷ FLOP over 24 hours is a metric")
def test_the_price_of_work_is_a_metric(engine: RunningEngine, tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "home", "--upstream", engine.url) as node, node.client() as owner:
        assert ("tirami_trm_per_gflop_median_24h", "") not in figures(owner.metrics().decode())
        for most in (5, 90, 20):
            owner.chat_completions(chat("hello there", most))
        ratios = sorted(trade.trm_per_gflop for trade in owner.trades().trades)
        told = figures(owner.metrics().decode())["tirami_trm_per_gflop_median_24h", ""]
        assert told == pytest.approx(ratios[1], abs=1e-6)


@pytest.mark.row("OBS-05")
def test_metrics_are_open_on_loopback_and_nowhere_else(engine: RunningEngine, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with NodeProcess(home, "--upstream", engine.url) as node:
        assert scrape(node.url).status_code == 200
        for elsewhere in (
            {"host": "node.example"},
            {"x-forwarded-for": "203.0.113.7"},
            {"origin": "https://a.example"},
        ):
            assert scrape(node.url, **elsewhere).status_code == 401
        with node.admin() as admin:
            token = admin.issue_token(TokenRequest(scope="read_only")).token
        assert node.stop() == 0
    with NodeProcess(home, "--upstream", engine.url, env={"TIRAMI_API_BIND": "0.0.0.0"}) as node:
        assert "//0.0.0.0:" in node.url, "reached under a name that is not the loopback's"
        refused = scrape(node.url)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "missing_token")
        assert "tirami_" not in refused.text
        assert scrape(node.url, "wrong").status_code == 401
        assert scrape(node.url, token).status_code == 200
        assert scrape(node.url.replace("0.0.0.0", "127.0.0.1")).status_code == 200
    with NodeProcess(home, "--upstream", engine.url, env={"TIRAMI_AUTH_LOOPBACK_OWNER": "false"}) as node:
        assert scrape(node.url).status_code == 401
        assert scrape(node.url, token).status_code == 200


@pytest.mark.row("OBS-08")
async def test_what_answers_took_is_measured_once_an_answer(engine: RunningEngine, tmp_path: Path) -> None:
    env = {"TIRAMI_INFER_SLOTS": "1"}
    with NodeProcess(tmp_path / "home", "--upstream", engine.url, env=env) as node:
        agent = make_agent(node)
        began = time.monotonic()
        async with crowd(node.url) as people:
            asks = [people.ask(agent.token, "[[delay_ms=10]] x", 30, stream=stream) for stream in (True, False, True)]
            answers = await asyncio.gather(*asks)
        whole = time.monotonic() - began
        assert [answer.status for answer in answers] == [200] * 3
        found, model = figures(scrape(node.url).text), "tirami-testing"
        for name in ("queue_seconds", "ttft_seconds", "tokens_per_second", "settle_seconds"):
            assert found[f"tirami_{name}_count", model] == 3, name
        assert 0.6 < found["tirami_queue_seconds_sum", model] < 2 * whole, "one waited for one, one for two"
        assert 0.01 < found["tirami_ttft_seconds_sum", model] < whole
        assert 3 < found["tirami_tokens_per_second_sum", model] / 3 < 105, "a token takes 10 ms or more"
        assert 0 < found["tirami_settle_seconds_sum", model] < whole
        assert 0 < found["tirami_engine_tokens_per_second", model] < 105
        agent.client.close()
