"""What the real child makes of schemas, tools, penalties, stop texts and embeddings."""

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator
from math import sqrt
from typing import Any

import pytest
import pytest_asyncio

from tirami.core.errors import ContextLengthExceeded, InvalidRequest
from tirami.infer import ANY_OBJECT, ChildEngine, FinishReason, Prompt, Sampling, Shaping, Tools, default_models_dir
from tirami.infer import resolve as resolve_model
from tirami.infer.embedding import WINDOW

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.model]
TOOL: dict[str, Any] = {"name": "get_weather", "description": "Weather", "parameters": {"type": "object"}}
ASKED = [{"role": "user", "content": "Weather in Rome?"}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[ChildEngine]:
    model = await asyncio.to_thread(resolve_model, "smollm2:135m")
    engine = ChildEngine(model.path, name="test", slots=2, context=512, threads=1, models_dir=default_models_dir())
    await engine.start()
    yield engine
    await engine.close()


async def said(engine: ChildEngine, prompt: Prompt, most: int = 12, **shaping: Any) -> tuple[str, FinishReason | None]:
    how = Sampling(max_tokens=most, seed=1, temperature=0.0, shaping=Shaping(**shaping))
    async with engine.generate(prompt, how) as generation:
        text = "".join([chunk.text async for chunk in generation])
        return text, generation.finish_reason


async def test_a_template_without_tools_is_told_in_plain_text(engine: ChildEngine) -> None:
    plain = await engine.prepare(ASKED)
    told = await engine.prepare(ASKED, Tools((TOOL,)))
    assert json.dumps(TOOL) in told.text
    assert told.count > plain.count
    call = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}}
    talk = [*ASKED, {"role": "assistant", "content": None, "tool_calls": [call]}]
    history = await engine.prepare([*talk, {"role": "tool", "tool_call_id": "1", "content": "sunny"}])
    assert '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}' in history.text
    assert "<tool_response>\nsunny" in history.text


@pytest.mark.parametrize("schema", ['{"properties":{"a":{"type":"wat"}},"type":"object"}', '{"$ref":"#/nope"}'])
async def test_a_schema_it_cannot_convert_is_refused_before_anything_is_asked(engine: ChildEngine, schema: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await engine.prepare(ASKED, schema=schema)
    assert refused.value.param == "response_format"


async def test_an_answer_follows_its_schema(engine: ChildEngine) -> None:
    schema = '{"type":"object","properties":{"a":{"enum":["x","y"]}},"required":["a"],"additionalProperties":false}'
    text, reason = await said(engine, await engine.prepare(ASKED, schema=schema), 60, schema=schema)
    assert (json.loads(text)["a"] in ("x", "y"), reason) == (True, FinishReason.STOP)
    text, _ = await said(engine, await engine.prepare(ASKED, schema=ANY_OBJECT), 60, schema=ANY_OBJECT)
    assert text.lstrip().startswith("{")


async def test_an_answer_in_a_shape_does_not_wander_off_into_white_space(engine: ChildEngine) -> None:
    """Padding is valid JSON: this model filled one in twenty-five of its answers with it until its tokens ended."""
    shapes = {"sky": {"enum": ["clear", "cloudy"]}, "warm": {"type": "boolean"}}
    schema = json.dumps({"type": "object", "properties": shapes, "required": [*shapes], "additionalProperties": False})
    prompt = await engine.prepare(ASKED, schema=schema)
    for seed in range(8):
        how = Sampling(max_tokens=60, seed=seed, temperature=1.5, shaping=Shaping(schema=schema))
        async with engine.generate(prompt, how) as generation:
            text = "".join([chunk.text async for chunk in generation])
        assert text == json.dumps(json.loads(text))


async def test_everything_that_shapes_an_answer_is_understood(engine: ChildEngine) -> None:
    prompt = await engine.prepare_text("one two three one two three one two")
    plain, _ = await said(engine, prompt)
    first = (await engine.prepare_text(plain)).tokens[0]
    for shaping in (
        {"presence_penalty": 2.0},
        {"frequency_penalty": 2.0},
        {"repeat_penalty": 1.5},
        {"logit_bias": ((first, -100.0),)},
    ):
        assert (await said(engine, prompt, **shaping))[0] != plain, shaping
    assert (await said(engine, prompt, min_p=0.5))[0] == plain, "the likeliest token passes any threshold"
    mark = " ".join(plain.split()[2:4])
    cut, reason = await said(engine, prompt, stop=(mark,))
    assert (mark in cut, plain.startswith(cut), reason) == (False, True, FinishReason.STOP)


async def test_vectors_of_any_length(engine: ChildEngine) -> None:
    texts = ["the sea", "the sea", "a mountain of stone " * 40]
    inputs = [await engine.prepare_text(text) for text in texts]
    assert inputs[2].count > 2 * WINDOW
    async with engine.embed(inputs) as generation:
        chunks = [chunk async for chunk in generation]
        reading = generation.reading()
    vectors = [struct.unpack(f"<{engine.card.hidden}f", base64.b64decode(chunk.text)) for chunk in chunks]
    assert vectors[0] == vectors[1] != vectors[2]
    assert all(abs(sqrt(sum(value * value for value in vector)) - 1) < 1e-5 for vector in vectors)
    assert [chunk.count for chunk in chunks] == [1, 2, 3]
    assert reading.prompt_tokens == sum(prompt.count for prompt in inputs)


async def test_what_cannot_be_embedded_is_refused(engine: ChildEngine) -> None:
    with pytest.raises(ContextLengthExceeded):
        async with engine.embed([await engine.prepare_text("word " * 600)]):
            pass
    with pytest.raises(InvalidRequest):
        async with engine.embed([await engine.prepare_text([9_999_999])]) as generation:
            _ = [chunk async for chunk in generation]
    with pytest.raises(InvalidRequest):
        await engine.prepare_text([])
    assert engine.status().busy == 0
