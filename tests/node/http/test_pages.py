"""Pages of trades and of a balance's history: complete, in order, filtered, each trade once."""

from tests.node.conftest import Door, door

__all__ = ["door"]
CHAT = "/v1/chat/completions"


async def ask(door: Door, token: str | None, times: int) -> list[str]:
    trades = []
    for _ in range(times):
        _, reply = await door.call("POST", CHAT, {"messages": [{"role": "user", "content": "x"}]}, token=token)
        trades.append(str(reply["x_tirami"]["trade_id"]))
    return trades[::-1]


async def pages(door: Door, path: str, key: str, token: str | None = None) -> list[list[str]]:
    found, cursor = [], ""
    while True:
        status, page = await door.call("GET", path + cursor, token=token)
        assert status == 200, page
        found.append([str(trade["id"]) for trade in page[key]])
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def flat(found: list[list[str]]) -> list[str]:
    return [trade for page in found for trade in page]


async def test_every_trade_is_on_exactly_one_page(door: Door) -> None:
    _, token = await door.agent()
    mine = await ask(door, token, 5)
    await ask(door, None, 2)
    for limit, sizes in ((2, [2, 2, 1]), (5, [5]), (100, [5])):
        found = await pages(door, f"/v1/tirami/trades?limit={limit}", "trades", token)
        assert [len(page) for page in found] == sizes
        assert flat(found) == mine
        assert flat(await pages(door, f"/v1/tirami/balance?limit={limit}", "history", token)) == mine


async def test_filters(door: Door) -> None:
    account, token = await door.agent()
    mine, own = await ask(door, token, 2), await ask(door, None, 3)
    admin = door.parts.admin_token
    digest = door.engine.card.digest.hex()

    async def found(query: str) -> list[str]:
        return flat(await pages(door, f"/v1/tirami/trades?{query}", "trades", admin))

    assert await found("scope=local") == own
    assert await found("scope=network") == mine
    assert await found(f"node={account}") == mine
    assert await found(f"model={digest}") == own + mine
    assert await found(f"model={'0' * 64}") == []
    _, page = await door.call("GET", "/v1/tirami/trades?scope=network", token=admin)
    newest = page["trades"][0]["timestamp"]
    assert await found(f"until={newest}&scope=network") == mine[1:]
    assert set(await found(f"since={newest}")) >= {mine[0]}
    status, reply = await door.call("GET", "/v1/tirami/trades?scope=nowhere", token=admin)
    assert (status, reply["error"]["param"]) == (422, "scope")


async def test_a_page_looks_at_a_bounded_number_of_records(door: Door, monkeypatch: object) -> None:
    monkeypatch.setattr("tirami.node.http.paging.SCANNED", 3)  # type: ignore[attr-defined]
    _, token = await door.agent()
    mine = await ask(door, token, 1)
    await ask(door, None, 7)
    found = await pages(door, "/v1/tirami/trades?scope=network", "trades", door.parts.admin_token)
    assert len(found) > 2
    assert flat(found) == mine
