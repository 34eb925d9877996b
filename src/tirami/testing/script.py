"""What the testing engine says: deterministic words, and directives in the prompt that make it misbehave."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

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
    """``[[tokens=40 delay_ms=5 prefill_ms=100 die_after=7 error=500 stall_after=3 break_after=70 script=unicode]]``.

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
    """

    tokens: int | None = None
    delay_ms: int = 0
    prefill_ms: int = 0
    die_after: int | None = None
    stall_after: int | None = None
    break_after: int | None = None
    error: int | None = None
    unicode: bool = False

    @classmethod
    def read(cls, prompt: str) -> "Directive":
        found = _DIRECTIVE.search(prompt)
        words = dict(part.partition("=")[::2] for part in found[1].split()) if found else {}
        numbers = {name: int(text) for name, text in words.items() if name != "script"}
        return cls(**numbers, unicode=words.get("script") == "unicode")


def tokens(prompt: str, seed: int, *, unicode: bool) -> Iterator[str]:
    """Endless pieces of text, the same for the same prompt and seed."""
    rng = random.Random(f"{seed}:{prompt}")
    while True:
        yield rng.choice(_GLYPHS) if unicode else f"{rng.choice(_WORDS)} "


def count_words(text: str) -> int:
    """The testing engine's tokeniser: words."""
    return len(text.split())
