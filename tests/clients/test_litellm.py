"""``litellm`` as a library: the node is one more OpenAI-compatible provider."""

import json
import os
from typing import Any

import pytest

from tests.clients.customer import ENDLESS, MESSAGES, MODEL, TESTING, Customer, new_customer
from tests.clients.relay import Relay
from tests.clients.shapes import CITIES, WEATHER, Weather
from tests.processes import NodeProcess

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # before its import: it would ask the network for prices
litellm = pytest.importorskip("litellm")

pytestmark = pytest.mark.model


def asked(customer: Customer, url: str | None = None, **more: Any) -> dict[str, Any]:
    reached = {"api_base": url or customer.url, "api_key": customer.token, "max_retries": 0}
    return {"model": f"openai/{MODEL}", "messages": MESSAGES, "max_tokens": 12, **reached, **more}


def test_an_answer_and_its_bill(customer: Customer) -> None:
    with customer.billed() as bill:
        answer = litellm.completion(**asked(customer))
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert bill.is_for(answer.usage, answer.x_tirami)


def test_a_stream_and_its_bill(customer: Customer) -> None:
    with customer.billed() as bill:
        chunks = list(litellm.completion(**asked(customer), stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    (usage,) = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
    assert usage.completion_tokens == bill.completion_tokens == 12
    assert bill.charged > 0


async def test_asynchronously_and_with_a_seed(customer: Customer) -> None:
    first, second = [await litellm.acompletion(**asked(customer, seed=4, temperature=1.1)) for _ in range(2)]
    assert first.choices[0].message.content == second.choices[0].message.content


def test_each_refusal_is_the_clients_own_error(customer: Customer, model_node: NodeProcess, wire: Relay) -> None:
    with customer.billed() as bill:
        with pytest.raises(litellm.AuthenticationError):
            litellm.completion(**asked(customer, api_key="nobody's"))
        with pytest.raises(litellm.NotFoundError):
            litellm.completion(**asked(customer, model="openai/gpt-9"))
        with pytest.raises(litellm.BadRequestError):
            litellm.completion(**asked(customer, extra_body={"mirostat": 2}))
        with pytest.raises(litellm.APIError) as poor:
            litellm.completion(**asked(customer, wire.url, max_tokens=1900, max_retries=3))
    with pytest.raises(litellm.APIError) as denied:
        litellm.completion(**asked(new_customer(model_node, per_request=4), wire.url, max_tokens=900, max_retries=3))
    assert (poor.value.status_code, denied.value.status_code) == (402, 403)
    assert wire.posts == 2, "neither is tried again"
    assert bill.is_nothing()


def test_who_is_turned_away_is_told_in_the_clients_words(turned_away: Customer) -> None:
    long = {"messages": [{"role": "user", "content": "[[delay_ms=20]] go on"}], "max_tokens": 100}
    running = litellm.completion(**asked(turned_away, model=f"openai/{TESTING}", **long), stream=True)
    next(running)
    with pytest.raises(litellm.RateLimitError):
        litellm.completion(**asked(turned_away, model=f"openai/{TESTING}"))
    list(running)
    assert litellm.completion(**asked(turned_away, model=f"openai/{TESTING}")).usage.completion_tokens == 12


def test_an_answer_that_did_not_arrive_costs_nothing(customer: Customer, wire: Relay) -> None:
    wire.cuts = 1
    with customer.billed() as bill:
        answer = litellm.completion(**asked(customer, wire.url, max_tokens=64, max_retries=2))
    assert wire.posts == 2
    assert bill.is_for(answer.usage, answer.x_tirami)


def test_who_leaves_a_stream_frees_its_slot(customer: Customer) -> None:
    with customer.billed() as bill:
        stream = litellm.completion(**asked(customer, max_tokens=900, logit_bias=ENDLESS), stream=True)
        for _, _ in zip(range(5), stream, strict=False):
            pass
        stream.completion_stream.close()
        assert customer.idle()
    assert 1 <= bill.completion_tokens < 200


# --- the rest of the dialect -------------------------------------------------------------------------------------


def test_stop_words_and_several_choices(customer: Customer) -> None:
    still = {"seed": 11, "temperature": 0, "max_tokens": 40}
    text = litellm.completion(**asked(customer, **still)).choices[0].message.content
    word = text.split()[8]
    stopped = litellm.completion(**asked(customer, **still, stop=[word])).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == (text[: text.index(word)], "stop")
    with customer.billed() as bill:
        several = litellm.completion(**asked(customer, n=3))
    assert len(several.choices) == 3
    assert several.usage.completion_tokens == bill.completion_tokens


def test_a_schema_and_a_tool(customer: Customer) -> None:
    parsed = litellm.completion(**asked(customer, max_tokens=120, response_format=Weather))
    Weather.model_validate_json(parsed.choices[0].message.content)
    called = litellm.completion(**asked(customer, max_tokens=120, tools=[WEATHER], tool_choice="required"))
    (call,) = called.choices[0].message.tool_calls
    assert call.function.name == "weather" and json.loads(call.function.arguments)["city"] in CITIES
    assert called.choices[0].finish_reason == "tool_calls"


def test_probabilities(customer: Customer) -> None:
    answer = litellm.completion(**asked(customer, logprobs=True, top_logprobs=2))
    assert len(answer.choices[0].logprobs.content) == 12


def test_completions_embeddings_and_responses(customer: Customer) -> None:
    reached = {"api_base": customer.url, "api_key": customer.token, "max_retries": 0}
    text = litellm.text_completion(
        model=f"text-completion-openai/{MODEL}", prompt="The sea is", max_tokens=8, **reached
    )
    assert text.choices[0].text
    vectors = litellm.embedding(model=f"openai/{MODEL}", input=["The sea"], encoding_format="float", **reached)
    assert len(vectors.data[0]["embedding"]) > 100
    asked = {"model": f"openai/{MODEL}", "input": "The sea", "max_output_tokens": 16, "temperature": 0}
    response = litellm.responses(**asked, **reached)
    assert response.usage.output_tokens == 16
