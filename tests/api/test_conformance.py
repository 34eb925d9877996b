"""Schemathesis against a running node: whatever it is asked, it answers as the OpenAPI document says."""

from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.conftest import Target
from tirami.api import BY_NAME, openapi

LEFT_OUT = {"kill", "transfer", "set_policy", "tokens", "issue_token", "revoke_token", "rotate_token"}
"""They would change what the other requests meet."""
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
SCHEMA = schemathesis.openapi.from_dict(openapi("0"))
OPERATIONS = {
    name: SCHEMA[operation.path][operation.method] for name, operation in BY_NAME.items() if name not in LEFT_OUT
}
MODES = [
    (name, mode)
    for name in OPERATIONS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or BY_NAME[name].query or BY_NAME[name].body or "{id}" in BY_NAME[name].path
]
"""Nothing can be asked wrongly where nothing is asked, and any text may be the name of a model."""
QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


@pytest.mark.parametrize("scope", ["admin", "read_only"])
@pytest.mark.parametrize(("name", "mode"), MODES, ids=[f"{name}-{mode.value}" for name, mode in MODES])
def test_every_reply_is_the_documented_one(target: Target, name: str, scope: str, mode: GenerationMode) -> None:
    headers = {"authorization": f"Bearer {target.tokens[scope]}"}
    with requests.Session() as session:

        @settings(
            max_examples=15,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=QUIET,
        )
        @given(OPERATIONS[name].as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            reply = case.call(base_url=target.url, session=session, headers=headers, timeout=20)
            case.validate_response(reply, checks=CHECKS)

        ask()


def test_replies_about_things_that_exist(target: Target) -> None:
    headers = {"authorization": f"Bearer {target.tokens['admin']}"}
    messages = [{"role": "user", "content": "hello there"}]
    with requests.Session() as session:

        def reply(name: str, path: dict[str, str], body: dict[str, object] | None = None, **query: str) -> Any:
            extra = {} if body is None else {"body": body, "media_type": "application/json"}
            case = OPERATIONS[name].Case(path_parameters=path, query=query, **extra)
            answer = case.call(base_url=target.url, session=session, headers=headers, timeout=20)
            assert answer.status_code == 200, (name, answer.content)
            case.validate_response(answer, checks=CHECKS)
            return answer

        account = reply("create_account", {}, {"label": "exists"}).json()["account"]
        answered = reply("chat_completions", {}, {"messages": messages, "max_tokens": 5}).json()
        trade = {"id": answered["x_tirami"]["trade_id"]}
        for name in ("trade", "trade_proof", "trade_receipt"):
            reply(name, trade)
        reply("trades", {}, signatures="true", limit="1")
        reply("model", {"model": answered["model"]})
        reply("balance", {}, node=account)
        reply("safety", {}, node=account)
        reply("log_consistency", {}, first="1", second="2")
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


def test_a_stream_is_the_documented_one(target: Target) -> None:
    body = {"messages": [{"role": "user", "content": "hello there"}], "max_tokens": 5, "stream": True}
    case = OPERATIONS["chat_completions"].Case(body=body, media_type="application/json")
    headers = {"authorization": f"Bearer {target.tokens['admin']}"}
    answer = case.call(base_url=target.url, headers=headers, timeout=20)
    if answer.status_code != 200 or not answer.headers["content-type"][0].startswith("text/event-stream"):
        raise RuntimeError("this is no stream")
    case.validate_response(answer, checks=CHECKS)


@pytest.mark.parametrize("content", ['"\\ud800"', '[{"type":"text","text":"\\udfff"}]'])
def test_half_a_character_is_a_client_error(target: Target, content: str) -> None:
    body = f'{{"messages":[{{"role":"user","content":{content}}}],"max_tokens":3}}'
    headers = {"authorization": f"Bearer {target.tokens['admin']}"}
    answer = requests.post(f"{target.url}/v1/chat/completions", data=body, headers=headers, timeout=20)
    assert answer.status_code == 400, answer.text
