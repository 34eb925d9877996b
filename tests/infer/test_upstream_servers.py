"""The servers people run, each as it speaks on the wire: model list, chunks, usage, keep-alives, ends, refusals.

The streams are written after what these programs send, field for field; what they have in common and where they differ
is what the adapter must bear.
"""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web

from tests.infer.test_upstream import HOW, Server, collect, failure, server, started
from tirami.core.errors import (
    ContextLengthExceeded,
    EngineFailed,
    ModelLoadError,
    ModelNotFound,
    QueueFull,
    TiramiError,
    UpstreamUnavailable,
)
from tirami.infer import CountedBy, FinishReason
from tirami.infer.upstream import DEFAULT_CONTEXT
from tirami.testing import ManualClock

__all__ = ["server"]
SIZE = 7 * 10**9


def data(event: object, *, space: bool = True, end: str = "\n\n") -> bytes:
    return f"data:{' ' if space else ''}{json.dumps(event)}{end}".encode()


def done(end: str = "\n\n") -> bytes:
    return f"data: [DONE]{end}".encode()


def chunk(delta: object, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish} | more.pop("choice", {})
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1760000000, "model": "m"}
    return head | {"choices": [choice]} | more


def usage(prompt: int, completion: int, **more: object) -> dict[str, object]:
    counted = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return counted | more


@dataclass(frozen=True)
class Kind:
    """One program: how it lists models and how it answers "Hello there" in 3 tokens.

    Attributes:
        counted: prompt and completion tokens it must be understood to have said.
        context: of the model, as it tells it.
        refusals: status and text with what they stand for.
        reasoning: what it thought before, and how many tokens of it are known.
    """

    entry: dict[str, Any]
    stream: tuple[bytes, ...]
    counted: tuple[int, int]
    context: int
    refusals: tuple[tuple[int, str, type[TiramiError]], ...]
    finish: FinishReason = FinishReason.STOP
    told_size: int = 0
    reasoning: tuple[str, int] = ("", 0)


OLLAMA = Kind(
    entry={"id": "m", "object": "model", "created": 1760000000, "owned_by": "library"},
    stream=(
        data(chunk({"role": "assistant", "content": "Hello"}, system_fingerprint="fp_ollama")),
        data(chunk({"role": "assistant", "content": " there"}, system_fingerprint="fp_ollama")),
        data(chunk({"role": "assistant", "content": ""}, "stop", system_fingerprint="fp_ollama")),
        data({**chunk({}), "choices": [], "usage": usage(11, 3), "system_fingerprint": "fp_ollama"}),
        done(),
    ),
    counted=(11, 3),
    context=DEFAULT_CONTEXT,
    refusals=(
        (
            404,
            '{"error":{"message":"model \\"m\\" not found, try pulling it first","type":"api_error"}}',
            ModelNotFound,
        ),
        (500, '{"error":{"message":"llama runner process has terminated","type":"api_error"}}', EngineFailed),
        (
            503,
            '{"error":{"message":"server busy, please try again.  maximum pending requests exceeded"}}',
            UpstreamUnavailable,
        ),
    ),
)

VLLM = Kind(
    entry={
        "id": "m", "object": "model", "created": 1760000000, "owned_by": "vllm", "root": "m", "parent": None,
        "max_model_len": 32768, "permission": [{"id": "modelperm-1", "object": "model_permission"}],
    },
    stream=(
        data(chunk({"role": "assistant", "content": ""}, usage=usage(11, 0), prompt_token_ids=None)),
        data(chunk({"content": "Hello"}, choice={"logprobs": None, "token_ids": None}, usage=usage(11, 1))),
        data(chunk({"reasoning_content": "hm"}, usage=usage(11, 2))),
        data(chunk({"content": " there"}, "stop", choice={"stop_reason": 151645}, usage=usage(11, 3))),
        data({**chunk({}), "choices": [], "usage": usage(11, 3, prompt_tokens_details=None)}),
        done(),
    ),
    counted=(11, 3),
    reasoning=("hm", 1),
    context=32768,
    refusals=(
        (
            400,
            '{"error":{"message":"This model\'s maximum context length is 32768 tokens. However, you requested 40000",'
            '"type":"BadRequestError","param":"input_tokens","code":400}}',
            ContextLengthExceeded,
        ),
        (404, '{"error":{"message":"The model `x` does not exist.","type":"NotFoundError","code":404}}', ModelNotFound),
    ),
)  # fmt: skip

MLX = Kind(
    entry={"id": "m", "object": "model", "created": 1760000000},
    stream=(
        b": keepalive 0/11\n\n",
        b": keepalive 11/11\n\n",
        data(chunk({"role": "assistant", "content": "Hello", "reasoning": "", "tool_calls": []},
                   choice={"logprobs": {"token_logprobs": [-0.1], "top_logprobs": [], "tokens": [9707]}})),
        data(chunk({"role": "assistant", "content": " there", "reasoning": "", "tool_calls": []})),
        data(chunk({"role": "assistant", "content": "", "reasoning": "", "tool_calls": []}, "length")),
        data({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [],
              "usage": usage(11, 3)}),
        done(),
    ),
    counted=(11, 3),
    context=DEFAULT_CONTEXT,
    refusals=((404, "Not Found", ModelNotFound),),
    finish=FinishReason.LENGTH,
)  # fmt: skip

MLX_WITHOUT_USAGE = Kind(
    entry=MLX.entry,
    stream=(*MLX.stream[:5], done()),
    counted=(len("user: a secret question") // 4, 2),  # the prompt by estimate
    context=DEFAULT_CONTEXT,
    refusals=(),
    finish=FinishReason.LENGTH,
)

LM_STUDIO = Kind(
    entry={"id": "m", "object": "model", "owned_by": "organization_owner"},
    stream=(
        data(chunk({"role": "assistant", "content": "Hello"}, choice={"logprobs": None}, system_fingerprint="m")),
        data(chunk({"role": "assistant", "content": " there"}, choice={"logprobs": None}, usage=None)),
        data(chunk({}, "stop", choice={"logprobs": None}, system_fingerprint="m")),
        data({**chunk({}), "choices": [], "usage": usage(11, 3)}),
        done(),
    ),
    counted=(11, 3),
    context=DEFAULT_CONTEXT,
    refusals=(
        (
            400,
            '{"error":"Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded '
            'with context length of only 4096 tokens"}',
            ContextLengthExceeded,
        ),
        (429, '{"error":"Too many requests"}', QueueFull),
    ),
)

LLAMA_SERVER = Kind(
    entry={
        "id": "m", "aliases": [], "tags": [], "object": "model", "created": 1760000000, "owned_by": "llamacpp",
        "meta": {"vocab_type": 2, "n_vocab": 151936, "n_ctx_train": 16384, "n_embd": 3584, "n_params": SIZE, "size": 4},
    },
    stream=(
        data(chunk({"role": "assistant", "content": None}, system_fingerprint="b7000")),
        data(chunk({"content": "Hello"}, timings={"predicted_n": 1, "prompt_n": 11})),
        data(chunk({"content": " there"}, timings={"predicted_n": 2, "prompt_n": 11})),
        data(chunk({}, "stop")),
        data({**chunk({}), "choices": [], "usage": usage(11, 3), "timings": {"cache_n": 0, "predicted_n": 3}}),
        done(),
    ),
    counted=(11, 3),
    context=16384,
    refusals=(
        (
            400,
            '{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it",'
            '"type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":4096}}',
            ContextLengthExceeded,
        ),
        (503, '{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}', UpstreamUnavailable),
    ),
    told_size=SIZE,
)  # fmt: skip

KINDS = {
    "mlx-lm": MLX,
    "mlx-lm without usage": MLX_WITHOUT_USAGE,
    "Ollama": OLLAMA,
    "vLLM": VLLM,
    "LM Studio": LM_STUDIO,
    "llama-server": LLAMA_SERVER,
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def speaking(server: Server, kind: Kind) -> Server:
    server.models = {"object": "list", "data": [kind.entry]}
    server.stream = kind.stream
    return server


@pytest.mark.row("L0-06")
async def test_an_answer_is_whole_counted_and_ended(speaking: Server, kind: Kind, clock: ManualClock) -> None:
    async with started(speaking, clock, parameters=SIZE) as engine:
        chunks, reading, reason = await collect(engine)
    assert "".join(piece.text for piece in chunks) == "Hello there"
    assert (reading.prompt_tokens, reading.completion_tokens) == kind.counted
    assert [piece.count for piece in chunks] == sorted(piece.count for piece in chunks)
    assert chunks[-1].count == kind.counted[1]
    assert ("".join(piece.reasoning for piece in chunks), reading.reasoning_tokens) == kind.reasoning
    assert reason is kind.finish
    assert reading.counted_by is CountedBy.UPSTREAM
    assert reading.flop > 0


@pytest.mark.row("L0-06")
async def test_the_model_is_described_by_what_the_server_tells(
    speaking: Server, kind: Kind, clock: ManualClock
) -> None:
    async with started(speaking, clock, "m", parameters=SIZE) as engine:
        assert (engine.card.name, engine.card.context_length, engine.card.parameters) == ("m", kind.context, SIZE)
    if kind.told_size:
        async with started(speaking, clock) as engine:
            assert engine.card.parameters == kind.told_size
    else:
        with pytest.raises(ModelLoadError, match="infer.upstream_parameters"):
            async with started(speaking, clock):
                pass


@pytest.mark.row("L0-06")
async def test_what_is_asked_is_what_they_all_understand(speaking: Server, clock: ManualClock) -> None:
    async with started(speaking, clock, parameters=SIZE) as engine:
        await collect(engine)
    (body,) = speaking.bodies
    assert body["stream"] is True
    assert body["max_tokens"] == HOW.max_tokens
    assert body["stream_options"]["include_usage"] is True
    assert {"model", "messages", "temperature", "top_p", "seed"} <= set(body)


@pytest.mark.row("L0-06")
async def test_events_in_any_packets_are_the_same_answer(speaking: Server, kind: Kind, clock: ManualClock) -> None:
    whole = b"".join(kind.stream)
    for size in (1, 13):
        speaking.stream = tuple(whole[i : i + size] for i in range(0, len(whole), size))
        async with started(speaking, clock, parameters=SIZE) as engine:
            chunks, reading, reason = await collect(engine)
        assert ("".join(piece.text for piece in chunks), reading.completion_tokens) == ("Hello there", kind.counted[1])
        assert reason is kind.finish


@pytest.mark.row("L0-06")
@pytest.mark.parametrize("form", ["no space", "carriage returns", "no end mark", "comments between", "events named"])
async def test_the_ways_a_stream_may_be_written(speaking: Server, kind: Kind, clock: ManualClock, form: str) -> None:
    lines = list(kind.stream)
    if form == "no space":
        lines = [line.replace(b"data: ", b"data:", 1) for line in lines]
    elif form == "carriage returns":
        lines = [line.replace(b"\n", b"\r\n") for line in lines]
    elif form == "no end mark":
        lines = lines[:-1]
    elif form == "comments between":
        lines = [part for line in lines for part in (b":\n\n", b": ping\n\n", line)]
    else:
        lines = [b"event: message\nid: 7\nretry: 10\n" + line for line in lines]
    speaking.stream = tuple(lines)
    async with started(speaking, clock, parameters=SIZE) as engine:
        chunks, reading, reason = await collect(engine)
    assert "".join(piece.text for piece in chunks) == "Hello there"
    assert (reading.completion_tokens, reason) == (kind.counted[1], kind.finish)


@pytest.mark.row("L0-06")
async def test_a_refusal_is_understood_and_its_words_are_not_passed_on(
    speaking: Server, kind: Kind, clock: ManualClock
) -> None:
    for status, said, error in kind.refusals:

        async def answer(request: web.Request, status: int = status, said: str = said) -> web.StreamResponse:
            return web.Response(status=status, text=said, content_type="application/json")

        speaking.answer = answer
        async with started(speaking, clock, parameters=SIZE) as engine:
            found = await failure(engine)
        assert type(found) is error
        assert found.message not in said


@pytest.mark.row("L0-06")
async def test_a_server_that_breaks_off_fails_and_what_came_is_counted(
    speaking: Server, kind: Kind, clock: ManualClock
) -> None:
    ended = next(i for i, line in enumerate(kind.stream) if b'"stop"' in line or b'"length"' in line)
    speaking.stream, speaking.breaks = kind.stream[:ended], True
    async with started(speaking, clock, parameters=SIZE) as engine:
        assert type(await failure(engine)) is EngineFailed


@pytest.mark.parametrize(
    ("deltas", "details", "thought"),
    [
        ([{"reasoning": "Let me"}, {"reasoning": " think"}], {}, 2),  # Ollama
        ([{"reasoning_content": "Let me"}, {"reasoning_content": " think"}], {"reasoning_tokens": 9}, 9),  # LM Studio
        ([{"reasoning": "Let me think", "reasoning_content": "Let me think"}], {"reasoning_tokens": None}, 1),  # vLLM
        ([{"reasoning_content": "Let me think", "reasoning": {"effort": 5}}], {"reasoning_tokens": 99}, 12),
    ],
)
async def test_an_answer_that_is_all_reasoning_is_told_and_counted(
    server: Server, clock: ManualClock, deltas: list[dict[str, object]], details: dict[str, object], thought: int
) -> None:
    told = usage(11, 12, completion_tokens_details=details or None)
    events = [*map(chunk, deltas), chunk({"content": ""}, "length"), {**chunk({}), "choices": [], "usage": told}]
    server.models, server.stream = {"object": "list", "data": [OLLAMA.entry]}, (*map(data, events), done())
    async with started(server, clock, parameters=SIZE) as engine:
        chunks, reading, reason = await collect(engine)
    assert ["".join(getattr(piece, part) for piece in chunks) for part in ("reasoning", "text")] == ["Let me think", ""]
    assert [piece.count for piece in chunks] == [*range(1, len(deltas) + 1), 12]
    assert (reading.completion_tokens, reading.reasoning_tokens, reason) == (12, thought, FinishReason.LENGTH)


@pytest.mark.parametrize(
    "event",
    [
        {"choices": None, "usage": None},
        {"choices": [{"index": 0, "delta": None, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"content": None, "role": "assistant"}, "finish_reason": ""}]},
        {"object": "ping"},
        {"choices": [], "x_groq": {"id": "1"}},
    ],
    ids=str,
)
async def test_events_that_say_nothing_end_nothing(server: Server, clock: ManualClock, event: object) -> None:
    server.models = {"object": "list", "data": [OLLAMA.entry]}
    server.stream = tuple(part for line in OLLAMA.stream[:2] for part in (data(event), line)) + OLLAMA.stream[2:]
    async with started(server, clock, parameters=SIZE) as engine:
        chunks, reading, reason = await collect(engine)
    assert ("".join(piece.text for piece in chunks), reading.completion_tokens) == ("Hello there", 3)
    assert reason is FinishReason.STOP


async def test_an_end_without_a_reason_is_none(server: Server, clock: ManualClock) -> None:
    server.stream = (data({"choices": [{"delta": {"content": "x"}, "finish_reason": ""}]}), done())
    async with started(server, clock, parameters=SIZE) as engine:
        assert type(await failure(engine)) is EngineFailed
