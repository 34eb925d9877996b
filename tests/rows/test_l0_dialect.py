"""L0-11: OpenAI's own Python client against a node; its parsers are the judge.

The whole suite runs against the testing engine. What depends on a real engine (grammars, stop texts, templates, token
counts) runs again on the small model.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError, OpenAI, PermissionDeniedError
from pydantic import BaseModel

from tests.processes import NodeProcess
from tests.rows.conftest import Agent
from tirami.api.schemas import PolicyRequest

pytestmark = pytest.mark.row("L0-11")


class City(BaseModel):
    name: str
    capital: bool


WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TIME: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_time",
        "parameters": {
            "type": "object",
            "properties": {"zone": {"$ref": "#/$defs/Zone"}},
            "required": ["zone"],
            "$defs": {"Zone": {"enum": ["UTC", "CET"]}},
        },
    },
}
NAMED_TIME = {"type": "function", "function": {"name": "get_time"}}


def flat(tool: dict[str, Any]) -> dict[str, Any]:
    """The same function as ``/v1/responses`` has it."""
    return {"type": "function", **tool["function"]}


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


class Caller:
    """A client and the model it asks."""

    def __init__(self, node: NodeProcess, token: str, model: str) -> None:
        self.client = OpenAI(base_url=f"{node.url}/v1", api_key=token, max_retries=0, timeout=300)
        self.model = model

    def chat(self, text: str = "Say hello.", **how: Any) -> Any:
        asked = {"model": self.model, "messages": user(text), "max_tokens": 24, "seed": 5, **how}
        return self.client.chat.completions.create(**asked)

    def streamed(self, text: str = "Say hello.", **how: Any) -> list[Any]:
        return list(self.chat(text, stream=True, stream_options={"include_usage": True}, **how))


@pytest.fixture
def tester(node: NodeProcess, agent: Agent) -> Iterator[Caller]:
    caller = Caller(node, agent.token, "tirami-testing")
    yield caller
    caller.client.close()


@pytest.fixture(params=["testing", pytest.param("model", marks=pytest.mark.model)])
def caller(request: pytest.FixtureRequest) -> Iterator[Caller]:
    if request.param == "testing":
        yield request.getfixturevalue("tester")
        return
    real = Caller(request.getfixturevalue("model_node"), "local", "smollm2:135m")
    yield real
    real.client.close()


def texts(events: list[Any]) -> dict[int, str]:
    found: dict[int, str] = {}
    for event in events:
        for choice in event.choices:
            found[choice.index] = found.get(choice.index, "") + (choice.delta.content or "")
    return found


# --- chat ------------------------------------------------------------------------------------------------------------


def test_a_stream_says_what_the_whole_answer_says(caller: Caller) -> None:
    whole, events = caller.chat(), caller.streamed()
    assert texts(events) == {0: whole.choices[0].message.content}
    assert events[-1].usage == whole.usage
    assert events[-1].usage.completion_tokens == whole.x_tirami["trm_cost"] or caller.model != "tirami-testing"
    assert [choice.finish_reason for event in events for choice in event.choices][-1] == whole.choices[0].finish_reason


def test_the_seed_decides(tester: Caller) -> None:
    said = [tester.chat(seed=seed).choices[0].message.content for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]


def test_what_stops_an_answer_is_neither_shown_nor_billed(caller: Caller) -> None:
    how = {"temperature": 0.0, "max_tokens": 12}
    free = caller.chat(**how)
    words = free.choices[0].message.content.split()
    mark = f"{words[1]} {words[2]}"
    stopped = caller.chat(**how, stop=["never said", mark])
    text = stopped.choices[0].message.content
    assert free.choices[0].message.content.startswith(text)
    assert mark not in text
    assert words[2] not in text.split()[1:]
    assert stopped.choices[0].finish_reason == "stop"
    assert 0 < stopped.usage.completion_tokens < free.usage.completion_tokens
    assert texts(caller.streamed(**how, stop=mark)) == {0: text}


def test_choices_share_a_prompt_and_each_has_its_trade(caller: Caller) -> None:
    one, three = caller.chat(max_tokens=6), caller.chat(max_tokens=6, n=3)
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert three.choices[0].message.content == one.choices[0].message.content
    assert len({choice.message.content for choice in three.choices}) == 3
    assert three.usage.prompt_tokens == one.usage.prompt_tokens
    assert three.usage.completion_tokens == 18
    assert len(set(three.x_tirami["trade_ids"])) == 3
    assert three.x_tirami["trade_id"] == three.x_tirami["trade_ids"][0]
    events = caller.streamed(max_tokens=6, n=3)
    assert texts(events) == {choice.index: choice.message.content for choice in three.choices}
    assert events[-1].usage == three.usage


def test_probabilities(caller: Caller) -> None:
    how = {"max_tokens": 3, "temperature": 0.0, "logprobs": True, "top_logprobs": 2}
    content = caller.chat(**how).choices[0].logprobs.content
    assert [len(token.top_logprobs) for token in content] in ([2, 2, 2], [1, 1, 1])
    assert all(token.logprob <= 0 and bytes(token.bytes).decode() == token.token for token in content)
    streamed = [
        token
        for event in caller.streamed(**how)
        for choice in event.choices
        if choice.logprobs
        for token in choice.logprobs.content
    ]
    assert [token.token for token in streamed] == [token.token for token in content]


def test_json_mode(caller: Caller) -> None:
    said = caller.chat("Answer in JSON.", max_tokens=60, response_format={"type": "json_object"}).choices[0]
    if said.finish_reason == "stop":
        assert isinstance(json.loads(said.message.content), dict)
    assert said.message.content.lstrip().startswith("{")


def test_an_answer_is_held_to_a_schema(caller: Caller) -> None:
    parsed = caller.client.chat.completions.parse(
        model=caller.model, messages=user("Name a city."), max_tokens=200, seed=3, temperature=0, response_format=City
    )
    assert isinstance(parsed.choices[0].message.parsed, City)


@pytest.mark.model
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "wat"}}},
        {"$ref": "#/nope"},
        {"$ref": "https://127.0.0.1:1/schema.json"},
        {"type": "string", "pattern": "^["},
        {"type": "string", "pattern": "^((a{50}){50}){50}$"},
    ],
)
def test_a_schema_the_engine_cannot_hold_to_is_refused_by_name(model_node: NodeProcess, schema: dict[str, Any]) -> None:
    caller = Caller(model_node, "local", "smollm2:135m")
    with model_node.admin() as admin:
        before = admin.log_head().size
        shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        with pytest.raises(BadRequestError) as refused:
            caller.chat(response_format=shape)
        assert "response_format" in str(refused.value.param)
        assert admin.log_head().size == before, "nothing was booked"


# --- tools -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("choice", "name"), [(NAMED_TIME, "get_time"), ("required", "")])
def test_a_demanded_call_is_made(caller: Caller, choice: Any, name: str) -> None:
    how = {"tools": [WEATHER, TIME], "tool_choice": choice, "max_tokens": 80, "temperature": 0}
    said = caller.chat("What time is it?", **how).choices[0]
    assert (said.finish_reason, said.message.content) == ("tool_calls", None)
    (call,) = said.message.tool_calls
    assert call.function.name in ([name] if name else ["get_weather", "get_time"])
    arguments = json.loads(call.function.arguments)
    assert arguments.get("zone") in ("UTC", "CET") or isinstance(arguments["city"], str)
    events = caller.streamed("What time is it?", **how)
    deltas = [delta for e in events for c in e.choices for delta in c.delta.tool_calls or ()]
    assert {delta.index for delta in deltas} == {0}
    assert deltas[0].id.startswith("call_")
    assert deltas[0].function.name == call.function.name
    assert "".join(delta.function.arguments for delta in deltas) == call.function.arguments
    assert [c.finish_reason for e in events for c in e.choices][-1] == "tool_calls"


def test_several_calls_stream_by_their_index(tester: Caller) -> None:
    text, tools = "[[call=get_weather,get_time]]", [WEATHER, TIME]
    said = tester.chat(text, tools=tools).choices[0]
    assert [call.function.name for call in said.message.tool_calls] == ["get_weather", "get_time"]
    deltas = [d for e in tester.streamed(text, tools=tools) for c in e.choices for d in c.delta.tool_calls or ()]
    named = [(delta.index, delta.function.name) for delta in deltas if delta.id]
    assert named == [(0, "get_weather"), (1, "get_time")]


def test_a_model_may_leave_tools_alone(caller: Caller) -> None:
    assert caller.chat(tools=[WEATHER], tool_choice="none").choices[0].message.tool_calls is None
    assert caller.chat(tools=[WEATHER], tool_choice="auto").choices[0].finish_reason in ("stop", "length", "tool_calls")


def test_results_of_calls_are_read(caller: Caller) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Rome"}'}}
    talk = [
        {"role": "developer", "content": "Be brief."},
        *user("Weather in Rome?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    longer, shorter = caller.chat(messages=talk, tools=[WEATHER]), caller.chat(messages=talk[:2])
    assert longer.usage.prompt_tokens > shorter.usage.prompt_tokens or caller.model == "tirami-testing"


# --- the other routes ------------------------------------------------------------------------------------------------


def test_completions(caller: Caller) -> None:
    create = caller.client.completions.create
    how: dict[str, Any] = {"model": caller.model, "max_tokens": 5, "seed": 1}
    whole = create(prompt="Once upon a time", echo=True, **how)
    assert whole.choices[0].text.startswith("Once upon a time")
    streamed = "".join(e.choices[0].text for e in create(prompt="Once upon a time", stream=True, **how) if e.choices)
    assert whole.choices[0].text == "Once upon a time" + streamed
    several = create(prompt=["One two", "A B C"], n=2, logprobs=2, **how)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    assert several.usage is not None
    assert several.usage.completion_tokens <= 20
    logprobs = several.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert "".join(logprobs.tokens) == several.choices[0].text
    assert create(prompt=[504, 1205, 253], **how).choices[0].text


def test_embeddings(caller: Caller) -> None:
    create = caller.client.embeddings.create
    many = create(model=caller.model, input=["the sea", "the sea", "a mountain " * 60])
    first, same, other = (entry.embedding for entry in many.data)
    assert first == same != other
    assert abs(sum(value * value for value in first) - 1) < 1e-3
    plain = create(model=caller.model, input="the sea", encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(first, abs=1e-6)
    assert create(model=caller.model, input="the sea", dimensions=len(first)).data[0].embedding == first
    assert many.usage.prompt_tokens > 2 * plain.usage.prompt_tokens
    assert many.model_extra is not None
    assert len(many.model_extra["x_tirami"]["trade_ids"]) == 1
    with pytest.raises(BadRequestError) as refused:
        create(model=caller.model, input="the sea", dimensions=7)
    assert refused.value.param == "dimensions"


RESPONSE_EVENTS = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
]


def test_responses(caller: Caller) -> None:
    whole = caller.client.responses.create(model=caller.model, input="Say hello.", max_output_tokens=8, temperature=0)
    assert whole.status in ("completed", "incomplete")
    assert whole.usage is not None
    assert whole.usage.output_tokens > 0
    with caller.client.responses.stream(
        model=caller.model, input=user("Say hello."), max_output_tokens=8, temperature=0
    ) as stream:
        events = list(stream)
    kinds = [event.type for event in events]
    assert list(dict.fromkeys(kinds))[:-1] == RESPONSE_EVENTS
    assert kinds[-1] == f"response.{whole.status}"
    assert [event.sequence_number for event in events] == sorted(event.sequence_number for event in events)
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[-1].response.output_text == said  # type: ignore[union-attr]
    if caller.model != "tirami-testing":
        assert said == whole.output_text


def test_responses_with_schema_and_functions(caller: Caller) -> None:
    create = caller.client.responses
    how: dict[str, Any] = {"model": caller.model, "temperature": 0, "max_output_tokens": 200}
    parsed = create.parse(input="Name a city.", text_format=City, **how)
    assert isinstance(parsed.output_parsed, City)
    called = create.create(input="Time?", tools=[flat(TIME)], tool_choice="required", **how)
    (call,) = called.output
    assert call.type == "function_call"
    assert json.loads(call.arguments)["zone"] in ("UTC", "CET")
    with create.stream(input="Time?", tools=[flat(TIME)], tool_choice="required", **how) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert "response.function_call_arguments.done" in kinds
    assert final.output[0].type == "function_call"
    result = [*user("Time?"), call.model_dump(include={"type", "call_id", "name", "arguments"})]
    result.append({"type": "function_call_output", "call_id": call.call_id, "output": "noon"})
    assert create.create(input=result, instructions="Be brief.", **how).output_text is not None


def test_models(caller: Caller) -> None:
    assert caller.model in [model.id for model in caller.client.models.list()]
    assert caller.client.models.retrieve(caller.model).id == caller.model
    with pytest.raises(NotFoundError):
        caller.chat(model="nobody")


# --- errors ----------------------------------------------------------------------------------------------------------

REFUSED: list[tuple[Callable[[OpenAI], object], str, str]] = [
    (lambda c: c.chat.completions.create(model="m", messages=[]), "messages", "invalid_request"),
    (lambda c: c.chat.completions.create(model="m", messages=user("x"), n=9), "n", "invalid_request"),
    (lambda c: c.chat.completions.create(model="m", messages=user("x"), stop=["a"] * 5), "stop", "invalid_request"),
    (
        lambda c: c.chat.completions.create(model="m", messages=user("x"), logprobs=True, top_logprobs=21),
        "top_logprobs",
        "invalid_request",
    ),
    (
        lambda c: c.chat.completions.create(model="m", messages=user("x"), extra_body={"wat": 1}),
        "wat",
        "unsupported_parameter",
    ),
    (
        lambda c: c.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}],
        ),
        "messages.0.content",
        "invalid_request",
    ),
    (lambda c: c.completions.create(model="m", prompt="x", suffix="y"), "suffix", "unsupported_parameter"),
    (lambda c: c.completions.create(model="m", prompt=["x"] * 9), "prompt", "invalid_request"),
    (lambda c: c.embeddings.create(model="m", input=[]), "input", "invalid_request"),
    (
        lambda c: c.responses.create(model="m", input="x", previous_response_id="resp_1"),
        "previous_response_id",
        "unsupported_parameter",
    ),
    (lambda c: c.responses.create(model="m", input="x", background=True), "background", "unsupported_parameter"),
]


@pytest.mark.parametrize(("ask", "param", "code"), REFUSED, ids=[param for _, param, _ in REFUSED])
def test_what_is_not_served_is_refused_by_name(
    tester: Caller, ask: Callable[[OpenAI], object], param: str, code: str
) -> None:
    with pytest.raises(BadRequestError) as refused:
        ask(tester.client)
    assert (refused.value.param, refused.value.code) == (param, code)


def test_choices_are_admitted_together_or_not_at_all(node: NodeProcess, tester: Caller, agent: Agent) -> None:
    with node.admin() as admin:
        admin.set_policy(PolicyRequest(node_id=agent.account, max_cu_per_request=25))
    assert len(tester.chat(max_tokens=10, n=2).choices) == 2
    asked = agent.client.balance()
    with pytest.raises(PermissionDeniedError) as denied:
        tester.chat(max_tokens=10, n=3)
    assert denied.value.code == "budget_exceeded"
    assert agent.client.balance() == asked
