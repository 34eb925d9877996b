"""The official OpenAI client for Python, asynchronous."""

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest

from tests.clients.customer import ENDLESS, MESSAGES, MODEL, Customer
from tests.clients.relay import Relay
from tests.clients.shapes import WEATHER, Weather

pytestmark = pytest.mark.model


@pytest.fixture
async def client(customer: Customer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=customer.url, api_key=customer.token, max_retries=0) as made:
        yield made


async def test_four_at_once_are_four_bills_and_the_same_seed_is_the_same_text(
    client: openai.AsyncOpenAI, customer: Customer
) -> None:
    with customer.billed() as bill:
        answers = await asyncio.gather(
            *(
                client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=12, seed=3, temperature=1)
                for _ in range(4)
            )
        )
    assert len({answer.choices[0].message.content for answer in answers}) == 1
    assert {trade.id for trade in bill.trades} == {answer.x_tirami["trade_id"] for answer in answers}
    assert bill.charged == sum(answer.x_tirami["trm_cost"] for answer in answers)


async def test_a_stream_and_its_bill(client: openai.AsyncOpenAI, customer: Customer) -> None:
    with customer.billed() as bill:
        stream = await client.chat.completions.create(
            model=MODEL, messages=MESSAGES, max_tokens=16, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert bill.is_for(chunks[-1].usage, chunks[-1].x_tirami)


async def test_refusals_are_the_clients_own(client: openai.AsyncOpenAI, customer: Customer) -> None:
    with customer.billed() as bill:
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="nobody's").models.list()
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="gpt-9", messages=MESSAGES)
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model=MODEL, messages=MESSAGES, extra_body={"mirostat": 2})
    assert bill.is_nothing()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cancelled_call_frees_its_slot(client: openai.AsyncOpenAI, customer: Customer, stream: bool) -> None:
    async def ask() -> int:
        asked = {"model": MODEL, "messages": MESSAGES, "max_tokens": 900, "logit_bias": ENDLESS}
        if not stream:
            return len(await client.chat.completions.create(**asked))  # type: ignore[call-overload]
        received = 0
        async for chunk in await client.chat.completions.create(**asked, stream=True):  # type: ignore[call-overload]
            received += bool(chunk.choices[0].delta.content)
        return received

    with customer.billed() as bill:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(), 0.7)
        assert await asyncio.to_thread(customer.idle)
    assert bill.completion_tokens < 400
    assert stream or bill.is_nothing(), "nothing of it arrived"


async def test_an_answer_that_did_not_arrive_costs_nothing(wire: Relay, customer: Customer) -> None:
    wire.cuts = 1
    async with openai.AsyncOpenAI(base_url=wire.url, api_key=customer.token, max_retries=1) as client:
        with customer.billed() as bill:
            answer = await client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=64)
    assert wire.posts == 2
    assert bill.is_for(answer.usage, answer.x_tirami)


# --- the rest of the dialect -------------------------------------------------------------------------------------


async def test_everything_at_once(client: openai.AsyncOpenAI, customer: Customer) -> None:
    chat = {"model": MODEL, "messages": MESSAGES, "max_tokens": 120}
    with customer.billed() as bill:
        chosen, parsed, called, completed, vectors, response = await asyncio.gather(
            client.chat.completions.create(**{**chat, "max_tokens": 8}, n=2),  # type: ignore[call-overload]
            client.chat.completions.parse(**chat, response_format=Weather),  # type: ignore[arg-type]
            client.chat.completions.create(**chat, tools=[WEATHER], tool_choice="required"),  # type: ignore[call-overload]
            client.completions.create(model=MODEL, prompt="The sea", max_tokens=8),
            client.embeddings.create(model=MODEL, input="The sea"),
            client.responses.create(model=MODEL, input="The sea", max_output_tokens=8),
        )
    assert len(chosen.choices) == 2
    assert isinstance(parsed.choices[0].message.parsed, Weather)
    assert called.choices[0].message.tool_calls[0].function.name == "weather"
    assert completed.choices[0].text and vectors.data[0].embedding and response.output_text
    answers = (chosen, parsed, called, completed, vectors, response)
    assert bill.charged == sum(answer.model_extra["x_tirami"]["trm_cost"] for answer in answers)


async def test_the_schema_helper_streams(client: openai.AsyncOpenAI) -> None:
    asked = {"model": MODEL, "messages": MESSAGES, "max_tokens": 120, "response_format": Weather}
    async with client.chat.completions.stream(**asked) as stream:  # type: ignore[arg-type]
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Weather)
