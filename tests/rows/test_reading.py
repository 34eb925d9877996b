"""Reading and settling, from outside: prices that move, statements that prove themselves, old names, no promises."""

import csv
import io
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from tools import aliases

from tests.processes import NodeProcess
from tests.rows.conftest import Agent
from tests.rows.test_saf import chat
from tirami.api import OPERATIONS
from tirami.api.legacy import FIELDS
from tirami.api.legal import DISCLAIMER
from tirami.api.schemas import (
    AnchorQuery,
    BalanceQuery,
    KillRequest,
    PolicyRequest,
    QuoteRequest,
    RouteQuery,
    SafetyQuery,
    ScheduleRequest,
    SettlementQuery,
    TradesQuery,
    UsageQuery,
)
from tirami.core.errors import (
    EngineFailed,
    InsufficientFunds,
    InvalidStatement,
    KillSwitchActive,
    ModelNotFound,
    NoModel,
)
from tirami.core.keys import PublicKey
from tirami.testing import RunningEngine
from tirami.verify import leaf_hash, verify_inclusion, verify_statement

ROOT = Path(__file__).resolve().parents[2]
HALF_LIFE_S = 6
LEGACY_PRICING = {
    "trm_per_token", "supply_factor", "demand_factor", "cu_purchasing_power", "deflation_factor", "total_trades_ever",
    "estimated_cost_100_tokens", "estimated_cost_1000_tokens",
}  # fmt: skip


def raw(node: NodeProcess, path: str, token: str | None = None) -> httpx2.Response:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx2.get(node.url + path, headers=headers, trust_env=False)


# --- prices ------------------------------------------------------------------------------------------------------


@pytest.mark.row("API-06")
def test_pricing_has_every_old_name_and_quotes_what_is_then_charged(node: NodeProcess, agent: Agent) -> None:
    reply = raw(node, "/v1/tirami/pricing").json()
    assert reply.keys() >= LEGACY_PRICING
    assert (reply["estimated_cost_100_tokens"], reply["estimated_cost_1000_tokens"]) == (100, 1000)
    assert (reply["deflation_factor"], reply["supply_factor"]) == (1.0, 1.0)
    before = reply["total_trades_ever"]
    [model] = [entry for entry in agent.client.models().data]
    assert [(m["id"], m["price_out_utrm"]) for m in reply["models"]] == [(model.id, model.price_out_utrm)]
    quote = agent.client.quote(QuoteRequest.model_validate(chat("hello", 9).model_dump(exclude_unset=True)))
    assert (quote.ceiling_trm, quote.admitted, quote.payer) == (9, True, agent.account)
    assert agent.client.balance().reserved == 0
    assert agent.client.chat_completions(chat("hello", 9)).x_tirami.trm_cost == quote.ceiling_trm
    dear = agent.client.quote(QuoteRequest.model_validate(chat("hello", 1001).model_dump(exclude_unset=True)))
    assert not dear.admitted and dear.refusal is not None
    assert (dear.refusal.code, dear.refusal.status) == ("insufficient_funds", 402)
    assert agent.client.pricing().total_trades_ever == before + 1


@pytest.mark.alone("within a half-life")
@pytest.mark.row("L1-07")
def test_doubling_the_queue_raises_the_price_within_one_half_life(engine: RunningEngine, tmp_path: Path) -> None:
    """Two places. Two, then four slow requests: the price goes at least half the way up within one half-life."""
    env = {
        "TIRAMI_INFER_SLOTS": "2",
        "TIRAMI_PRICING_HALF_LIFE_S": str(HALF_LIFE_S),
        "TIRAMI_PRICING_PROMPT_PPM": "0",
        "TIRAMI_API_RATE_PER_SECOND": "9999",
    }
    with NodeProcess(tmp_path / "home", "--upstream", engine.url, env=env) as node, ThreadPoolExecutor(4) as pool:

        def ask(_: int) -> None:
            with node.client() as client, suppress(EngineFailed):  # cut short when all was seen
                client.chat_completions(chat(f"[[delay_ms=100]] {time.time()}", 10 * 5 * HALF_LIFE_S // 2))

        with node.client() as client:
            running = [pool.submit(ask, n) for n in range(2)]
            time.sleep(HALF_LIFE_S / 2)
            before = client.pricing()
            assert before.raw_demand_factor == 1.0
            running += [pool.submit(ask, n) for n in range(2)]
            deadline = time.monotonic() + HALF_LIFE_S
            while (now := client.pricing()).raw_demand_factor != 2.0:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            doubled = time.monotonic()
            halfway = before.trm_per_token + (2.0 - before.trm_per_token) / 2
            while now.trm_per_token < halfway:
                assert time.monotonic() - doubled < HALF_LIFE_S + 1.5, (before, now)
                time.sleep(0.1)
                now = client.pricing()
            assert now.estimated_cost_1000_tokens > before.estimated_cost_1000_tokens
            low, high = now.bounds.demand_factor
            assert (low, high, now.bounds.supply_factor) == (0.5, 3.0, (0.5, 2.0))
            assert low <= now.demand_factor <= high
        assert node.stop() == 0
        for task in running:
            task.result()


# --- who serves --------------------------------------------------------------------------------------------------


@pytest.mark.row("API-14")
def test_a_lone_node_schedules_itself_and_a_ticket_keeps_funds_for_one_call(node: NodeProcess, agent: Agent) -> None:
    client, name = agent.client, agent.client.models().data[0].id
    with node.admin() as admin:
        identity = admin.status().node_id
    found = client.schedule(ScheduleRequest(model_id=name, max_tokens=100))
    assert (found.provider, found.estimated_trm_cost, found.local, found.ticket) == (identity, 100, True, None)
    for mode in ("cost", "balanced", "quality"):
        route = client.route(RouteQuery(model=name, mode=mode))
        assert (route.provider, route.estimated_trm) == (identity, 1000)
    assert [entry.node_id for entry in client.providers().providers] == [identity]
    with pytest.raises(ModelNotFound):
        client.schedule(ScheduleRequest(model_id="gpt-4", max_tokens=100))
    ticket = client.schedule(ScheduleRequest(model_id=name, max_tokens=450, reserve=True)).ticket
    assert ticket is not None and client.balance().reserved == ticket.held_trm == 450
    other = client.schedule(ScheduleRequest(model_id=name, max_tokens=450, reserve=True)).ticket
    assert other is not None
    with pytest.raises(InsufficientFunds):
        client.chat_completions(chat("x", 200))
    headers = {"authorization": f"Bearer {agent.token}", "x-tirami-ticket": ticket.id}
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 200}
    used = [
        httpx2.post(f"{node.url}/v1/chat/completions", json=body, headers=headers, trust_env=False) for _ in range(2)
    ]
    assert [reply.status_code for reply in used] == [200, 409]
    assert used[0].json()["x_tirami"]["trm_cost"] == 200
    balance = client.balance()
    assert (balance.reserved, balance.effective_balance) == (450, 350)


@pytest.mark.row("API-14")
def test_nobody_serves_where_there_is_no_model_and_nothing_is_reserved_while_frozen(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "home", "--no-model") as node, node.admin() as admin:
        assert admin.providers().count == 0
        with pytest.raises(NoModel):
            admin.schedule(ScheduleRequest(model_id="any", max_tokens=1))


# --- settlement --------------------------------------------------------------------------------------------------


@pytest.mark.row("API-12")
def test_a_statement_is_signed_and_its_root_is_over_exactly_its_trades(node: NodeProcess, agent: Agent) -> None:
    for count in (2, 3, 4):
        agent.client.chat_completions(chat("x", count))
    with node.admin() as admin:
        identity = PublicKey(bytes.fromhex(admin.status().node_id))
        whole = admin.settlement(SettlementQuery(node=agent.account))
    document = json.loads(whole)
    verified = verify_statement(whole, frozenset({identity}))
    assert (verified.statement.trades, verified.statement.volume) == (3, 9)
    middle = document["trades"][1]
    window = SettlementQuery(since=middle["booked_at"], until=middle["booked_at"] + 1)
    part = json.loads(agent.client.settlement(window))
    assert [trade["id"] for trade in part["trades"]] == [middle["id"]]
    assert part["merkle_root"] != document["merkle_root"] != agent.client.log_head().root
    sums = ("gross_earned_cu", "gross_spent_cu", "net_cu")
    nodes = {row["node_id"]: tuple(row[name] for name in sums) for row in document["nodes"]}
    assert nodes == {identity.hex(): (9, 0, 9), agent.account: (0, 9, -9)}
    table = agent.client.settlement(SettlementQuery(format="csv"))
    rows = list(csv.DictReader(io.StringIO(table.decode(), newline="")))
    assert [row["id"] for row in rows[:-1]] == [trade["id"] for trade in document["trades"]]
    assert verify_statement(table).statement.root.hex() == document["merkle_root"]
    for at in range(0, len(table), max(1, len(table) // 40)):
        forged = table[:at] + bytes([table[at] ^ 1]) + table[at + 1 :]
        with pytest.raises(InvalidStatement):
            verify_statement(forged)


@pytest.mark.row("CLI-11", part="statement, --hours, CSV, verify; --pay comes with Lightning")
def test_settle_writes_a_file_that_verifies_offline(node: NodeProcess, agent: Agent, tmp_path: Path) -> None:
    agent.client.chat_completions(chat("x", 5))
    for name, options in (("s.json", []), ("s.csv", ["--csv"])):
        file = tmp_path / name
        settle = ["settle", "--hours", "1", "--out", str(file), "--data-dir", str(node.data_dir), *options]
        assert tirami(*settle).returncode == 0
        checked = tirami("settle", "--verify", str(file), "--json", home=tmp_path)
        assert checked.returncode == 0 and json.loads(checked.stdout)["trades"] >= 1
        data = file.read_bytes()
        file.write_bytes(data.replace(agent.account.encode(), b"0" * 64))
        assert tirami("settle", "--verify", str(file), home=tmp_path).returncode == 3


def tirami(*arguments: str, home: Path | None = None) -> "subprocess.CompletedProcess[str]":
    env = None if home is None else {"HOME": str(home), "PATH": "/nonexistent", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "tirami.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False)


@pytest.mark.row("API-61")
@pytest.mark.parametrize(
    ("network", "byte", "name"),
    [(None, 1, "Testnet"), ("mainnet", 0, "Bitcoin"), ("SIGNET", 2, "Signet"), ("regtest", 3, "Regtest")],
)
def test_the_anchor_is_forty_bytes_over_the_signed_root(
    node: NodeProcess, network: str | None, byte: int, name: str
) -> None:
    reply = raw(node, "/v1/tirami/anchor" + (f"?network={network}" if network else "")).json()
    assert reply["payload_hex"] == f"46524745010{byte}0000" + reply["merkle_root_hex"]
    assert reply["script_hex"] == "6a28" + reply["payload_hex"]
    assert (reply["network"], reply["payload_len"]) == (name, 40)
    with node.client() as client:
        assert client.log_head().root == reply["merkle_root_hex"] == reply["head"]["root"]
        assert client.anchor(AnchorQuery(network="testnet")).head.size == reply["head"]["size"]
    assert raw(node, "/v1/tirami/anchor?network=dogecoin").status_code == 422


# --- supply, usage, trades ---------------------------------------------------------------------------------------


@pytest.mark.row("API-20")
def test_supply_at_genesis_whatever_was_traded(node: NodeProcess, agent: Agent) -> None:
    agent.client.chat_completions(chat("x", 9))
    reply = raw(node, "/v1/tirami/su/supply").json()
    assert reply | {
        "total_supply": 21_000_000_000, "total_minted": 0, "total_burned": 0, "circulating": 0, "supply_factor": 1.0,
        "current_epoch": 0, "yield_rate": 0.001, "epoch_yield_rate": 0.001, "effective_mint_rate": 1.0,
        "transaction_fee_active": False,
    } == reply  # fmt: skip


@pytest.mark.row("CLI-09")
def test_su_supply_prints_the_pages_block(node: NodeProcess) -> None:
    ended = tirami("su", "supply", "--data-dir", str(node.data_dir))
    assert ended.stdout == (
        "  Total Supply Cap:    21,000,000,000 TRM\n"
        "  Total Minted:        0\n"
        "  Supply Factor:       1.0 (genesis)\n"
        "  Current Epoch:       0\n"
        "  Yield Rate:          0.001/hr\n"
    )


@pytest.mark.row("API-07")
def test_trades_come_with_proofs_to_one_head_on_request(node: NodeProcess, agent: Agent) -> None:
    for _ in range(3):
        agent.client.chat_completions(chat("x", 2))
    page = agent.client.trades(TradesQuery(proofs=True, limit=2))
    assert page.head is not None
    with node.admin() as admin:
        rows = {row["id"]: row for row in json.loads(admin.settlement(SettlementQuery(node=agent.account)))["trades"]}
    for trade in page.trades:
        row = rows[trade.id]
        leaf = bytes.fromhex(row["body"] + row["payer_signature"] + row["provider_signature"])
        path = [bytes.fromhex(step) for step in trade.proof or ()]
        verify_inclusion(leaf_hash(leaf), trade.leaf_index, page.head.size, path, bytes.fromhex(page.head.root))
    assert agent.client.trades(TradesQuery(limit=1)).trades[0].proof is None


def test_usage_by_day_is_what_was_paid_also_after_a_restart(engine: RunningEngine, tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "home", "--upstream", engine.url, env={"TIRAMI_PRICING_PROMPT_PPM": "0"}) as node:
        with node.client() as owner:
            paid = [owner.chat_completions(chat("x", n)).x_tirami for n in (3, 5)]
            before = owner.usage()
            node.kill()
            node.start()
        with node.client() as owner:
            after = owner.usage(UsageQuery(days=1))
    assert before.spent == after.spent
    assert (after.spent.requests, after.spent.trm) == (2, sum(answer.trm_cost for answer in paid))
    assert after.spent.flop == sum(answer.flop for answer in paid)


# --- names -------------------------------------------------------------------------------------------------------


@pytest.mark.row("API-63")
def test_the_paths_of_the_page_answer_and_say_that_they_will_go(node: NodeProcess) -> None:
    for path in ("balance", "anchor?network=mainnet", "trades", "network", "pricing", "su/supply"):
        old, new = raw(node, f"/v1/forge/{path}"), raw(node, f"/v1/tirami/{path}")
        assert old.status_code == new.status_code == 200
        assert {**old.json(), "head": None} == {**new.json(), "head": None}
        assert old.headers["deprecation"] == "true" and "GMT" in old.headers["sunset"]
        assert old.headers["link"] == f'</v1/tirami/{path.partition("?")[0]}>; rel="successor-version"'
        assert "deprecation" not in new.headers


@pytest.mark.row("GEN-03")
def test_every_name_with_cu_has_a_twin_with_trm_in_one_table(node: NodeProcess, agent: Agent) -> None:
    assert (ROOT / "docs" / "aliases.md").read_text() == aliases.markdown()
    agent.client.chat_completions(chat("x", 3))
    with node.admin() as admin:
        admin.set_policy(PolicyRequest(node_id=agent.account, max_cu_per_hour=77))
        answers: dict[str, object] = {
            "network": raw(node, "/v1/tirami/network").json(),
            "pricing": raw(node, "/v1/tirami/pricing").json(),
            "providers": raw(node, "/v1/tirami/providers").json(),
            "route": raw(node, "/v1/tirami/route").json(),
            "settlement": json.loads(admin.settlement(SettlementQuery(reference_price_per_trm=2))),
            "safety": admin.safety(SafetyQuery(node=agent.account)).model_dump(),
            "balance": admin.balance(BalanceQuery(node=agent.account)).model_dump(),
        }
    twins = {(alias.operation, alias.legacy): alias.name for alias in FIELDS if not alias.in_request}
    found = set()
    for operation, answer in answers.items():
        for holder in objects(answer):
            for legacy in [name for name in holder if "cu" in name.split("_")]:
                assert holder[twins[operation, legacy]] == holder[legacy]
                found.add((operation, legacy))
    elsewhere = {"peers"}  # of two nodes: tests/rows/test_mesh.py
    assert found == {key for key in twins if "cu" in key[1].split("_") and key[0] not in elsewhere}
    assert raw(node, "/v1/tirami/route?max_cu=1").json()["error"]["code"] == "provider_not_found"


def objects(value: object) -> list[dict[str, object]]:
    if isinstance(value, dict):
        return [value, *(found for item in value.values() for found in objects(item))]
    return [found for item in value for found in objects(item)] if isinstance(value, list) else []


@pytest.mark.row("GEN-22")
def test_one_disclaimer_everywhere(node: NodeProcess, tmp_path: Path) -> None:
    manifest = raw(node, "/.well-known/tirami-agent.json").json()
    served = raw(node, manifest["policy"]["disclaimer_url"])
    assert served.status_code == 200 and served.headers["content-type"].startswith("text/plain")
    printed = tirami("legal", home=tmp_path).stdout
    for text in (
        (ROOT / "README.md").read_text(), (ROOT / "SECURITY.md").read_text(), printed, served.text,
        manifest["policy"]["disclaimer"],
    ):  # fmt: skip
        assert DISCLAIMER in " ".join(text.split())
    stance = manifest["maintainer_stance"]
    assert not any(stance[name] for name in ("exchange_listed", "ico_or_presale", "team_treasury"))


@pytest.mark.row("GEN-05", part="stated as a thesis; the energy metric comes with OBS-09")
def test_the_thesis_is_called_one() -> None:
    assert "thesis" in (ROOT / "README.md").read_text()


@pytest.mark.row("BEY-01")
def test_the_protocol_names_its_versions_and_features_and_the_manifest_its_actions(node: NodeProcess) -> None:
    reply = raw(node, "/v1/tirami/protocol").json()
    assert reply["min_protocol_version"] <= 1 <= reply["protocol_version"]
    assert reply["features"] == sorted(set(reply["features"])) and "trade:dual-signature" in reply["features"]
    with node.client() as client:
        assert reply["features"] == sorted(client.status().protocol_features)
        assert reply["network_hash"] == client.network().network_hash
    manifest = httpx2.get(f"{node.url}/.well-known/tirami-agent.json", headers={"x-forwarded-for": "203.0.113.9"},
                          trust_env=False).json()  # fmt: skip
    assert {action["name"]: action["endpoint"] for action in manifest["actions"]} == {
        operation.name: operation.path for operation in OPERATIONS
    }
    assert (manifest["currency"]["supply_cap"], manifest["currency"]["anchor_flops_per_unit"]) == (21 * 10**9, 10**9)


@pytest.mark.row("API-14")
def test_a_frozen_node_reserves_nothing(engine: RunningEngine, tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "home", "--upstream", engine.url) as node, node.admin() as admin:
        admin.kill(KillRequest(activate=True))
        with pytest.raises(KillSwitchActive):
            admin.schedule(ScheduleRequest(model_id="default", max_tokens=5, reserve=True))
        assert admin.schedule(ScheduleRequest(model_id="default", max_tokens=5)).estimated_trm_cost > 0
