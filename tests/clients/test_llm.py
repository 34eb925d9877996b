"""The command-line tool ``llm``, by its library and by its command."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.clients.customer import MODEL, QUESTION, Customer
from tests.clients.relay import Relay
from tests.clients.shapes import Weather

llm = pytest.importorskip("llm")
openai_models = pytest.importorskip("llm.default_plugins.openai_models")

pytestmark = pytest.mark.model


def model(customer: Customer, url: str | None = None, name: str = MODEL) -> Any:
    return openai_models.Chat(
        "ours", key=customer.token, model_name=name, api_base=url or customer.url, supports_schema=True,
        supports_tools=True,
    )  # fmt: skip


def test_an_answer_and_its_bill(customer: Customer) -> None:
    with customer.billed() as bill:
        answer = model(customer).prompt(QUESTION, stream=False, max_tokens=12)
        assert answer.text()
    assert answer.usage().output == bill.completion_tokens == 12
    assert answer.usage().input == bill.trades[0].prompt_tokens


def test_a_stream_and_its_bill(customer: Customer) -> None:
    with customer.billed() as bill:
        answer = model(customer).prompt(QUESTION, stream=True, max_tokens=12)
        pieces = list(answer)
    assert len(pieces) > 1
    assert answer.usage().output == bill.completion_tokens == 12


def test_the_same_seed_says_the_same(customer: Customer) -> None:
    first, second = [
        model(customer).prompt(QUESTION, stream=False, max_tokens=16, seed=6, temperature=1.1).text() for _ in range(2)
    ]
    assert first == second


def test_the_command_asks_the_node_by_its_configuration(customer: Customer, tmp_path: Path) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: ours\n  model_name: {MODEL}\n  api_base: {customer.url}\n  api_key_name: ours\n"
    )
    (tmp_path / "keys.json").write_text(f'{{"ours": "{customer.token}"}}')
    command = [sys.executable, "-m", "llm", "-m", "ours", "-o", "max_tokens", "12", QUESTION]
    env = {**os.environ, "LLM_USER_PATH": str(tmp_path)}
    with customer.billed() as bill:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
    assert bill.completion_tokens == 12


def test_refusals_are_the_clients_own(customer: Customer, wire: Relay) -> None:
    with customer.billed() as bill:
        with pytest.raises(openai.NotFoundError):
            model(customer, name="gpt-9").prompt(QUESTION, stream=False).text()
        with pytest.raises(openai.APIStatusError) as poor:
            model(customer, wire.url).prompt(QUESTION, stream=False, max_tokens=1900).text()
        with pytest.raises(openai.AuthenticationError):
            openai_models.Chat("x", key="nobody's", model_name=MODEL, api_base=customer.url).prompt("x").text()
    assert (poor.value.status_code, wire.posts) == (402, 1), "not tried again"
    assert bill.is_nothing()


def test_an_answer_that_did_not_arrive_costs_nothing(customer: Customer, wire: Relay) -> None:
    wire.cuts = 1
    with customer.billed() as bill:
        answer = model(customer, wire.url).prompt(QUESTION, stream=False, max_tokens=64)
        assert answer.text()
    assert wire.posts == 2
    assert len(bill.trades) == 1 and bill.completion_tokens == answer.usage().output


# --- the rest of the dialect -------------------------------------------------------------------------------------


def test_stop_words(customer: Customer) -> None:
    still = {"stream": False, "seed": 11, "temperature": 0, "max_tokens": 40}
    text = model(customer).prompt(QUESTION, **still).text()
    word = text.split()[8]
    assert model(customer).prompt(QUESTION, **still, stop=word).text() == text[: text.index(word)]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_in_a_shape(customer: Customer, stream: bool) -> None:
    with customer.billed() as bill:
        answer = model(customer).prompt(QUESTION, schema=Weather, stream=stream, max_tokens=120)
        Weather.model_validate_json(answer.text())
    assert answer.usage().output == bill.completion_tokens


def test_tools_are_offered(customer: Customer) -> None:
    def weather(city: str) -> str:
        """Look up the weather of a city."""
        return f"rain in {city}"

    with customer.billed() as bill:
        answer = model(customer).prompt(QUESTION, tools=[weather], stream=False, max_tokens=60)
        assert answer.text() or answer.tool_calls()
    assert len(bill.trades) == 1


def test_responses(customer: Customer) -> None:
    with customer.billed() as bill:
        asked = openai_models.Responses("ours", key=customer.token, model_name=MODEL, api_base=customer.url)
        answer = asked.prompt(QUESTION, stream=False)
        assert answer.text()
    assert answer.usage().output == bill.completion_tokens
