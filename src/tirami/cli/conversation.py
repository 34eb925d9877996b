"""A question, its answer in pieces, and its bill: the same whether a node far away or in this process answers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: chat messages so far, the most tokens of the answer, the temperature of sampling."""

    messages: Sequence[Mapping[str, str]]
    max_tokens: int
    temperature: float


@dataclass(frozen=True, slots=True)
class Bill:
    """What an answer cost. ``trade_id`` is ``None`` when nothing was owed; ``balance_trm`` is the payer's."""

    cost_trm: int
    balance_trm: int
    trade_id: str | None
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str


class Speaker(Protocol):
    """Whoever answers. ``bill`` belongs to the answer that ended last."""

    @property
    def model(self) -> str | None: ...

    @property
    def bill(self) -> Bill | None: ...

    def ask(self, question: Question) -> Iterator[str]: ...
