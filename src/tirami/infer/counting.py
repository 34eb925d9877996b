"""The canonical tokens of an answer while it comes in."""

import codecs
import re
from typing import Final

from tirami.infer.tokenizer import Tokenizer

_NO_TEXT: Final = re.compile("[\udc80-\udcff]")


class Count:
    """Counts the text so far after every chunk, in time linear in the text: only what is still open is spelled again.

    It equals ``Tokenizer.count`` of the whole text, which is the number of ids of ``Tokenizer.encode`` unless the text
    goes on for over 2 048 characters without a single space or line end; see :meth:`Tokenizer.settle`. It may fall when
    a chunk turns two tokens into one; what is signed never falls (PROTOCOL B10), which is the caller's affair. Bytes
    that are no text, also those of a character of which the rest has not come, count one each: no tokenizer writes
    them shorter, so a provider is not paid too little, and the cap of B10 on ids bounds what it can gain.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._settled = 0
        self._open = ""

    def feed(self, data: bytes) -> int:
        """Tokens of all bytes fed so far, these included."""
        decoded = self._decoder.decode(data)
        text = _NO_TEXT.sub("", decoded)
        self._settled += len(decoded) - len(text)
        self._open += text
        settled, characters = self._tokenizer.settle(self._open)
        self._settled += settled
        self._open = self._open[characters:]
        return self._settled + self._tokenizer.plain(self._open) + len(self._decoder.getstate()[0])
