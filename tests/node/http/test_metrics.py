"""What a scrape says, against the book; to whom; in which format."""

from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from tests.node.conftest import Door, door, opened_door
from tests.node.trades import book_trades
from tirami.node.http import collector

__all__ = ["door"]
CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 10}
Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scrape(door: Door, token: str | None = None, accept: str = "") -> tuple[str, str]:
    headers = {"accept": accept} | ({"authorization": f"Bearer {token}"} if token else {})
    async with door.http.get(door.url + "/metrics", headers=headers) as reply:
        assert reply.status == 200
        return reply.headers["content-type"], await reply.text()


async def values(door: Door, token: str | None = None) -> Values:
    _, text = await scrape(door, token)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in plain(text) for s in family.samples}


async def test_it_equals_the_book_at_the_time_of_the_scrape(door: Door) -> None:
    account, token = await door.agent()
    for _ in range(3):
        await door.call("POST", CHAT, BODY, token=token)
    await door.call("POST", CHAT, BODY)
    found, network = await values(door), await door.admin("GET", "/v1/tirami/network")
    node = door.parts.key.public_key.hex()
    for key in (account, node):
        balance = await door.admin("GET", f"/v1/tirami/balance?node={key}")
        assert found["tirami_cu_contributed_total", (("node_id", key),)] == balance["contributed"]
        assert found["tirami_cu_consumed_total", (("node_id", key),)] == balance["consumed"]
    assert found["tirami_trade_count_total", ()] == 4
    assert found["tirami_trades_total", (("scope", "network"),)] == network["total_trades"] == 3
    assert found["tirami_trades_total", (("scope", "local"),)] == network["local_trades"] == 1
    assert found["tirami_trade_volume_trm_total", (("scope", "network"),)] == network["trade_volume"]
    assert found["tirami_flop_total", (("scope", "network"),)] == network["total_flop"]
    assert found["tirami_log_size", ()] == network["log_size"]
    assert found["tirami_credit_drawn_trm", ()] == network["credit_outstanding"] == 30
    assert found["tirami_total_minted", ()] == network["minted"]
    assert found["tirami_total_burned", ()] == network["burned"]
    assert found["tirami_answers_total", (("model", "scripted"), ("reason", "length"))] == 4
    trades = (await door.admin("GET", "/v1/tirami/trades"))["trades"]
    assert isinstance(trades, list)
    ratio = sorted(trade["trm_per_gflop"] for trade in trades)[1]
    assert found["tirami_trm_per_gflop_median_24h", ()] == pytest.approx(ratio, abs=1e-6)


async def test_switches_show_at_once(door: Door) -> None:
    assert (await values(door))["tirami_kill_switch_active", ()] == 0
    await door.admin("POST", "/v1/tirami/kill", {"activate": True, "reason": "x", "operator": "y"})
    assert (await values(door))["tirami_kill_switch_active", ()] == 1
    door.parts.ledger.gate.halted = "a test"
    assert (await values(door))["tirami_spending_halted", ()] == 1


async def test_requests_are_counted_by_operation_and_class(door: Door) -> None:
    await door.call("GET", "/status")
    await door.call("GET", "/v1/tirami/trades/nonsense")
    for path in ("/nowhere", "/wp-login.php", "/" + "x" * 2000):
        await door.call("GET", path)
    found = await values(door)
    counted = {labels: value for (name, labels), value in found.items() if name == "tirami_http_requests_total"}
    assert counted == {
        (("operation", "status"), ("status", "2xx")): 1,
        (("operation", "trade"), ("status", "4xx")): 1,
        (("operation", "none"), ("status", "4xx")): 3,
    }


async def test_a_token_of_an_account_sees_totals_and_its_own_key(door: Door) -> None:
    mine, token = await door.agent()
    _, other = await door.agent()
    await door.call("POST", CHAT, BODY, token=other)
    found = await values(door, token)
    keys = {value for _, labels in found for name, value in labels if name == "node_id"}
    assert keys == {mine}
    assert found["tirami_trade_count_total", ()] == 1


async def test_a_key_has_each_series_once(door: Door) -> None:
    """This node is a party of its own trades."""
    assert (await door.call("POST", CHAT, BODY, token=(await door.agent())[1]))[0] == 200
    _, text = await scrape(door)
    for name in ("tirami_reputation", "tirami_cu_contributed_total"):
        lines = [line.partition("}")[0] for line in text.splitlines() if line.startswith(f"{name}{{")]
        assert len(lines) == len(set(lines)) == 2, name


async def test_keys_with_series_are_bounded(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "PEERS", 3)
    busy = ""
    for times in range(1, 6):
        busy, token = await door.agent()
        for _ in range(times):
            await door.call("POST", CHAT, BODY, token=token)
    keys = {dict(labels)["node_id"] for name, labels in await values(door) if name == "tirami_reputation"}
    assert keys >= {busy, door.parts.key.public_key.hex()}
    assert len(keys) <= 4


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5, text/plain;version=0.0.4;q=0.3, */*;q=0.1",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        ("application/openmetrics-text;version=zzz", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (";,;=", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
async def test_both_formats_parse(door: Door, accept: str, media: str) -> None:
    await door.call("POST", CHAT, BODY)
    said, text = await scrape(door, accept=accept)
    assert said == media
    families = list((openmetrics if "openmetrics" in media else plain)(text))
    assert len(families) > 40
    assert "_created" not in text


async def test_a_model_with_an_awkward_name_breaks_nothing(tmp_path: Path) -> None:
    async with opened_door(tmp_path / "home") as door:
        name = 'a"b\\c\nd{},=é'
        door.parts.meter.queued(name, 1.0)
        for parse, accept in ((plain, ""), (openmetrics, "application/openmetrics-text")):
            _, text = await scrape(door, accept=accept)
            found = {s.labels.get("model") for family in parse(text) for s in family.samples}
            assert name in found


async def test_a_large_book_is_told_as_exactly_as_a_small_one(door: Door) -> None:
    trades, payers = 20_000, 500
    await book_trades(door.parts.ledger, door.parts.key.public_key, trades, payers)
    found = await values(door)
    assert found["tirami_trade_count_total", ()] == trades
    assert found["tirami_trade_volume_trm_total", (("scope", "network"),)] == 9 * trades
    assert found["tirami_completion_tokens_total", (("scope", "network"),)] == 9 * trades
    assert found["tirami_network_keys", ()] == payers + 1
    assert found["tirami_log_size", ()] == door.parts.ledger.state.log.size
    assert len({labels for name, labels in found if name == "tirami_reputation"}) == collector.PEERS
    assert found["tirami_trm_per_gflop_median_24h", ()] > 0
