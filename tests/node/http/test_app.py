"""What every request has in common: its id."""

import pytest

from tests.node.conftest import Door, door

__all__ = ["door"]
IDS = ("x-tirami-request-id", "x-request-id")
CHAT = {"messages": [{"role": "user", "content": "say hello now"}], "max_tokens": 2}


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"x-request-id": "mine-1"}, "mine-1"),
        ({"x-tirami-request-id": "ours"}, "ours"),
        ({"x-request-id": "theirs", "x-tirami-request-id": "ours"}, "ours"),
        ({"x-request-id": "theirs", "x-tirami-request-id": "not one"}, "theirs"),
        ({"x-request-id": "y" * 129}, None),
        ({"x-request-id": "two words"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/no/such/route"])
async def test_the_id_of_a_request_is_told_by_both_names(
    door: Door, sent: dict[str, str], told: str | None, path: str
) -> None:
    async with door.http.post(door.url + path, json=CHAT, headers=sent) as reply:
        ours, theirs = (reply.headers[name] for name in IDS)
        body = await reply.json()
    assert ours == theirs == (told or ours)
    assert told is not None or ours.startswith("req-")
    assert body["x_tirami" if reply.status == 200 else "error"]["request_id"] == ours
