"""How large a model is by its own metadata block, for whoever was told so by somebody who sells its answers.

Work is counted from layers, hidden size and weights (the FLOP formula), and the price is compared with what a model of
that size costs. The block lists every tensor with its shape. That the block and the weights belong to one file stays
the word of whoever serves them: only the whole file would show it.
"""

from dataclasses import dataclass
from typing import Protocol, Self

from tirami.infer.card import possible_parameters
from tirami.infer.gguf import Header


class Sized(Protocol):
    """Whatever states the size of a model: a card, an offering in a signal, the facts beside a quote."""

    @property
    def layers(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def parameters(self) -> int: ...
    @property
    def active_parameters(self) -> int: ...


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What a metadata block says.

    Attributes:
        weights: how many there may be, and of how many a token touches: whether an output matrix is the embedding
            again, which counts once, only the weights could tell.
    """

    layers: int
    hidden: int
    weights: frozenset[tuple[int, int]]

    @classmethod
    def of(cls, header: Header) -> Self:
        return cls(header.number("block_count"), header.number("embedding_length"), possible_parameters(header))

    def contradicted(self, stated: Sized) -> str | None:
        """The field in which ``stated`` says something else; ``None`` where there is none."""
        if stated.layers != self.layers:
            return "layers"
        if stated.hidden != self.hidden:
            return "hidden"
        active = {touched for weights, touched in self.weights if weights == stated.parameters}
        if not active:
            return "parameters"
        return None if stated.active_parameters in active else "active_parameters"
