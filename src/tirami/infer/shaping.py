"""What shapes an answer beyond the draw, and what of it an engine is asked for."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

import msgspec

from tirami.core import shaping as bounds
from tirami.core.errors import InvalidRequest

ANY_OBJECT: Final = '{"type":"object"}'
"""The schema of an answer that is some JSON object."""


@dataclass(frozen=True, slots=True)
class Shaping:
    """What shapes an answer beyond the draw. The quote has no field for it; its prompt hash covers :meth:`canonical`.

    Attributes:
        stop: texts that end the answer; never shown.
        presence_penalty, frequency_penalty: −2…2, subtracted from the logits of tokens that occurred.
        repeat_penalty: llama.cpp's own, 1 for none.
        min_p: least probability, relative to the likeliest token's, that is drawn; 0 for none.
        logit_bias: (token id, addend) in order of id.
        schema: JSON schema that the whole answer must follow, as JSON text; ``None`` for free text.
    """

    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_penalty: float = 1.0
    min_p: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    schema: str | None = None

    def canonical(self) -> bytes:
        """JSON of what is asked for, keys in order; empty when nothing is."""
        asked = {
            spec.name: getattr(self, spec.name) for spec in fields(self) if getattr(self, spec.name) != spec.default
        }
        return msgspec.json.encode(asked, order="sorted") if asked else b""

    def check(self) -> None:
        """Whether it is within the bounds of the HTTP contract, wherever it comes from.

        Raises ``InvalidRequest`` naming the field.
        """
        for good, field in self._within():
            if not good:
                raise InvalidRequest(f"out of range: {field}", param=field)
        if self.schema is not None:
            try:
                # a demanded call stands one level deeper than the caller's own schema of its arguments
                bounds.bounded(bounds.parsed(self.schema), bounds.MAX_DEPTH + 1)
            except ValueError as error:
                raise InvalidRequest(f"not a schema answers are held to: {error}", param="schema") from error

    def _within(self) -> Iterator[tuple[bool, str]]:
        most, numbers = bounds.MAX_PENALTY, [number for number, _ in self.logit_bias]
        yield len(self.stop) <= bounds.MAX_STOPS, "stop"
        yield all(0 < len(text) <= bounds.MAX_STOP for text in self.stop), "stop"
        yield -most <= self.presence_penalty <= most, "presence_penalty"
        yield -most <= self.frequency_penalty <= most, "frequency_penalty"
        yield 0 < self.repeat_penalty <= most, "repeat_penalty"
        yield 0 <= self.min_p <= 1, "min_p"
        yield len(numbers) <= bounds.MAX_BIASES and numbers == sorted(set(numbers)), "logit_bias"
        yield all(0 <= number < 10**bounds.MAX_TOKEN_DIGITS for number in numbers), "logit_bias"
        yield all(-bounds.MAX_BIAS <= bias <= bounds.MAX_BIAS for _, bias in self.logit_bias), "logit_bias"
