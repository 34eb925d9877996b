"""Schemathesis against a running node: whatever it is asked, it answers as the OpenAPI document says."""

import re
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.conftest import Target
from tirami.api import BY_NAME, Operation, Scope, openapi

SWITCHES = re.compile("/v1/tirami/(kill|policy|tokens|approvals|models)")
"""Who may use these changes what everybody else meets: they have a run of their own."""


def is_switch(operation: Operation) -> bool:
    return operation.scope is Scope.ADMIN and SWITCHES.match(operation.path) is not None


CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
SCHEMA = schemathesis.openapi.from_dict(openapi("0"))
OPERATIONS = {name: SCHEMA[operation.path][operation.method] for name, operation in BY_NAME.items()}
MODES = [
    (name, mode)
    for name in OPERATIONS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or BY_NAME[name].query or BY_NAME[name].body or "{id}" in BY_NAME[name].path
]
"""Nothing can be asked wrongly where nothing is asked, and any text may be the name of a model."""
HARMLESS = [(name, mode) for name, mode in MODES if not is_switch(BY_NAME[name])]
OWN_RUN = [(name, mode) for name, mode in MODES if is_switch(BY_NAME[name])]
QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


IDS = "{0[0]}-{0[1].value}".format
ENOUGH, REFUSED, MANY = 8, 2, 250
"""Examples of an operation: in every test run, where the scope does not suffice, and in the long run."""


def conform(
    target: Target, name: str, mode: GenerationMode, examples: int, strategy: SearchStrategy[Any] | None = None
) -> None:
    """Ask that many different things, of the whole schema or as given.

    Raises when a reply is not one that the operation declares.
    """
    if target.scope < BY_NAME[name].scope:
        examples = REFUSED
    cases = OPERATIONS[name].as_strategy(generation_mode=mode) if strategy is None else strategy
    with requests.Session() as session:

        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=QUIET,
        )
        @given(cases)
        def ask(case: Any) -> None:
            reply = case.call(base_url=target.url, session=session, headers=target.headers, timeout=20)
            case.validate_response(reply, checks=CHECKS)

        ask()


@pytest.mark.parametrize("case", HARMLESS, ids=IDS)
def test_every_reply_is_the_documented_one(target: Target, case: tuple[str, GenerationMode]) -> None:
    conform(target, *case, ENOUGH)


@pytest.mark.parametrize("case", OWN_RUN, ids=IDS)
def test_switches_reply_as_documented_too(switch_target: Target, case: tuple[str, GenerationMode]) -> None:
    conform(switch_target, *case, ENOUGH)


@pytest.mark.parametrize("name", sorted({name for name, _ in OWN_RUN}))
def test_nobody_else_reaches_a_switch(target: Target, name: str) -> None:
    if target.scope is not Scope.ADMIN:
        conform(target, name, GenerationMode.POSITIVE, REFUSED)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_many_more_replies_are_documented_ones(target: Target) -> None:
    for name, mode in HARMLESS:
        conform(target, name, mode, MANY)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_many_more_replies_of_switches_are_documented_ones(switch_target: Target) -> None:
    for name, mode in OWN_RUN:
        conform(switch_target, name, mode, MANY)


def test_replies_about_things_that_exist(admin_target: Target) -> None:
    messages = [{"role": "user", "content": "hello there"}]
    with requests.Session() as session:

        def reply(name: str, path: dict[str, str], body: dict[str, object] | None = None, **query: str) -> Any:
            extra = {} if body is None else {"body": body, "media_type": "application/json"}
            case = OPERATIONS[name].Case(path_parameters=path, query=query, **extra)
            answer = case.call(base_url=admin_target.url, session=session, headers=admin_target.headers, timeout=20)
            assert answer.status_code == 200, (name, answer.content)
            case.validate_response(answer, checks=CHECKS)
            return answer

        account = reply("create_account", {}, {"label": "exists"}).json()["account"]
        answered = reply("chat_completions", {}, {"messages": messages, "max_tokens": 5}).json()
        trade = {"id": answered["x_tirami"]["trade_id"]}
        for name in ("trade", "trade_proof", "trade_receipt", "record", "record_proof"):
            reply(name, trade)
        reply("trades", {}, signatures="true", limit="1")
        reply("records", {}, signatures="true", proofs="true", limit="3")
        reply("model", {"model": answered["model"]})
        reply("balance", {}, node=account)
        reply("safety", {}, node=account)
        reply("log_consistency", {}, first="1", second="2")
        reply("settlement", {}, hours="1", reference_price_per_trm="0.5")
        reply("settlement", {}, format="csv")
        reply("anchor", {}, network="Bitcoin")
        reply("quote", {}, {"messages": messages})
        reply("schedule", {}, {"model_id": answered["model"], "max_tokens": 5, "reserve": True})
        reply("route", {}, mode="quality")
        reply("usage", {}, node=account, days="2")
        reply("disable_account", {"id": account})
        for name in (
            "models",
            "log_head",
            "log_state",
            "network",
            "accounts",
            "approvals",
            "status",
            "health",
            "healthz",
            "readyz",
        ):
            reply(name, {})
        for name in ("pricing", "providers", "su_supply", "protocol", "manifest", "legal"):
            reply(name, {})


def test_a_stream_is_the_documented_one(admin_target: Target) -> None:
    body = {"messages": [{"role": "user", "content": "hello there"}], "max_tokens": 5, "stream": True}
    case = OPERATIONS["chat_completions"].Case(body=body, media_type="application/json")
    answer = case.call(base_url=admin_target.url, headers=admin_target.headers, timeout=20)
    if answer.status_code != 200 or not answer.headers["content-type"][0].startswith("text/event-stream"):
        raise RuntimeError("this is no stream")
    case.validate_response(answer, checks=CHECKS)


@pytest.mark.parametrize("content", ['"\\ud800"', '[{"type":"text","text":"\\udfff"}]'])
def test_half_a_character_is_a_client_error(admin_target: Target, content: str) -> None:
    body = f'{{"messages":[{{"role":"user","content":{content}}}],"max_tokens":3}}'
    answer = requests.post(
        f"{admin_target.url}/v1/chat/completions", data=body, headers=admin_target.headers, timeout=20
    )
    assert answer.status_code == 400, answer.text
