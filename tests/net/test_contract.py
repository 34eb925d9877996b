"""What every transport promises (``tirami.net.transport``): the same tests over QUIC and in memory."""

import asyncio
import gc
import time

import pytest

from tests.net.conftest import Net
from tirami.core.errors import ConnectionLost, PeerUnreachable, StreamEnded
from tirami.core.keys import PublicKey, SigningKey
from tirami.net import Connection, PeerAddress, Stream


async def streams(net: Net) -> tuple[Stream, Stream]:
    """Both sides of a stream over which one byte has gone."""
    dialled, answered = await net.pair()
    mine = await dialled.open()
    await mine.write(b"!")
    theirs = await answered.accept()
    assert await theirs.read(1) == b"!"
    return mine, theirs


async def echo(stream: Stream, size: int) -> None:
    while size:
        piece = await stream.read(min(size, 32 * 1024))
        await stream.write(piece)
        size -= len(piece)
    await stream.finish()


async def test_each_side_knows_who_the_other_is(net: Net) -> None:
    key = SigningKey.generate()
    a, b = await net.endpoint(key), await net.endpoint()
    assert a.key == key.public_key and a.address().key == a.key and b.address().direct
    dialled = await a.connect(b.address(), 5)
    answered = await b.accept()
    assert answered is not None
    assert (dialled.peer, answered.peer) == (b.key, a.key)
    assert (dialled.dialled, answered.dialled) == (True, False)
    assert dialled.remote in b.address().direct
    assert answered.remote in a.address().direct
    assert dialled.rtt_ms is not None and 0 <= dialled.rtt_ms < 1000


async def test_whoever_answers_without_the_key_is_refused(net: Net) -> None:
    a, b = await net.endpoint(), await net.endpoint()
    wrong = PeerAddress(SigningKey.generate().public_key, b.address().direct)
    with pytest.raises(PeerUnreachable, match="does not hold its key"):
        await a.connect(wrong, 5)
    assert (await a.connect(b.address(), 5)).peer == b.key


async def test_nobody_there(net: Net) -> None:
    a, b = await net.endpoint(), await net.endpoint()
    await b.close()
    began = time.monotonic()
    with pytest.raises(PeerUnreachable):
        await a.connect(b.address(), 0.3)
    assert time.monotonic() - began < 3


async def test_a_node_does_not_dial_itself(net: Net) -> None:
    a = await net.endpoint()
    with pytest.raises(PeerUnreachable, match="itself"):
        await a.connect(a.address(), 5)


@pytest.mark.parametrize("size", [100, 8 * 1024 * 1024])
async def test_bytes_come_back_as_they_went(net: Net, size: int) -> None:
    mine, theirs = await streams(net)
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    async with asyncio.TaskGroup() as both:
        both.create_task(echo(theirs, size))
        both.create_task(mine.write(data))
        assert await mine.read(size) == data
    with pytest.raises(StreamEnded):
        await mine.read(1)


async def test_both_sides_open_streams_and_they_do_not_mix(net: Net) -> None:
    dialled, answered = await net.pair()

    async def ask(connection: Connection, text: bytes) -> bytes:
        stream = await connection.open()
        await stream.write(text)
        await stream.finish()
        return await stream.read(len(text))

    async def answer(connection: Connection, count: int) -> None:
        for _ in range(count):
            await echo(await connection.accept(), 4)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(answer(answered, 20))
        tasks.create_task(answer(dialled, 20))
        asked = [
            tasks.create_task(ask(connection, b"%04d" % number))
            for number in range(20)
            for connection in (dialled, answered)
        ]
    assert [task.result() for task in asked] == [b"%04d" % number for number in range(20) for _ in range(2)]


async def test_streams_that_both_sides_end_make_room_for_others(net: Net) -> None:
    dialled, answered = await net.pair()
    async with asyncio.timeout(60):
        for number in range(250):
            mine = await dialled.open()
            await mine.write(b"?")
            theirs = await answered.accept()
            assert await theirs.read(1) == b"?"
            if number % 2:
                await theirs.write(b"!")
                await theirs.finish()
                assert await mine.read(1) == b"!"
            else:
                await theirs.reset()
            await mine.reset()


async def test_a_stream_counts_until_who_was_asked_has_ended_it_too(net: Net) -> None:
    dialled, answered = await net.pair()
    left: list[Stream] = []
    with pytest.raises(TimeoutError):
        while len(left) < 250:
            async with asyncio.timeout(1):
                mine = await dialled.open()
            await mine.write(b"?")
            left.append(await answered.accept())
            await left[-1].read(1)
            await mine.reset()
    assert 50 < len(left) < 250
    for theirs in left:
        await theirs.reset()
    async with asyncio.timeout(5):
        await (await dialled.open()).write(b"?")


async def test_the_first_stream_is_taken_first_and_of_many_none_is_lost(net: Net) -> None:
    dialled, answered = await net.pair()
    opened = [await dialled.open() for _ in range(40)]
    for number in reversed(range(40)):
        await opened[number].write(bytes([number]))
    taken = [await answered.accept() for _ in range(40)]
    assert await taken[0].read(1) == b"\0"
    assert {await stream.read(1) for stream in taken[1:]} == {bytes([number]) for number in range(1, 40)}


async def test_one_direction_ends_and_the_other_goes_on(net: Net) -> None:
    mine, theirs = await streams(net)
    await mine.write(b"question")
    await mine.finish()
    assert await theirs.read(8) == b"question"
    for _ in range(2):
        with pytest.raises(StreamEnded):
            await theirs.read(1)
    with pytest.raises(ConnectionLost):
        await mine.write(b"more")
    await theirs.write(b"answer")
    await theirs.finish()
    assert await mine.read(6) == b"answer"


async def test_an_end_in_the_middle_is_not_an_end(net: Net) -> None:
    mine, theirs = await streams(net)
    await mine.write(b"half")
    await mine.finish()
    with pytest.raises(ConnectionLost, match="after 4 of 8 bytes"):
        await theirs.read(8)


async def test_nothing_is_nothing(net: Net) -> None:
    mine, theirs = await streams(net)
    await mine.write(b"")
    assert await theirs.read(0) == b""
    await mine.write(b"x")
    assert await theirs.read(1) == b"x"


async def test_a_handler_that_fails_does_not_look_finished(net: Net) -> None:
    dialled, answered = await net.pair()
    mine = await dialled.open()
    await mine.write(b"?")

    async def handle() -> None:
        stream = await answered.accept()
        await stream.write(await stream.read(1))

    await handle()
    gc.collect()
    assert await mine.read(1) == b"?"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await mine.read(1)
    answered.close("the handler failed")
    with pytest.raises(ConnectionLost):
        await mine.read(1)


async def test_a_reset_ends_both_directions_for_both(net: Net) -> None:
    mine, theirs = await streams(net)
    reading = asyncio.create_task(theirs.read(10))
    own = asyncio.create_task(mine.read(10))
    await asyncio.sleep(0.01)
    await mine.reset()
    await mine.reset()
    for task in (reading, own):
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(task, 5)
    for side in (mine, theirs):
        with pytest.raises(ConnectionLost):
            await side.write(b"x")
        with pytest.raises(ConnectionLost):
            await side.read(1)


async def test_a_reset_frees_a_writer_whom_nobody_reads(net: Net) -> None:
    mine, _ = await streams(net)
    writing = asyncio.create_task(mine.write(bytes(64 * 1024 * 1024)))
    await asyncio.sleep(0.1)
    assert not writing.done()
    await asyncio.wait_for(mine.reset(), 5)
    with pytest.raises(ConnectionLost):
        await asyncio.wait_for(writing, 5)


async def test_a_close_tells_its_reason(net: Net) -> None:
    dialled, answered = await net.pair()
    waiting = asyncio.create_task(answered.accept())
    stream = await dialled.open()
    await asyncio.sleep(0)
    dialled.close("upgrading (code 7)")
    dialled.close("again")
    assert await asyncio.wait_for(answered.closed(), 5) == "upgrading (code 7)"
    assert await dialled.closed() == "upgrading (code 7)"
    with pytest.raises(ConnectionLost, match="upgrading"):
        await waiting
    for side in (dialled, answered):
        with pytest.raises(ConnectionLost, match="upgrading"):
            await side.open()
        with pytest.raises(ConnectionLost, match="upgrading"):
            await side.accept()
    with pytest.raises(ConnectionLost):
        await stream.read(1)
    with pytest.raises(ConnectionLost):
        await stream.write(b"x")
    await stream.reset()


async def test_a_long_reason_is_cut(net: Net) -> None:
    dialled, answered = await net.pair()
    dialled.close("ü" * 5000)
    assert 0 < len((await asyncio.wait_for(answered.closed(), 5)).encode()) <= 260


async def test_accept_gives_none_once_the_endpoint_is_closed(net: Net) -> None:
    a, b = await net.endpoint(), await net.endpoint()
    waiting = asyncio.create_task(b.accept())
    connection = await a.connect(b.address(), 5)
    assert await waiting is not None
    waiting = asyncio.create_task(b.accept())
    await asyncio.sleep(0)
    await b.close()
    assert await asyncio.wait_for(waiting, 5) is None
    assert await b.accept() is None
    await a.close()  # whatever arrived and was not accepted is closed with it
    assert await a.accept() is None
    assert await asyncio.wait_for(connection.closed(), 5) == "the endpoint is closed"
    with pytest.raises(PeerUnreachable, match="closed"):
        await b.connect(a.address(), 5)
    await b.close()


async def test_a_closed_endpoint_leaves_nothing_running(net: Net) -> None:
    before = asyncio.all_tasks()
    a, b = await net.endpoint(), await net.endpoint()
    waiting = []
    for _ in range(10):
        dialled = await a.connect(b.address(), 5)
        answered = await b.accept()
        assert answered is not None
        stream = await dialled.open()
        await stream.write(b"x")
        theirs = await answered.accept()
        await theirs.read(1)
        calls = (
            theirs.read(1024 * 1024 * 1024),
            stream.read(5),
            stream.write(bytes(64 * 1024 * 1024)),
            dialled.accept(),
        )
        waiting += [asyncio.create_task(call) for call in calls]
        abandoned = asyncio.create_task(answered.accept())
        await asyncio.sleep(0)
        abandoned.cancel()
    await a.connect(b.address(), 5)
    await asyncio.sleep(0.05)
    await a.close()
    await b.close()
    ended = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert {type(end) for end in ended} == {ConnectionLost}, ended
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() == before


async def test_a_cancelled_read_loses_nothing(net: Net) -> None:
    mine, theirs = await streams(net)
    received = b""
    for number in range(50):
        reading = asyncio.create_task(theirs.read(2))
        await asyncio.sleep(0)
        await mine.write(b"%02d" % number)
        await asyncio.sleep(0.0001 * (number % 7))
        reading.cancel()
        try:
            received += await reading
        except asyncio.CancelledError:
            received += await theirs.read(2)
    assert received == b"".join(b"%02d" % number for number in range(50))


async def test_a_cancelled_accept_loses_nothing(net: Net) -> None:
    dialled, answered = await net.pair()
    for number in range(20):
        accepting = asyncio.create_task(answered.accept())
        await asyncio.sleep(0)
        await (await dialled.open()).write(b"%02d" % number)
        await asyncio.sleep(0.0002 * (number % 7))
        accepting.cancel()
        try:
            stream = await accepting
        except asyncio.CancelledError:
            stream = await answered.accept()
        assert await stream.read(2) == b"%02d" % number


async def test_a_cancelled_write_resets_the_stream_and_nothing_else(net: Net) -> None:
    dialled, answered = await net.pair()
    mine = await dialled.open()
    writing = asyncio.create_task(mine.write(bytes(64 * 1024 * 1024)))
    theirs = await answered.accept()
    await theirs.read(1)
    await asyncio.sleep(0.05)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    with pytest.raises(ConnectionLost):
        await asyncio.wait_for(theirs.read(64 * 1024 * 1024), 10)
    other = await dialled.open()
    await other.write(b"on")
    assert await (await answered.accept()).read(2) == b"on"


async def test_a_cancelled_dial_breaks_nothing(net: Net) -> None:
    a, b = await net.endpoint(), await net.endpoint()
    nobody = PeerAddress(SigningKey.generate().public_key, ("127.0.0.1:9",))
    for address in (nobody, b.address()):
        dialling = asyncio.create_task(a.connect(address, 30))
        await asyncio.sleep(0)
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
    assert (await a.connect(b.address(), 5)).peer == b.key


async def test_a_slow_reader_holds_the_writer(net: Net) -> None:
    mine, theirs = await streams(net)
    handed_over = 0

    async def write() -> None:
        nonlocal handed_over
        while True:
            await mine.write(bytes(64 * 1024))
            handed_over += 64 * 1024

    writing = asyncio.create_task(write())
    stalled = -1
    while stalled != handed_over:
        stalled = handed_over
        await asyncio.sleep(0.3)
    assert 0 < stalled <= 16 * 1024 * 1024
    await theirs.read(4 * stalled)
    assert handed_over >= 3 * stalled
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing


async def test_a_second_connection_and_a_restart_under_the_same_key(net: Net) -> None:
    key = SigningKey.generate()
    a, b = await net.endpoint(), await net.endpoint(key)
    first, second = await a.connect(b.address(), 5), await a.connect(b.address(), 5)
    assert await b.accept() and await b.accept()
    first.close("one is enough")
    stream = await second.open()
    await stream.write(b"x")
    await b.close()
    assert await asyncio.wait_for(second.closed(), 5) == "the endpoint is closed"
    again = await net.endpoint(key)
    assert (await a.connect(again.address(), 5)).peer == b.key


async def test_a_key_that_proves_nothing_is_no_address() -> None:
    with pytest.raises(Exception, match="prove"):
        PeerAddress(PublicKey(bytes(32)))
