"""A relay on loopback for tests: it forwards what real endpoints of ``iroh`` hand it, between those that wait at it.

A stand-in, no server for strangers: it speaks the relay protocol over plain HTTP, believes every key it is told, and
bounds nothing. Datagrams come and go unread, as they do with a real one; they are encrypted for the peer.

Source: the protocol of ``iroh-relay`` (frames over WebSocket; the type first, as a QUIC integer of one byte).
"""

import secrets
from types import TracebackType
from typing import Self

from aiohttp import WSMsgType, web

CHALLENGE, AUTH, CONFIRMED = 0, 1, 2
TO_RELAY, FROM_RELAY = (4, 5), (6, 7)
"""One datagram, and several: 32 bytes of key, then what is passed on unread."""
GONE, PING, PONG = 8, 9, 10
_KEY = 32


class Relay:
    """An async context manager. Once entered, endpoints find it at :attr:`url`.

    Attributes:
        datagrams: how often something was passed on, by sender and receiver.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._host, self._port = host, port
        self._waiting: dict[bytes, web.WebSocketResponse] = {}
        self._runner: web.AppRunner | None = None
        self.datagrams: dict[tuple[bytes, bytes], int] = {}

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}/"

    @property
    def keys(self) -> frozenset[bytes]:
        """Who waits here now."""
        return frozenset(self._waiting)

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_get("/relay", self._serve)
        application.router.add_get("/ping", _here)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        for socket in list(self._waiting.values()):
            await socket.close()
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("iroh-relay-v2", "iroh-relay-v1"), max_msg_size=1 << 20)
        await socket.prepare(request)
        await socket.send_bytes(bytes([CHALLENGE]) + secrets.token_bytes(16))
        answer = await socket.receive_bytes(timeout=10)
        if answer[0] != AUTH:
            await socket.close()
            return socket
        key = answer[1 : 1 + _KEY]
        self._waiting[key] = socket
        await socket.send_bytes(bytes([CONFIRMED]))
        try:
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    await self._forward(key, socket, message.data)
        finally:
            if self._waiting.get(key) is socket:
                del self._waiting[key]
        return socket

    async def _forward(self, sender: bytes, socket: web.WebSocketResponse, frame: bytes) -> None:
        kind, rest = frame[0], frame[1:]
        if kind == PING:
            await socket.send_bytes(bytes([PONG]) + rest)
        elif kind in TO_RELAY:
            receiver, datagrams = rest[:_KEY], rest[_KEY:]
            there = self._waiting.get(receiver)
            if there is None or there.closed:
                await socket.send_bytes(bytes([GONE]) + receiver)
                return
            self.datagrams[sender, receiver] = self.datagrams.get((sender, receiver), 0) + 1
            await there.send_bytes(bytes([FROM_RELAY[TO_RELAY.index(kind)]]) + sender + datagrams)


async def _here(_: web.Request) -> web.Response:
    return web.Response()
