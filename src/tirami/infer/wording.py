"""What token ids spell, and what a reader is shown of it.

A piece of an answer is its ids and the bytes they spell (PROTOCOL B10). The text of it is nearly always those bytes; it
is not where they are no text, which shows as U+FFFD, and where a stop text ends the answer inside a token.
"""

import codecs
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

from tirami.core.errors import TokenizerError
from tirami.infer.gguf import Header
from tirami.infer.lexicon import Lexicon


class Wording:
    """The bytes of every token, as whoever buys an answer reads them.

    Args:
        pieces: bytes by id; none for a tokenizer that is not understood, and then nothing is known.
    """

    def __init__(self, pieces: Sequence[bytes] = ()) -> None:
        self._bytes = b"".join(pieces)
        self._ends = array("I", accumulate(map(len, pieces), initial=0))

    @classmethod
    def read(cls, header: Header) -> Self:
        """From the tokenizer in a GGUF header. Blocking: 0.1 s for 49 000 tokens."""
        try:
            lexicon = Lexicon(header)
        except TokenizerError:  # a payer cannot read it either: such a model is not bought
            return cls()
        return cls([lexicon.piece(number) for number in range(len(lexicon))])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def spell(self, ids: Iterable[int]) -> bytes | None:
        """The bytes of these tokens, joined; ``None`` where one is not known."""
        spelled = bytearray()
        for number in ids:
            if not 0 <= number < len(self):
                return None
            spelled += self._bytes[self._ends[number] : self._ends[number + 1]]
        return bytes(spelled)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a reader sees of some bytes of an answer.

    Attributes:
        text: with U+FFFD for what is no text, and without the stop text and what follows it.
        stopped: whether a stop text ends the answer here.
        whole: whether the bytes do not end within a character.
    """

    text: str
    stopped: bool
    whole: bool


def shown(spelled: bytes, stop: Sequence[str] = ()) -> Shown:
    """How ``spelled`` is read of an answer that the texts ``stop`` end, none of which began before."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(spelled)
    ends = [at for word in stop if (at := text.find(word)) >= 0]
    return Shown(text[: min(ends)] if ends else text, bool(ends), not decoder.getstate()[0])
