"""The official OpenAI client for Python, blocking."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import openai
import pytest

from tests.clients.customer import MESSAGES, MODEL, TESTING, Customer, new_customer
from tests.clients.relay import Relay
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
        stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=900, stream=True)
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
