"""The transport over QUIC: ``iroh`` endpoints whose identity is the node key (RFC 9000, RFC 7250).

Importing this module loads the library (about 20 MB); a node without a mesh does not. What the bindings ask for:

- A foreign call that is cancelled is dropped with the bytes it may already hold, and one that is not holds the lock of
  its half stream. So reads and writes run as tasks of their connection; who waits for one may be cancelled without
  it, and a reset ends it first.
- ``bind_addr`` binds one address family and leaves the other on its wildcard: asked for 127.0.0.1, it would also
  listen on ``[::]``. Here the other family is bound to loopback.
- An error captures a backtrace where ``RUST_BACKTRACE`` is set, and writing that out takes 0.1 to 0.2 s *of the event
  loop*: a stranger who breaks off handshakes could hold a node with them. So errors capture none; panics still do.
- A stream half that Python lets go is finished in good order. The connection keeps every stream that was not finished
  or reset, so that a handler which fails does not look as if it had said all.
"""

import asyncio
import os
import re
from collections.abc import Coroutine
from contextlib import suppress
from ipaddress import IPv4Address
from typing import Any, Self, TypeVar

os.environ.setdefault("RUST_LIB_BACKTRACE", "0")  # read by the library at its first error

import iroh
import iroh.iroh_ffi as _ffi

from tirami.core.errors import ConfigError, ConnectionLost, InvalidField, NoCommonVersion, PeerUnreachable, PortTaken
from tirami.core.keys import PublicKey, SigningKey, is_acceptable_point
from tirami.core.uninterrupted import uninterrupted
from tirami.net.address import MAX_WAYS, HostPort, PeerAddress
from tirami.net.bindings import repair
from tirami.net.inflow import Inflow
from tirami.net.transport import ALPN, MAX_REASON

T = TypeVar("T")

repair(_ffi)

READ_CHUNK = 64 * 1024
WRITE_CHUNK = 256 * 1024
"""Bytes of one foreign call; each is copied once on either side of it."""
HANDSHAKES = 64
"""Incoming connections that shake hands or wait for ``accept``; further ones wait in the library."""
HANDSHAKE_S = 10.0
_RESET = 1
_CLOSED_BY_PEER = re.compile(r"closed by peer: (.*) \(code \d+\)\Z", re.DOTALL)


class IrohStream:
    """A bidirectional QUIC stream; see :class:`tirami.net.transport.Stream`."""

    def __init__(self, connection: "IrohConnection", both: iroh.BiStream) -> None:
        self._connection = connection
        self._send = both.send()
        self._recv = both.recv()
        self._inflow = Inflow(self._more)
        self._reading: asyncio.Task[bytes] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._reset = False
        connection.unfinished.add(self)

    async def read(self, size: int) -> bytes:
        return await self._inflow.read(size)

    async def write(self, data: bytes) -> None:
        self._check()
        self._writing = self._connection.task(self._push(data))
        try:
            await asyncio.wait({self._writing})
        except asyncio.CancelledError:
            await uninterrupted(self.reset())
            raise
        self._outcome(self._writing)

    async def finish(self) -> None:
        self._check()
        try:
            await self._send.finish()
        except iroh.IrohError as error:
            raise self._lost(error) from error
        self._connection.unfinished.discard(self)

    async def reset(self) -> None:
        self._reset = True
        self._connection.unfinished.discard(self)
        under_way: set[asyncio.Task[Any]] = {task for task in (self._reading, self._writing) if task is not None}
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way)
        with suppress(iroh.IrohError):
            await self._send.reset(_RESET)
        with suppress(iroh.IrohError):
            await self._recv.stop(_RESET)

    async def _more(self) -> bytes:
        self._check()
        if self._reading is None:
            self._reading = self._connection.task(self._recv.read(READ_CHUNK))
        await asyncio.wait({self._reading})
        finished, self._reading = self._reading, None
        return self._outcome(finished)

    async def _push(self, data: bytes) -> None:
        with memoryview(data) as view:
            for start in range(0, len(view), WRITE_CHUNK):
                await self._send.write_all(bytes(view[start : start + WRITE_CHUNK]))

    def _outcome(self, task: asyncio.Task[T]) -> T:
        if task.cancelled():
            raise ConnectionLost("this side reset the stream")
        try:
            return task.result()
        except iroh.IrohError as error:
            raise self._lost(error) from error

    def _check(self) -> None:
        if self._reset:
            raise ConnectionLost("this side reset the stream")

    def _lost(self, error: iroh.IrohError) -> ConnectionLost:
        what = error.message()
        if what.startswith(("Reset(", "Stopped(")):
            return ConnectionLost("the peer reset the stream")
        if what.startswith("ClosedStream"):
            return ConnectionLost("the stream is finished or reset")
        return self._connection.lost(error)


class IrohConnection:
    """A QUIC connection; see :class:`tirami.net.transport.Connection`.

    Its one owner is the task that waits for its end: it collects every read and write still under way, and the
    endpoint waits for it.
    """

    def __init__(self, connection: iroh.Connection, *, dialled: bool) -> None:
        self._connection = connection
        self._dialled = dialled
        self._peer = PublicKey(connection.remote_id().to_bytes())
        self._own_reason: str | None = None
        self.unfinished: set[IrohStream] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._accepting: asyncio.Task[iroh.BiStream] | None = None
        self.end = asyncio.create_task(self._until_closed(), name=f"mesh connection {self._peer.hex()[:8]}")

    @property
    def peer(self) -> PublicKey:
        return self._peer

    @property
    def dialled(self) -> bool:
        return self._dialled

    @property
    def remote(self) -> str | None:
        return next((path.remote_addr for path in self._connection.paths() if path.is_selected and path.is_ip), None)

    @property
    def rtt_ms(self) -> int | None:
        return self._connection.rtt()

    async def open(self) -> IrohStream:
        try:
            return IrohStream(self, await self._connection.open_bi())
        except iroh.IrohError as error:
            raise self.lost(error) from error

    async def accept(self) -> IrohStream:
        if self._accepting is None:
            self._accepting = self.task(self._connection.accept_bi())
        await asyncio.wait({self._accepting})
        finished, self._accepting = self._accepting, None
        try:
            return IrohStream(self, finished.result())
        except iroh.IrohError as error:
            raise self.lost(error) from error

    def close(self, reason: str) -> None:
        if self._own_reason is None and self._connection.close_reason() is None:
            self._own_reason = reason
            self._connection.close(0, reason.encode()[:MAX_REASON])

    async def closed(self) -> str:
        return await asyncio.shield(self.end)

    def task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A foreign call under way, collected at the end of the connection."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._collect)
        return task

    def _collect(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # who still waits for it is told; when nobody does, that is no fault

    def lost(self, error: iroh.IrohError) -> ConnectionLost:
        """What a foreign error means here: the reason of the close, where there was one."""
        cause = self._connection.close_reason()
        return ConnectionLost(error.message() if cause is None else f"the connection is closed: {self._reason(cause)}")

    def _reason(self, cause: str) -> str:
        if self._own_reason is not None:
            return self._own_reason
        by_peer = _CLOSED_BY_PEER.match(cause)
        return (by_peer[1] if by_peer else cause)[:MAX_REASON]

    async def _until_closed(self) -> str:
        cause = await self._connection.closed()
        while self._tasks:  # each fails now, of itself
            await asyncio.wait(self._tasks)
        self.unfinished.clear()
        return self._reason(cause)


class IrohEndpoint:
    """This node on QUIC; see :class:`tirami.net.transport.Endpoint`. Made by :meth:`bind`."""

    def __init__(self, endpoint: iroh.Endpoint, key: PublicKey) -> None:
        self._endpoint = endpoint
        self._key = key
        self._connections: set[IrohConnection] = set()
        self._arrived: asyncio.Queue[IrohConnection | None] = asyncio.Queue()
        self._places = asyncio.Semaphore(HANDSHAKES)
        self._closing = False
        self._doorman = asyncio.create_task(self._admit(), name="mesh accept")

    @classmethod
    async def bind(cls, key: SigningKey, bind: str = "127.0.0.1:0", relay: str = "off") -> Self:
        """Listen.

        Args:
            key: the node key; peers know this endpoint by its public half.
            bind: ``IP:PORT`` of the UDP socket, port 0 for any; 0.0.0.0 and [::] for every interface.
            relay: ``off``: direct addresses only, no third party is asked anything; ``n0``: the public relays and
                address lookup of number 0; otherwise the URL of a relay.

        Raises ``PortTaken`` when it cannot listen there, ``ConfigError`` when either value makes no sense.
        """
        addresses = _bind_addresses(bind)
        for attempt in (addresses, addresses[:1]):  # without IPv6 on the machine there is no [::1] to bind
            try:
                return cls(await _builder(key, attempt, relay).bind(), key.public_key)
            except iroh.IrohError as error:
                cause = error
        raise PortTaken(f"{bind} cannot be bound: {cause.message()}") from cause

    @property
    def key(self) -> PublicKey:
        return self._key

    def address(self) -> PeerAddress:
        found = self._endpoint.addr()
        direct = [way for way in found.direct_addresses() if "%" not in way]  # of one interface: of use to nobody else
        return PeerAddress(self._key, tuple(direct[:MAX_WAYS]), found.relay_url())

    async def connect(self, address: PeerAddress, timeout_s: float) -> IrohConnection:
        if self._closing:
            raise PeerUnreachable("this endpoint is closed")
        if address.key == self._key:
            raise PeerUnreachable("that is this node itself")
        try:
            async with asyncio.timeout(timeout_s):
                target = iroh.EndpointAddr(
                    iroh.EndpointId.from_bytes(address.key), address.relay, await _resolved(address.direct)
                )
                connection = await self._endpoint.connect(target, ALPN)
        except TimeoutError as error:
            raise PeerUnreachable(f"{address} did not answer within {timeout_s:g} s") from error
        except (iroh.IrohError, OSError) as error:
            raise _unreachable(address, error) from error
        return self._own(connection, dialled=True)

    async def accept(self) -> IrohConnection | None:
        connection = await self._arrived.get()
        if connection is None or self._closing:
            self._arrived.put_nowait(None)  # for whoever asks next
            return None
        self._places.release()
        return connection

    async def close(self) -> None:
        self._closing = True
        for connection in self._connections:
            connection.close("the endpoint is closed")
        await self._endpoint.close()
        await asyncio.wait({self._doorman, *(connection.end for connection in self._connections)})
        await self._doorman

    def _own(self, connection: iroh.Connection, *, dialled: bool) -> IrohConnection:
        owned = IrohConnection(connection, dialled=dialled)
        self._connections.add(owned)
        owned.end.add_done_callback(lambda _: self._connections.discard(owned))
        return owned

    async def _admit(self) -> None:
        """Shake hands with whoever dials, many at a time, until the endpoint is closed."""
        try:
            async with asyncio.TaskGroup() as handshakes:
                while (incoming := await self._endpoint.accept_next()) is not None:
                    await self._places.acquire()
                    handshakes.create_task(self._greet(incoming))
        finally:
            self._arrived.put_nowait(None)

    async def _greet(self, incoming: iroh.Incoming) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                connection = await (await incoming.accept()).connect()
        except (TimeoutError, iroh.IrohError):
            self._places.release()
            return
        if self._closing or not is_acceptable_point(connection.remote_id().to_bytes()):
            connection.close(0, b"")
            self._places.release()
            return
        self._arrived.put_nowait(self._own(connection, dialled=False))


def _builder(key: SigningKey, addresses: list[str], relay: str) -> iroh.EndpointBuilder:
    builder = iroh.EndpointBuilder()  # type: ignore[no-untyped-call]
    try:
        if relay == "n0":
            builder.apply_n0()
        else:
            builder.apply_minimal()
            mode = iroh.RelayMode.disabled() if relay == "off" else iroh.RelayMode.custom_from_urls([relay])
            builder.relay_mode(mode)
    except iroh.IrohError as error:
        raise ConfigError(f"{relay!r} is not off, n0 or the URL of a relay", param="net.relay") from error
    builder.secret_key(key.seed)
    builder.alpns([ALPN])
    for address in addresses:
        builder.bind_addr(address)
    return builder


def _bind_addresses(bind: str) -> list[str]:
    try:
        own = HostPort.parse(bind, lowest_port=0)
    except InvalidField as error:
        raise ConfigError(f"a bind address is IP:PORT: {error.message}", param="net.bind") from error
    if own.ip is None:
        raise ConfigError(f"a bind address is IP:PORT, and {own.host} is a name", param="net.bind")
    if own.ip.is_unspecified:
        return [str(own)]
    return [str(own), "[::1]:0" if isinstance(own.ip, IPv4Address) else "127.0.0.1:0"]


async def _resolved(direct: tuple[str, ...]) -> list[str]:
    """Direct addresses with every name looked up. A name that is not found is one way less, unless it is the last."""
    loop = asyncio.get_running_loop()
    found: list[str] = []
    missing: OSError | None = None
    for way in map(HostPort.parse, direct):
        if way.ip is not None:
            found.append(str(way))
            continue
        try:
            answers = await loop.getaddrinfo(way.host, way.port)
        except OSError as error:
            missing = error
            continue
        hosts = dict.fromkeys(str(answer[4][0]) for answer in answers)
        found += [f"[{host}]:{way.port}" if ":" in host else f"{host}:{way.port}" for host in hosts if "%" not in host]
    if missing is not None and not found:
        raise missing
    return found


def _unreachable(address: PeerAddress, error: iroh.IrohError | OSError) -> PeerUnreachable | NoCommonVersion:
    what = error.message() if isinstance(error, iroh.IrohError) else str(error)
    if "known protocol" in what:
        return NoCommonVersion(f"{address} does not speak {ALPN.decode()}")
    if "peer certificate" in what:
        return PeerUnreachable(f"whoever answers at {address} does not hold its key")
    return PeerUnreachable(f"{address} cannot be reached: {what.splitlines()[-1].strip()}")
