"""Connections that never become a request: bounded in bytes and in time, answered in the one envelope."""

import asyncio
import json
from pathlib import Path

import openai
import pytest

from tests.node.conftest import Door, door, opened_door
from tests.waiting import until
from tirami.node.http.server import KEEP_ALIVE_S

__all__ = ["door"]


async def opened(door: Door) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = door.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def refusal(reader: asyncio.StreamReader) -> dict[str, object]:
    answer = await asyncio.wait_for(reader.read(), 10)
    return dict(json.loads(answer.partition(b"\r\n\r\n")[2])["error"])


@pytest.mark.parametrize(
    "head",
    [b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 400_000, b"GET /" + b"z" * 400_000, b"A: b\r\n" * 60_000],
    ids=["one endless header", "endless path", "no request"],
)
async def test_an_endless_head_is_refused(door: Door, head: bytes) -> None:
    reader, writer = await opened(door)
    writer.write(head)
    try:
        error = await refusal(reader)
    except ConnectionResetError:
        return
    assert error["code"] in ("headers_too_large", "invalid_request")
    writer.close()


async def test_many_small_headers_are_one_large_head(door: Door) -> None:
    reader, writer = await opened(door)
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    for number in range(22):
        writer.write(f"x-{number}: {'y' * 3_000}\r\n".encode())
        await asyncio.sleep(0.001)
    assert (await refusal(reader))["code"] == "headers_too_large"
    writer.close()


async def test_a_head_that_never_ends_is_given_up(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tirami.node.http.connection.HEAD_TIMEOUT_S", 0.2)
    for sent in (b"", b"GET /healthz HTTP/1.1\r\nhost: x\r\n"):
        reader, writer = await opened(door)
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_a_body_that_never_ends_is_given_up(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tirami.node.http.parsing.BODY_TIMEOUT_S", 0.2)
    reader, writer = await opened(door)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n{")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
    assert b"408" in head
    assert not door.parts.ledger.state.holds.open
    writer.close()


async def test_connections_are_bounded_and_one_that_ends_makes_room(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tirami.node.http.connection.MAX_CONNECTIONS", 3)
    kept = [await opened(door) for _ in range(3)]
    for _, writer in kept:
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
    reader, writer = await opened(door)
    error = await refusal(reader)
    assert (error["status"], error["code"]) == (429, "rate_limited")
    writer.close()
    reader, writer = kept.pop()
    writer.write(b"connection: close\r\n\r\n")
    assert b"200" in await reader.readuntil(b"\r\n")
    await reader.read()
    writer.close()
    assert (await door.call("GET", "/status"))[0] == 200
    for _, writer in kept:
        writer.close()


async def test_garbage_is_answered_in_the_envelope(door: Door) -> None:
    reader, writer = await opened(door)
    writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    error = await refusal(reader)
    assert (error["status"], error["code"]) == (400, "invalid_request")
    writer.close()


async def test_one_connection_serves_many_requests(door: Door) -> None:
    reader, writer = await opened(door)
    for _ in range(3):
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200" in await reader.readuntil(b"\r\n")
        await reader.readuntil(b"\r\n\r\nok")
    writer.close()


ASK = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n"
    b'{"messages": [{"role": "user", "content": "hello"}]%s}'
)
WHOLE, STREAMED = (ASK % (52 + len(beside), beside) for beside in (b"", b', "stream": true'))


@pytest.mark.parametrize("body", [WHOLE, STREAMED], ids=["whole", "streamed"])
@pytest.mark.parametrize("together", [True, False])
async def test_who_does_not_wait_for_a_reply_and_leaves_is_noticed(door: Door, body: bytes, together: bool) -> None:
    door.engine.stall_after = 3
    _, writer = await opened(door)
    writer.write(body * 2 if together else body)
    await door.engine.stalled.wait()
    if not together:
        writer.write(body)
        await asyncio.sleep(0.1)
    writer.close()
    await until(lambda: not door.engine.running)
    assert door.engine.opened == 1
    await until(lambda: not door.parts.ledger.state.holds.open)


async def test_who_does_not_wait_for_a_reply_gets_that_one_and_no_other(door: Door) -> None:
    reader, writer = await opened(door)
    writer.write(WHOLE + STREAMED * 3)
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.count(b"HTTP/1.1") == answer.count(b"200 OK") == 1
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["choices"]
    assert door.engine.opened == 1
    writer.close()


@pytest.mark.parametrize("goes_on", [True, False])
async def test_a_head_that_begins_during_a_reply_does_not_end_that_reply(
    door: Door, monkeypatch: pytest.MonkeyPatch, goes_on: bool
) -> None:
    """Its own time begins when the reply has ended."""
    monkeypatch.setattr("tirami.node.http.connection.HEAD_TIMEOUT_S", 0.3)
    door.engine.stall_after = 3
    reader, writer = await opened(door)
    writer.write(STREAMED)
    await door.engine.stalled.wait()
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
    await asyncio.sleep(0.8)
    assert door.engine.running == 1
    door.engine.resume.set()
    await asyncio.wait_for(reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n"), 5)
    if goes_on:
        writer.write(b"connection: close\r\n\r\n")
    began = asyncio.get_running_loop().time()
    rest = await asyncio.wait_for(reader.read(), 5)
    assert rest.endswith(b"ok") == goes_on
    assert asyncio.get_running_loop().time() - began < 3, "the time of a head, not that of an idle connection"
    writer.close()


UNREAD = b"POST /v1/tirami/kill HTTP/1.1\r\nhost: 127.0.0.1\r\n"


async def test_a_reply_before_the_body_does_not_keep_the_connection(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any byte puts uvicorn's keep-alive timer away; then the deadline of a head stands in."""
    monkeypatch.setattr("tirami.node.http.connection.HEAD_TIMEOUT_S", 0.3)
    for more in (b"x", b""):
        reader, writer = await opened(door)
        writer.write(UNREAD + b"content-length: 100\r\n\r\n")
        assert b"40" in await reader.readuntil(b"\r\n")
        writer.write(more)
        await asyncio.wait_for(reader.read(), KEEP_ALIVE_S + 5)
        writer.close()


async def test_trailers_are_bounded_and_kept_nowhere(door: Door) -> None:
    reader, writer = await opened(door)
    writer.write(UNREAD + b"transfer-encoding: chunked\r\n\r\n")
    assert b"40" in await reader.readuntil(b"\r\n")
    (connection,) = door.connections
    writer.write(b"0\r\n" + b"a: b\r\n" * 5_000)
    await writer.drain()
    await asyncio.sleep(0.1)
    assert len(connection.headers) == 2
    with pytest.raises(ConnectionError):
        for _ in range(200):
            writer.write(b"a: b\r\n" * 1_000)
            await writer.drain()
            await asyncio.sleep(0.005)


async def test_one_byte_a_chunk_is_a_body_all_the_same(door: Door) -> None:
    reader, writer = await opened(door)
    body = b'{"models":["' + b"x" * 30_000
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n")
    writer.write(b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
    assert b"400" in await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)
    writer.close()


async def test_who_reads_nothing_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a reply larger than what the system keeps for who does not read it."""
    monkeypatch.setattr("tirami.node.http.connection.STALL_S", 0.2)
    monkeypatch.setattr("tirami.node.http.app.openapi", lambda _: {"x": "y" * (1 << 25)})
    async with opened_door(tmp_path) as door:
        _, writer = await opened(door)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /openapi.json HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        await until(lambda: door.connections)
        await until(lambda: not door.connections)
        writer.close()


def test_a_client_gives_an_idle_connection_up_before_the_node_does() -> None:
    """Else a request is sent over a connection that is just being closed."""
    kept = openai.DEFAULT_CONNECTION_LIMITS.keepalive_expiry
    assert kept is not None and kept < KEEP_ALIVE_S
