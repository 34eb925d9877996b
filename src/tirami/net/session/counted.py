"""The count both sides of a session make for themselves (PROTOCOL B10): one signs it, the other waits for it."""

from typing import Final, Protocol

from tirami.core.units import TokenCount

TOLERANCE: Final = 2
"""Tokens by which ids may exceed the canonical tokens of their text."""


class Canon(Protocol):
    """The model's tokenizer as both sides use it for one answer; made from the tokenizer block that the quote names."""

    def decode(self, ids: tuple[int, ...]) -> bytes:
        """The bytes these tokens stand for. Raises ``TokenizerError``."""

    def feed(self, data: bytes) -> int:
        """Canonical tokens of all text so far, this included."""


class Counted:
    """Tokens of an answer that are paid for: its ids, at most two more than its canonical tokens, never falling.

    Both sides feed the same pieces to the same tokenizer, so an honest payer signs for exactly what an honest provider
    waits for.
    """

    def __init__(self, canon: Canon) -> None:
        self._canon = canon
        self._count = TokenCount(0)

    @property
    def count(self) -> TokenCount:
        return self._count

    def feed(self, ids: int, text: bytes) -> TokenCount:
        """The count after a piece: ``ids`` in all so far, and the text of this one."""
        counted = min(ids, self._canon.feed(text) + TOLERANCE)
        self._count = TokenCount(max(self._count, counted))
        return self._count
