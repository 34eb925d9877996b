"""JSON schemas that callers send, within the bounds of :mod:`tirami.core.shaping`."""

from typing import Annotated, Any

from pydantic import AfterValidator

from tirami.core.shaping import bounded


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    return bounded(schema)


def _offered(schema: dict[str, Any]) -> dict[str, Any]:
    return bounded(schema, patterns=False)


JsonSchema = Annotated[dict[str, Any], AfterValidator(_bounded)]
"""What an answer is held to."""
OfferedSchema = Annotated[dict[str, Any], AfterValidator(_offered)]
"""Of a tool's arguments: nothing is held to it unless the call is demanded, so that its patterns may be any."""
