"""``langchain-openai``: ``ChatOpenAI`` with our base URL."""

from typing import Any

import openai
import pytest

from tests.clients.customer import MODEL, QUESTION, TESTING, Customer, new_customer
from tests.clients.relay import Relay
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
    running = chat(turned_away, model=TESTING, max_tokens=50).stream("[[delay_ms=10]] go on")
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
        stream = chat(customer, max_tokens=900).stream(QUESTION)
        for _, _ in zip(range(5), stream, strict=False):
            pass
        stream.close()
        assert customer.idle()
    assert 1 <= bill.completion_tokens < 200
