"""Request shapes are strict; reply shapes name nothing that is secret."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tirami.api import OPERATIONS
from tirami.api import schemas as s

ID = "ab" * 32
MESSAGES = [{"role": "user", "content": "hi"}]
GOOD: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (s.ChatCompletionRequest, {"messages": MESSAGES, "max_tokens": 5, "stream": True, "temperature": 0.5}),
    (s.CompletionRequest, {"prompt": "hi", "max_tokens": 5, "stream": True, "temperature": 0.5}),
    (s.EmbeddingRequest, {"input": "hi", "dimensions": 5}),
    (s.ResponseRequest, {"input": "hi", "stream": True, "temperature": 0.5}),
    (s.LegacyChatRequest, {"prompt": "hi", "temperature": 0.5}),
    (s.AccountRequest, {"label": "x"}),
    (s.TokenRequest, {"scope": "admin", "node_id": ID, "ttl_secs": 5, "label": "x"}),
    (s.RevokeRequest, {"token_hash_hex": ID}),
    (s.RotateRequest, {"token_hash_hex": ID, "grace_secs": 0, "ttl_secs": 5}),
    (s.KillRequest, {"activate": True, "reason": "x", "operator": "y"}),
    (s.PolicyRequest, {"node_id": ID, "max_cu_per_request": 5, "max_cu_per_hour": 0, "max_cu_lifetime": None}),
    (s.TransferRequest, {"to": ID, "amount": 5}),
]
NULLABLE = {"temperature", "max_tokens", "stream", "node_id", "max_cu_per_request", "max_cu_per_hour"} | {
    "max_cu_lifetime",
    "dimensions",
    "ttl_secs",
}
WRONG: list[object] = [{}, [], {"a": 1}, 1.5, "true", "5", None, -1, 2**63, float("nan")]


def cases() -> list[Any]:
    found = []
    for model, body in GOOD:
        for name, right in body.items():
            for wrong in WRONG:
                text = (
                    isinstance(right, str)
                    and isinstance(wrong, str)
                    and name in ("label", "reason", "operator", "scope", "prompt", "input")
                )
                number = isinstance(wrong, float) and wrong == wrong and name == "temperature"
                nothing = wrong is None and name in NULLABLE and not (model is s.PolicyRequest and name == "node_id")
                if not (text or number or nothing):
                    found.append(
                        pytest.param(model, {**body, name: wrong}, name, id=f"{model.__name__}-{name}-{wrong!r}")
                    )
    return found


@pytest.mark.parametrize(("model", "body"), GOOD)
def test_the_right_shape_is_taken(model: type[BaseModel], body: dict[str, Any]) -> None:
    model.model_validate(body)


@pytest.mark.parametrize(("model", "body", "name"), cases())
def test_a_wrong_type_is_refused_and_named(model: type[BaseModel], body: dict[str, Any], name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(body)
    assert refused.value.errors()[0]["loc"][0] == name


@pytest.mark.parametrize("value", [True, 1, 0, "1"])
def test_a_number_is_no_truth_value_and_the_reverse(value: object) -> None:
    if value is not True:
        with pytest.raises(ValidationError):
            s.KillRequest.model_validate({"activate": value})
    with pytest.raises(ValidationError):
        s.TransferRequest.model_validate({"to": ID, "amount": value if value != 1 or value is True else True})


def test_tirami_bodies_ignore_unknown_fields_and_the_openai_body_refuses_them() -> None:
    for model, body in GOOD:
        extended = {**body, "somebody_elses_field": 1}
        if issubclass(model, s.OpenAiBody):
            with pytest.raises(ValidationError, match="somebody_elses_field"):
                model.model_validate(extended)
        else:
            assert model.model_validate(extended) == model.model_validate(body)


def test_openai_parameters_without_effect_are_accepted() -> None:
    body = {"messages": MESSAGES} | dict.fromkeys(s.ChatCompletionRequest.IGNORED, "anything")
    neutral = {name: values[-1] for name, values in s.ChatCompletionRequest.NEUTRAL.items()}
    assert s.ChatCompletionRequest.model_validate({**body, **neutral}) == s.ChatCompletionRequest.model_validate(
        {"messages": MESSAGES}
    )


@pytest.mark.parametrize(
    "text",
    ["", "ab" * 31, "ab" * 33, "zz" * 32, f"0x{'ab' * 31}", f"{ID}\n", f" {ID}", f"forge_tirami_{ID}", "ａ" * 64],
)
def test_an_id_is_64_digits_and_nothing_around_them(text: str) -> None:
    for model, name in ((s.TransferRequest, "to"), (s.RevokeRequest, "token_hash_hex"), (s.BalanceQuery, "node")):
        with pytest.raises(ValidationError):
            model.model_validate({name: text, "amount": 1})


REPLIES = sorted({o.reply for o in OPERATIONS if o.reply is not None}, key=lambda model: model.__name__)
SECRET = (
    "token",
    "secret",
    "seed",
    "private",
    "passphrase",
    "password",
    "api_key",
    "bearer",
    "prompt_text",
    "messages",
)
HARMLESS = {"token_hash_hex", "tokens", "tokens_processed", "prompt_tokens", "completion_tokens", "total_tokens"} | {
    *("base_trm_per_token", "trm_per_token", "max_tokens"),
    *("estimated_cost_100_tokens", "estimated_cost_1000_tokens", "cu_per_100_tokens", "trm_per_100_tokens"),
    *("tokens_per_second", "tokens_total", "cached_tokens", "reasoning_tokens", "token_logprobs", "tokens_generated"),
    *("free_tokens", "tokenizer_digest", "cache_write_tokens"),
    *(
        "completion_tokens_details",
        "input_tokens",
        "input_tokens_details",
        "max_output_tokens",
        "output_tokens",
        "output_tokens_details",
    ),
}
TEXT_OF_A_TOKEN = {s.IssuedToken, s.InviteReply, s.ChatCompletion}
"""Two are credentials, shown once; the third a token of an answer, beside its probability."""


def names_in(schema: object) -> set[str]:
    if isinstance(schema, dict):
        own = set(schema.get("properties", ())) if isinstance(schema.get("properties"), dict) else set()
        return own.union(*(names_in(value) for value in schema.values()))
    return set().union(*map(names_in, schema)) if isinstance(schema, list) else set()


@pytest.mark.parametrize("reply", REPLIES, ids=[model.__name__ for model in REPLIES])
def test_no_reply_has_a_field_for_a_secret(reply: type[BaseModel]) -> None:
    names = names_in(reply.model_json_schema(mode="serialization")) - HARMLESS
    suspicious = {name for name in names if any(word in name for word in SECRET)}
    assert suspicious == ({"token"} if reply in TEXT_OF_A_TOKEN else set()), "only a token just issued is shown, once"
