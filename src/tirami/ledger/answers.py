"""What was answered under an idempotency key: a request that comes again is told the same, and moves nothing again."""

from dataclasses import dataclass, field
from typing import Final

from tirami.core.errors import IdempotencyKeyReused
from tirami.core.units import DAY_MS, UnixMs
from tirami.ledger.entries import RequestAnswered

KEPT_MS: Final = DAY_MS
MOST: Final = 10_000
"""Answers kept at once; the oldest is forgotten for one more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is to take effect once.

    Attributes:
        key: 32-byte hash of who asks, of the operation and of the key they chose.
        body: 32-byte hash of what they ask.
    """

    key: bytes
    body: bytes

    def answered(self, result: bytes) -> RequestAnswered:
        """The fact to journal in one group with what the request did."""
        return RequestAnswered(self.key, self.body, result)


@dataclass(frozen=True, slots=True)
class _Answer:
    body: bytes
    result: bytes
    at_ms: UnixMs


@dataclass(slots=True)
class Answers:
    """A fold over ``request_answered``, oldest first; bounded in number and in age."""

    _kept: dict[bytes, _Answer] = field(default_factory=dict)

    def apply(self, fact: RequestAnswered, at_ms: UnixMs) -> None:
        self._kept.pop(fact.key, None)
        self._kept[fact.key] = _Answer(fact.body, fact.result, at_ms)
        while len(self._kept) > MOST or at_ms - self._oldest.at_ms >= KEPT_MS:
            del self._kept[next(iter(self._kept))]

    def find(self, asked: Asked, now_ms: UnixMs) -> bytes | None:
        """What the request led to within the last day. Raises ``IdempotencyKeyReused`` when it asked something else."""
        known = self._kept.get(asked.key)
        if known is None or now_ms - known.at_ms >= KEPT_MS:
            return None
        if known.body != asked.body:
            raise IdempotencyKeyReused("this idempotency key was used for another request", param="idempotency-key")
        return known.result

    @property
    def _oldest(self) -> _Answer:
        return next(iter(self._kept.values()))
