"""Connections that never become a request: bounded in bytes and in time, answered in the one envelope."""

import asyncio
import json

import pytest

from tests.node.conftest import Door, door

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
