"""Reading and settling over HTTP: what is wrong is named, old names answer the same, nothing blocks the loop."""

import asyncio
import json
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.ledger.disk import Disk
from tests.node.conftest import Door, door, opened_door
from tirami.api import OPERATIONS
from tirami.api.legacy import FIELDS, SUNSET, legacy_path, one_name
from tirami.core.errors import StorageUnavailable
from tirami.core.keys import SigningKey
from tirami.ledger import grant_line, statements
from tirami.verify import verify_statement

__all__ = ["door"]
T = "/v1/tirami"
HELLO = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 3}


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/settlement?hours=0", "hours"),
        ("/settlement?hours=99999999999999999999", "hours"),
        ("/settlement?since=5&until=4", "since"),
        ("/settlement?window_start=5&until=4", "since"),
        ("/settlement?since=1&window_start=2", None),
        ("/settlement?format=xml", "format"),
        ("/settlement?limit=100001", "limit"),
        ("/settlement?reference_price_per_cu=NaN", "reference_price_per_trm"),
        ("/settlement?reference_price_per_trm=-1", "reference_price_per_trm"),
        ("/settlement?node=zz", "node"),
        (f"{T}/anchor?network=dogecoin", "network"),
        (f"{T}/route?mode=fast", "mode"),
        (f"{T}/route?max_tokens=0", "max_tokens"),
        (f"{T}/route?max_cu=1&max_trm=2", None),
        (f"{T}/usage?days=401", "days"),
    ],
)
async def test_what_is_wrong_is_named(door: Door, path: str, param: str | None) -> None:
    status, reply = await door.call("GET", path)
    assert (status, reply["error"]["code"], reply["error"]["param"]) == (422, "invalid_field", param)


async def test_without_a_model_prices_are_there_and_providers_are_not(door: Door) -> None:
    door.parts.engines.pool._places.clear()
    status, pricing = await door.call("GET", f"{T}/pricing")
    assert (status, pricing["models"], pricing["trm_per_token"]) == (200, [], 1.0)
    assert (await door.call("GET", f"{T}/providers"))[1]["count"] == 0
    for reply in (
        await door.call("GET", f"{T}/route"),
        await door.call("POST", f"{T}/schedule", {"model_id": "scripted", "max_tokens": 1}),
        await door.call("POST", f"{T}/quote", HELLO),
    ):
        assert (reply[0], reply[1]["error"]["code"]) == (503, "no_model")


async def test_an_unknown_model_is_not_found_unless_the_old_dialect_is_spoken(door: Door) -> None:
    body = {"model_id": "gpt-4", "max_tokens": 1}
    status, reply = await door.call("POST", f"{T}/schedule", body)
    assert (status, reply["error"]["code"]) == (404, "model_not_found")
    for path, headers in ((f"{T}/schedule?compat=forge", {}), (f"{T}/schedule", {"x_tirami_compat": "forge"})):
        assert (await door.call("POST", path, body, **headers))[0] == 200
    status, reply = await door.call("GET", f"{T}/route?max_trm=5&max_tokens=6")
    assert (status, reply["error"]["code"], reply["error"]["param"]) == (404, "provider_not_found", "max_trm")


async def test_every_old_path_answers_the_same_and_says_where_to_go(door: Door) -> None:
    """With an id that nothing has, in a body that means nothing: both paths say exactly the same."""
    zero = "00" * 32
    for operation in OPERATIONS:
        old = legacy_path(operation.path)
        if old is None or operation.name in ("create_account", "issue_token", "backup"):
            continue
        body = {} if operation.body is not None else None
        replies = []
        for path in (operation.path, old):
            async with door.http.request(
                operation.method, door.url + path.format(id=zero), json=body,
                headers={"authorization": f"Bearer {door.parts.admin_token}"},
            ) as reply:  # fmt: skip
                content = json.loads(await reply.read())
                content.pop("head", None)
                content.get("error", {}).pop("request_id", None)
                replies.append((reply.status, content))
                says = [reply.headers.get(name) for name in ("deprecation", "sunset", "link")]
                link = f'<{operation.path.format(id=zero)}>; rel="successor-version"'
                assert says == ([None] * 3 if path is operation.path else ["true", SUNSET, link]), operation.name
        assert replies[0] == replies[1], operation.name


async def test_a_token_is_needed_on_old_paths_too(door: Door) -> None:
    status, reply = await door.call("GET", "/v1/forge/accounts")
    assert (status, reply["error"]["code"]) == (403, "insufficient_scope")
    status, reply = await door.call("GET", "/v1/forge/balance", x_forwarded_for="203.0.113.7")
    assert (status, reply["error"]["code"]) == (401, "missing_token")


async def test_budgets_have_two_names_that_may_not_disagree(door: Door) -> None:
    account, _ = await door.agent()
    reply = await door.admin("POST", f"{T}/policy", {"node_id": account, "max_trm_per_hour": 7, "max_cu_lifetime": 9})
    policy = reply["policy"]
    assert (policy["max_cu_per_hour"], policy["max_trm_per_hour"], policy["max_trm_lifetime"]) == (7, 7, 9)
    both = {"node_id": account, "max_trm_per_hour": 7, "max_cu_per_hour": 8}
    status, refused = await door.call("POST", f"{T}/policy", both, token=door.parts.admin_token)
    assert (status, refused["error"]["code"]) == (422, "invalid_field")
    assert door.parts.ledger.gate.policy(bytes.fromhex(account)).per_hour == 7  # type: ignore[union-attr]


def test_one_name_changes_nothing_else() -> None:
    assert one_name("route", {"max_cu": 1, "mode": "cost"}) == {"max_trm": 1, "mode": "cost"}
    assert one_name("route", {"max_cu": 1, "max_trm": 1}) == {"max_trm": 1}
    assert one_name("route", [1]) == [1]
    assert len({(a.operation, a.legacy, a.in_request) for a in FIELDS}) == len(FIELDS)


async def test_a_bound_token_gets_a_statement_of_its_own_trades_only(door: Door) -> None:
    account, token = await door.agent()
    other, other_token = await door.agent()
    for bearer in (token, other_token, None):
        assert (await door.call("POST", "/v1/chat/completions", HELLO, token=bearer))[0] == 200
    async with door.http.get(f"{door.url}/settlement", headers={"authorization": f"Bearer {token}"}) as reply:
        own = verify_statement(await reply.read()).statement
    assert (own.account.hex(), own.trades, own.volume) == (account, 1, 3)
    status, refused = await door.call("GET", f"/settlement?node={other}", token=token)
    assert (status, refused["error"]["code"]) == (403, "insufficient_scope")
    async with door.http.get(f"{door.url}/settlement") as reply:
        whole = await reply.read()
    assert verify_statement(whole).statement.trades == 3
    scopes = {(row["scope"], row["net_trm"], row["net_cu"]) for row in json.loads(whole)["nodes"]}
    assert scopes == {("network", 6, 6), ("network", -3, -3), ("local", 3, 3), ("local", -3, -3)}


async def test_a_long_statement_lets_others_through_and_ends_with_its_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "CHUNK", 1)
    async with opened_door(tmp_path / "home") as door:
        for _ in range(60):
            await door.call("POST", "/v1/chat/completions", HELLO)
        steps: list[float] = []

        async def watch() -> None:
            while True:
                began = time.perf_counter()
                await asyncio.sleep(0)
                steps.append(time.perf_counter() - began)

        watching = asyncio.create_task(watch())
        async with door.http.get(f"{door.url}/settlement") as reply:
            await reply.content.readany()
            assert (await door.call("GET", "/health"))[0] == 200
            data = await reply.read()
        watching.cancel()
        assert len(steps) > 60, "the loop turned between two groups"
        assert len(data) > 1000


async def test_usage_is_the_callers_own_and_counts_what_was_paid(door: Door) -> None:
    account, token = await door.agent()
    for _ in range(2):
        await door.call("POST", "/v1/chat/completions", HELLO, token=token)
    _, mine = await door.call("GET", f"{T}/usage", token=token)
    assert (mine["node_id"], mine["spent"]["requests"], mine["spent"]["trm"]) == (account, 2, 6)
    assert [day["spent"] for day in mine["days"]] == [mine["spent"]]
    node = door.parts.key.public_key.hex()
    assert (await door.call("GET", f"{T}/usage?node={node}", token=token))[0] == 403
    assert (await door.admin("GET", f"{T}/usage?node={node}"))["earned"]["trm"] == 6


async def test_a_ticket_must_look_like_one(door: Door) -> None:
    status, reply = await door.call("POST", "/v1/chat/completions", HELLO, x_tirami_ticket="zz")
    assert (status, reply["error"]["code"], reply["error"]["param"]) == (400, "invalid_request", "x-tirami-ticket")
    status, reply = await door.call("POST", "/v1/chat/completions", HELLO, x_tirami_ticket="00" * 16)
    assert (status, reply["error"]["code"]) == (409, "conflict")


async def test_only_who_may_spend_may_reserve(door: Door) -> None:
    _, token = await door.agent("read_only")
    body = {"model_id": "scripted", "max_tokens": 5}
    assert (await door.call("POST", f"{T}/schedule", body, token=token))[1]["ticket"] is None
    status, reply = await door.call("POST", f"{T}/schedule", {**body, "reserve": True}, token=token)
    assert (status, reply["error"]["code"]) == (403, "insufficient_scope")
    node = door.parts.key.public_key.hex()
    status, reply = await door.call("POST", f"{T}/schedule", {**body, "consumer": node})
    assert (status, reply["error"]["param"]) == (422, "consumer")


@pytest.mark.parametrize("refused", [False, True], ids=["written", "refused"])
@pytest.mark.parametrize("shown", ["log/state", "balance?node="])
async def test_a_reader_waits_for_the_disk_and_sees_what_it_kept(
    door: Door, monkeypatch: pytest.MonkeyPatch, shown: str, refused: bool
) -> None:
    """A record is on its way to the disk when somebody reads: shown once written, never when it was refused."""
    parts, stranger = door.parts, SigningKey.generate().public_key
    path = f"{T}/{shown}{stranger.hex() if shown.endswith('=') else ''}"
    before = await door.call("GET", path, token=parts.admin_token)
    disk = Disk(parts.ledger, monkeypatch)
    disk.hold()
    written = grant_line(parts.ledger, parts.key, stranger)
    assert written is not None
    await disk.writing.wait()
    asked = asyncio.create_task(door.call("GET", path, token=parts.admin_token))
    await asyncio.sleep(0.05)
    assert not asked.done()
    disk.full = refused
    disk.release()
    with suppress(StorageUnavailable):
        await written
    assert (await asked == before) is refused


async def test_a_statement_does_not_sign_for_the_present_moment(door: Door) -> None:
    """A trade of this very millisecond may come after it: the window ends before now, whatever was asked for."""
    for asked in ("", f"?until={2**53 - 1}"):
        async with door.http.get(f"{door.url}/settlement{asked}") as reply:
            statement = verify_statement(await reply.read()).statement
        assert statement.until_ms <= statement.at_ms


async def test_an_account_and_its_line_are_one_group(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(door.parts.ledger, monkeypatch)
    account, _ = await door.agent()
    assert disk.groups == 2, "one for the account with its line, one for its token"
    assert (await door.admin("GET", f"{T}/balance?node={account}"))["credit_limit"] > 0
