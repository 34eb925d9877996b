"""The tokenizer of a payer that has no model: text to token ids and back, from the metadata block alone.

It is what a bill is checked with (PROTOCOL B10): ids are decoded and compared with the text that came, and the text's
canonical tokens bound what is signed for. It agrees with llama.cpp, id by id (``tests/infer/test_tokenizer_model.py``).
"""

import re
from collections.abc import Iterable
from itertools import chain
from typing import Final, Self

from tirami.core.errors import InvalidRequest, TokenizerError
from tirami.infer.gguf import Header
from tirami.infer.lexicon import BYTE_LEVEL, SENTENCE_PIECE, Lexicon
from tirami.infer.marks import Marks
from tirami.infer.metadata_block import MetadataBlock
from tirami.infer.spelling import WHOLE_WORDS, BytePairs, Pieces, Spelling

LONGEST_UNCUT: Final = 2048
"""Characters without a natural place to cut after which a count is cut anyway."""
_SPACE: Final = r"(?<=[^\s])(?= [^\s])"
_LINE: Final = r"(?<=[^\s]\n)(?=[^\s])"
_CROSSED: Final = re.compile(r"[^\s] |\n[^\s]")
_NEVER: Final = re.compile(r"(?!)")


class Tokenizer:
    """Safe to share between threads.

    Args:
        lexicon: the vocabulary.
        spelling: what is done with text between marks.
        adds_bos, adds_eos: whether a whole prompt is framed by them.
        adds_space: whether a text, and what follows a mark, begins with an extra space (SentencePiece).
    """

    def __init__(
        self, lexicon: Lexicon, spelling: Spelling, *, adds_bos: bool, adds_eos: bool, adds_space: bool
    ) -> None:
        self._lexicon = lexicon
        self._spelling = spelling
        self._adds_space = adds_space
        self._before = (lexicon.bos,) if adds_bos and lexicon.bos is not None else ()
        self._after = (lexicon.eos,) if adds_eos and lexicon.eos is not None else ()
        self._all_marks = Marks(lexicon.marks(control=True))
        added = lexicon.marks(control=False)
        self._text_marks = Marks(added)
        self._cut = _cuts(spelling, added)

    @classmethod
    def from_block(cls, block: MetadataBlock) -> Self:
        """Blocking: 0.6 s for 49 152 tokens with merges, 1 s for 262 144 without.

        Raises:
            TokenizerError: the block holds no tokenizer, a contradictory one, or one of a kind that is not known here;
                then no answer of that model can be checked, and none is bought.
        """
        header = block.header
        lexicon = Lexicon(header)
        byte_level = lexicon.model == BYTE_LEVEL
        spelling = BytePairs(header, lexicon) if byte_level else Pieces(header, lexicon)
        bos_by_default = not byte_level or header.text("tokenizer.ggml.pre") in WHOLE_WORDS
        return cls(
            lexicon,
            spelling,
            adds_bos=_flag(header, "add_bos_token", bos_by_default),
            adds_eos=_flag(header, "add_eos_token", False),
            adds_space=lexicon.model == SENTENCE_PIECE and _flag(header, "add_space_prefix", True),
        )

    def __len__(self) -> int:
        return len(self._lexicon)

    @property
    def bos(self) -> str:
        """How the token that begins a text is written; empty where there is none."""
        return "" if self._lexicon.bos is None else self._lexicon.texts[self._lexicon.bos]

    @property
    def eos(self) -> str:
        """How the token that ends a text is written; empty where there is none."""
        return "" if self._lexicon.eos is None else self._lexicon.texts[self._lexicon.eos]

    @property
    def adds_bos(self) -> bool:
        """Whether :meth:`encode` puts :attr:`bos` before a whole prompt."""
        return bool(self._before)

    @property
    def adds_eos(self) -> bool:
        return bool(self._after)

    def encode(self, text: str, special: bool) -> tuple[int, ...]:
        """Ids of ``text``, the engine's own. Raises ``InvalidRequest`` for text with half a surrogate pair.

        Args:
            text: what to cut.
            special: it is a whole prompt: control tokens written out in it are read, and those added that the model
                wants around it. Otherwise it is text and stands for itself.
        """
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidRequest("the text holds half a character") from None
        ids: list[int] = []
        space = self._adds_space
        for piece in (self._all_marks if special else self._text_marks).split(text):
            if isinstance(piece, int):
                ids.append(piece)
                space = self._adds_space
            else:
                ids += self._spelling.spell(f" {piece}" if space else piece)
                space = False
        return (*self._before, *ids, *self._after) if special else tuple(ids)

    def decode(self, ids: Iterable[int]) -> bytes:
        """The bytes of these tokens, joined; control tokens have none. Raises ``TokenizerError`` for an unknown id."""
        return b"".join(map(self._lexicon.piece, ids))

    def text_of(self, number: int) -> str:
        """How the vocabulary writes a token, for people. Raises ``TokenizerError`` for an unknown id."""
        if not 0 <= number < len(self._lexicon):
            raise TokenizerError(f"the model has no token {number}")
        return self._lexicon.texts[number]

    def count(self, text: str) -> int:
        """Canonical tokens of an answer's whole text; :class:`~tirami.infer.counting.Count` says it as it grows."""
        settled, characters = self.settle(text)
        return settled + self.plain(text[characters:])

    def settle(self, text: str) -> tuple[int, int]:
        """Canonical tokens of that beginning of ``text`` which no continuation can change, and its characters.

        It ends before a single space, or after a single line feed, between characters that are no white space: there
        every known pre-tokenizer ends a word, whatever comes, and no token crosses it. Where 2 048 characters have no
        such place the text is cut nevertheless, which makes a token or two more. Where that is depends on the text
        alone, never on the pieces it came in, so both sides of a trade count the same.
        """
        count = start = 0
        while True:
            rest, last = text[start:], 0
            for place in chain((found.start() for found in self._cut.finditer(rest)), (len(rest) - 1,)):
                if place - last > LONGEST_UNCUT:
                    last += LONGEST_UNCUT
                    break
                last = place if place < len(rest) - 1 else last
            else:
                return count + self.plain(rest[:last]), start + last
            count += self.plain(rest[:last])
            start += last

    def plain(self, text: str) -> int:
        """Tokens of a piece of an answer, uncut; no space is put before it, the answer has its own."""
        return sum(
            1 if isinstance(piece, int) else len(self._spelling.spell(piece)) for piece in self._text_marks.split(text)
        )


def _cuts(spelling: Spelling, added: Iterable[str]) -> re.Pattern[str]:
    """Where an answer can be cut without changing its tokens."""
    if any(map(_CROSSED.search, added)):
        return _NEVER
    if not isinstance(spelling, Pieces):
        return re.compile(f"{_SPACE}|{_LINE}")
    inside = "".join(map(re.escape, sorted(spelling.before_space)))
    return re.compile(rf"(?<=[^\s{inside}])(?= [^\s])")


def _flag(header: Header, name: str, default: bool) -> bool:
    told = header.values.get(f"tokenizer.ggml.{name}")
    return told if isinstance(told, bool) else default
