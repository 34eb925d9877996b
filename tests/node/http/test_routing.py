"""Who serves, and what of it is shown to whom."""

from tests.node.conftest import Door, door

__all__ = ["door"]
CHAT = {"messages": [{"role": "user", "content": "say hello now"}], "max_tokens": 5}


async def test_what_a_node_earns_is_no_business_of_its_payers(door: Door) -> None:
    _, token = await door.agent()
    assert (await door.call("POST", "/v1/chat/completions", CHAT, token=token))[0] == 200
    for caller, income in ((door.parts.admin_token, 5), (token, None)):
        _, told = await door.call("GET", "/v1/tirami/providers", token=caller)
        (entry,) = told["providers"]  # type: ignore[misc]
        assert (entry["contributed_trm"], entry["contributed_cu"]) == (income, income)  # type: ignore[index]
