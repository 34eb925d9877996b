"""Invitations between whole nodes, over a network in memory and each node's own HTTP door."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.node.nodes import Node, network_file, node
from tests.node.test_finding import NAMES
from tests.waiting import until
from tirami.core.errors import ConfigError, PeerRefused
from tirami.net.invites import Invitation, show
from tirami.node.http.mesh import mesh_report
from tirami.testing import MemoryNetwork


async def post(at: Node, path: str, **body: object) -> tuple[int, dict[str, object]]:
    headers = {"Authorization": f"Bearer {at.parts.admin_token}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        async with http.post(f"{at.url}/v1/tirami/{path}", json=body) as reply:
            return reply.status, await reply.json()


async def token(at: Node, **body: object) -> str:
    status, made = await post(at, "invites", **body)
    assert status == 200, made
    return str(made["token"])


async def test_an_invitation_makes_a_guest_with_a_welcome_line(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path, NAMES, "a")
    memory = MemoryNetwork(seed=1)
    async with node(tmp_path / "a", file, memory) as a, node(tmp_path / "b", file, memory) as b:
        status, joined = await post(b, "join", token=await token(a))
        assert (status, joined["inviter"]) == (200, a.mesh.mesh.key.hex()), joined
        assert b.mesh.mesh.key in a.mesh.finding.guests
        limit = a.parts.ledger.network.parameters.welcome_limit
        await until(lambda: b.parts.ledger.state.book.limit(b.mesh.mesh.key) == limit)
        await until(lambda: a.parts.ledger.state.book.state_hash() == b.parts.ledger.state.book.state_hash())


async def test_it_is_good_once_also_after_a_restart(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path, NAMES, "a")
    memory = MemoryNetwork(seed=1)
    async with node(tmp_path / "b", file, memory) as b, node(tmp_path / "c", file, memory) as c:
        async with node(tmp_path / "a", file, memory) as a:
            invitation = await token(a)
            assert (await post(b, "join", token=invitation))[0] == 200
            assert (await post(b, "join", token=invitation))[0] == 200, "the answer may have been lost on its way"
            status, refused = await post(c, "join", token=invitation)
            assert (status, refused["error"]["refused"]) == (503, "invite_used")  # type: ignore[index]
        async with node(tmp_path / "a", file, memory) as a:
            assert b.mesh.mesh.key in a.mesh.finding.guests
            status, refused = await post(c, "join", token=invitation)
            assert (status, refused["error"]["refused"]) == (503, "invite_used")  # type: ignore[index]
            assert c.mesh.mesh.key not in a.mesh.finding.guests


async def listed(at: Node) -> list[dict[str, object]]:
    headers = {"Authorization": f"Bearer {at.parts.admin_token}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        async with http.get(f"{at.url}/v1/tirami/invites") as reply:
            assert reply.status == 200
            invites: list[dict[str, object]] = (await reply.json())["invites"]
            return invites


async def test_they_are_listed_without_their_secrets_and_taken_back_for_good(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path, NAMES, "a")
    memory = MemoryNetwork(seed=1)
    async with node(tmp_path / "b", file, memory) as b, node(tmp_path / "c", file, memory) as c:
        async with node(tmp_path / "a", file, memory) as a:
            used, back = [Invitation.parse(await token(a, label=name)) for name in ("for b", "for c")]
            assert (await post(b, "join", token=str(used)))[0] == 200
            first, second = await listed(a)
            assert (first["invite"], first["label"], first["state"]) == (used.invite.hex(), "for b", "used")
            assert first["used_by"] == b.mesh.mesh.key.hex()
            assert (second["invite"], second["state"], second["used_by"]) == (back.invite.hex(), "open", None)
            assert second["expires_ms"] == back.expires_ms and second["made_ms"] <= a.parts.ledger.now()  # type: ignore[operator]
            assert not any(secret.hex() in str((first, second)) for secret in (used.secret, back.secret))
            status, refused = await post(a, "invites/revoke", invite=used.invite.hex())
            assert (status, refused["error"]["code"]) == (409, "conflict")  # type: ignore[index]
            status, refused = await post(a, "invites/revoke", invite="0" * 32)
            assert (status, refused["error"]["code"]) == (404, "invite_not_found")  # type: ignore[index]
            for _ in range(2):
                status, entry = await post(a, "invites/revoke", invite=back.invite.hex())
                assert (status, entry["state"]) == (200, "revoked")
            status, refused = await post(c, "join", token=str(back))
            assert (status, refused["error"]["refused"]) == (503, "invite_revoked")  # type: ignore[index]
        async with node(tmp_path / "a", file, memory) as a:
            status, refused = await post(c, "join", token=str(back))
            assert (status, refused["error"]["refused"]) == (503, "invite_revoked")  # type: ignore[index]
            assert [entry["state"] for entry in await listed(a)] == ["used", "revoked"]
            assert c.mesh.mesh.key not in a.mesh.finding.guests


async def test_two_at_once_are_one_guest(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path, NAMES, "a")
    memory = MemoryNetwork(seed=1)
    async with node(tmp_path / "a", file, memory) as a, node(tmp_path / "b", file, memory) as b:
        async with node(tmp_path / "c", file, memory) as c:
            invitation = Invitation.parse(await token(a))
            peers = [(x, await x.mesh.mesh.connect(a.mesh.mesh.address())) for x in (b, c)]
            results = await asyncio.gather(
                *(show(peer, invitation, x.mesh.mesh.key) for x, peer in peers), return_exceptions=True
            )
            taken = [result for result in results if result is None]
            assert len(taken) == 1 and any(isinstance(result, PeerRefused) for result in results)
            assert len(a.parts.ledger.state.settings.guests) == 1


async def test_a_made_up_or_late_one_is_refused(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path, NAMES, "a")
    memory = MemoryNetwork(seed=1)
    async with node(tmp_path / "a", file, memory) as a, node(tmp_path / "b", file, memory) as b:
        real = Invitation.parse(await token(a))
        guessed = Invitation(real.invite, bytes(16), real.address, real.network)
        status, refused = await post(b, "join", token=str(guessed))
        assert (status, refused["error"]["refused"]) == (503, "invite_unknown")  # type: ignore[index]
        longer = Invitation(
            (real.expires_ms + 1).to_bytes(6, "big") + real.invite[6:],
            real.secret,
            real.address,
            real.network,
        )
        assert (await post(b, "join", token=str(longer)))[0] == 503, "its life cannot be lengthened"
        short = await token(a, expires_secs=1)
        await until(lambda: a.parts.ledger.now() > Invitation.parse(short).expires_ms)
        status, refused = await post(b, "join", token=short)
        assert (status, refused["error"]["refused"]) == (503, "invite_expired")  # type: ignore[index]
        peer = b.mesh.mesh.peers[a.mesh.mesh.key]
        with pytest.raises(PeerRefused, match="expired"):
            await show(peer, Invitation.parse(short), b.mesh.mesh.key)
        assert not a.parts.ledger.state.settings.guests


async def test_without_quota_it_stays_good(tmp_path: Path) -> None:
    """The day's welcome lines are gone: the newcomer comes again tomorrow with the same token."""
    file, _ = network_file(tmp_path, NAMES, "a")
    file.write_text(file.read_text().replace('"witnesses": 1,', '"witnesses": 1, "issuer_daily_lines": 1,'))
    memory = MemoryNetwork(seed=1)
    async with node(tmp_path / "a", file, memory) as a, node(tmp_path / "b", file, memory) as b:
        status, refused = await post(b, "join", token=await token(a))
        assert (status, refused["error"]["refused"]) == (503, "queue_full")  # type: ignore[index]
        assert not a.parts.ledger.state.settings.invites.used


async def test_a_node_started_with_one_finds_its_inviter_ever_after(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path, NAMES, "a")
    memory = MemoryNetwork(seed=1)
    async with node(tmp_path / "a", file, memory) as a:
        flags = {"mesh.invitation": await token(a), "mesh.peers": 0}
        async with node(tmp_path / "b", file, memory, **flags) as b:
            await until(lambda: b.mesh.mesh.key in a.mesh.finding.guests)
        async with node(tmp_path / "b", file, memory, **{"mesh.peers": 0}) as b:
            await until(lambda: a.mesh.mesh.key in b.mesh.mesh.peers)


async def test_an_invitation_to_another_network_is_named(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path, NAMES, "a")
    memory = MemoryNetwork(seed=1)
    async with node(tmp_path / "a", file, memory) as a:
        given = await token(a)
        other = tmp_path / "other.json"
        other.write_text(file.read_text().replace("testnet", "othernet"))
        with pytest.raises(ConfigError, match="'testnet'"):
            async with node(tmp_path / "b", other, memory, **{"mesh.invitation": given}):
                pass
        status, refused = await post(a, "join", token=given)
        assert (status, refused["error"]["param"]) == (422, "token")  # type: ignore[index]
        with pytest.raises(ConfigError) as error:
            async with node(tmp_path / "c", file, memory, **{"mesh.invitation": "nonsense"}):
                pass
        assert error.value.param == "mesh.invitation"


@pytest.mark.parametrize("seconds", [0, 31 * 86_400])
async def test_no_invitation_for_nothing_or_for_ever(tmp_path: Path, seconds: int) -> None:
    file, _ = network_file(tmp_path, NAMES, "a")
    async with node(tmp_path / "a", file, MemoryNetwork(seed=1)) as a:
        assert (await post(a, "invites", expires_secs=seconds))[0] == 422


async def test_before_the_mesh_is_up_it_is_said_to_come(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path, NAMES, "a")
    async with node(tmp_path / "a", file, MemoryNetwork(seed=1), **{"mesh.enabled": True}) as a:
        view, a.parts.membership.view = a.parts.membership.view, None
        guests, a.parts.membership.guests = a.parts.membership.guests, None
        status, refused = await post(a, "invites")
        assert (status, "not on the mesh yet" in refused["error"]["message"]) == (409, True)  # type: ignore[index]
        assert mesh_report(a.parts, owner=True).starting is True
        a.parts.membership.view, a.parts.membership.guests = view, guests
        assert mesh_report(a.parts, owner=True).starting is False


async def said(newcomer: Node) -> list[str]:
    async with asyncio.timeout(30):
        return [line async for line in newcomer.mesh.finding.guests.arrival.told()]


async def test_a_newcomer_is_told_what_was_granted_and_another_why_nothing_was(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path, NAMES, "a")
    memory = MemoryNetwork(seed=1)
    async with node(tmp_path / "a", file, memory) as a:
        came = {"mesh.invitation": await token(a)}
        async with node(tmp_path / "b", file, memory, **came) as b:
            (granted,) = await said(b)
            limit = a.parts.ledger.network.parameters.welcome_limit
            assert f"welcome line: {limit} TRM to spend, until 2" in granted
        async with node(tmp_path / "c", file, memory, **came) as c:
            (refused,) = await said(c)
            assert "this invitation has been used" in refused and "has no credit" in refused
        assert await said(a) == [], "it came by no invitation"
