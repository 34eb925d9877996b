"""A node's key ends by its operator's order: through its own HTTP door, over a network in memory."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.node.conftest import Door, door
from tests.node.nodes import Node, network_file, node
from tests.node.test_guests import post
from tests.node.test_mesh import two
from tests.waiting import until
from tirami.core.errors import AccountDisabled
from tirami.core.keyfile import NEXT_KEY
from tirami.core.keys import PublicKey, SigningKey
from tirami.proto import SignedBody, Successor
from tirami.testing import MemoryNetwork
from tirami.verify import check_rotation

__all__ = ["door"]
NAMES = ("a", "b")


def own(at: Node) -> PublicKey:
    return at.parts.key.public_key


def rotation(at: Node, new: SigningKey, **more: object) -> dict[str, object]:
    agreed = Successor.agreeing(at.parts.ledger.network.id, own(at), new)
    named = {"node_id": own(at).hex(), "successor": agreed.key.hex(), "consent": agreed.consent.hex()}
    return named | more


async def shown(at: Node, key: PublicKey) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {at.parts.admin_token}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        async with http.get(f"{at.url}/v1/tirami/key?node={key.hex()}") as reply:
            assert reply.status == 200
            body: dict[str, Any] = await reply.json()
            return body


async def code(at: Node, path: str, body: dict[str, object]) -> tuple[int, str]:
    status, reply = await post(at, path, **body)
    return status, str(reply["error"]["code"])  # type: ignore[index]


async def test_what_a_key_earned_goes_to_its_successor_and_everybody_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        seller, buyer, new = mesh.seller, mesh.buyer, SigningKey.generate()
        assert (await mesh.ask())[0] == 200
        await until(lambda: seller.net > 0)
        earned = seller.net
        status, ended = await post(seller, "key/rotate", **rotation(seller, new))
        assert status == 200, ended
        assert (ended["moved_trm"], ended["peers"]) == (earned, 1)
        assert ended["successor"] == new.public_key.hex()
        order: dict[str, Any] = ended["order"]  # type: ignore[assignment]
        signed = SignedBody(bytes.fromhex(order["body"]), bytes.fromhex(order["signature"]))
        made = check_rotation(signed, "testnet")
        assert (made.key, made.successor) == (own(seller), new.public_key)
        for at in (seller, buyer):
            ledger = at.parts.ledger
            await until(lambda ledger=ledger: ledger.state.succession.ended(own(seller)))  # type: ignore[misc]
            await until(lambda ledger=ledger: ledger.balance(new.public_key).net == earned)  # type: ignore[misc]
            told = await shown(at, own(seller))
            assert (told["ended"], told["contested"], told["acts_now"]) == (True, False, new.public_key.hex())
            assert told["orders"] == [order]
            assert not ledger.state.succession.too_late(own(seller), made.last_incarnation, made.last_number)
        assert buyer.parts.ledger.state.trades_of(own(seller)) == 1, "what it signed before stays"
        await until(lambda: not list(buyer.mesh.shop.providers("scripted", 20)))
        assert "rotated or revoked" in str(buyer.mesh.shop.objection(own(seller)))


async def test_an_ended_key_sells_and_promises_nothing_and_says_so_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        seller = mesh.seller
        assert seller.mesh.desk.open
        assert (await post(seller, "key/revoke", node_id=own(seller).hex()))[0] == 200
        assert not seller.mesh.desk.open
        with pytest.raises(AccountDisabled):
            seller.parts.ledger.gate.check_open()
        assert "own_key_ended" in seller.parts.membership.alarms
        status, _ = await mesh.ask()
        assert status in (404, 503) and mesh.engine.opened == 0
        await until(lambda: mesh.buyer.parts.ledger.state.succession.ended(own(seller)))
        assert (await shown(mesh.buyer, own(seller)))["acts_now"] is None
    async with node(tmp_path / "seller", tmp_path / "network.json", MemoryNetwork(seed=2)) as again:
        assert not again.mesh.desk.open and "own_key_ended" in again.parts.membership.alarms


@pytest.mark.parametrize("by", ["its operator", "a thief"])
async def test_a_waiting_key_that_cannot_be_read_keeps_nobody_from_hearing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        seller, buyer, new = mesh.seller, mesh.buyer, SigningKey.generate()
        waits = tmp_path / "seller" / NEXT_KEY
        waits.write_bytes(new.seed)
        waits.chmod(0o644)
        if by == "a thief":
            agreed = Successor.agreeing("testnet", own(seller), new)
            await buyer.mesh.handover._rotations.order(seller.parts.key, agreed)
        else:
            status, ended = await post(seller, "key/rotate", **rotation(seller, new))
            assert status == 200, ended
        for at in (seller, buyer):
            await until(lambda at=at: at.parts.ledger.state.succession.ended(own(seller)))  # type: ignore[misc]
        await until(lambda: "own_key_ended" in seller.parts.membership.alarms)
        assert f"{waits} is open to others" in seller.parts.membership.alarms["own_key_ended"].message
        await asyncio.sleep(0.2)
        assert own(seller) in buyer.mesh.mesh.peers, "who brought it stays"


async def test_what_orders_nothing(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path, NAMES)
    async with node(tmp_path / "a", file, MemoryNetwork(seed=1)) as a:
        new, other = SigningKey.generate(), SigningKey.generate()
        good = rotation(a, new)
        assert await code(a, "key/rotate", good | {"node_id": new.public_key.hex()}) == (422, "invalid_field")
        assert await code(a, "key/revoke", {"node_id": new.public_key.hex()}) == (422, "invalid_field")
        assert await code(a, "key/rotate", good | {"consent": "0" * 128}) == (400, "invalid_signature")
        assert await code(a, "key/rotate", good | {"successor": other.public_key.hex()}) == (400, "invalid_signature")
        assert await code(a, "key/rotate", rotation(a, a.parts.key)) == (400, "invalid_proof")
        assert await code(a, "key/rotate", good | {"successor": "x"}) == (422, "invalid_field")
        assert not a.parts.ledger.state.succession.ended(own(a))
        assert (await shown(a, own(a)))["roles"] == ["issuer", "witness"]


async def test_who_may_not_spend_it_all_orders_nothing_unless_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        seller, new = mesh.seller, SigningKey.generate()
        assert (await mesh.ask())[0] == 200
        await until(lambda: seller.net > 1)
        policy = {"node_id": own(seller).hex(), "max_cu_per_request": 1}
        assert (await post(seller, "policy", **policy))[0] == 200
        assert await code(seller, "key/rotate", rotation(seller, new)) == (403, "budget_exceeded")
        assert not seller.parts.ledger.state.succession.ended(own(seller))
        status, ended = await post(seller, "key/rotate", **rotation(seller, new, move=False))
        assert (status, ended["moved_trm"], ended["record_id"]) == (200, 0, None)


async def test_a_second_rotation_is_refused_and_a_thiefs_can_be_revoked(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path, NAMES)
    async with node(tmp_path / "a", file, MemoryNetwork(seed=1)) as a:
        new, other = SigningKey.generate(), SigningKey.generate()
        assert (await post(a, "key/rotate", **rotation(a, new)))[0] == 200
        for successor in (new, other):
            assert await code(a, "key/rotate", rotation(a, successor)) == (409, "conflict")
        assert (await shown(a, own(a)))["acts_now"] == new.public_key.hex()
        assert (await post(a, "key/revoke", node_id=own(a).hex()))[0] == 200
        told = await shown(a, own(a))
        assert (told["acts_now"], told["contested"], len(told["orders"])) == (None, False, 2)
        assert await code(a, "key/revoke", {"node_id": own(a).hex()}) == (409, "conflict")


async def test_nobody_follows_to_a_key_that_has_ended(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path, NAMES)
    memory = MemoryNetwork(seed=1)
    async with node(tmp_path / "b", file, memory) as b:
        address, gone = str(b.mesh.mesh.address()), b.parts.key
        async with node(tmp_path / "a", file, memory, **{"mesh.bootstrap": address}) as a:
            await until(lambda: a.mesh.mesh.peers)
            assert (await post(b, "key/revoke", node_id=own(b).hex()))[0] == 200
            await until(lambda: a.parts.ledger.state.succession.ended(gone.public_key))
            assert await code(a, "key/rotate", rotation(a, gone)) == (409, "conflict")


async def test_off_the_mesh_nobody_would_hear_of_it(door: Door) -> None:
    body = {"node_id": door.parts.key.public_key.hex()}
    status, refused = await door.call("POST", "/v1/tirami/key/revoke", body, token=door.parts.admin_token)
    assert (status, refused["error"]["code"]) == (409, "conflict")  # type: ignore[index]
    told = await door.admin("GET", "/v1/tirami/key")
    assert (told["ended"], told["acts_now"], told["orders"]) == (False, told["node_id"], [])
