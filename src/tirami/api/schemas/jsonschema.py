"""JSON schemas that callers send, with the bounds that keep a grammar small.

What the engine cannot hold an answer to it refuses itself; here is what would cost it too much, or what it would
silently pass over.
"""

import json
import re
from typing import Annotated, Any

from pydantic import AfterValidator

MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
MAX_REPETITIONS = 2000
"""Of a pattern: the product of the upper bounds of all its repetitions."""
_BOUND = re.compile(r"\{(\d{0,9}),?(\d{0,9})\}")
_NAMES = ("properties", "$defs", "definitions")
_VALUES = ("const", "enum", "default", "examples")


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(schema, separators=(",", ":"), ensure_ascii=False).encode())
    if size > MAX_BYTES:
        raise ValueError(f"a schema has at most {MAX_BYTES} bytes")
    _walk(schema, MAX_DEPTH)
    return schema


def _walk(value: Any, depth: int) -> None:
    if depth == 0 and isinstance(value, list | dict):
        raise ValueError(f"a schema is nested at most {MAX_DEPTH} levels deep")
    if isinstance(value, list):
        for item in value:
            _walk(item, depth - 1)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if key == "pattern" and isinstance(item, str):
            _check_pattern(item)
        elif key in _NAMES and isinstance(item, dict):  # names of the caller's, not keywords
            for schema in item.values():
                _walk(schema, depth - 1)
        elif key not in _VALUES:
            _walk(item, depth - 1)


def _check_pattern(pattern: str) -> None:
    """The engine passes over what it cannot read, and unrolls repetitions."""
    if len(pattern) > 512 or not (pattern.startswith("^") and pattern.endswith("$")):
        raise ValueError("a pattern has at most 512 characters, begins with ^ and ends with $")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"a pattern is not valid: {error}") from None
    product = 1
    for low, high in _BOUND.findall(pattern):
        product *= max(1, int(low or 0), int(high or 0))
    if product > MAX_REPETITIONS:
        raise ValueError(f"the repetitions of a pattern multiply to at most {MAX_REPETITIONS}")


JsonSchema = Annotated[dict[str, Any], AfterValidator(_bounded)]
