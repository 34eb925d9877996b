"""The official OpenAI client for Python, blocking."""

import json
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import openai
import pytest

from tests.clients.customer import ENDLESS, MESSAGES, MODEL, TESTING, Customer, new_customer
from tests.clients.relay import Relay
from tests.clients.shapes import CITIES, TIDE, WEATHER, Weather
from tests.processes import NodeProcess

pytestmark = pytest.mark.model


@contextmanager
def client_of(customer: Customer, url: str | None = None, retries: int = 0) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url or customer.url, api_key=customer.token, max_retries=retries) as client:
        yield client


@pytest.fixture
def client(customer: Customer) -> Iterator[openai.OpenAI]:
    with client_of(customer) as made:
        yield made


def test_an_answer_and_its_bill(client: openai.OpenAI, customer: Customer) -> None:
    with customer.billed() as bill:
        answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=16)
    assert answer.choices[0].message.content
    assert (answer.choices[0].message.role, answer.choices[0].finish_reason) == ("assistant", "length")
    assert answer.usage.completion_tokens == 16
    assert bill.is_for(answer.usage, answer.x_tirami)
    assert customer.settled_at(answer.x_tirami)


def test_a_stream_and_its_bill(client: openai.OpenAI, customer: Customer) -> None:
    asked = {"model": MODEL, "messages": MESSAGES, "max_tokens": 16, "seed": 5, "temperature": 0}
    with customer.billed() as bill:
        chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert text == client.chat.completions.create(**asked).choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["length"]
    assert chunks[-1].choices == [] and not any(chunk.usage for chunk in chunks[:-1])
    assert bill.is_for(chunks[-1].usage, chunks[-1].x_tirami)
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_without_usage_still_says_its_cost_at_the_end(client: openai.OpenAI, customer: Customer) -> None:
    with customer.billed() as bill:
        chunks = list(client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8, stream=True))
    assert not any(chunk.usage for chunk in chunks)
    assert chunks[-1].x_tirami["trm_cost"] == bill.charged > 0


def test_the_same_seed_says_the_same_and_another_one_something_else(client: openai.OpenAI) -> None:
    def said(seed: int) -> str | None:
        answer = client.chat.completions.create(
            model=MODEL, messages=MESSAGES, max_tokens=24, seed=seed, temperature=1.2
        )
        return answer.choices[0].message.content

    assert said(7) == said(7)
    assert len({said(seed) for seed in (7, 8, 9)}) > 1


def test_parts_of_a_text_are_one_text(client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": "Tell me "}, {"type": "text", "text": "about the sea."}]
    asked = {"model": MODEL, "max_tokens": 12, "seed": 1, "temperature": 0}
    whole = client.chat.completions.create(messages=MESSAGES, **asked)
    split = client.chat.completions.create(messages=[{"role": "user", "content": parts}], **asked)
    assert split.choices[0].message.content == whole.choices[0].message.content
    assert split.usage == whole.usage


def test_the_models_are_listed_and_found(client: openai.OpenAI) -> None:
    listed = client.models.list().data
    assert MODEL in [model.id for model in listed]
    found = client.models.retrieve(MODEL)
    assert found == next(model for model in listed if model.id == MODEL)
    assert found.context_length and found.price_out_utrm


# --- errors ------------------------------------------------------------------------------------------------------


def test_each_refusal_is_the_clients_own_error_and_costs_nothing(client: openai.OpenAI, customer: Customer) -> None:
    asked = {"model": MODEL, "messages": MESSAGES, "max_tokens": 8}
    with customer.billed() as bill:
        with pytest.raises(openai.AuthenticationError) as unknown:
            client.with_options(api_key="nobody's").chat.completions.create(**asked)
        with pytest.raises(openai.NotFoundError) as absent:
            client.chat.completions.create(**{**asked, "model": "gpt-9"})
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-9")
        with pytest.raises(openai.BadRequestError) as foreign:
            client.chat.completions.create(**asked, extra_body={"mirostat": 2})
        with pytest.raises(openai.BadRequestError) as shapeless:
            client.chat.completions.create(**{**asked, "messages": []})
        with pytest.raises(openai.BadRequestError) as too_long:
            client.chat.completions.create(**{**asked, "messages": [{"role": "user", "content": "sea " * 4000}]})
    assert unknown.value.code == "invalid_token"
    assert (absent.value.code, absent.value.param) == ("model_not_found", "model")
    assert (foreign.value.code, foreign.value.param) == ("unsupported_parameter", "mirostat")
    assert (shapeless.value.code, shapeless.value.param) == ("invalid_request", "messages")
    assert too_long.value.code == "context_length_exceeded"
    assert all(error.value.request_id is not None or error.value.body["request_id"] for error in (absent, foreign))
    assert bill.is_nothing()


def test_what_cannot_be_paid_is_not_tried_again(model_node: NodeProcess, wire: Relay, customer: Customer) -> None:
    with client_of(customer, wire.url, retries=3) as client, customer.billed() as bill:
        with pytest.raises(openai.APIStatusError) as poor:
            client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1900)
    assert (poor.value.status_code, poor.value.code) == (402, "insufficient_funds")
    bounded = new_customer(model_node, per_request=4)
    with client_of(bounded, wire.url, retries=3) as client, pytest.raises(openai.PermissionDeniedError) as denied:
        client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=900)
    assert denied.value.code == "budget_exceeded"
    assert wire.posts == 2
    assert bill.is_nothing()


def test_who_is_turned_away_comes_back_when_told(turned_away: Customer) -> None:
    long = [{"role": "user", "content": "[[delay_ms=20]] go on"}]
    with client_of(turned_away) as first:
        running = iter(first.chat.completions.create(model=TESTING, messages=long, max_tokens=50, stream=True))
        next(running)
        with client_of(turned_away) as hasty, pytest.raises(openai.RateLimitError) as full:
            hasty.chat.completions.create(model=TESTING, messages=MESSAGES, max_tokens=4)
        assert full.value.code == "queue_full"
        wait = int(full.value.response.headers["retry-after"])
        drain = threading.Thread(target=lambda: list(running))
        drain.start()
        began = time.monotonic()
        with client_of(turned_away, retries=5) as patient:
            answer = patient.chat.completions.create(model=TESTING, messages=MESSAGES, max_tokens=4)
        assert answer.usage.completion_tokens == 4
        assert time.monotonic() - began >= wait, "it waited as long as it was told"
        drain.join()


# --- connections -------------------------------------------------------------------------------------------------


def test_who_leaves_a_stream_pays_what_arrived_and_frees_its_slot(client: openai.OpenAI, customer: Customer) -> None:
    with customer.billed() as bill:
        stream = client.chat.completions.create(
            model=MODEL, messages=MESSAGES, max_tokens=900, logit_bias=ENDLESS, stream=True
        )
        pieces = 0
        for chunk in stream:
            pieces += bool(chunk.choices[0].delta.content)
            if pieces == 5:
                break
        stream.close()
        assert customer.idle(), "the slot is free"
    assert 1 <= bill.completion_tokens < 200, "a few more were on the wire when it left"


def test_an_answer_that_did_not_arrive_costs_nothing_and_is_asked_again(wire: Relay, customer: Customer) -> None:
    wire.cuts = 2
    with client_of(customer, wire.url, retries=2) as client, customer.billed() as bill:
        answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=64)
    assert wire.posts == 3
    assert bill.is_for(answer.usage, answer.x_tirami), "one answer was delivered, one is paid"


@pytest.mark.parametrize("stream", [False, True])
def test_a_connection_cut_before_the_first_byte_costs_nothing(wire: Relay, customer: Customer, stream: bool) -> None:
    wire.cuts = 1
    with client_of(customer, wire.url) as client, customer.billed() as bill:
        with pytest.raises(openai.APIConnectionError):
            client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=200, stream=stream)
        assert customer.idle()
    assert bill.is_nothing()


# --- the rest of the dialect -------------------------------------------------------------------------------------

STILL = {"model": MODEL, "messages": MESSAGES, "seed": 11, "temperature": 0}


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_ends_before_a_stop_word(client: openai.OpenAI, customer: Customer, stream: bool) -> None:
    whole = client.chat.completions.create(**STILL, max_tokens=40)
    text = whole.choices[0].message.content
    word = text.split()[8]
    with customer.billed() as bill:
        if stream:
            chunks = list(
                client.chat.completions.create(
                    **STILL, max_tokens=40, stop=["\x00", word], stream=True, stream_options={"include_usage": True}
                )
            )
            said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
            reason, last = chunks[-2].choices[0].finish_reason, chunks[-1]
        else:
            last = client.chat.completions.create(**STILL, max_tokens=40, stop=word)
            said, reason = last.choices[0].message.content, last.choices[0].finish_reason
    assert said == text[: text.index(word)]
    assert reason == "stop"
    assert bill.is_for(last.usage, last.x_tirami)
    assert bill.completion_tokens < whole.usage.completion_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices_are_all_billed(client: openai.OpenAI, customer: Customer, stream: bool) -> None:
    asked = {"model": MODEL, "messages": MESSAGES, "max_tokens": 12, "n": 3, "temperature": 1.3, "seed": 1}
    said = {0: "", 1: "", 2: ""}
    with customer.billed() as bill:
        if stream:
            chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
            for chunk in chunks[:-1]:
                for choice in chunk.choices:
                    said[choice.index] += choice.delta.content or ""
            last = chunks[-1]
        else:
            last = client.chat.completions.create(**asked)
            said = {choice.index: choice.message.content for choice in last.choices}
    assert sorted(said) == [0, 1, 2] and all(said.values())
    assert len(set(said.values())) > 1, "choices differ"
    assert last.usage.completion_tokens == bill.completion_tokens == 36
    assert last.x_tirami["trm_cost"] == bill.charged
    assert set(last.x_tirami["trade_ids"]) == {trade.id for trade in bill.trades}


@pytest.mark.parametrize("stream", [False, True])
def test_each_token_has_its_probability(client: openai.OpenAI, stream: bool) -> None:
    asked = {**STILL, "max_tokens": 10, "logprobs": True, "top_logprobs": 3}
    if stream:
        chunks = [chunk for chunk in client.chat.completions.create(**asked, stream=True) if chunk.choices]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        tokens = [entry for chunk in chunks if chunk.choices[0].logprobs for entry in chunk.choices[0].logprobs.content]
    else:
        (choice,) = client.chat.completions.create(**asked).choices
        text, tokens = choice.message.content, choice.logprobs.content
    assert len(tokens) == 10
    assert "".join(token.token for token in tokens) == text
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob == max(other.logprob for other in token.top_logprobs)
        assert token.token == token.top_logprobs[0].token, "at temperature 0 the likeliest is taken"


def test_the_clients_schema_helper_gets_its_object(client: openai.OpenAI, customer: Customer) -> None:
    with customer.billed() as bill:
        answer = client.chat.completions.parse(model=MODEL, messages=MESSAGES, max_tokens=120, response_format=Weather)
    assert isinstance(answer.choices[0].message.parsed, Weather)
    assert answer.choices[0].finish_reason == "stop"
    assert bill.is_for(answer.usage, answer.x_tirami)


def test_the_schema_helper_streams(client: openai.OpenAI) -> None:
    asked = {"model": MODEL, "messages": MESSAGES, "max_tokens": 120, "temperature": 0, "response_format": Weather}
    with client.chat.completions.stream(**asked) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Weather)


def test_any_object_is_an_object(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": 'Answer with {"sea": "blue"}'}]
    shape = {"type": "json_object"}
    (choice,) = client.chat.completions.create(
        model=MODEL, messages=messages, max_tokens=200, response_format=shape, temperature=0
    ).choices
    assert choice.message.content.lstrip().startswith("{")
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content), dict)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "tide"}}])
def test_a_tool_that_must_be_called_is_called(client: openai.OpenAI, customer: Customer, choice: object) -> None:
    with customer.billed() as bill:
        answer = client.chat.completions.create(
            model=MODEL, messages=MESSAGES, max_tokens=120, tools=[WEATHER, TIDE], tool_choice=choice
        )
    message = answer.choices[0].message
    call = message.tool_calls[0]
    assert not message.content
    assert call.type == "function" and call.id
    assert call.function.name in ("weather", "tide") if choice == "required" else call.function.name == "tide"
    assert json.loads(call.function.arguments)["city"] in CITIES
    assert answer.choices[0].finish_reason in (("tool_calls",) if choice == "required" else ("tool_calls", "stop"))
    assert bill.is_for(answer.usage, answer.x_tirami)


def test_a_streamed_tool_call_is_put_together_by_the_client(client: openai.OpenAI) -> None:
    asked = {"model": MODEL, "messages": MESSAGES, "max_tokens": 120, "tools": [WEATHER], "tool_choice": "required"}
    with client.chat.completions.stream(**asked) as stream:
        for _ in stream:
            pass
        (choice,) = stream.get_final_completion().choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls[0].function.name == "weather"
    assert json.loads(choice.message.tool_calls[0].function.arguments)["city"] in CITIES


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_tools_may_be_left_alone(client: openai.OpenAI, customer: Customer, choice: str) -> None:
    with customer.billed() as bill:
        answer = client.chat.completions.create(
            model=MODEL, messages=MESSAGES, max_tokens=24, tools=[WEATHER], tool_choice=choice
        )
    message = answer.choices[0].message
    assert message.content or (choice == "auto" and message.tool_calls)
    assert bill.is_for(answer.usage, answer.x_tirami)


def test_what_a_tool_said_is_read(client: openai.OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    asked = [*MESSAGES, {"role": "assistant", "content": None, "tool_calls": [call]}]
    told = [*asked, {"role": "tool", "tool_call_id": "call_1", "content": "It is raining in Oslo."}]
    short = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8, tools=[WEATHER])
    answer = client.chat.completions.create(model=MODEL, messages=told, max_tokens=8, tools=[WEATHER])
    assert answer.usage.prompt_tokens > short.usage.prompt_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_is_completed_as_it_is(client: openai.OpenAI, customer: Customer, stream: bool) -> None:
    asked = {"model": MODEL, "prompt": "The sea is", "max_tokens": 12, "seed": 3, "temperature": 0}
    whole = client.completions.create(**asked)
    with customer.billed() as bill:
        if stream:
            chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
            text, last = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices), chunks[-1]
        else:
            last = client.completions.create(**asked)
            text = last.choices[0].text
    assert text == whole.choices[0].text and whole.choices[0].finish_reason == "length"
    assert last.usage.prompt_tokens < 10, "no chat template around it"
    assert bill.is_for(last.usage, last.x_tirami)


def test_texts_have_vectors(client: openai.OpenAI, customer: Customer) -> None:
    texts = ["The sea is deep.", "The ocean is deep.", "Tax forms are due in April."]
    with customer.billed() as bill:
        answer = client.embeddings.create(model=MODEL, input=texts)
    vectors = [entry.embedding for entry in answer.data]
    plain = client.embeddings.create(model=MODEL, input=texts[0], encoding_format="float").data[0].embedding
    assert len({len(vector) for vector in vectors}) == 1 and len(vectors) == 3
    assert plain == pytest.approx(vectors[0], rel=1e-3, abs=1e-4)
    assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2])
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 10
    assert bill.charged == answer.model_extra["x_tirami"]["trm_cost"] > 0


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_is_an_answer_under_another_name(client: openai.OpenAI, customer: Customer, stream: bool) -> None:
    asked = {"model": MODEL, "input": "Tell me about the sea.", "max_output_tokens": 16, "temperature": 0}
    with customer.billed() as bill:
        if stream:
            events = list(client.responses.create(**asked, stream=True))
            assert [events[0].type, events[-1].type] == ["response.created", "response.incomplete"]
            said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
            response = events[-1].response
            assert response.output_text == said
        else:
            response = client.responses.create(**asked)
    assert response.output_text
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert response.usage.output_tokens == bill.completion_tokens == 16
    assert response.usage.input_tokens == bill.trades[0].prompt_tokens


def test_a_response_has_the_schemas_shape(client: openai.OpenAI) -> None:
    response = client.responses.parse(
        model=MODEL, input="What is the weather?", max_output_tokens=120, text_format=Weather
    )
    assert isinstance(response.output_parsed, Weather)
    assert response.status == "completed"
