"""What the market tells whoever measures it: once an answer, never on the way of a token."""

from typing import Protocol

from tirami.infer import FinishReason, Reading


class Meter(Protocol):
    """Measures answers. Called in the event loop; must neither wait nor raise."""

    def queued(self, model: str, seconds: float) -> None:
        """A request for ``model`` got its place after ``seconds`` in the waiting room."""

    def made(self, model: str, reading: Reading) -> None:
        """An engine of this node made an answer, for whomever."""

    def settled(self, model: str, reason: FinishReason, seconds: float) -> None:
        """An answer of ``model`` is booked, or released; signing and writing that took ``seconds``."""


class Unmetered:
    """For whoever measures nothing."""

    def queued(self, model: str, seconds: float) -> None:
        return None

    def made(self, model: str, reading: Reading) -> None:
        return None

    def settled(self, model: str, reason: FinishReason, seconds: float) -> None:
        return None
