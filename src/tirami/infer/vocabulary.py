"""The tokens of a vocabulary that are not whole characters.

llama.cpp's server withholds a token that ends inside a character and sends it merged with the next, without
its id. Every token of such a merged piece is therefore one whose bytes alone are not valid UTF-8. Those are
few (some hundred of 49 000), so what was withheld can be found by searching among them.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from tirami.infer.gguf import Header

_NORMAL: Final = 1
_USER_DEFINED: Final = 4
_BYTE: Final = 6
_SPACE: Final = "▁".encode()


class Fragments:
    """Bytes → id of the tokens that are not whole characters.

    Args:
        ids: the map; empty for a tokenizer that is not understood, and then nothing is ever found.
    """

    def __init__(self, ids: Mapping[bytes, int]) -> None:
        self._ids = ids
        self._longest = max(map(len, ids), default=0)

    @classmethod
    def read(cls, header: Header) -> "Fragments":
        """From the tokenizer in a GGUF header (byte-level BPE and SentencePiece). Blocking: 50 ms for 49 000 tokens."""
        pieces = _pieces(header)
        return cls({piece: number for piece, number in pieces if not _is_text(piece)})

    def __len__(self) -> int:
        return len(self._ids)

    def splits(self, text: bytes, last: int, count: int) -> list[tuple[int, ...]]:
        """The ways to write ``text`` as ``count`` of these tokens of which the last is ``last``; at most two
        of them.

        No cut falls between whole characters, because the server would have sent what it had by then.
        """
        matching = (ids for ids in self._search(text, 0, count) if ids[-1] == last)
        return list(islice(matching, 2))

    def _search(self, text: bytes, start: int, count: int) -> Iterator[tuple[int, ...]]:
        if len(text) - start > count * self._longest:
            return
        if count == 1:
            if (number := self._ids.get(text[start:])) is not None:
                yield (number,)
            return
        for cut in range(start + 1, min(len(text) - count + 2, start + self._longest + 1)):
            inside_character = text[cut] & 0xC0 == 0x80
            if inside_character and (number := self._ids.get(text[start:cut])) is not None:
                yield from ((number, *rest) for rest in self._search(text, cut, count - 1))


def _is_text(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True


def _pieces(header: Header) -> Iterator[tuple[bytes, int]]:
    kinds = header.numbers("tokenizer.ggml.token_type")
    tokens = header.strings("tokenizer.ggml.tokens")
    model = header.text("tokenizer.ggml.model")
    for number, (token, kind) in enumerate(zip(tokens, kinds, strict=False)):
        if kind == _BYTE:
            yield from_hexadecimal(token), number
        elif model == "gpt2" and kind == _NORMAL:
            yield from_byte_level(token), number
        elif kind in (_NORMAL, _USER_DEFINED):
            yield token.replace(_SPACE, b" ") if model == "llama" else token, number


def _byte_level_alphabet() -> dict[str, int]:
    """The printable stand-ins of GPT-2's byte-level BPE: bytes that print stand for themselves, others follow 256."""
    printing = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printing]
    return {chr(byte): byte for byte in printing} | {chr(256 + place): byte for place, byte in enumerate(others)}


_ALPHABET: Final = _byte_level_alphabet()


def from_byte_level(token: bytes) -> bytes:
    """The bytes a token stands for; none for one outside the alphabet (a control token, never text)."""
    try:
        return bytes(_ALPHABET[letter] for letter in token.decode())
    except (KeyError, UnicodeDecodeError):
        return b""


def from_hexadecimal(token: bytes) -> bytes:
    """The byte of a token like ``<0xE7>``; none for a malformed one."""
    try:
        return bytes.fromhex(token[3:5].decode())
    except ValueError:
        return b""
