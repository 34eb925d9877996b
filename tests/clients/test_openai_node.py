"""The official OpenAI client for Node, installed by npm; skipped, with the reason, where that cannot be had."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.clients.customer import MODEL, TESTING, Customer, new_customer
from tests.clients.relay import Relay
from tests.clients.shapes import CITIES
from tests.processes import NodeProcess

HERE = Path(__file__).parent / "node"
CACHE = Path(__file__).resolve().parents[2] / "build" / "clients-node"
pytestmark = pytest.mark.model
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def suite() -> Path:
    """The scenarios beside the installed client; it is installed once for each ``package.json``."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs node and npm on PATH")
    CACHE.mkdir(parents=True, exist_ok=True)
    wanted, installed = (HERE / "package.json").read_bytes(), CACHE / "package.json"
    if not (CACHE / "node_modules").is_dir() or not installed.exists() or installed.read_bytes() != wanted:
        installed.write_bytes(wanted)
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--silent"]
        done = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, timeout=110)
        if done.returncode:
            installed.unlink()
            pytest.skip(f"npm could not install the client (exit {done.returncode})")
    return Path(shutil.copy(HERE / "suite.mjs", CACHE))


@pytest.fixture
def run(suite: Path, customer: Customer) -> Run:
    """Run a scenario as a customer, by default on the model's node; what the client saw."""

    def scenario(name: str, who: Customer = customer, url: str | None = None, model: str = MODEL) -> Any:
        env = {**os.environ, "BASE_URL": url or who.url, "API_KEY": who.token, "MODEL": model}
        done = subprocess.run(["node", str(suite), name], env=env, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    return scenario


def test_an_answer_and_its_bill(run: Run, customer: Customer) -> None:
    with customer.billed() as bill:
        seen = run("chat")
    assert seen["text"] and seen["finish"] == "length"
    assert bill.is_for(SimpleNamespace(**seen["usage"]), seen["x"])


def test_a_stream_and_its_bill(run: Run, customer: Customer) -> None:
    with customer.billed() as bill:
        seen = run("stream")
    assert seen["text"] and seen["early"] == 0
    assert bill.is_for(SimpleNamespace(**seen["usage"]), seen["x"])


def test_the_streaming_helper_puts_the_answer_together(run: Run, customer: Customer) -> None:
    with customer.billed() as bill:
        seen = run("helper")
    assert seen["text"] and seen["finish"] == "length"
    assert bill.completion_tokens == 12


def test_the_same_seed_says_the_same(run: Run) -> None:
    seen = run("seed")
    assert seen["same"][0] == seen["same"][1]
    assert len({*seen["same"], *seen["others"]}) > 1


def test_the_models_are_listed_and_found(run: Run) -> None:
    seen = run("models")
    assert MODEL in seen["listed"] and seen["found"] == MODEL


def test_each_refusal_is_the_clients_own_error(
    run: Run, customer: Customer, model_node: NodeProcess, wire: Relay
) -> None:
    with customer.billed() as bill:
        seen = run("errors", url=wire.url)
    assert seen["unknown"] == {"kind": "AuthenticationError", "status": 401, "code": "invalid_token", "param": None}
    assert seen["absent"] == {"kind": "NotFoundError", "status": 404, "code": "model_not_found", "param": "model"}
    foreign = {"kind": "BadRequestError", "status": 400, "code": "unsupported_parameter", "param": "mirostat"}
    assert seen["foreign"] == foreign
    assert (seen["poor"]["status"], seen["poor"]["code"]) == (402, "insufficient_funds")
    denied = run("denied", new_customer(model_node, per_request=4), wire.url)
    assert (denied["kind"], denied["code"]) == ("PermissionDeniedError", "budget_exceeded")
    assert wire.posts == 5, "none of them is tried again"
    assert bill.is_nothing()


def test_who_is_turned_away_comes_back_when_told(run: Run, turned_away: Customer) -> None:
    seen = run("full", turned_away, model=TESTING)
    assert (seen["hasty"]["kind"], seen["hasty"]["code"]) == ("RateLimitError", "queue_full")
    assert seen["tokens"] == 12


def test_who_leaves_a_stream_pays_what_arrived_and_frees_its_slot(run: Run, customer: Customer) -> None:
    with customer.billed() as bill:
        assert run("leave")["pieces"] == 5
        assert customer.idle()
    assert 1 <= bill.completion_tokens < 200


def test_an_aborted_call_costs_nothing(run: Run, customer: Customer) -> None:
    with customer.billed() as bill:
        assert run("abort")["kind"] == "APIUserAbortError"
        assert customer.idle()
    assert bill.is_nothing()


def test_an_answer_that_did_not_arrive_costs_nothing(run: Run, customer: Customer, wire: Relay) -> None:
    wire.cuts = 2
    with customer.billed() as bill:
        seen = run("cut", url=wire.url)
    assert wire.posts == 3
    assert bill.is_for(SimpleNamespace(**seen["usage"]), seen["x"])
    wire.cuts = 1
    with customer.billed() as nothing:
        assert run("lost", url=wire.url)["kind"] == "APIConnectionError"
        assert customer.idle()
    assert nothing.is_nothing()


# --- the rest of the dialect -------------------------------------------------------------------------------------


def test_stop_words(run: Run) -> None:
    seen = run("stop")
    assert (seen["said"], seen["finish"]) == (seen["expected"], "stop")


def test_several_choices_are_all_billed(run: Run, customer: Customer) -> None:
    with customer.billed() as bill:
        seen = run("choices")
    assert seen["indexes"] == [0, 1, 2]
    assert seen["usage"]["completion_tokens"] == bill.completion_tokens
    assert seen["x"]["trm_cost"] == bill.charged


def test_each_token_has_its_probability(run: Run) -> None:
    seen = run("logprobs")
    assert len(seen["tokens"]) == 12 and "".join(seen["tokens"]) == seen["text"]


def test_the_clients_schema_helper_gets_its_object(run: Run, customer: Customer) -> None:
    with customer.billed() as bill:
        seen = run("schema")
    assert seen["parsed"]["sky"] in ("clear", "cloudy") and isinstance(seen["parsed"]["warm"], bool)
    assert bill.is_for(SimpleNamespace(**seen["usage"]), seen["x"])


def test_tools_are_called_as_chosen(run: Run) -> None:
    seen = run("tools")
    assert seen["required"]["finish"] == "tool_calls" and seen["required"]["call"]["name"] in ("weather", "tide")
    assert seen["named"]["call"]["name"] == "tide"
    assert json.loads(seen["named"]["call"]["arguments"])["city"] in CITIES
    assert seen["none"]["call"] is None and seen["none"]["content"]
    assert seen["auto"]["call"] or seen["auto"]["content"]
    assert run("streamed_tool")["name"] == "weather"


def test_completions_embeddings_and_responses(run: Run, customer: Customer) -> None:
    with customer.billed() as bill:
        seen = run("others")
    assert seen["text"] and seen["said"] and seen["streamed"]
    assert len(set(seen["sizes"])) == 1 and len(seen["sizes"]) == 2
    assert len(bill.trades) >= 3
