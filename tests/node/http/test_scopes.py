"""Every route × every kind of caller: default deny."""

import pytest

from tests.node.conftest import Door, door
from tirami.api import OPERATIONS, Operation, Scope

__all__ = ["door"]
SCOPES = [Scope.READ_ONLY, Scope.INFERENCE, Scope.ECONOMY, Scope.ADMIN]


def path_of(operation: Operation) -> str:
    return operation.path.format(id="00" * 32, model="scripted")


async def ask(door: Door, operation: Operation, token: str | None, **headers: str) -> tuple[int, str]:
    body = {} if operation.body is not None else None
    sent = {k.replace("_", "-"): v for k, v in headers.items()}
    if token is not None:
        sent["authorization"] = f"Bearer {token}"
    async with door.http.request(operation.method, door.url + path_of(operation), json=body, headers=sent) as reply:
        content = await reply.json(content_type=None) if reply.status >= 400 and operation.name != "readyz" else {}
        return reply.status, str(content.get("error", {}).get("code", ""))


async def test_route_by_scope(door: Door) -> None:
    tokens = {}
    for scope in SCOPES:
        issued = await door.admin("POST", "/v1/tirami/tokens/issue", {"scope": scope.wire})
        tokens[scope] = str(issued["token"])
    for operation in OPERATIONS:
        for scope, token in tokens.items():
            status, code = await ask(door, operation, token)
            allowed = scope >= operation.scope
            assert (code != "insufficient_scope") == allowed, (operation.name, scope, status, code)
            assert status != 401


async def test_without_a_token_from_elsewhere_only_public_routes_answer(door: Door) -> None:
    for operation in OPERATIONS:
        status, code = await ask(door, operation, None, x_forwarded_for="203.0.113.7")
        if operation.scope is Scope.PUBLIC:
            assert status in (200, 503), operation.name
        else:
            assert (status, code) == (401, "missing_token"), operation.name


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"origin": "https://evil.example"},
        {"sec_fetch_site": "cross-site"},
        {"x_forwarded_for": "127.0.0.1"},
        {"forwarded": "for=127.0.0.1"},
        {"host": "localhost.evil.example:3000"},
    ],
)
async def test_the_loopback_rule(door: Door, headers: dict[str, str]) -> None:
    for bearer in (None, "local"):
        status, _ = await door.call("GET", "/v1/tirami/balance", token=bearer)
        assert status == 200
        status, reply = await door.call("GET", "/v1/tirami/balance", token=bearer, **headers)
        assert (status, reply["error"]["code"]) in ((401, "missing_token"), (401, "invalid_token"))


async def test_wrong_tokens_never_lock_out_good_ones(door: Door) -> None:
    codes = [(await door.call("GET", "/status", token=f"wrong{i}"))[1]["error"]["code"] for i in range(60)]
    assert set(codes) == {"invalid_token", "rate_limited"}
    assert (await door.call("GET", "/status", token=door.parts.admin_token))[0] == 200
    assert (await door.call("GET", "/status"))[0] == 200


async def test_tokens_live_rotate_expire_and_survive_nothing_else(door: Door) -> None:
    issued = await door.admin("POST", "/v1/tirami/tokens/issue", {"scope": "read_only", "ttl_secs": 3600})
    new = await door.admin(
        "POST", "/v1/tirami/tokens/rotate", {"token_hash_hex": issued["token_hash_hex"], "grace_secs": 0}
    )
    assert (await door.call("GET", "/status", token=str(issued["token"])))[0] == 401
    assert (await door.call("GET", "/status", token=str(new["token"])))[0] == 200
    await door.admin("POST", "/v1/tirami/tokens/revoke", {"token_hash_hex": new["token_hash_hex"]})
    assert (await door.call("GET", "/status", token=str(new["token"])))[0] == 401
    assert (await door.admin("GET", "/v1/tirami/tokens"))["total"] == 0


async def test_an_agent_sees_only_itself(door: Door) -> None:
    _, one = await door.agent()
    other_account, other = await door.agent()
    body = {"messages": [{"role": "user", "content": "x"}]}
    _, reply = await door.call("POST", "/v1/chat/completions", body, token=other)
    trade = reply["x_tirami"]["trade_id"]
    for path in (f"/v1/tirami/trades/{trade}", f"/v1/tirami/trades/{trade}/receipt"):
        assert (await door.call("GET", path, token=one))[0] == 404
        assert (await door.call("GET", path, token=other))[0] == 200
    status, error = await door.call("GET", f"/v1/tirami/balance?node={other_account}", token=one)
    assert (status, error["error"]["code"]) == (403, "insufficient_scope")
    assert (await door.call("GET", "/v1/tirami/trades", token=one))[1]["count"] == 0


async def test_limits_are_per_caller(tmp_path: object) -> None:
    from tests.node.conftest import opened_door

    async with opened_door(tmp_path / "h", **{"api.rate_per_second": 5}) as door:  # type: ignore[operator]
        statuses = [(await door.call("GET", "/v1/tirami/balance"))[0] for _ in range(12)]
        assert 429 in statuses
        status, _ = await door.call("GET", "/v1/tirami/network", token=door.parts.admin_token)
        assert status == 200
