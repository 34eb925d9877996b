"""Tokens over HTTP: how long they live, and that the node keeps no crowd of them."""

from typing import Any

import pytest

from tests.node.conftest import Door, door
from tirami.node.http import tokens as tokens_module

__all__ = ["door"]
ISSUE = "/v1/tirami/tokens/issue"


async def test_null_is_for_ever_and_absent_a_week(door: Door) -> None:
    assert (await door.admin("POST", ISSUE, {"scope": "read_only", "ttl_secs": None}))["expires_at_ms"] == 0
    week: Any = await door.admin("POST", ISSUE, {"scope": "read_only"})
    assert week["expires_at_ms"] - week["created_at_ms"] == 604_800_000


async def test_a_lifetime_of_nothing_is_refused(door: Door) -> None:
    old = await door.admin("POST", ISSUE, {"scope": "read_only"})
    rotate = {"token_hash_hex": old["token_hash_hex"], "ttl_secs": 0}
    for path, body in ((ISSUE, {"scope": "read_only", "ttl_secs": 0}), ("/v1/tirami/tokens/rotate", rotate)):
        status, reply = await door.call("POST", path, body, token=door.parts.admin_token)
        assert (status, reply["error"]["param"]) == (422, "ttl_secs")  # type: ignore[index]


async def test_there_are_only_so_many(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_module, "MOST", 2)
    for _ in range(2):
        issued = await door.admin("POST", ISSUE, {"scope": "read_only"})
    status, reply = await door.call("POST", ISSUE, {"scope": "read_only"}, token=door.parts.admin_token)
    assert (status, reply["error"]["code"]) == (409, "conflict")  # type: ignore[index]
    await door.admin("POST", "/v1/tirami/tokens/revoke", {"token_hash_hex": issued["token_hash_hex"]})
    await door.admin("POST", ISSUE, {"scope": "read_only"})


async def test_a_successor_lives_as_long_unless_another_lifetime_is_named(door: Door) -> None:
    for named, lifetime in (({"ttl_secs": 40}, 40_000), ({"ttl_secs": None}, 0)):
        old = await door.admin("POST", ISSUE, {"scope": "read_only", "label": "x"} | named)
        rotate = {"token_hash_hex": old["token_hash_hex"]}
        new: Any = await door.admin("POST", "/v1/tirami/tokens/rotate", rotate)
        assert new["label"] == "x"
        assert (new["expires_at_ms"] and new["expires_at_ms"] - new["created_at_ms"]) == lifetime
        rotate = {"token_hash_hex": new["token_hash_hex"], "ttl_secs": 7}
        other: Any = await door.admin("POST", "/v1/tirami/tokens/rotate", rotate)
        assert other["expires_at_ms"] - other["created_at_ms"] == 7_000
