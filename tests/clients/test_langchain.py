"""``langchain-openai``: ``ChatOpenAI`` with our base URL."""

from typing import Any

import openai
import pytest
from langchain_core.messages import HumanMessage

from tests.clients.customer import ENDLESS, MODEL, QUESTION, TESTING, Customer, new_customer
from tests.clients.relay import Relay
from tests.clients.shapes import CITIES, TIDE, WEATHER, Weather
from tests.processes import NodeProcess

langchain = pytest.importorskip("langchain_openai")

pytestmark = pytest.mark.model


def chat(customer: Customer, url: str | None = None, **more: Any) -> Any:
    defaults = {"model": MODEL, "max_tokens": 12, "max_retries": 0, "stream_usage": True}
    return langchain.ChatOpenAI(base_url=url or customer.url, api_key=customer.token, **{**defaults, **more})


def test_an_answer_and_its_bill(customer: Customer) -> None:
    with customer.billed() as bill:
        answer = chat(customer).invoke(QUESTION)
    assert answer.content
    assert answer.response_metadata["finish_reason"] == "length"
    assert answer.usage_metadata["output_tokens"] == bill.completion_tokens == 12
    assert answer.usage_metadata["input_tokens"] == bill.trades[0].prompt_tokens
    assert bill.charged > 0


def test_a_stream_and_its_bill(customer: Customer) -> None:
    with customer.billed() as bill:
        chunks = list(chat(customer).stream(QUESTION))
    whole = sum(chunks[1:], chunks[0])
    assert whole.content and len([chunk for chunk in chunks if chunk.content]) > 1
    assert whole.usage_metadata["output_tokens"] == bill.completion_tokens == 12


async def test_a_batch_with_a_seed_says_the_same(customer: Customer) -> None:
    with customer.billed() as bill:
        answers = await chat(customer, seed=2, temperature=1.1).abatch([QUESTION] * 3)
    assert len({answer.content for answer in answers}) == 1
    assert len(bill.trades) == 3


def test_each_refusal_is_the_clients_own_error(customer: Customer, model_node: NodeProcess, wire: Relay) -> None:
    with customer.billed() as bill:
        with pytest.raises(openai.AuthenticationError):
            langchain.ChatOpenAI(base_url=customer.url, api_key="nobody's", model=MODEL, max_retries=0).invoke("x")
        with pytest.raises(openai.NotFoundError):
            chat(customer, model="gpt-9").invoke(QUESTION)
        with pytest.raises(openai.BadRequestError):
            chat(customer, extra_body={"mirostat": 2}).invoke(QUESTION)
        with pytest.raises(openai.APIStatusError) as poor:
            chat(customer, wire.url, max_tokens=1900, max_retries=3).invoke(QUESTION)
    assert poor.value.status_code == 402
    bounded = new_customer(model_node, per_request=4)
    with pytest.raises(openai.PermissionDeniedError):
        chat(bounded, wire.url, max_tokens=900, max_retries=3).invoke(QUESTION)
    assert wire.posts == 2, "neither is tried again"
    assert bill.is_nothing()


def test_who_is_turned_away_comes_back_when_told(turned_away: Customer) -> None:
    running = chat(turned_away, model=TESTING, max_tokens=100).stream("[[delay_ms=20]] go on")
    next(running)
    with pytest.raises(openai.RateLimitError):
        chat(turned_away, model=TESTING).invoke(QUESTION)
    list(running)
    assert chat(turned_away, model=TESTING, max_retries=3).invoke(QUESTION).usage_metadata["output_tokens"] == 12


def test_an_answer_that_did_not_arrive_costs_nothing(customer: Customer, wire: Relay) -> None:
    wire.cuts = 1
    with customer.billed() as bill:
        answer = chat(customer, wire.url, max_tokens=64, max_retries=2).invoke(QUESTION)
    assert wire.posts == 2
    assert len(bill.trades) == 1 and bill.completion_tokens == answer.usage_metadata["output_tokens"]


def test_who_leaves_a_stream_frees_its_slot(customer: Customer) -> None:
    with customer.billed() as bill:
        stream = chat(customer, max_tokens=900, logit_bias=ENDLESS).stream(QUESTION)
        for _, _ in zip(range(5), stream, strict=False):
            pass
        stream.close()
        assert customer.idle()
    assert 1 <= bill.completion_tokens < 200


# --- the rest of the dialect -------------------------------------------------------------------------------------


def test_stop_words_and_several_choices(customer: Customer) -> None:
    model = chat(customer, seed=11, temperature=0, max_tokens=40)
    text = model.invoke(QUESTION).content
    word = text.split()[8]
    stopped = model.invoke(QUESTION, stop=[word])
    assert (stopped.content, stopped.response_metadata["finish_reason"]) == (text[: text.index(word)], "stop")
    with customer.billed() as bill:
        several = chat(customer, n=3).generate([[HumanMessage(QUESTION)]])
    assert len(several.generations[0]) == 3
    assert several.llm_output["token_usage"]["completion_tokens"] == bill.completion_tokens


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_an_answer_in_a_shape(customer: Customer, method: str) -> None:
    model = chat(customer, max_tokens=120).with_structured_output(Weather, method=method)
    with customer.billed() as bill:
        assert isinstance(model.invoke(QUESTION), Weather)
    assert len(bill.trades) == 1


def test_a_tool_that_must_be_called_is_called(customer: Customer) -> None:
    bound = chat(customer, max_tokens=120).bind_tools([WEATHER, TIDE], tool_choice="any")
    (call,) = bound.invoke(QUESTION).tool_calls
    assert call["name"] in ("weather", "tide") and call["args"]["city"] in CITIES
    named = chat(customer, max_tokens=120).bind_tools([WEATHER, TIDE], tool_choice="tide")
    assert named.invoke(QUESTION).tool_calls[0]["name"] == "tide"


def test_probabilities(customer: Customer) -> None:
    answer = chat(customer, logprobs=True, top_logprobs=2).invoke(QUESTION)
    assert len(answer.response_metadata["logprobs"]["content"]) == 12


def test_embeddings(customer: Customer) -> None:
    embeddings = langchain.OpenAIEmbeddings(
        base_url=customer.url, api_key=customer.token, model=MODEL, check_embedding_ctx_length=False
    )
    with customer.billed() as bill:
        one, two = embeddings.embed_documents(["The sea", "A ship"])
    assert len(one) == len(two) > 100
    assert bill.charged > 0


def test_completions_and_responses(customer: Customer) -> None:
    completing = langchain.OpenAI(base_url=customer.url, api_key=customer.token, model=MODEL, max_tokens=8)
    assert completing.invoke("The sea is")
    with customer.billed() as bill:
        answer = chat(customer, use_responses_api=True).invoke(QUESTION)
    assert answer.text
    assert answer.usage_metadata["output_tokens"] == bill.completion_tokens
