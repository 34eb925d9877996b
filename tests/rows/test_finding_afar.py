"""Finding each other without having met: real nodes that know a Nostr relay or a domain name, and nothing else."""

import asyncio
import json
import socket
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import nostr_sdk as sdk
import pytest

from tests.net.test_nostr import publish
from tests.rows.meshes import homes
from tests.rows.test_finding import met, said, tirami
from tests.rows.test_l1 import wait_until
from tests.soak.test_hosts import can_play
from tirami.core.clock import SystemClock
from tirami.core.keys import SigningKey
from tirami.core.units import UnixMs
from tirami.net import PeerAddress, adverts
from tirami.net.addressbook import Trust
from tirami.proto import Advert, encode, sign

HOUR_MS = 3_600_000


class Relay:
    """A Nostr relay on loopback that can go, forget everything and come back."""

    def __init__(self) -> None:
        self._running = _relay()
        self.url = str(asyncio.run(self._running.url()))

    def begin_anew(self) -> None:
        self.close()
        port = int(self.url.rpartition(":")[2])
        wait_until(lambda: not _taken(port), 10)
        self._running = _relay(port)

    def close(self) -> None:
        self._running.shutdown()


def _relay(port: int | None = None) -> sdk.LocalRelay:
    builder = sdk.LocalRelayBuilder().addr("127.0.0.1")
    running = (builder if port is None else builder.port(port)).build()
    asyncio.run(running.run())
    return running


def _taken(port: int) -> bool:
    with socket.socket() as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            end.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


@pytest.fixture
def relay() -> Iterator[Relay]:
    running = Relay()
    yield running
    running.close()


@pytest.mark.row("L0-08")
@pytest.mark.timeout(240)
def test_nodes_that_know_a_relay_only_meet_and_so_does_who_comes_after_it_forgot_them(
    tmp_path: Path, relay: Relay, record_property: Callable[[str, object], None]
) -> None:
    """The first calls nobody: the others can only have it from the relay."""
    made = homes(tmp_path, 3)
    settings = {"TIRAMI_MESH_NOSTR": relay.url}
    with made.node(0, **settings, TIRAMI_MESH_PEERS="0") as first:
        with made.node(1, **settings) as second, second.admin() as client:
            wait_until(lambda: met(second, made.keys[0]) and met(first, made.keys[1]), 40)
            took = (said(second, "peer_connected", peer=made.keys[0]) or 0) - (said(second, "mesh_joined") or 0)
            record_property("figure", f"connected {took:.2f} s after the start, over a Nostr relay on loopback")
            (peer,) = client.peers().peers
            assert (peer.node_id, peer.connected, peer.dialled) == (made.keys[0], True, True)
            (link,) = client.topology().links
            assert link.address in link.listening and not link.kept, "it was found, not named by the owner"
        relay.begin_anew()
        with made.node(2, **settings) as third:
            wait_until(lambda: met(third, made.keys[0]), 90)


def advert(node: SigningKey, port: int, signer: SigningKey | None = None, **changed: object) -> str:
    """Of a node at this port of loopback, as it stands at a relay."""
    fields = {"network": "testnet", "node": node.public_key, "addresses": (f"127.0.0.1:{port}",)}
    fields |= {"lifetime_ms": HOUR_MS, "at_ms": SystemClock().now_ms()} | changed
    record = Advert(**fields)  # type: ignore[arg-type]
    return as_text(encode(record), sign(record, signer or node))


def as_text(body: bytes, signature: bytes) -> str:
    return json.dumps({"advert": b64encode(body).decode(), "signature": b64encode(signature).decode()})


def moved(node: SigningKey, port: int) -> str:
    """What the node signed, with another port, as long, put into it."""
    own = PeerAddress(node.public_key, ("127.0.0.1:10001",))
    written = adverts.write(own, "testnet", node, SystemClock().now_ms(), Trust.NEAR)
    assert written is not None
    honest = {name: b64decode(text) for name, text in json.loads(written).items()}
    return as_text(honest["advert"].replace(b"127.0.0.1:10001", b"127.0.0.1:%d" % port), honest["signature"])


@pytest.mark.row("L0-08")
def test_an_advert_its_node_did_not_sign_or_that_is_over_has_nobody_called(tmp_path: Path, relay: Relay) -> None:
    """Each names a port of its own; so does a true one, whose port is called. Who is called must hold the key."""
    now = SystemClock().now_ms()
    false: dict[str, Callable[[SigningKey, int], str]] = {
        "signed by another key": lambda node, port: advert(node, port, SigningKey.generate()),
        "altered": moved,
        "expired": lambda node, port: advert(node, port, at_ms=UnixMs(now - HOUR_MS - 1)),
        "of tomorrow": lambda node, port: advert(node, port, at_ms=UnixMs(now + 24 * HOUR_MS)),
        "of another network": lambda node, port: advert(node, port, network="othernet"),
    }
    made = homes(tmp_path)
    with ExitStack() as stack:
        first = stack.enter_context(made.node(0))
        address = json.loads(tirami(first, "invite", "--json").stdout)["addresses"][0]
        ends = {name: stack.enter_context(_socket()) for name in (*false, "true")}
        for name, write in false.items():
            asyncio.run(publish(relay.url, write(SigningKey.generate(), ends[name].getsockname()[1])))
        named, liar = SigningKey.generate(), SigningKey.generate()
        asyncio.run(publish(relay.url, advert(named, ends["true"].getsockname()[1])))
        asyncio.run(publish(relay.url, advert(liar, int(address.rpartition(":")[2]))))
        second = stack.enter_context(made.node(1, TIRAMI_MESH_NOSTR=relay.url))
        reason = f"whoever answers at {liar.public_key.hex()}@{address} does not hold its key"
        wait_until(lambda: said(second, "hint_in_vain", peer=liar.public_key.hex(), reason=reason) is not None, 40)
        wait_until(lambda: called(ends["true"]), 20)
        with second.admin() as client:
            assert client.peers().connected == 0
        assert second.log().count("advert_ignored") >= len(false)
        assert second.stop() == 0
        assert [name for name in false if called(ends[name])] == []
        book = json.loads((second.data_dir / "peers.json").read_text())["peers"]
        assert {entry["address"][:64] for entry in book} <= {named.public_key.hex(), liar.public_key.hex()}


def _socket() -> socket.socket:
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.bind(("127.0.0.1", 0))
    end.setblocking(False)
    return end


def called(end: socket.socket) -> bool:
    """Whether a datagram has come."""
    try:
        return bool(end.recv(2_048))
    except BlockingIOError:
        return False


@pytest.mark.row("L0-08")
@pytest.mark.timeout(240)
@pytest.mark.skipif(not can_play, reason="this machine lets nobody make network namespaces")
def test_nodes_at_public_addresses_meet_by_the_name_of_a_relay_and_by_a_domain(tmp_path: Path) -> None:
    """What stands of private addresses where anybody writes is not believed; a liar in the DNS proves no key."""
    command = ["unshare", "-rnm", sys.executable, "-m", "tests.rows.afar", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=220)
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(done.stdout)
    assert figures["over_a_relay"] == figures["by_name"] == [figures["first"]]
