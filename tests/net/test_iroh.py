"""What the QUIC endpoint promises beyond the contract: where it listens, what it tells of strangers and of mistakes."""

import asyncio
import socket
import time

import iroh
import pytest

from tests.waiting import until
from tirami.core.errors import ConfigError, NoCommonVersion, PeerUnreachable, PortTaken
from tirami.core.keys import SigningKey
from tirami.net import PeerAddress
from tirami.net.doorman import CROWDED, PER_HOST, host_of
from tirami.net.iroh import IrohEndpoint


async def sockets(bind: str) -> list[str]:
    endpoint = await IrohEndpoint.bind(SigningKey.generate(), bind)
    try:
        return [address.rpartition(":")[0] for address in endpoint._endpoint.bound_sockets()]
    finally:
        await endpoint.close()


async def test_it_listens_where_it_was_told_and_nowhere_else() -> None:
    assert set(await sockets("127.0.0.1:0")) <= {"127.0.0.1", "[::1]"}
    assert set(await sockets("[::1]:0")) <= {"127.0.0.1", "[::1]"}
    assert "0.0.0.0" in await sockets("0.0.0.0:0")


async def test_the_port_is_the_one_asked_for_and_can_be_taken() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(PortTaken, match=bind):
            await IrohEndpoint.bind(SigningKey.generate(), bind)
    endpoint = await IrohEndpoint.bind(SigningKey.generate(), bind)
    assert bind in endpoint.address().direct
    await endpoint.close()


@pytest.mark.parametrize("bind", ["", "nonsense", "127.0.0.1", "localhost:0", "127.0.0.1:70000", "::1:0"])
async def test_a_bind_address_that_is_none(bind: str) -> None:
    with pytest.raises(ConfigError, match="IP:PORT") as refused:
        await IrohEndpoint.bind(SigningKey.generate(), bind)
    assert refused.value.param == "mesh.bind"


async def test_relay_modes() -> None:
    with pytest.raises(ConfigError, match="off, n0 or the URL") as refused:
        await IrohEndpoint.bind(SigningKey.generate(), relay="nonsense")
    assert refused.value.param == "mesh.relay"
    off = await IrohEndpoint.bind(SigningKey.generate())
    own = await IrohEndpoint.bind(SigningKey.generate(), relay="http://127.0.0.1:9/")
    assert off.address().relay is None
    assert (await off.connect(own.address(), 5)).peer == own.key
    await off.close()
    await own.close()


async def test_a_peer_of_another_protocol() -> None:
    options = iroh.EndpointOptions(preset=iroh.preset_minimal(), bind_addr="127.0.0.1:0", alpns=[b"tirami/999"])
    stranger = await iroh.Endpoint.bind(options)
    endpoint = await IrohEndpoint.bind(SigningKey.generate())

    async def greet() -> None:
        incoming = await stranger.accept_next()
        assert incoming is not None
        with pytest.raises(iroh.IrohError):
            await (await incoming.accept()).connect()

    greeting = asyncio.create_task(greet())
    key = SigningKey.from_seed(stranger.secret_key().to_bytes()).public_key
    direct = tuple(way for way in stranger.addr().direct_addresses() if way.startswith("127."))
    with pytest.raises(NoCommonVersion, match="tirami/1"):
        await endpoint.connect(PeerAddress(key, direct), 5)
    await greeting
    await endpoint.close()
    await stranger.close()


async def test_a_one_way_stream_ends_the_connection() -> None:
    a, b = await IrohEndpoint.bind(SigningKey.generate()), await IrohEndpoint.bind(SigningKey.generate())
    dialled = await a.connect(b.address(), 5)
    stream = await dialled._connection.open_uni()
    await stream.write_all(b"x")
    assert await asyncio.wait_for(dialled.closed(), 5) == "one-way streams are not spoken here"
    await a.close()
    await b.close()


async def test_names_are_looked_up() -> None:
    a, b = await IrohEndpoint.bind(SigningKey.generate()), await IrohEndpoint.bind(SigningKey.generate())
    port = next(way for way in b.address().direct if way.startswith("127.")).rpartition(":")[2]
    address = PeerAddress(b.key, (f"localhost:{port}", f"no-such-name.invalid:{port}"))
    assert (await a.connect(address, 5)).peer == b.key
    with pytest.raises(PeerUnreachable, match="cannot be reached"):
        await a.connect(PeerAddress(SigningKey.generate().public_key, ("no-such-name.invalid:1",)), 5)
    with pytest.raises(PeerUnreachable):
        await a.connect(PeerAddress(SigningKey.generate().public_key), 1)
    await a.close()
    await b.close()


async def test_a_peer_that_only_starts_handshakes_holds_nobody_up() -> None:
    """Datagrams of nonsense, and dials that are dropped half way, while an honest peer dials.

    With backtraces in errors each takes 0.2 s of the event loop, which is why ``tirami.net.bindings`` forbids them.
    """
    a, b = await IrohEndpoint.bind(SigningKey.generate()), await IrohEndpoint.bind(SigningKey.generate())
    host, _, port = next(way for way in b.address().direct if way.startswith("127.")).rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
        for number in range(500):
            noise.sendto(bytes([0xC0 | number % 64]) + bytes(1199), (host, int(port)))
    strangers = [await IrohEndpoint.bind(SigningKey.generate()) for _ in range(5)]
    dials = [asyncio.create_task(stranger.connect(b.address(), 5)) for stranger in strangers for _ in range(20)]
    await asyncio.sleep(0.01)
    for dial in dials:
        dial.cancel()
    await asyncio.gather(*dials, return_exceptions=True)
    began = time.monotonic()
    honest = asyncio.create_task(a.connect(b.address(), 5))
    while (arrived := await asyncio.wait_for(b.accept(), 5)) is not None:
        if arrived.peer == a.key:
            break
    assert (await honest).peer == b.key
    assert time.monotonic() - began < 2
    for endpoint in (a, b, *strangers):
        await endpoint.close()


@pytest.mark.parametrize(("hosts", "taken"), [(100, CROWDED), (1, PER_HOST)])
async def test_half_open_handshakes_hold_nobody_up(hosts: int, taken: int) -> None:
    """A hundred first datagrams of real dials, sent on from so many addresses; none of them goes on."""
    a, b = await IrohEndpoint.bind(SigningKey.generate()), await IrohEndpoint.bind(SigningKey.generate())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        sink.setblocking(False)
        nowhere = PeerAddress(b.key, (f"127.0.0.1:{sink.getsockname()[1]}",))
        dialler = await IrohEndpoint.bind(SigningKey.generate())
        initials: dict[bytes, bytes] = {}
        dials = []
        while len(initials) < 100:
            dials += [asyncio.create_task(dialler.connect(nowhere, 60)) for _ in range(10)]
            await asyncio.sleep(0.05)
            while True:
                try:
                    datagram = sink.recv(2000)
                except BlockingIOError:
                    break
                initials[datagram[6 : 6 + datagram[5]]] = datagram  # by destination connection id
    target = next(way for way in b.address().direct if way.startswith("127.")).split(":")
    for number, datagram in enumerate(list(initials.values())[:100]):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
            source.bind((f"127.0.1.{number % hosts + 1}", 0))
            source.sendto(datagram, (target[0], int(target[1])))
    await until(lambda: b._doorman._taken == taken)
    await asyncio.sleep(0.1)
    assert b._doorman._taken == taken
    assert (await a.connect(b.address(), 2)).peer == b.key
    for dial in dials:
        dial.cancel()
    await asyncio.gather(*dials, return_exceptions=True)
    for endpoint in (a, b, dialler):
        await endpoint.close()


def test_one_host_is_what_one_person_has() -> None:
    assert host_of("203.0.113.7:1") == "203.0.113.7"
    assert host_of("[2001:db8:1:2:3::4]:5") == host_of("[2001:db8:1:2:9::]:6") == "2001:db8:1:2::/64"
    assert host_of("[::ffff:203.0.113.7]:1") == "203.0.113.7"
    assert host_of("[fe80::1%3]:1") == "fe80::/64"
