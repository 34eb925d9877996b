"""Bounds of the schemas callers send."""

import json
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from tirami.api.schemas import ChatCompletionRequest, QuoteRequest, ResponseRequest
from tirami.api.schemas.jsonschema import JsonSchema
from tirami.core.shaping import MAX_DEPTH

ADAPTER: TypeAdapter[dict[str, Any]] = TypeAdapter(JsonSchema)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "properties": {"pattern": {"type": "string"}}},
        {"type": "string", "pattern": "^[a-z]{1,40}$"},
        {"type": "string", "pattern": r"^(?:\(?[\b(?=]\\b){1,3}$"},
        {"enum": ["(", {"pattern": "["}]},
        nested(MAX_DEPTH - 1),
    ],
)
def test_what_is_bounded_passes(schema: dict[str, Any]) -> None:
    assert ADAPTER.validate_python(schema) == schema


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (nested(MAX_DEPTH + 1), "nested"),
        ({"enum": ["x" * 70_000]}, "bytes"),
        ({"pattern": "abc"}, "begins with"),
        ({"pattern": "^($"}, "not valid"),
        ({"pattern": "^((a{50}){50}){50}$"}, "multiply"),
        ({"properties": {"a": {"anyOf": [{"pattern": "^(a{1,999}){9}$"}]}}}, "multiply"),
        ({"pattern": f"^{'a' * 600}$"}, "512"),
        ({"pattern": "^(?=a)b$"}, "looks ahead"),
        ({"pattern": r"^a\b$"}, "boundaries"),
    ],
)
def test_what_would_cost_the_engine_too_much_does_not(schema: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        ADAPTER.validate_python(schema)


def asked(kind: type, choice: object, **function: object) -> Any:
    """A request that offers one function, for which ``choice`` is the tool_choice."""
    tool, named = {"name": "f", **function}, {"type": "function", "name": "f"}
    if kind is ResponseRequest:
        how: dict[str, object] = {"input": "x", "tools": [{"type": "function", **tool}]}
    else:
        messages, named = [{"role": "user", "content": "x"}], {"type": "function", "function": {"name": "f"}}
        how = {"messages": messages, "tools": [{"type": "function", "function": tool}]}
    return kind.model_validate_json(json.dumps({**how, "tool_choice": named if choice == "named" else choice}))


KINDS = [ChatCompletionRequest, QuoteRequest, ResponseRequest]
LOOSE = {"type": "object", "properties": {"zip": {"type": "string", "pattern": r"\d{5}"}, "n": {"pattern": r"^\p{L}$"}}}


@pytest.mark.parametrize("kind", KINDS)
def test_a_tool_offered_may_have_any_pattern(kind: type) -> None:
    for choice in ("auto", "none", None):
        asked(kind, choice, parameters=LOOSE, strict=True)
    for choice in ("required", "named"):
        asked(kind, choice, parameters=LOOSE)
        with pytest.raises(ValidationError, match=r"f is strict, and a pattern .* begins with \^"):
            asked(kind, choice, parameters=LOOSE, strict=True)
    with pytest.raises(ValidationError, match="nested"):
        asked(kind, "auto", parameters=nested(MAX_DEPTH + 1))
