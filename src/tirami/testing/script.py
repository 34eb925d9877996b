"""What the testing engine says: deterministic words, and directives in the prompt that make it misbehave."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_DIRECTIVE = re.compile(r"\[\[([^\]]*)\]\]")
_WORDS = tuple(
    [
        "lorem",
        "ipsum",
        "dolor",
        "sit",
        "amet",
        "consectetur",
        "adipiscing",
        "elit",
        "sed",
        "do",
        "eiusmod",
        "tempor",
        "incididunt",
        "ut",
        "labore",
    ]
)
_GLYPHS = tuple("猫犬鳥魚山川日月火水木金土🌱🚀🍰🧮🦊")


@dataclass(frozen=True, slots=True)
class Directive:
    """``[[tokens=40 delay_ms=5 prefill_ms=100 die_after=7 error=500 stall_after=3 break_after=70 script=unicode
    call=weather,time]]``.

    All optional.

    Attributes:
        tokens: length of the answer; as many as allowed when absent.
        delay_ms: pause before each token.
        prefill_ms: pause before the first.
        die_after: the process ends after this many tokens.
        stall_after: silence after this many tokens.
        break_after: the connection breaks after this many tokens.
        error: HTTP status to answer with instead.
        unicode: speak in CJK characters and emoji.
        call: names of functions to call instead of an answer.
    """

    tokens: int | None = None
    delay_ms: int = 0
    prefill_ms: int = 0
    die_after: int | None = None
    stall_after: int | None = None
    break_after: int | None = None
    error: int | None = None
    unicode: bool = False
    call: tuple[str, ...] = ()

    @classmethod
    def read(cls, prompt: str) -> "Directive":
        found = _DIRECTIVE.search(prompt)
        words = dict(part.partition("=")[::2] for part in found[1].split()) if found else {}
        numbers = {name: int(text) for name, text in words.items() if name not in ("script", "call")}
        called = tuple(words["call"].split(",")) if "call" in words else ()
        return cls(**numbers, unicode=words.get("script") == "unicode", call=called)


def tokens(prompt: str, seed: int, *, unicode: bool) -> Iterator[str]:
    """Endless pieces of text, the same for the same prompt and seed."""
    rng = random.Random(f"{seed}:{prompt}")
    while True:
        yield rng.choice(_GLYPHS) if unicode else f"{rng.choice(_WORDS)} "


def example(schema: Any) -> Any:
    """The plainest value of a JSON schema: its constants, first choices, required properties."""
    return _Example(schema).of(schema)


class _Example:
    def __init__(self, root: Any) -> None:
        self._root = root

    def of(self, schema: Any) -> Any:
        if not isinstance(schema, dict):
            return "text"
        if "$ref" in schema:
            found = self._root
            for step in schema["$ref"].removeprefix("#").strip("/").split("/"):
                found = found[step]
            return self.of(found)
        for key in ("const", "enum", "anyOf", "oneOf"):
            if key in schema:
                value = schema[key] if key == "const" else schema[key][0]
                return self.of(value) if key.endswith("Of") else value
        kind = schema.get("type", "string")
        return self._plain(kind[0] if isinstance(kind, list) else kind, schema)

    def _plain(self, kind: str, schema: dict[str, Any]) -> Any:
        if kind == "object":
            properties = schema.get("properties", {})
            return {name: self.of(properties.get(name)) for name in schema.get("required", properties)}
        if kind == "array":
            return [self.of(schema.get("items"))] * max(1, schema.get("minItems", 1))
        values = {"integer": 7, "number": 0.5, "boolean": True, "null": None}
        return values.get(kind, "text")


def pieces(text: str) -> list[str]:
    """A given text in tokens: words with the blank before them."""
    return re.findall(r"\s*\S+|\s+$", text)


def cut(written: list[str], stop: list[str]) -> tuple[list[str], bool]:
    """``written`` up to the first of the texts that end an answer, and whether there was one."""
    text = "".join(written)
    ends = [at for at in (text.find(mark) for mark in stop) if at >= 0]
    if not ends:
        return written, False
    kept: list[str] = []
    room = min(ends)
    for piece in written:
        if room <= 0:
            break
        kept.append(piece[:room])
        room -= len(piece)
    return kept, True


def vector(text: str, dimensions: int) -> list[float]:
    """Numbers, the same for the same text."""
    rng = random.Random(text)
    return [rng.uniform(-1, 1) for _ in range(dimensions)]


def count_words(text: str) -> int:
    """The testing engine's tokeniser: words."""
    return len(text.split())
