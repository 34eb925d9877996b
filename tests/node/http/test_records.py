"""Everything booked, over HTTP: pages by kind, party and time; who may see what; signatures and proofs."""

from typing import Any

from tests.ledger.disk import Disk
from tests.node.conftest import Door, door
from tests.node.http.test_pages import ask, flat, pages
from tirami.core.keys import PublicKey, Signature, sha256, verify
from tirami.proto import Acceptance, Grant, Trade, Transfer
from tirami.verify import leaf_hash, verify_inclusion

__all__ = ["door"]
RECORDS = "/v1/tirami/records"
TAGS = {"trade": Trade.TAG, "transfer": Transfer.TAG, "grant": Grant.TAG}


async def booked(door: Door) -> tuple[str, str, str]:
    """An account that was given a line, bought for 6 TRM and got 2 back; its token and that of another account."""
    account, token = await door.agent()
    _, other = await door.agent()
    await ask(door, token, 2)
    await door.admin("POST", "/v1/tirami/transfer", {"to": account, "amount": 2})
    await ask(door, other, 1)
    await ask(door, None, 1)
    return account, token, other


async def rows(door: Door, query: str = "", token: str | None = None) -> list[dict[str, Any]]:
    status, page = await door.call("GET", f"{RECORDS}?limit=100{query}", token=token or door.parts.admin_token)
    assert (status, page["count"], page["next_cursor"]) == (200, len(page["records"]), None), page  # type: ignore[arg-type]
    return page["records"]  # type: ignore[return-value]


async def test_every_leaf_is_shown_with_what_moves_balances(door: Door) -> None:
    account, *_ = await booked(door)
    node = door.parts.key.public_key.hex()
    found = await rows(door)
    assert [row["leaf_index"] for row in found] == list(range(8))[::-1]
    assert [row["kind"] for row in found] == ["trade", "trade", "transfer", "trade", "trade", "grant", "grant", "grant"]
    own, _, gift, trade, _, _, line, nodes_own = found
    assert (own["scope"], trade["scope"], gift["scope"], line["scope"]) == ("local", "network", "network", "network")
    assert (trade["payer"], trade["payee"], gift["payer"], gift["payee"]) == (account, node, node, account)
    assert (gift["trm_amount"], gift["due_at"], gift["applied"]) == (2, None, True)
    assert (line["payer"], line["payee"], line["trm_amount"], line["applied"]) == (node, account, 1000, True)
    assert (nodes_own["payer"], nodes_own["payee"]) == (node, node)
    assert line["due_at"] > line["timestamp"] and line["booked_at"] >= line["timestamp"]
    _, listed = await door.call("GET", f"/v1/tirami/trades/{trade['id']}", token=door.parts.admin_token)
    assert (listed["trm_amount"], listed["timestamp"]) == (trade["trm_amount"], trade["timestamp"])
    assert all(row[name] is None for row in found for name in ("body", "signatures", "attachments", "proof"))


async def test_pages_and_filters(door: Door) -> None:
    account, *_ = await booked(door)
    admin, everything = door.parts.admin_token, await rows(door)
    ids = [row["id"] for row in everything]

    async def found(query: str) -> list[str]:
        for limit in (1, 3, 100):
            last = flat(await pages(door, f"{RECORDS}?limit={limit}&{query}", "records", admin))
        return last

    assert await found("") == ids
    for kind in ("trade", "transfer", "grant"):
        assert await found(f"kind={kind}") == [row["id"] for row in everything if row["kind"] == kind]
        mine = [row["id"] for row in everything if row["kind"] == kind and account in (row["payer"], row["payee"])]
        assert await found(f"kind={kind}&node={account}") == mine != []
    node = door.parts.key.public_key.hex()
    assert await found(f"node={node}") == [row["id"] for row in everything if node in (row["payer"], row["payee"])]
    at = everything[3]["booked_at"]
    assert await found(f"since={at}") == [row["id"] for row in everything if row["booked_at"] >= at]
    assert await found(f"until={at}") == [row["id"] for row in everything if row["booked_at"] < at]
    assert await found(f"since={at}&until={at + 1}") == [row["id"] for row in everything if row["booked_at"] == at]
    assert await found(f"since={at + 10**6}") == await found("until=0") == await found(f"node={'11' * 32}") == []
    assert [row["id"] for row in await rows(door, "&cursor=2")] == ids[-2:]
    for query, param in (("kind=head", "kind"), ("limit=101", "limit"), ("node=zz", "node"), ("cursor=-1", "cursor")):
        status, reply = await door.call("GET", f"{RECORDS}?{query}", token=admin)
        assert (status, reply["error"]["param"]) == (422, param)


async def test_a_rare_kind_and_a_short_time_are_found_without_reading_the_log(door: Door, monkeypatch: object) -> None:
    monkeypatch.setattr("tirami.node.http.paging.SCANNED", 3)  # type: ignore[attr-defined]
    account, *_ = await booked(door)
    await ask(door, None, 20)
    [gift] = await rows(door, "&kind=transfer")
    found = await pages(door, f"{RECORDS}?since={gift['booked_at']}&until={gift['booked_at'] + 1}", "records")
    assert gift["id"] in flat(found)
    node = door.parts.key.public_key.hex()
    found = await pages(door, f"{RECORDS}?kind=transfer&node={node}", "records", door.parts.admin_token)
    assert len(found) > 1 and flat(found) == [gift["id"]]
    assert gift["payee"] == account


async def test_a_bound_token_sees_the_records_of_its_account_and_no_others(door: Door) -> None:
    account, token, other = await booked(door)
    mine = await rows(door, token=token)
    assert [row["kind"] for row in mine] == ["transfer", "trade", "trade", "grant"]
    assert all(account in (row["payer"], row["payee"]) for row in mine)
    assert await rows(door, f"&node={account}") == mine
    status, reply = await door.call("GET", f"{RECORDS}?node={account}", token=other)
    assert (status, reply["error"]["code"], reply["error"]["param"]) == (403, "insufficient_scope", "node")
    for record in mine:
        for path in (f"{RECORDS}/{record['id']}", f"{RECORDS}/{record['id']}/proof"):
            assert (await door.call("GET", path, token=token))[0] == 200
            assert (await door.call("GET", path, token=door.parts.admin_token))[0] == 200
            status, reply = await door.call("GET", path, token=other)
            assert (status, reply["error"]["code"]) == (404, "record_not_found")
        status, reply = await door.call("GET", f"/v1/tirami/trades/{record['id']}", token=token)
        assert status == 200 if record["kind"] == "trade" else reply["error"]["code"] == "trade_not_found"


async def test_what_is_not_there_is_not_found(door: Door) -> None:
    for bad in ("00" * 32, "zz", "00"):
        for path in (f"{RECORDS}/{bad}", f"{RECORDS}/{bad}/proof"):
            status, reply = await door.call("GET", path)
            assert (status, reply["error"]["code"], reply["error"]["param"]) == (404, "record_not_found", "id")


async def test_what_was_signed_comes_on_request_with_paths_to_one_head(door: Door) -> None:
    await booked(door)
    _, page = await door.call("GET", f"{RECORDS}?signatures=true&proofs=true", token=door.parts.admin_token)
    head: Any = page["head"]
    records: Any = page["records"]
    assert (head["size"], len(records)) == (8, 8)
    for row in records:
        body, signatures = bytes.fromhex(row["body"]), [bytes.fromhex(signature) for signature in row["signatures"]]
        signers = [row["payer"], row["payee"]] if row["kind"] == "trade" else [row["payer"]]
        assert row["id"] == sha256(TAGS[row["kind"]], body).hex()
        for key, signature in zip(signers, signatures, strict=True):
            assert verify(PublicKey(bytes.fromhex(key)), Signature(signature), TAGS[row["kind"]] + body)
        path = [bytes.fromhex(node) for node in row["proof"]]
        leaf = leaf_hash(body + b"".join(signatures))
        verify_inclusion(leaf, row["leaf_index"], head["size"], path, bytes.fromhex(head["root"]))
        proof = await door.admin("GET", f"{RECORDS}/{row['id']}/proof")
        assert (proof["proof"], proof["head"]) == (row["proof"], head)
        assert await door.admin("GET", f"{RECORDS}/{row['id']}") == {**row, "proof": None}
        if row["kind"] == "trade":
            acceptance, signature = (bytes.fromhex(part) for part in row["attachments"])
            assert verify(PublicKey(bytes.fromhex(row["payer"])), Signature(signature), Acceptance.TAG + acceptance)
        else:
            assert row["attachments"] == []


async def test_nothing_is_shown_that_is_not_on_disk(door: Door, monkeypatch: Any) -> None:
    account, token = await door.agent()
    await ask(door, token, 1)
    before = await rows(door)
    disk = Disk(door.parts.ledger, monkeypatch)
    disk.full = True
    status, _ = await door.call(
        "POST", "/v1/tirami/transfer", {"to": account, "amount": 1}, token=door.parts.admin_token
    )
    assert status == 503
    assert await rows(door) == before
    disk.full = False
