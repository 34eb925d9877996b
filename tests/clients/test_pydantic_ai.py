"""``pydantic-ai``: an agent whose model is the node."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from tests.clients.customer import MODEL, QUESTION, Customer, new_customer
from tests.clients.relay import Relay
from tests.clients.shapes import Weather
from tests.processes import NodeProcess

pytest.importorskip("pydantic_ai")

from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

pytestmark = pytest.mark.model
SHORT = ModelSettings(max_tokens=12)


@asynccontextmanager
async def agent(
    customer: Customer, url: str | None = None, *, model: str = MODEL, retries: int = 0, **more: Any
) -> AsyncIterator[Any]:
    async with openai.AsyncOpenAI(base_url=url or customer.url, api_key=customer.token, max_retries=retries) as client:
        yield Agent(OpenAIChatModel(model, provider=OpenAIProvider(openai_client=client)), **more)


async def test_an_answer_and_its_bill(customer: Customer) -> None:
    with customer.billed() as bill:
        async with agent(customer) as asked:
            result = await asked.run(QUESTION, model_settings=SHORT)
    assert result.output
    assert result.usage.output_tokens == bill.completion_tokens == 12
    assert result.usage.input_tokens == bill.trades[0].prompt_tokens


async def test_a_stream_and_its_bill(customer: Customer) -> None:
    with customer.billed() as bill:
        async with agent(customer) as asked, asked.run_stream(QUESTION, model_settings=SHORT) as result:
            pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
            usage = result.usage
    assert len(pieces) > 1
    assert usage.output_tokens == bill.completion_tokens == 12


async def test_the_same_seed_says_the_same(customer: Customer) -> None:
    settings = ModelSettings(max_tokens=16, seed=6, temperature=1.1)
    async with agent(customer) as asked:
        first, second = [(await asked.run(QUESTION, model_settings=settings)).output for _ in range(2)]
    assert first == second


async def test_a_system_prompt_and_a_second_turn(customer: Customer) -> None:
    with customer.billed() as bill:
        async with agent(customer, instructions="You are a sailor.") as asked:
            first = await asked.run(QUESTION, model_settings=SHORT)
            await asked.run("Go on.", message_history=first.all_messages(), model_settings=SHORT)
    later, earlier = bill.trades
    assert later.prompt_tokens > earlier.prompt_tokens


async def test_refusals_carry_their_status(customer: Customer, model_node: NodeProcess, wire: Relay) -> None:
    bounded = new_customer(model_node, per_request=4)
    nobody = Customer(model_node, customer.account, "nobody's")
    cases = [
        (401, agent(nobody), SHORT),
        (404, agent(customer, model="gpt-9"), SHORT),
        (400, agent(customer), ModelSettings(max_tokens=12, extra_body={"mirostat": 2})),
        (402, agent(customer, wire.url, retries=3), ModelSettings(max_tokens=1900)),
        (403, agent(bounded, wire.url, retries=3), ModelSettings(max_tokens=900)),
    ]
    with customer.billed() as bill:
        for status, opened, settings in cases:
            async with opened as asked:
                with pytest.raises(ModelHTTPError) as refused:
                    await asked.run(QUESTION, model_settings=settings)
            assert refused.value.status_code == status
    assert wire.posts == 2, "neither 402 nor 403 is tried again"
    assert bill.is_nothing()


async def test_an_answer_that_did_not_arrive_costs_nothing(customer: Customer, wire: Relay) -> None:
    wire.cuts = 2
    with customer.billed() as bill:
        async with agent(customer, wire.url) as asked:
            with pytest.raises(ModelAPIError):
                await asked.run(QUESTION, model_settings=SHORT)
        assert wire.posts == 1
        async with agent(customer, wire.url, retries=1) as asked:
            result = await asked.run(QUESTION, model_settings=ModelSettings(max_tokens=64))
    assert wire.posts == 3
    assert len(bill.trades) == 1 and bill.completion_tokens == result.usage.output_tokens


# --- the rest of the dialect -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [NativeOutput(Weather), ToolOutput(Weather)], ids=["schema", "tool"])
async def test_an_answer_in_a_shape(customer: Customer, shape: Any) -> None:
    with customer.billed() as bill:
        async with agent(customer, output_type=shape) as asked:
            result = await asked.run(QUESTION, model_settings=ModelSettings(max_tokens=120))
    assert isinstance(result.output, Weather)
    assert result.usage.output_tokens == bill.completion_tokens


async def test_tools_are_offered(customer: Customer) -> None:
    called = []

    def weather(city: str) -> str:
        """Look up the weather of a city."""
        called.append(city)
        return f"rain in {city}"

    with customer.billed() as bill:
        async with agent(customer, tools=[weather]) as asked:
            result = await asked.run(
                QUESTION, model_settings=ModelSettings(max_tokens=40), usage_limits=UsageLimits(request_limit=4)
            )
    assert result.output
    assert len(bill.trades) == 1 + len(called)


async def test_stop_words(customer: Customer) -> None:
    still = ModelSettings(max_tokens=40, seed=11, temperature=0)
    async with agent(customer) as asked:
        text = (await asked.run(QUESTION, model_settings=still)).output
        word = text.split()[8]
        stopped = await asked.run(QUESTION, model_settings=ModelSettings(**still, stop_sequences=[word]))
    assert stopped.output.strip() == text[: text.index(word)].strip()


async def test_responses(customer: Customer) -> None:
    with customer.billed() as bill:
        async with openai.AsyncOpenAI(base_url=customer.url, api_key=customer.token, max_retries=0) as client:
            model = OpenAIResponsesModel(MODEL, provider=OpenAIProvider(openai_client=client))
            result = await Agent(model).run(QUESTION, model_settings=ModelSettings(max_tokens=16, temperature=0))
    assert result.output
    assert result.usage.output_tokens == bill.completion_tokens == 16
