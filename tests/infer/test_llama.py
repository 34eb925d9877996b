"""The dialect of llama.cpp's server, spoken with a server that misbehaves."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from tirami.core.errors import ContextLengthExceeded, EngineFailed, InvalidRequest, TiramiError
from tirami.infer import Sampling
from tirami.infer.llama import SEED_RANGE, Event, LlamaClient, completion_body

HOW = Sampling(max_tokens=8, seed=5, temperature=0.5, top_p=0.9, top_k=3)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def client(handler: Handler, stall_timeout_s: float = 30.0) -> AsyncIterator[tuple[LlamaClient, list[str]]]:
    """A client of a server that answers everything with ``handler``; and the stalls it reported."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stalls: list[str] = []
    llama = LlamaClient(runner.addresses[0][1], "the-key", 4, stall_timeout_s, lambda: stalls.append("stall"))
    try:
        yield llama, stalls
    finally:
        await llama.close()
        await runner.cleanup()


def saying(*lines: bytes, status: int = 200, end: bool = True) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        for line in lines:
            await response.write(line)
        if not end:
            await asyncio.Event().wait()
        return response

    return handler


async def events(llama: LlamaClient) -> list[Event]:
    return [event async for event in llama.complete((1, 2), HOW, cache_prompt=False).events()]


def test_everything_that_shapes_the_draw_is_named() -> None:
    body = completion_body((1, 2), HOW, cache_prompt=True)
    assert body == {
        "prompt": (1, 2),
        "n_predict": 8,
        "seed": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "min_p": 0.0,
        "repeat_penalty": 1.0,
        "samplers": ("top_k", "top_p", "temperature"),
        "stream": True,
        "return_tokens": True,
        "timings_per_token": True,
        "return_progress": True,
        "cache_prompt": True,
    }


@pytest.mark.parametrize(
    ("seed", "sent"), [(0, 0), (2**32 - 2, 2**32 - 2), (2**32 - 1, 0), (2**64 - 1, 0), (2**63, 2**31)]
)
def test_no_seed_means_random(seed: int, sent: int) -> None:
    body = completion_body((1,), Sampling(max_tokens=1, seed=seed), cache_prompt=True)
    assert body["seed"] == seed % SEED_RANGE == sent


async def test_every_request_carries_the_key() -> None:
    seen: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.json_response({"prompt": "x", "tokens": [1]})

    async with client(handler) as (llama, _):
        assert await llama.apply_template([]) == "x"
        assert await llama.tokenize("x", whole_prompt=True) == (1,)
        await events(llama)
    assert seen == ["Bearer the-key"] * 3


async def test_busy_slots_are_those_that_process() -> None:
    slots = [{"is_processing": True}, {"is_processing": False}, {"is_processing": True}, {}]

    async def handler(request: web.Request) -> web.Response:
        return web.json_response(slots)

    async with client(handler) as (llama, _):
        assert await llama.busy_slots() == 2


async def test_events_cut_anywhere_are_the_same_events() -> None:
    said = [{"content": "猫", "tokens": [1], "timings": {"predicted_n": 1}}, {"stop": True, "stop_type": "limit"}]
    whole = b"".join(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n" for event in said)
    for size in (1, 5, len(whole)):
        async with client(saying(*(whole[i : i + size] for i in range(0, len(whole), size)))) as (llama, _):
            found = [event for event in await events(llama) if event != Event()]
        assert [(event.content, event.tokens, event.stop) for event in found] == [("猫", (1,), False), ("", (), True)]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("exceed_context_size_error", ContextLengthExceeded),
        ("invalid_request_error", InvalidRequest),
        ("server_error", EngineFailed),
        ("", EngineFailed),
    ],
)
@pytest.mark.parametrize("form", ["status", "data", "error"])
async def test_a_refusal_is_an_error_without_the_callers_words(form: str, kind: str, error: type[TiramiError]) -> None:
    refusal = {"message": "too bad: {secret}\nsecret", "type": kind, "code": 400}
    wrapped = json.dumps({"error": refusal}).encode()
    handlers = {
        "status": saying(wrapped, status=400),
        "data": saying(b"data: " + wrapped + b"\n\n"),
        "error": saying(b"error: " + json.dumps(refusal).encode() + b"\n\n"),
    }
    async with client(handlers[form]) as (llama, _):
        with pytest.raises(TiramiError) as caught:
            await events(llama)
    assert type(caught.value) is error
    assert "too bad" in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    "handler",
    [saying(b"data: {\n\n"), saying(b"data: 7\n\n"), saying(b"<html>", status=500), saying(b"error: nothing\n\n")],
)
async def test_what_is_not_understood_is_a_failure(handler: Handler) -> None:
    async with client(handler) as (llama, _):
        with pytest.raises(EngineFailed):
            await events(llama)


@pytest.mark.parametrize("lines", [(), (b"data: {}\n\n",)], ids=["before a word", "after a word"])
async def test_silence_is_reported_and_fails_the_answer(lines: tuple[bytes, ...]) -> None:
    async with client(saying(*lines, end=False), stall_timeout_s=0.2) as (llama, stalls):
        with pytest.raises(EngineFailed, match="silent"):
            await events(llama)
        assert stalls == ["stall"]


async def test_silence_while_a_prompt_is_prepared_is_reported_too() -> None:
    async with client(saying(end=False), stall_timeout_s=0.2) as (llama, stalls):
        with pytest.raises(EngineFailed, match="silent"):
            await llama.tokenize("x", whole_prompt=True)
        assert stalls == ["stall"]


async def test_closing_a_stream_ends_it_before_the_first_byte_and_after() -> None:
    gone, arrived = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        arrived.set()
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        raise AssertionError

    async with client(handler) as (llama, _):
        stream = llama.complete((1,), HOW, cache_prompt=False)
        reader = asyncio.create_task(anext(stream.events()))
        await arrived.wait()
        await stream.close()
        await stream.close()
        with pytest.raises(EngineFailed):
            await reader
        await asyncio.wait_for(gone.wait(), 5)


async def test_a_closed_client_fails_every_request() -> None:
    async with client(saying()) as (llama, stalls):
        await llama.close()
        for request in (llama.apply_template([]), llama.tokenize("x", whole_prompt=False), llama.busy_slots()):
            with pytest.raises(EngineFailed):
                await request
        with pytest.raises(EngineFailed):
            await events(llama)
        assert stalls == []


@pytest.mark.parametrize("lines", [None, (), (b"data: {}\n\n",)], ids=["no answer", "no word", "a word"])
async def test_closing_the_client_ends_every_running_request(lines: tuple[bytes, ...] | None) -> None:
    arrived = asyncio.Semaphore(0)

    async def handler(request: web.Request) -> web.StreamResponse:
        if lines is None:
            arrived.release()
            await asyncio.Event().wait()
        response = web.StreamResponse()
        await response.prepare(request)
        for line in lines or ():
            await response.write(line)
        arrived.release()
        await asyncio.Event().wait()
        return response

    async with client(handler) as (llama, stalls):
        answer = asyncio.create_task(events(llama))
        request = asyncio.create_task(llama.tokenize("x", whole_prompt=False))
        await arrived.acquire()
        await arrived.acquire()
        await llama.close()
        for task in (answer, request):
            with pytest.raises(EngineFailed):
                await asyncio.wait_for(task, 2)
        assert stalls == []
