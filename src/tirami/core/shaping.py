"""Bounds of what shapes an answer: the same for a request over HTTP and for one that comes over the mesh.

What the engine cannot hold an answer to it refuses itself; here is what would cost it too much, or what it would
silently pass over.
"""

import json
import re
from typing import Any, Final

MAX_STOPS: Final = 4
MAX_STOP: Final = 256
"""Characters of one text that ends an answer."""
MAX_PENALTY: Final = 2.0
"""Of presence and frequency, either way; of repetition, where 1 is none."""
MAX_BIASES: Final = 300
MAX_BIAS: Final = 100.0
"""Either way."""
MAX_TOKEN_DIGITS: Final = 7
"""Of the id of a token with a bias."""
MAX_TOP_K: Final = 1_000_000

MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 32
MAX_PATTERN: Final = 512
MAX_REPETITIONS: Final = 2000
"""Of a pattern: the product of the upper bounds of all its repetitions."""
_BOUND = re.compile(r"\{(\d{0,9}),?(\d{0,9})\}")
_SYMBOL = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?:?|.", re.DOTALL)
"""Of a pattern: an escape, a class, what opens a group, or a character."""
_UNREAD = re.compile(r"\\[bBAZ1-9]|\(\?")
"""Symbols that ask what stands around or before: boundaries, references, looks ahead or back."""
NAMES: Final = ("properties", "$defs", "definitions")
"""Keywords whose members have the caller's names and are schemas."""
VALUES: Final = ("const", "enum", "default", "examples")
"""Keywords that hold values, in which nothing is a keyword."""


def bounded(schema: dict[str, Any], depth: int = MAX_DEPTH, *, patterns: bool = True) -> dict[str, Any]:
    """The JSON schema itself.

    Args:
        schema: what an answer shall be held to, or may be.
        depth: most levels of it.
        patterns: whether its patterns have to be such as an answer can be held to.

    Raises:
        ValueError: it makes too large a grammar, or one that leaves a pattern out.
    """
    size = len(json.dumps(schema, separators=(",", ":"), ensure_ascii=False).encode())
    if size > MAX_BYTES:
        raise ValueError(f"a schema has at most {MAX_BYTES} bytes")
    _walk(schema, depth, patterns)
    return schema


def parsed(schema: str) -> dict[str, Any]:
    """A JSON schema from its text: one object, in which no name stands twice. Raises ``ValueError``."""
    try:
        found = json.loads(schema, object_pairs_hook=_unique, parse_constant=_no_number)
    except RecursionError:
        raise ValueError(f"a schema is nested at most {MAX_DEPTH} levels deep") from None
    if not isinstance(found, dict):
        raise ValueError("a schema is an object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Readers differ in which of two they take: what was checked must be what the engine reads."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in a schema")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def _walk(value: Any, depth: int, patterns: bool) -> None:
    if depth == 0 and isinstance(value, list | dict):
        raise ValueError(f"a schema is nested at most {MAX_DEPTH} levels deep")
    if isinstance(value, list):
        for item in value:
            _walk(item, depth - 1, patterns)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if patterns and key == "pattern" and isinstance(item, str):
            _check_pattern(item)
        elif key in NAMES and isinstance(item, dict):
            for schema in item.values():
                _walk(schema, depth - 1, patterns)
        elif key not in VALUES:
            _walk(item, depth - 1, patterns)


def enforceable(pattern: str) -> bool:
    """Whether an answer can be held to this pattern."""
    try:
        _check_pattern(pattern)
    except ValueError:
        return False
    return True


def _check_pattern(pattern: str) -> None:
    """The engine passes over what it cannot read, and unrolls repetitions."""
    if len(pattern) > MAX_PATTERN or not (pattern.startswith("^") and pattern.endswith("$")):
        raise ValueError(f"a pattern has at most {MAX_PATTERN} characters, begins with ^ and ends with $")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"a pattern is not valid: {error}") from None
    if any(_UNREAD.fullmatch(symbol) for symbol in _SYMBOL.findall(pattern)):
        raise ValueError("a pattern has no boundaries, references, flags, names of groups, looks ahead or back")
    product = 1
    for low, high in _BOUND.findall(pattern):
        product *= max(1, int(low or 0), int(high or 0))
    if product > MAX_REPETITIONS:
        raise ValueError(f"the repetitions of a pattern multiply to at most {MAX_REPETITIONS}")
