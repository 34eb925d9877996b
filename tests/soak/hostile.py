"""A peer that does everything wrong, over real QUIC: each method one kind of attack, counted in frames."""

import asyncio
import os
import struct
import time
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from tests.proto.samples import TRANSFER
from tirami.core.errors import MeshError
from tirami.core.keys import SigningKey
from tirami.ledger.columns import RecordIds
from tirami.net import Connection, PeerAddress, Stream
from tirami.net.frames import encode as framed
from tirami.net.hello import Identity, Remembered
from tirami.net.idset import IdSet
from tirami.net.iroh import IrohEndpoint
from tirami.net.reconciliation import Reconciliation
from tirami.proto import (
    Ask,
    BlockWanted,
    Envelope,
    HeadSeen,
    Message,
    NetworkFile,
    Offering,
    Ping,
    Reconcile,
    Records,
    Signal,
    SignalSeen,
    SignedBody,
    encode,
    sign,
)

HEADER = struct.Struct(">HI")
GIVEN_UP = (MeshError, TimeoutError)


def raw(kind: int, body: bytes, length: int | None = None) -> bytes:
    return HEADER.pack(kind, len(body) if length is None else length) + body


BREACHES: Sequence[bytes] = (
    os.urandom(64),
    raw(Records.TYPE, b"\xdd\xff\xff\xff\xff"),
    raw(Records.TYPE, b"\x91" * 4_000 + b"\x90"),
    raw(Records.TYPE, b"\x91\xdd\x00\x03\xff\xff" + b"\xc0" * 0x3FFFF),
    raw(Ping.TYPE, b"", 0xFFFF_FFFF),
    raw(Records.TYPE, b"", 600_000),
    raw(0x7ABC, b"\x90"),
    raw(HeadSeen.TYPE, b"\x93\x92\xc4\x00\xc4\x00\x00\xc4\x00"),
)
"""Frames each of which ends a connection: garbage, bombs, promises, lengths, a type nobody knows."""


class Hostile:
    """One key after another, at one node.

    Attributes:
        frames: sent so far.
        made: payloads whose signatures were made beforehand, so that making them slows nothing down.
    """

    def __init__(self, victim: PeerAddress, network: NetworkFile) -> None:
        self._victim = victim
        self._network = network
        self.frames = 0
        self.signals = [self._signal(number) for number in range(1_500)]
        self.records = [self._record(number) for number in range(1_500)]

    async def breaches(self, count: int) -> None:
        """A new key, a hello, a frame that is none: over and over."""
        for number in range(count):
            with suppress(*GIVEN_UP):
                async with asyncio.timeout(10):
                    await self._say(BREACHES[number % len(BREACHES)])

    async def flood(self) -> None:
        """Valid messages without end, on one connection: pings, optional types, signals, unfunded records."""
        endpoint, _, stream = await self._met()
        try:
            for message in (*self.signals, *self.records, *(Ping(number) for number in range(100))):
                await self._write(stream, framed(message))
            for _ in range(500):
                await self._write(stream, raw(0x9000, bytes(60_000)))
        except GIVEN_UP:
            pass
        finally:
            await endpoint.close()

    async def half_open(self, count: int) -> None:
        """Streams with nothing, one byte, half a frame, and those that are filled and never read."""
        endpoint, connection, _ = await self._met()
        starts = (b"", b"\x00", raw(Ask.TYPE, b"", 190_000), raw(Ask.TYPE, bytes(180_000), 190_000), bytes(1_200_000))
        try:
            for number in range(count):
                stream = await self._opened(connection)
                if stream is not None:
                    with suppress(*GIVEN_UP):
                        async with asyncio.timeout(0.5):
                            await self._write(stream, starts[number % len(starts)])
        finally:
            await endpoint.close()

    async def slow_readers(self, count: int) -> None:
        """Questions whose answers are never read."""
        endpoint, connection, _ = await self._met()
        asks: Sequence[Message] = (BlockWanted(bytes(32)), Reconcile(bytes(60_000)), self._ask())
        try:
            for number in range(count):
                stream = await self._opened(connection)
                if stream is not None:
                    with suppress(*GIVEN_UP):
                        async with asyncio.timeout(0.5):
                            await self._write(stream, framed(asks[number % len(asks)]))
            await asyncio.sleep(5)
        finally:
            await endpoint.close()

    async def polite(self) -> None:
        """For once: a hello, a comparison of books, and good-bye."""
        endpoint, connection, _ = await self._met()
        comparison = await connection.open()
        await self._write(comparison, framed(Reconcile(Reconciliation(IdSet(RecordIds())).begin())))
        await asyncio.sleep(2)
        await endpoint.close()

    # --- its means -----------------------------------------------------------------------------------------------

    async def _say(self, frame: bytes) -> None:
        endpoint, _, stream = await self._met()
        try:
            await self._write(stream, frame)
            await stream.read(1 << 20)  # until it is closed
        finally:
            await endpoint.close()

    async def _met(self) -> tuple[IrohEndpoint, Connection, Stream]:
        endpoint = await IrohEndpoint.bind(SigningKey.generate())
        try:
            connection = await endpoint.connect(self._victim, 10)
            stream = await connection.open()
            await self._write(stream, framed(Identity(self._network, "hostile").hello(Remembered())))
            return endpoint, connection, stream
        except BaseException:
            await endpoint.close()
            raise

    async def _opened(self, connection: Connection) -> Stream | None:
        try:
            async with asyncio.timeout(0.5):
                return await connection.open()
        except GIVEN_UP:
            return None

    async def _write(self, stream: Stream, data: bytes) -> None:
        self.frames += 1
        await stream.write(data)

    def _signal(self, number: int) -> SignalSeen:
        key = SigningKey.generate()
        offering = Offering(
            name=f"model-{number}",
            model_digest=os.urandom(32),
            tokenizer_digest=os.urandom(32),
            context_length=4_096,
            parameters=10**9,
            active_parameters=10**9,
            layers=16,
            hidden=2_048,
            quantization="Q8_0",
            price_in=1,
            price_out=1,
        )
        signal = Signal(
            network=self._network.id,
            node=key.public_key,
            demand_ppm=1_000_000,
            free_tokens=10**6,
            slots=4,
            audit_tier=0,
            features=(),
            models=(offering,) * 60,
            lifetime_ms=600_000,
            at_ms=_now(),
        )
        return SignalSeen(SignedBody(encode(signal), sign(signal, key)))

    def _record(self, number: int) -> Records:
        payer = SigningKey.generate()
        changed = {"network": self._network.id, "payer": payer.public_key, "number": number + 1, "amount": 10}
        body = msgspec.structs.replace(TRANSFER, **changed, to=SigningKey.generate().public_key, incarnation=0)
        return Records((Envelope("transfer", encode(body), (sign(body, payer),), ()),))

    def _ask(self) -> Ask:
        return Ask(
            request_id="x",
            payer=SigningKey.generate().public_key,
            model_digest=os.urandom(32),
            prompt=tuple(range(16_000)),
            max_tokens=100,
            seed=1,
            temperature_ppm=0,
            top_p_ppm=1_000_000,
            top_k=0,
            shaping=b"",
            nonce=os.urandom(32),
            max_price_in=1,
            max_price_out=1,
        )


def _now() -> int:
    return time.time_ns() // 1_000_000
