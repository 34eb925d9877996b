"""What the routes tell of a mesh of two nodes in memory, and of none."""

import json
from pathlib import Path

import aiohttp
import pytest

from tests.market.scripted import ScriptedEngine
from tests.node.conftest import Door, door
from tests.node.nodes import CHAT, HELLO, network_file, node
from tests.node.test_mesh import Two, two
from tests.waiting import until
from tirami.core.keys import PublicKey, Signature, SigningKey, verify
from tirami.ledger.entries import ClaimDropped, ClaimOpened
from tirami.market.reputation import LEAST, START
from tirami.net import mesh as net_mesh
from tirami.proto import Observation, Probe, Signal, SignedBody, decode, encode, sign
from tirami.testing import MemoryNetwork

__all__ = ["door"]
T = "/v1/tirami"


async def get(mesh: Two, path: str, *, token: str | None = None, of: str = "buyer") -> dict[str, object]:
    node = getattr(mesh, of)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with mesh.http.get(node.url + path, headers=headers) as reply:
        body: dict[str, object] = await reply.json()
        assert reply.status == 200, body
        return body


async def only_peer(mesh: Two, query: str = "", **more: str) -> dict[str, object]:
    reply = await get(mesh, f"{T}/peers{query}", **more)
    assert (reply["enabled"], reply["count"], reply["connected"]) == (True, 1, 1)
    (entry,) = reply["peers"]  # type: ignore[misc]
    assert isinstance(entry, dict)
    return entry


async def test_off_the_mesh_the_routes_say_so(door: Door) -> None:
    assert (await door.admin("GET", f"{T}/peers"))["enabled"] is False
    topology = await door.admin("GET", f"{T}/topology")
    assert (topology["enabled"], topology["links"]) == (False, [])
    report = await door.admin("GET", f"{T}/mesh")
    assert report["enabled"] is False
    assert report["statements"] == [
        "The mesh is off: nothing is sold or bought, and no other node is spoken to.",
    ]
    assert (await door.admin("GET", "/status"))["mesh"] == report
    assert (await door.admin("GET", f"{T}/earnings"))["rows"] == []


async def test_a_peer_is_shown_with_its_signed_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        peer = await only_peer(mesh)
        assert peer["node_id"] == mesh.seller.parts.key.public_key.hex()
        assert (peer["connected"], peer["dialled"], peer["stale"]) == (True, True, False)
        assert (peer["models"], peer["audit_tier"], peer["price_multiplier"]) == (["scripted"], "Unverified", 1.0)
        assert peer["why_not"] is None and peer["same_network_file"] is True
        assert peer["available_cu"] == peer["available_trm"] > 0  # type: ignore[operator]
        body = bytes.fromhex(str(peer["signal"]))
        signature = Signature(bytes.fromhex(str(peer["signature"])))
        assert verify(PublicKey(bytes.fromhex(str(peer["node_id"]))), signature, Signal.TAG + body)
        assert decode(Signal, body).at_ms == peer["last_seen"]
        await until(lambda: mesh.buyer.mesh.mesh.peers[mesh.seller.parts.key.public_key].rtt_s is not None)
        assert (await only_peer(mesh))["latency_ms"] >= 0  # type: ignore[operator]
        other = await only_peer(mesh, of="seller")
        assert (other["models"], other["why_not"]) == ([], "no prompt leaves this machine (mesh.consume = off)")


@pytest.mark.parametrize(
    ("flags", "reason", "status"),
    [
        ({"mesh.consume": "off"}, "no prompt leaves this machine (mesh.consume = off)", 503),
        ({"mesh.consume": "trusted"}, "it is not on the list of trusted providers", 404),
    ],
)
async def test_why_a_peer_is_not_chosen_by_this_nodes_own_will(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: dict[str, object], reason: str, status: int
) -> None:
    async with two(tmp_path, monkeypatch, **flags) as mesh:
        assert (await only_peer(mesh))["why_not"] == reason
        (entry,) = (await get(mesh, f"{T}/providers"))["providers"]  # type: ignore[misc]
        assert entry["why_not"] == reason  # type: ignore[index]
        assert (await get(mesh, "/v1/models"))["data"] == []
        async with mesh.http.get(mesh.buyer.url + f"{T}/route?model=scripted") as reply:
            assert reply.status == status, "no model here, and none to be bought"


async def test_why_a_peer_is_not_chosen_by_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        assert (await only_peer(mesh, "?model=other"))["why_not"] == "it does not serve other"
        engines = mesh.seller.parts.engines
        async with engines.use("scripted", payer=mesh.seller.parts.key.public_key) as served:
            places = [served.room.place(bytes([n]) * 32, owner=True) for n in range(served.engine.slots)]
            for place in places:
                await place.__aenter__()
            await until(lambda: _known(mesh).signal.slots == 0)
            assert (await only_peer(mesh))["why_not"] == "it has no free place"
            for place in places:
                await place.__aexit__(None, None, None)
        await until(lambda: _known(mesh).signal.slots > 0)
        assert (await only_peer(mesh))["why_not"] is None
        known = _known(mesh)
        known.heard_ms -= known.signal.lifetime_ms + 7_000  # type: ignore[assignment]
        stale = await only_peer(mesh)
        assert stale["stale"] is True and "s old" in str(stale["why_not"])


async def test_what_is_too_dear_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch, **{"mesh.max_trm": 1}) as mesh:
        offering = _known(mesh).signal.models[0]
        reason = (await only_peer(mesh))["why_not"]
        assert (reason is not None) == (offering.price_out > 1_000_000)


async def test_route_schedule_and_models_know_the_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        seller = mesh.seller.parts.key.public_key.hex()
        (model,) = (await get(mesh, "/v1/models"))["data"]  # type: ignore[misc]
        assert (model["id"], model["state"], model["providers"]) == ("scripted", "remote", 1)  # type: ignore[index]
        assert (await get(mesh, "/v1/models/scripted")) == model
        (own,) = (await get(mesh, "/v1/models", of="seller"))["data"]  # type: ignore[misc]
        assert (own["state"], own["providers"], own["digest"]) == ("loaded", 0, model["digest"])  # type: ignore[index]
        for mode in ("cost", "balanced", "quality"):
            route = await get(mesh, f"{T}/route?model=scripted&mode={mode}&max_tokens=100")
            assert (route["provider"], route["model"]) == (seller, "scripted")
        asked = {"model_id": "scripted", "max_tokens": 100}
        async with mesh.http.post(mesh.buyer.url + f"{T}/schedule", json=asked) as reply:
            scheduled = await reply.json()
        assert (scheduled["provider"], scheduled["local"]) == (seller, False)
        balanced = await get(mesh, f"{T}/route?model=scripted&max_tokens=100")
        assert balanced["score"] == pytest.approx(scheduled["score"], abs=1e-6)
        async with mesh.http.post(mesh.buyer.url + f"{T}/schedule", json=asked | {"reserve": True}) as reply:
            assert reply.status == 400, "a reservation is kept here only"
        async with mesh.http.post(mesh.buyer.url + f"{T}/schedule", json=asked | {"consumer": seller}) as reply:
            assert reply.status == 404, "nobody serves itself for pay"


async def test_links_are_shown_and_addresses_only_to_who_speaks_for_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        whole = await get(mesh, f"{T}/topology")
        (link,) = whole["links"]  # type: ignore[misc]
        assert link["node_id"] == mesh.seller.parts.key.public_key.hex()  # type: ignore[index]
        assert (link["kept"], link["models"]) == (True, ["scripted"])  # type: ignore[index]
        assert whole["missing"] == []
        assert str(whole["node"]["address"]).startswith(mesh.buyer.parts.key.public_key.hex())  # type: ignore[index]
        admin = {"authorization": f"Bearer {mesh.buyer.parts.admin_token}"}
        async with mesh.http.post(mesh.buyer.url + f"{T}/accounts", json={"label": "agent"}, headers=admin) as reply:
            account = (await reply.json())["account"]
        asked = {"scope": "read_only", "node_id": account}
        async with mesh.http.post(mesh.buyer.url + f"{T}/tokens/issue", json=asked, headers=admin) as reply:
            token = (await reply.json())["token"]
        assert (await only_peer(mesh, token=token))["address"] is None
        shown = await get(mesh, f"{T}/topology", token=token)
        assert shown["node"]["address"] is None  # type: ignore[index]
        assert shown["links"][0]["address"] is None  # type: ignore[index]
        async with mesh.http.get(
            mesh.buyer.url + f"{T}/earnings", headers={"authorization": f"Bearer {token}"}
        ) as reply:
            assert reply.status == 403


async def test_who_was_given_something_and_did_not_pay_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        ledger = mesh.seller.parts.ledger
        for number, (payer, trm) in enumerate([(b"a", 60), (b"b", 70), (b"a", 60), (b"c", 0)]):
            claim = bytes(15) + bytes([number])
            opened = ClaimOpened(claim, payer * 32, 0, number, 100, b"", b"", b"", b"")
            await ledger.append([opened, ClaimDropped(claim, "cancelled", trm)])
        earned = await get(mesh, f"{T}/earnings", of="seller")
        assert (earned["unpaid_trm"], earned["trm"]) == (190, 0)
        assert earned["unpaid"] == [
            {"payer": (b"a" * 32).hex(), "sessions": 2, "trm": 120, "refused": True},
            {"payer": (b"b" * 32).hex(), "sessions": 1, "trm": 70, "refused": False},
        ]


async def test_a_paused_node_takes_nobody_new_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        admin = {"authorization": f"Bearer {mesh.seller.parts.admin_token}"}
        path = mesh.seller.url + f"{T}/mesh/selling"
        async with mesh.http.post(path, json={"paused": True}) as reply:
            assert reply.status == 403
        async with mesh.http.post(path, json={"paused": True, "operator": "me"}, headers=admin) as reply:
            assert await reply.json() == {"paused": True, "running": 0}
        status, _ = await mesh.ask()
        assert status in (404, 503) and mesh.engine.opened == 0
        await until(lambda: not _known(mesh).signal.models)
        assert (await only_peer(mesh))["why_not"] == "it sells nothing"
        selling = (await get(mesh, f"{T}/mesh", of="seller"))["selling"]
        assert (selling["on"], selling["paused"]) == (False, True)  # type: ignore[index]
        async with mesh.http.post(path, json={"paused": False}, headers=admin) as reply:
            assert reply.status == 200
        await until(lambda: _known(mesh).signal.models)
        status, _ = await mesh.ask()
        assert status == 200
        assert mesh.seller.parts.ledger.state.settings.paused is False


async def test_what_was_bought_names_who_was_paid_and_by_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        buyer, seller = (node.parts.key.public_key for node in (mesh.buyer, mesh.seller))
        _, reply = await mesh.ask()
        told = reply["x_tirami"]
        assert isinstance(told, dict)
        assert (told["payer"], told["provider"]) == (buyer.hex(), seller.hex())
        assert told["effective_balance"] == mesh.buyer.parts.ledger.balance(buyer).effective
        assert told["provider_effective_balance"] is None
        assert (told["trm_cost"], told["owed_trm"]) == (-mesh.buyer.net, 0)
        await until(lambda: mesh.seller.net == told["trm_cost"])
        earned = await get(mesh, f"{T}/earnings", of="seller")
        (row,) = earned["rows"]  # type: ignore[misc]
        assert earned["trm"] == row["trm"] == told["trm_cost"]  # type: ignore[index]
        assert (row["payer"], row["model"], row["hosted"]) == (buyer.hex(), "scripted", False)  # type: ignore[index]
        assert (await get(mesh, f"{T}/mesh"))["buying"]["bought"] == 1  # type: ignore[index]
        assert (await get(mesh, f"{T}/mesh", of="seller"))["selling"]["sold"] == 1  # type: ignore[index]


async def test_what_a_lost_provider_is_owed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It never countersigned: there is no trade, and yet the payer has signed for what it got."""
    async with two(tmp_path, monkeypatch) as mesh:
        mesh.engine.length, mesh.engine.stall_after = 40, 30
        body = HELLO | {"stream": True, "max_tokens": 100}
        async with mesh.http.post(mesh.buyer.url + CHAT, json=body) as reply:
            await mesh.engine.stalled.wait()
            await until(lambda: any(claim.vouched for claim in mesh.seller.parts.ledger.state.claims.open.values()))
            mesh.buyer.mesh.mesh.peers[mesh.seller.parts.key.public_key].close("the cable is cut")
            lines = (await reply.read()).decode().splitlines()
        mesh.engine.resume.set()
        told = [json.loads(line[6:])["x_tirami"] for line in lines if '"x_tirami"' in line][-1]
        assert told["trm_cost"] == told["owed_trm"] > 0
        assert (told["trade_id"], told["provider"]) == (None, mesh.seller.parts.key.public_key.hex())


async def test_metrics_count_sessions_and_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        assert (await mesh.ask())[0] == 200
        buyer, seller = mesh.buyer.parts.membership.view, mesh.seller.parts.membership.view
        assert buyer is not None and seller is not None
        await until(lambda: seller.sold == 1 and sum(buyer.records) > 0)
        for node, side in ((mesh.buyer, "bought"), (mesh.seller, "sold")):
            async with mesh.http.get(node.url + "/metrics") as reply:
                lines = (await reply.text()).splitlines()
            assert "tirami_mesh_enabled 1.0" in lines and "tirami_mesh_peers 1.0" in lines
            assert f'tirami_mesh_sessions_total{{side="{side}"}} 1.0' in lines
            assert sum(line.startswith("tirami_mesh_") for line in lines) == 10, "none of a peer"


async def test_reputation_is_what_the_mesh_made_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        buyer, seller = (node.parts.key.public_key for node in (mesh.buyer, mesh.seller))
        assert (await get(mesh, f"{T}/balance?node={seller.hex()}"))["reputation"] == 0.5
        assert (await get(mesh, f"{T}/network"))["avg_reputation"] == 0.0, "nobody has traded"
        for _ in range(2 * LEAST):
            assert (await mesh.ask())[0] == 200
        held = mesh.buyer.mesh.reputation.of(seller) / 1_000_000
        assert held > 0.8
        assert (await get(mesh, f"{T}/balance?node={seller.hex()}"))["reputation"] == held
        assert (await get(mesh, f"{T}/balance?node={buyer.hex()}"))["reputation"] == 0.5, "it has sold nothing"
        assert (await get(mesh, f"{T}/network"))["avg_reputation"] == held
        async with mesh.http.get(mesh.buyer.url + "/metrics") as reply:
            assert f'tirami_reputation{{node_id="{seller.hex()}"}} {held}' in (await reply.text()).splitlines()

        customers = mesh.seller.mesh.reputation
        await until(lambda: customers.weight(buyer, seller) == 2 * LEAST)
        said = Observation("testnet", buyer, seller, 900_000, LEAST, 1, mesh.seller.parts.ledger.now())
        assert customers.take(said, said.at_ms)
        (own,) = (await get(mesh, f"{T}/providers", of="seller"))["providers"]  # type: ignore[misc]
        assert own["reputation"] == customers.of(seller) / 1_000_000 != 0.5  # type: ignore[index]


async def test_what_probes_found_is_shown_of_each_peer_and_of_this_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as mesh:
        buyer, seller = (node.parts.key.public_key for node in (mesh.buyer, mesh.seller))
        assert (await only_peer(mesh))["probe"] is None
        assert (await get(mesh, f"{T}/mesh"))["probe"] is None, "nobody has looked"
        probes, now = mesh.buyer.mesh.finding.probes, mesh.buyer.parts.ledger.now()
        probes.made.append(Probe("testnet", buyer, seller, ("203.0.113.7:1",), False, 0, 1))
        probes.made.append(Probe("testnet", buyer, seller, ("203.0.113.7:2",), True, 12_500, 2))
        network = mesh.buyer.parts.ledger.network.id
        said = Probe(network, seller, buyer, ("203.0.113.8:1", "203.0.113.8:2"), False, 0, now)
        stated = SignedBody(encode(said), sign(said, mesh.seller.parts.key))
        probes.book.take(stated, seller, said.addresses, now)
        assert (await only_peer(mesh))["probe"] == {
            "by": buyer.hex(),
            "reached": True,
            "rtt_ms": 12.5,
            "address": "203.0.113.7:2",
            "at_ms": 2,
        }
        called = "203.0.113.8:1, 203.0.113.8:2"
        own = {"by": seller.hex(), "reached": False, "rtt_ms": None, "address": called, "at_ms": now}
        assert (await get(mesh, f"{T}/mesh"))["probe"] == own
        admin = {"authorization": f"Bearer {mesh.buyer.parts.admin_token}"}
        async with mesh.http.post(mesh.buyer.url + f"{T}/accounts", json={"label": "agent"}, headers=admin) as reply:
            asked = {"scope": "read_only", "node_id": (await reply.json())["account"]}
        async with mesh.http.post(mesh.buyer.url + f"{T}/tokens/issue", json=asked, headers=admin) as reply:
            token = (await reply.json())["token"]
        bound = await only_peer(mesh, token=token)
        assert bound["probe"] == {"by": None, "reached": True, "rtt_ms": 12.5, "address": None, "at_ms": 2}


async def test_off_the_mesh_everybody_has_the_reputation_one_starts_with(door: Door) -> None:
    assert (await door.admin("GET", f"{T}/balance"))["reputation"] == START / 1_000_000
    assert (await door.admin("GET", f"{T}/network"))["avg_reputation"] == 0.0
    await door.call("POST", CHAT, HELLO, token=(await door.agent())[1])
    assert (await door.admin("GET", f"{T}/network"))["avg_reputation"] == START / 1_000_000
    (own,) = (await door.admin("GET", f"{T}/providers"))["providers"]  # type: ignore[misc]
    assert own["reputation"] == START / 1_000_000  # type: ignore[index]


def _known(mesh: Two):  # type: ignore[no-untyped-def]
    known = mesh.buyer.mesh.peers.get(mesh.seller.parts.key.public_key)
    assert known is not None
    return known


async def test_a_kept_peer_that_is_not_reached_is_shown_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody, (file, _) = SigningKey.generate().public_key, network_file(tmp_path, ("lone",))
    flags = {"mesh.consume": "any", "mesh.bootstrap": f"{nobody.hex()}@10.9.9.9:1"}
    monkeypatch.setattr(net_mesh, "DIAL_S", 0.1)
    async with (
        node(tmp_path / "lone", file, MemoryNetwork(seed=1), **flags) as lone,
        aiohttp.ClientSession() as http,
    ):
        mesh = Two(lone, lone, ScriptedEngine(1), http)
        await until(lambda: nobody in lone.mesh.mesh.missed)
        reply = await get(mesh, f"{T}/peers")
        assert (reply["count"], reply["connected"]) == (1, 0)
        (entry,) = reply["peers"]  # type: ignore[misc]
        assert (entry["node_id"], entry["connected"], entry["kept"]) == (nobody.hex(), False, True)  # type: ignore[index]
        assert str(entry["why_not"]).startswith("not connected: dial failed")  # type: ignore[index]
        assert nobody.hex() in str(entry["failure"]) and entry["again_s"] is not None  # type: ignore[index]
        (called,) = (await get(mesh, f"{T}/mesh"))["calling"]  # type: ignore[misc]
        assert (called["node_id"], called["failure"]) == (nobody.hex(), entry["failure"])  # type: ignore[index]
        status, refused = await mesh.ask(model=None)
        assert (status, refused["error"]["code"]) == (503, "no_model")  # type: ignore[index]
        assert f"peer {nobody.hex()[:16]} is not reached" in refused["error"]["message"]  # type: ignore[index]
