"""Bounds of the schemas callers send."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

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
    ],
)
def test_what_would_cost_the_engine_too_much_does_not(schema: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        ADAPTER.validate_python(schema)
