"""JSON schemas that callers send, within the bounds of :mod:`tirami.core.shaping`."""

from typing import Annotated, Any

from pydantic import AfterValidator

from tirami.core.shaping import bounded


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    return bounded(schema)


JsonSchema = Annotated[dict[str, Any], AfterValidator(_bounded)]
