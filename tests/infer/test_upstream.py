"""Somebody else's server, well behaved and not."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from tirami.core.errors import (
    ContextLengthExceeded,
    EngineFailed,
    InvalidRequest,
    ModelLoadError,
    ModelNotFound,
    QueueFull,
    TiramiError,
    UpstreamUnavailable,
)
from tirami.core.units import TokenCount
from tirami.infer import Chunk, CountedBy, FinishReason, Prompt, Reading, Sampling, UpstreamEngine, upstream
from tirami.infer.chat import PER_MESSAGE
from tirami.infer.flop import flop
from tirami.infer.upstream_stream import estimated
from tirami.testing import EngineProcess, ManualClock

HOW = Sampling(max_tokens=8, seed=5, temperature=0.5, top_p=0.9)
MODELS = {"data": [{"id": "big", "meta": {"n_params": 7 * 10**9, "n_ctx_train": 512, "n_layer": 4, "n_embd": 8}}]}


def event(text: str | None = None, finish: str | None = None, usage: tuple[int, int] | None = None) -> bytes:
    choices = [] if text is None and finish is None else [{"delta": {"content": text}, "finish_reason": finish}]
    counted = None if usage is None else {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return b"data: " + json.dumps({"choices": choices, "usage": counted}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
GOOD = (event("one "), event("two"), event(finish="stop"), event(usage=(3, 2)), DONE)


@dataclass
class Server:
    """Answers what ``answer`` says and remembers what it was asked."""

    models: Any = field(default_factory=lambda: MODELS)
    models_status: int = 200
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    stream: tuple[bytes, ...] = GOOD
    breaks: bool = False
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    async def listed(self, request: web.Request) -> web.Response:
        self.headers.append(dict(request.headers))
        return web.json_response(self.models, status=self.models_status)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        self.bodies.append(await request.json())
        if self.answer is not None:
            return await self.answer(request)
        return await self.streamed(request)

    async def streamed(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for block in self.stream:
            await response.write(block)
        if self.breaks:
            assert request.transport is not None
            request.transport.close()
        await response.write_eof()
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_get("/v1/models", server.listed)
    app.router.add_post("/v1/chat/completions", server.chat)
    app.router.add_post("/v1/completions", server.chat)
    app.router.add_post("/v1/embeddings", server.chat)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield server
    await runner.cleanup()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@asynccontextmanager
async def started(server: Server, clock: ManualClock, model: str = "", **options: Any) -> AsyncIterator[UpstreamEngine]:
    engine = UpstreamEngine(server.url, model, clock=clock, **options)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


async def asked(engine: UpstreamEngine) -> Prompt:
    return await engine.prepare([{"role": "user", "content": "a secret question"}])


async def collect(engine: UpstreamEngine) -> tuple[list[Chunk], Reading, FinishReason | None]:
    async with engine.generate(await asked(engine), HOW) as generation:
        chunks = [chunk async for chunk in generation]
        return chunks, generation.reading(), generation.finish_reason


async def failure(engine: UpstreamEngine) -> TiramiError:
    with pytest.raises(TiramiError) as caught:
        await collect(engine)
    assert "secret" not in caught.value.message
    assert engine.status().busy == 0
    return caught.value


def refusing(*answers: tuple[int, str]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    left = list(answers)

    async def answer(request: web.Request) -> web.StreamResponse:
        status, text = left.pop(0) if len(left) > 1 else left[0]
        return web.Response(status=status, text=text)

    return answer


async def test_what_the_upstream_tells_of_its_model_is_the_card(server: Server, clock: ManualClock) -> None:
    async with started(server, clock) as engine:
        card = engine.card
        assert (card.name, card.parameters, card.context_length, card.layers, card.hidden) == (
            "big", 7 * 10**9, 512, 4, 8,
        )  # fmt: skip
        assert card.counted_by is CountedBy.UPSTREAM
    async with started(server, clock, "big", slots=3) as engine:
        assert engine.card.digest == card.digest != engine.card.tokenizer_digest
        assert engine.slots == engine.status().slots == 3


async def test_what_it_does_not_tell_is_taken_from_the_settings(server: Server, clock: ManualClock) -> None:
    server.models = {"data": [{"id": "small"}, {"id": "big"}]}
    async with started(server, clock, "big", parameters=10**9, context=100) as engine:
        card = engine.card
        assert (card.name, card.parameters, card.context_length) == ("big", 10**9, 100)
    with pytest.raises(ModelLoadError, match="upstream_parameters"):
        async with started(server, clock):
            pass


@pytest.mark.parametrize("told", ["7B", -1, 0, None, True, [], 1e300])
async def test_a_size_that_is_none_is_not_taken_for_one(server: Server, clock: ManualClock, told: object) -> None:
    server.models = {"data": [{"id": "big", "meta": {"n_params": told, "n_ctx_train": told}}]}
    async with started(server, clock, parameters=10**9) as engine:
        assert (engine.card.parameters, engine.card.context_length) == (10**9, upstream.DEFAULT_CONTEXT)


@pytest.mark.parametrize(
    "models",
    [{"data": []}, {"data": "big"}, {"data": [{"name": "big"}]}, {"data": ["big"]}, {}, [], "text", None],
    ids=str,
)
async def test_a_model_list_that_is_none_is_refused(server: Server, clock: ManualClock, models: object) -> None:
    server.models = models
    with pytest.raises(ModelLoadError, match="upstream"):
        async with started(server, clock, parameters=1):
            pass


async def test_a_model_it_does_not_have_is_named(server: Server, clock: ManualClock) -> None:
    with pytest.raises(ModelLoadError, match="no model 'other'"):
        async with started(server, clock, "other"):
            pass


@pytest.mark.parametrize("status", [401, 404, 500])
async def test_a_refused_model_list_names_the_status(server: Server, clock: ManualClock, status: int) -> None:
    server.models_status = status
    with pytest.raises(ModelLoadError, match=str(status)):
        async with started(server, clock):
            pass


async def test_nobody_at_the_address_is_an_error(clock: ManualClock) -> None:
    engine = UpstreamEngine("http://127.0.0.1:9/v1", clock=clock)
    with pytest.raises(ModelLoadError):
        await engine.start()
    assert not engine.status().ready


async def test_the_upstreams_own_key_is_the_only_credential_sent(server: Server, clock: ManualClock) -> None:
    async with started(server, clock, api_key="upstream-key") as engine:
        message = {"role": "user", "content": "hello", "name": "me"}
        async with engine.generate(await engine.prepare([message]), HOW) as generation:
            assert [chunk async for chunk in generation]
    assert [headers["Authorization"] for headers in server.headers] == ["Bearer upstream-key"] * 2
    usual = {"Host", "Authorization", "Accept", "Accept-Encoding", "User-Agent", "Content-Length", "Content-Type"}
    assert all(set(headers) <= usual for headers in server.headers)
    (body,) = server.bodies
    assert body["messages"] == [message]
    assert (body["model"], body["max_tokens"], body["seed"], body["temperature"], body["top_p"], body["stream"]) == (
        "big", 8, 5, 0.5, 0.9, True,
    )  # fmt: skip


async def test_without_a_key_no_credential_is_sent(server: Server, clock: ManualClock) -> None:
    async with started(server, clock) as engine:
        await collect(engine)
    assert all("Authorization" not in headers for headers in server.headers)


async def test_without_running_usage_pieces_are_counted_and_the_last_usage_corrects(
    server: Server, clock: ManualClock
) -> None:
    server.stream = (event("one "), event("two"), event(finish="length"), event(usage=(3, 5)), DONE)
    async with started(server, clock) as engine:
        chunks, reading, reason = await collect(engine)
    assert [(chunk.text, chunk.count) for chunk in chunks] == [("one ", 1), ("two", 2), ("", 5)]
    assert (reading.prompt_tokens, reading.completion_tokens, reason) == (3, 5, FinishReason.LENGTH)
    assert reading.ids_complete is False
    assert reading.counted_by is CountedBy.UPSTREAM


async def test_a_probability_that_is_null_is_that_of_a_token_that_cannot_be_drawn(
    server: Server, clock: ManualClock
) -> None:
    """The reply's schema has numbers only; found after settlement, it would be an answer paid for and not delivered."""
    told = [{"token": "x", "logprob": None, "top_logprobs": [{"token": "y", "logprob": None}]}]
    choice = {"delta": {"content": "x"}, "logprobs": {"content": told}}
    server.stream = (b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n", event(finish="stop"), DONE)
    async with started(server, clock) as engine:
        chunks, _, _ = await collect(engine)
    (token,) = chunks[0].logprobs
    assert (token.logprob, token.top_logprobs[0].logprob) == (-9999.0, -9999.0)


PARALLEL = {
    "tokens": ["x", " y"],
    "token_logprobs": [None, -0.5],
    "top_logprobs": [None, {" y": -0.5, " z": -2.0}],
    "text_offset": [0, 1],
}


@pytest.mark.parametrize("left_out", [(), ("top_logprobs",), ("token_logprobs", "top_logprobs")])
async def test_probabilities_of_a_completion_come_in_parallel_lists(
    server: Server, clock: ManualClock, left_out: tuple[str, ...]
) -> None:
    told = {name: value for name, value in PARALLEL.items() if name not in left_out}
    choice = {"text": "x y", "logprobs": told, "finish_reason": None}
    server.stream = (b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n", event(finish="stop"), DONE)
    async with started(server, clock) as engine:
        how = Sampling(max_tokens=8, seed=5, logprobs=2)
        async with engine.generate(await engine.prepare_text("a prompt"), how) as generation:
            (chunk,) = [chunk async for chunk in generation]
    assert server.bodies[-1]["logprobs"] == 2
    first, second = chunk.logprobs
    assert (first.token, first.logprob, first.top_logprobs) == ("x", -9999.0, [])
    assert (second.token, second.logprob) == (" y", -9999.0 if "token_logprobs" in left_out else -0.5)
    others = [(other.token, other.logprob) for other in second.top_logprobs]
    assert others == ([] if left_out else [(" y", -0.5), (" z", -2.0)])


async def test_counts_never_fall_whatever_the_upstream_says(server: Server, clock: ManualClock) -> None:
    usages = [(3, 4), (2, 1), (0, 0)]
    server.stream = (*(event("x", usage=usage) for usage in usages), event(finish="stop", usage=(3, 2)), DONE)
    async with started(server, clock) as engine:
        chunks, reading, _ = await collect(engine)
    assert [chunk.count for chunk in chunks] == [4, 4, 4]
    assert (reading.prompt_tokens, reading.completion_tokens) == (3, 4)


async def test_who_leaves_before_the_prompt_was_counted_is_read_with_an_estimate_of_it(
    server: Server, clock: ManualClock
) -> None:
    async with started(server, clock) as engine:
        prompt = await engine.prepare([{"role": "user", "content": "x" * 400}])
        async with engine.generate(prompt, HOW) as generation:
            assert (await anext(aiter(generation))).text == "one "
            assert generation.reading().prompt_tokens == 0, "the upstream may still say"
        reading = generation.reading()
    assert (reading.prompt_tokens, reading.completion_tokens) == (101, 1)
    assert reading.prompt_tokens < prompt.count
    assert reading.flop == flop(engine.card, 101, 1)


async def test_an_estimate_gives_way_to_what_the_upstream_counted(server: Server, clock: ManualClock) -> None:
    server.stream = (event("one "), event(usage=(3, 1)), *GOOD[1:])
    async with started(server, clock) as engine:
        async with engine.generate(await asked(engine), HOW) as generation:
            chunks = aiter(generation)
            await anext(chunks)
            await anext(chunks)
        assert generation.reading().prompt_tokens == 3


@pytest.mark.parametrize("stream", [GOOD[:3], GOOD[:1]], ids=["no usage", "broken off"])
async def test_an_upstream_that_never_counts_is_read_with_an_estimate(
    server: Server, clock: ManualClock, stream: tuple[bytes, ...]
) -> None:
    server.stream = stream
    async with started(server, clock) as engine:
        async with engine.generate(await asked(engine), HOW) as generation:
            with suppress(EngineFailed):
                async for _ in generation:
                    pass
            assert generation.reading().prompt_tokens == len("user: a secret question") // 4


async def test_a_prompt_that_got_no_answer_is_not_estimated(server: Server, clock: ManualClock) -> None:
    server.stream = ()
    async with started(server, clock) as engine:
        async with engine.generate(await asked(engine), HOW) as generation:
            with pytest.raises(EngineFailed):
                await anext(aiter(generation))
        assert generation.reading().prompt_tokens == 0


def test_an_estimate_is_at_least_one_and_at_most_what_is_held() -> None:
    def of(text: str, count: int, *ids: int) -> int:
        return estimated(Prompt(ids, TokenCount(count), False, text, ()))

    assert [of("x", 9), of("", 9), of("x" * 100, 9), of("\u732b" * 4, 9), of("", 3, 5, 6, 7)] == [1, 1, 9, 3, 3]


async def test_an_upstream_without_running_usage_is_asked_once_more_and_never_again(
    server: Server, clock: ManualClock
) -> None:
    async def strict(request: web.Request) -> web.StreamResponse:
        if "continuous_usage_stats" in server.bodies[-1]["stream_options"]:
            return web.Response(status=400, text="unknown field stream_options.continuous_usage_stats")
        return await server.streamed(request)

    server.answer = strict
    async with started(server, clock) as engine:
        assert (await collect(engine))[2] is FinishReason.STOP
        assert (await collect(engine))[2] is FinishReason.STOP
    asked_for = [body["stream_options"] for body in server.bodies]
    assert asked_for == [{"include_usage": True, "continuous_usage_stats": True}, *[{"include_usage": True}] * 2]


@pytest.mark.parametrize(
    ("status", "said", "error", "retry_after"),
    [
        (400, "a secret question is too long: context_length_exceeded", ContextLengthExceeded, None),
        (400, "a secret question is bad", InvalidRequest, None),
        (404, "what model?", ModelNotFound, None),
        (429, "slow down", QueueFull, 5),
        (500, "a secret question crashed me", EngineFailed, 5),
        (502, "nobody behind me", EngineFailed, 5),
        (503, "still loading", UpstreamUnavailable, 5),
        (401, "no key", EngineFailed, 5),
        (302, "", EngineFailed, 5),
    ],
)
async def test_a_refusal_stands_for_an_error_of_ours(
    server: Server, clock: ManualClock, status: int, said: str, error: type[TiramiError], retry_after: int | None
) -> None:
    server.answer = refusing((status, said))
    async with started(server, clock) as engine:
        found = await failure(engine)
    assert type(found) is error
    assert found.retry_after == retry_after
    assert len(server.bodies) == 1


async def test_a_refusal_after_the_second_question_is_understood_too(server: Server, clock: ManualClock) -> None:
    server.answer = refusing((400, "continuous_usage_stats?"), (400, "the context is full"))
    async with started(server, clock) as engine:
        assert type(await failure(engine)) is ContextLengthExceeded


@pytest.mark.parametrize(
    "stream",
    [
        (event("one "),),
        (event("one "), DONE),
        (event("one "), b"data: {not json}\n\n"),
        (event("one "), b'data: {"choices": 7}\n\n'),
        (event("one "), b'data: {"choices": [], "usage": {"completion_tokens": "many"}}\n\n'),
        (event("one "), b'data: {"error": {"message": "a secret question"}}\n\n'),
        (event("one "), b"data: {" + b"x" * (2 << 20)),
        (event("one "), b"data: \xff\xfe\n\n"),
    ],
    ids=["no end", "no reason", "no json", "no choices", "no number", "an error", "an endless line", "no text"],
)
async def test_a_broken_stream_fails_and_keeps_what_was_delivered(
    server: Server, clock: ManualClock, stream: tuple[bytes, ...]
) -> None:
    server.stream = stream
    async with started(server, clock) as engine:
        async with engine.generate(await asked(engine), HOW) as generation:
            chunks = []
            with pytest.raises(EngineFailed) as caught:
                async for chunk in generation:
                    chunks.append(chunk)
        assert "secret" not in caught.value.message
        assert [chunk.text for chunk in chunks] == ["one "]
        assert generation.reading().completion_tokens == 1
        assert generation.finish_reason is FinishReason.FAILED


async def test_a_connection_that_breaks_off_fails_the_answer(server: Server, clock: ManualClock) -> None:
    server.stream, server.breaks = (event("one "),), True
    async with started(server, clock) as engine:
        assert type(await failure(engine)) is EngineFailed


async def test_comments_and_other_lines_are_ignored(server: Server, clock: ManualClock) -> None:
    server.stream = (b": ping\n\n", b"event: message\n", *GOOD)
    async with started(server, clock) as engine:
        chunks, _, _ = await collect(engine)
    assert "".join(chunk.text for chunk in chunks) == "one two"


async def test_events_cut_anywhere_are_the_same_events(server: Server, clock: ManualClock) -> None:
    whole = b"".join(GOOD)
    server.stream = tuple(whole[i : i + 7] for i in range(0, len(whole), 7))
    async with started(server, clock) as engine:
        chunks, _, _ = await collect(engine)
    assert [chunk.text for chunk in chunks] == ["one ", "two"]


async def test_the_time_to_the_first_token_counts_from_the_question(server: Server, clock: ManualClock) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        clock.advance(1.5)
        return await server.streamed(request)

    server.answer = slow
    async with started(server, clock) as engine:
        _, reading, _ = await collect(engine)
    assert (reading.ttft_ms, reading.wall_ms) == (1500, 1500)


async def test_an_upstream_that_went_away_is_not_ready_until_it_answers_again(clock: ManualClock) -> None:
    with EngineProcess() as process:
        engine = UpstreamEngine(process.url, clock=clock)
        await engine.start()
        assert engine.status().ready
        process.kill()
        assert isinstance(await failure(engine), EngineFailed)  # the kept connection may break off first
        assert type(await failure(engine)) is UpstreamUnavailable
        assert not engine.status().ready
        await asyncio.to_thread(process.restart)
        assert (await collect(engine))[2] is FinishReason.LENGTH
        assert engine.status().ready
        await engine.close()


async def test_an_upstream_that_is_asked_after_is_ready_once_it_lists_its_model_again(
    server: Server, clock: ManualClock
) -> None:
    async with started(server, clock, parameters=1) as engine:
        engine._problem = "the upstream cannot be reached"
        for models, status, said in ((MODELS, 503, "it answers 503"), ({"data": [{"id": "x"}]}, 200, "no model 'big'")):
            server.models, server.models_status = models, status
            await engine.check()
            assert not engine.status().ready
            assert said in engine.status().detail
        server.models = MODELS
        await engine.check()
        assert engine.status().ready
        server.models_status = 500
        await engine.check()
        assert engine.status().ready, "whoever answers is there"


async def test_an_upstream_that_dies_in_the_middle_fails_the_answer(clock: ManualClock) -> None:
    with EngineProcess() as process:
        engine = UpstreamEngine(process.url, clock=clock)
        await engine.start()
        prompt = await engine.prepare([{"role": "user", "content": "[[die_after=3]]"}])
        async with engine.generate(prompt, HOW) as generation:
            with pytest.raises(EngineFailed):
                async for _ in generation:
                    pass
        assert generation.reading().completion_tokens == 3
        await engine.close()


async def vectors(engine: UpstreamEngine, dimensions: int | None) -> int:
    async with engine.embed([await engine.prepare_text("a text")], dimensions) as generation:
        return len([chunk async for chunk in generation])


async def test_the_width_of_vectors_is_asked_for_and_checked(server: Server, clock: ManualClock) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"data": [{"embedding": [0.5, 1.0]}], "usage": {"prompt_tokens": 2}})

    server.answer = answer
    async with started(server, clock) as engine:
        assert await vectors(engine, None) == await vectors(engine, 2) == 1
        server.answer = refusing((400, "this model does not support matryoshka dimensions"))
        with pytest.raises(InvalidRequest) as caught:
            await vectors(engine, 3)
        assert caught.value.param == "dimensions"
        server.answer = answer
        for width in (3, 3):
            with pytest.raises(InvalidRequest, match="asked for 3 dimensions, .* have 2") as caught:
                await vectors(engine, width)
            assert caught.value.param == "dimensions"
        assert await vectors(engine, 2) == await vectors(engine, None) == 1
    asked = [body.get("dimensions") for body in server.bodies]
    assert asked == [None, 2, 3, 3, 2, None], "who took no notice of 3 need not work for nothing again"


async def test_a_width_that_an_upstream_has_not_keeps_nobody_from_one_that_it_has(
    server: Server, clock: ManualClock
) -> None:
    """It cuts its vectors of 4 as it is told, and cannot make longer ones of them."""

    async def answer(request: web.Request) -> web.StreamResponse:
        cut = [0.5, 1.0, 1.5, 2.0][: (await request.json()).get("dimensions")]
        return web.json_response({"data": [{"embedding": cut}], "usage": {"prompt_tokens": 2}})

    server.answer = answer
    async with started(server, clock) as engine:
        with pytest.raises(InvalidRequest, match="asked for 4096 dimensions, .* have 4"):
            await vectors(engine, 4096)
        assert await vectors(engine, 2) == await vectors(engine, 4) == await vectors(engine, None) == 1


@pytest.mark.parametrize("sent", [[[0.5, 1.0], [0.5]], [[], []]], ids=["of two widths", "empty"])
@pytest.mark.parametrize("dimensions", [None, 2])
async def test_vectors_without_one_width_are_no_answer(
    server: Server, clock: ManualClock, sent: list[list[float]], dimensions: int | None
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        data = [{"embedding": vector} for vector in sent]
        return web.json_response({"data": data, "usage": {"prompt_tokens": 2}})

    server.answer = answer
    async with started(server, clock) as engine:
        inputs = [await engine.prepare_text(text) for text in ("one", "two")]
        async with engine.embed(inputs, dimensions) as generation:
            with pytest.raises(EngineFailed, match="a width"):
                await anext(aiter(generation))
        assert generation.reading().prompt_tokens == 0


async def test_a_prompt_is_bounded_from_above(server: Server, clock: ManualClock) -> None:
    async with started(server, clock) as engine:
        prompt = await engine.prepare([{"role": "system", "content": "猫"}, {"role": "user", "content": None}])
    assert (prompt.tokens, prompt.exact) == ((), False)
    assert prompt.count >= 3 + 2 * PER_MESSAGE


async def test_an_engine_that_was_not_started_answers_nothing(clock: ManualClock) -> None:
    engine = UpstreamEngine("http://127.0.0.1:9/v1", clock=clock)
    assert not engine.status().ready
    await engine.close()
