"""Frames: what is written is read, and nothing a peer sends does more than end its own stream."""

import asyncio
import resource
import tracemalloc
from typing import Annotated, Any, ClassVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.net.conftest import Net
from tirami.core.errors import ConnectionLost, StreamEnded, WireError
from tirami.net import FrameReader, FrameWriter, Stream, registry
from tirami.net.frames import OPTIONAL_LIMIT, decode, encode
from tirami.net.inflow import Inflow
from tirami.net.packed import MAX_DEPTH, check_outline
from tirami.proto import Message
from tirami.testing import run_virtually


class Ping(Message):
    TYPE: ClassVar[int] = 1
    LIMIT: ClassVar[int] = 64

    number: Annotated[int, msgspec.Meta(ge=0)]


class Parcel(Message):
    TYPE: ClassVar[int] = 0x0102
    LIMIT: ClassVar[int] = 4096

    name: Annotated[str, msgspec.Meta(max_length=64)]
    data: bytes
    tags: tuple[str, ...]
    sizes: dict[str, int]
    note: float | None = None


class Tree(Message):
    TYPE: ClassVar[int] = 7
    LIMIT: ClassVar[int] = 1 << 20

    value: Any


class Gossip(Message):
    TYPE: ClassVar[int] = 0x8001
    LIMIT: ClassVar[int] = 16

    word: str


KNOWN = registry(Ping, Parcel, Tree)


class Bytes:
    """A peer that has sent this, in pieces, and then finishes, falls silent or breaks off."""

    def __init__(self, data: bytes, piece: int = 7, then: str = "finish", pause_s: float = 0.0) -> None:
        self._data, self._piece, self._then, self._pause_s = data, piece, then, pause_s
        self.asked: list[int] = []
        self._inflow = Inflow()

    async def _more(self) -> bytes:
        if self._pause_s:
            await asyncio.sleep(self._pause_s)
        if not self._data and self._then == "silence":
            await asyncio.Event().wait()
        if not self._data and self._then == "break":
            raise ConnectionLost("broken")
        piece, self._data = self._data[: self._piece], self._data[self._piece :]
        return piece

    async def read(self, size: int) -> bytes:
        self.asked.append(size)
        return await self._inflow.read(size, self._more)

    async def write(self, data: bytes) -> None: ...

    async def finish(self) -> None: ...

    async def reset(self) -> None: ...


def read_all(stream: Stream, known: Any = KNOWN, frame_s: float = 10) -> list[Message]:
    async def reading() -> list[Message]:
        reader, found = FrameReader(stream, known, frame_s), []
        try:
            while True:
                found.append(await reader.read())
        except StreamEnded:
            return found

    return run_virtually(reading())


def frame(kind: int, body: bytes, length: int | None = None) -> bytes:
    return kind.to_bytes(2, "big") + (len(body) if length is None else length).to_bytes(4, "big") + body


def parcel(name: str, size: int) -> Parcel:
    return Parcel(name, bytes(size), (), {})


words = st.text(max_size=16)
messages = st.one_of(
    st.builds(Ping, st.integers(0, 2**64 - 1)),
    st.builds(
        Parcel,
        words,
        st.binary(max_size=300),
        st.lists(words, max_size=5).map(tuple),
        st.dictionaries(words, st.integers(-(2**63), 2**63 - 1), max_size=5),
        st.none() | st.floats(allow_nan=False),
    ),
    st.builds(
        Tree,
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | words | st.binary(max_size=40),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
            max_leaves=12,
        ),
    ),
)


@settings(deadline=None)
@given(st.lists(messages, max_size=5), st.integers(1, 4096))
def test_what_is_written_is_read(sent: list[Message], piece: int) -> None:
    assert read_all(Bytes(b"".join(map(encode, sent)), piece)) == sent


@given(messages)
def test_what_the_encoder_writes_has_a_sound_outline(message: Message) -> None:
    check_outline(encode(message)[6:])


def test_a_known_frame_byte_by_byte() -> None:
    assert encode(Ping(5)) == bytes.fromhex("0001 00000002 91 05")


def is_outline(data: bytes) -> bool:
    try:
        check_outline(data)
    except WireError:
        return False
    return True


@given(st.binary(max_size=64))
def test_garbage_is_a_wire_error(body: bytes) -> None:
    for kind in (Ping, Parcel, Tree):
        try:
            decode(kind, body)
        except WireError:
            continue
        assert is_outline(body)


@given(st.binary(max_size=64))
def test_a_sound_outline_is_what_a_decoder_of_anything_reads(body: bytes) -> None:
    """Nothing a full decoder accepts is refused for its outline."""
    try:
        msgspec.msgpack.decode(body)
    except (msgspec.MsgspecError, ValueError, TypeError):
        return
    assert is_outline(body)


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["finish", "break"]), st.booleans())
def test_garbage_on_a_stream_ends_that_stream_and_nothing_else(data: bytes, then: str, framed: bool) -> None:
    if framed:
        data = frame(KNOWN[[1, 7, 0x102][len(data) % 3]].TYPE, data)
    try:
        read_all(Bytes(data, then=then))
    except (WireError, ConnectionLost):
        pass


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (frame(9, b""), "type 9"),
        (frame(1, b"", 65), "a Ping has at most 64 bytes, not 65"),
        (frame(1, b"", 0xFFFF_FFFF), "a Ping has at most 64 bytes, not 4294967295"),
        (frame(0x8009, b"", OPTIONAL_LIMIT + 1), "optional type 32777 has at most 65536 bytes"),
        (frame(0, b""), "type 0"),
    ],
)
def test_what_is_unknown_or_too_long_is_refused_before_its_body(data: bytes, named: str) -> None:
    stream = Bytes(data, then="silence")
    with pytest.raises(WireError, match=named):
        read_all(stream)
    assert stream.asked == [1, 5]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "promises 1 more"),
        (b"\x91", "promises 1 more"),
        (b"\x91\x05\x05", "ends at 2"),
        (b"\xc1", "begins nothing"),
        (b"\xdd\xff\xff\xff\xff" + b"\x01" * 20, "promises 4294967295 more"),
        (b"\xdf\x7f\xff\xff\xff" + b"\x01" * 20, "promises 4294967294 more"),
        (b"\x91" * 40 + b"\x01", f"deeper than {MAX_DEPTH}"),
        (b"\x92\xdc\x00\x10\x01", "promises"),
        (b"\xc6\xff\xff\xff\xff\x01", "ends at"),
        (b"\x91\xc0", "not a Ping"),
        (b"\x91\xff", "not a Ping"),
        (b"\x90", "not a Ping"),
        (b"\x91\xa1\xff", "not a Ping"),
        (b"\x91\xd6\xff\xff\xff\xff\xff", "not a Ping"),
    ],
)
def test_a_body_that_is_not_what_it_says(body: bytes, named: str) -> None:
    with pytest.raises(WireError, match=named):
        read_all(Bytes(frame(1, body)))


def test_fields_of_a_later_version_are_passed_over() -> None:
    assert read_all(Bytes(frame(1, msgspec.msgpack.encode([5, "new", {"more": [1]}])))) == [Ping(5)]


def test_deep_nesting_reaches_no_decoder() -> None:
    for body in (b"\x91" * 500_000 + b"\xc0", b"\x81\xa0" * 400_000 + b"\xc0"):
        with pytest.raises(WireError, match="deeper"):
            decode(Tree, body)


def test_too_many_elements_are_not_walked_through() -> None:
    check_outline(msgspec.msgpack.encode([[1] * 8000, {number: number for number in range(4000)}]))
    for many in ([None] * 16_385, [[1] * 8000, [1] * 8400], {number: 1 for number in range(8200)}):
        with pytest.raises(WireError, match="more than 16384 elements"):
            decode(Tree, msgspec.msgpack.encode(many))


def test_promises_get_no_memory() -> None:
    """Arrays within arrays that each promise all that is left: a decoder would make room for each of them."""
    size = 1 << 20
    body = b"".join(b"\xdd" + (size - 5 * level - 5).to_bytes(4, "big") for level in range(30))
    body += b"\x01" * (size - len(body))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        for bomb in (body, b"\xdd\xff\xff\xff\xff" + b"\x01" * 50, b"\xdf\xff\xff\xff\xff" + b"\x01" * 50):
            with pytest.raises(WireError, match="promises|more than 16384 elements"):
                decode(Tree, bomb)
        stream = Bytes(frame(7, b"few", 1 << 20), then="break")
        with pytest.raises(ConnectionLost):
            read_all(stream)
        assert tracemalloc.get_traced_memory()[1] < 512 * 1024
    finally:
        tracemalloc.stop()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024


def test_optional_frames_are_skipped_unless_they_are_known() -> None:
    data = frame(0x8001, b"\xc1") + encode(Ping(1)) + frame(0xFFFF, bytes(OPTIONAL_LIMIT)) + encode(Ping(2))
    assert read_all(Bytes(data, 1000)) == [Ping(1), Ping(2)]
    assert read_all(Bytes(encode(Gossip("hi"))), registry(Gossip)) == [Gossip("hi")]
    with pytest.raises(WireError, match="Gossip has at most 16"):
        read_all(Bytes(frame(0x8001, b"", 17)), registry(Gossip))


def test_one_does_not_send_what_one_would_not_take() -> None:
    with pytest.raises(WireError, match="a Gossip has at most 16 bytes"):
        encode(Gossip("x" * 16))


def test_an_end_within_a_frame_is_no_end() -> None:
    whole = encode(Ping(1))
    for cut in range(1, len(whole)):
        with pytest.raises(ConnectionLost):
            read_all(Bytes(whole[:cut]))
    assert read_all(Bytes(b"")) == []


def test_a_slow_sender_does_not_hold_the_reader() -> None:
    whole = encode(parcel("n", 100))
    with pytest.raises(ConnectionLost, match="longer than 10 s"):
        read_all(Bytes(whole, piece=1, pause_s=1))
    with pytest.raises(ConnectionLost, match="longer than 2 s"):
        read_all(Bytes(whole[:-1], then="silence"), frame_s=2)
    assert len(read_all(Bytes(whole * 5, piece=len(whole), pause_s=60))) == 5  # waiting for a frame is no slowness


def test_a_cancelled_read_loses_no_frame() -> None:
    sent = [parcel(str(number), number) for number in range(20)]

    async def reading() -> list[Message]:
        reader = FrameReader(Bytes(b"".join(map(encode, sent)), piece=3, pause_s=0.1), KNOWN)
        found: list[Message] = []
        while len(found) < len(sent):
            try:
                async with asyncio.timeout(0.25):
                    found.append(await reader.read())
            except TimeoutError:
                continue
        return found

    assert run_virtually(reading()) == sent


def test_a_registry_has_one_message_a_type() -> None:
    class Other(Message):
        TYPE: ClassVar[int] = 1
        LIMIT: ClassVar[int] = 1

    class Unbounded(Message):
        TYPE: ClassVar[int] = 2
        LIMIT: ClassVar[int] = 1 << 32

    assert registry(Ping, Ping)[1] is Ping
    with pytest.raises(ValueError, match="Other and Ping are both of type 1"):
        registry(Ping, Other)
    with pytest.raises(ValueError, match="out of range"):
        registry(Unbounded)


async def test_many_tasks_write_whole_frames(net: Net) -> None:
    dialled, answered = await net.pair()
    stream = await dialled.open()
    writer = FrameWriter(stream)
    sent = [parcel(str(number), 3000) for number in range(100)]
    async with asyncio.TaskGroup() as tasks:
        for message in sent:
            tasks.create_task(writer.write(message))
        reader = FrameReader(await answered.accept(), KNOWN)
        found = [await reader.read() for _ in sent]
    assert found == sent
    await stream.finish()
    with pytest.raises(StreamEnded):
        await reader.read()
