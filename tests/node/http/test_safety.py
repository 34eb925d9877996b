"""Safety over HTTP: what a call does not name stays as it was set."""

from typing import Any

from tests.node.conftest import Door, door

__all__ = ["door"]
POLICY = "/v1/tirami/policy"


async def test_the_journal_names_who_called_and_their_word_only_as_a_note(door: Door) -> None:
    issued = await door.admin("POST", "/v1/tirami/tokens/issue", {"scope": "admin"})
    hashed, token = str(issued["token_hash_hex"]), str(issued["token"])
    for body, operator in (({}, hashed), ({"operator": "owner"}, f"{hashed}: owner")):
        status, reply = await door.call("POST", "/v1/tirami/kill", {"activate": True, **body}, token=token)
        assert (status, reply["operator"]) == (200, operator)
        assert door.parts.ledger.state.settings.kill.operator == operator  # type: ignore[union-attr]
    assert (await door.admin("POST", "/v1/tirami/kill", {"activate": False}))["operator"] == "owner"


async def test_a_policy_changes_what_it_names_and_nothing_else(door: Door) -> None:
    account, _ = await door.agent()
    first: Any = await door.admin(
        "POST", POLICY, {"node_id": account, "max_cu_per_request": 7, "human_approval_threshold": None}
    )
    second: Any = await door.admin("POST", POLICY, {"node_id": account, "max_trm_per_hour": 9})
    assert second["policy"] == first["policy"] | {"max_cu_per_hour": 9, "max_trm_per_hour": 9}
    assert (await door.admin("POST", POLICY, {"node_id": account}))["policy"] == second["policy"]
    third: Any = await door.admin("POST", POLICY, {"node_id": account, "max_cu_per_request": None})
    assert third["policy"]["max_cu_per_request"] is None
    assert third["policy"]["max_cu_per_hour"] == 9
