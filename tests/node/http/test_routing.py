"""Who serves, and what of it is shown to whom."""

from typing import Any

from tests.node.conftest import Door, door
from tirami.core.units import Ppm

__all__ = ["door"]
CHAT = {"messages": [{"role": "user", "content": "say hello now"}], "max_tokens": 5}


async def test_what_a_node_earns_is_no_business_of_its_payers(door: Door) -> None:
    _, token = await door.agent()
    assert (await door.call("POST", "/v1/chat/completions", CHAT, token=token))[0] == 200
    for caller, income in ((door.parts.admin_token, 5), (token, None)):
        _, told = await door.call("GET", "/v1/tirami/providers", token=caller)
        (entry,) = told["providers"]  # type: ignore[misc]
        assert (entry["contributed_trm"], entry["contributed_cu"]) == (income, income)  # type: ignore[index]


async def test_a_reservation_that_waited_for_a_person_is_made_at_the_price_that_was_approved(door: Door) -> None:
    account, token = await door.agent()
    await door.admin("POST", "/v1/tirami/policy", {"node_id": account, "human_approval_threshold": 50})
    wanted = {"model_id": "scripted", "max_tokens": 100, "reserve": True}
    status, reply = await door.call("POST", "/v1/tirami/schedule", wanted, token=token)
    assert (status, reply["error"]["code"]) == (403, "approval_required")  # type: ignore[index]
    approval = reply["error"]["approval_id"]  # type: ignore[index]
    await door.admin("POST", f"/v1/tirami/approvals/{approval}/approve", {})
    door.parts.load._follow, door.parts.load.demand = True, Ppm(2_000_000)
    status, kept = await door.call("POST", "/v1/tirami/schedule", wanted, token=token, x_tirami_approval=approval)
    assert status == 200, kept
    ticket: Any = kept["ticket"]
    assert (kept["estimated_trm_cost"], ticket["held_trm"]) == (100, 100)
    body = CHAT | {"max_tokens": 100}
    status, answer = await door.call("POST", "/v1/chat/completions", body, token=token, x_tirami_ticket=ticket["id"])
    paid: Any = answer["x_tirami"]
    assert (status, paid["price_out_utrm"]) == (200, 1_000_000), answer
