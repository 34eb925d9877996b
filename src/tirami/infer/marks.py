"""Tokens that are cut out of a text before it is spelled: control tokens and those a model's makers added by hand."""

import re
from collections.abc import Iterator, Mapping
from itertools import groupby


class Marks:
    """Finds marks in a text, leftmost first and then the longest.

    llama.cpp looks for the longest mark everywhere, then for the next; that differs only where marks overlap. A text
    of n characters takes at most n × (number of different lengths of marks that begin alike) looks.

    Args:
        ids: id by mark.
    """

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._ids = ids
        self._lengths = {
            start: sorted({len(mark) for mark in marks}, reverse=True)
            for start, marks in groupby(sorted(ids), key=lambda mark: mark[:2])
        }
        first = {re.escape(start[0]) for start in self._lengths}
        self._first = re.compile(f"[{''.join(sorted(first))}]") if first else None

    def split(self, text: str) -> Iterator[str | int]:
        """``text`` as pieces between marks (never empty) and ids of marks, in order."""
        start = position = 0
        while self._first and (found := self._first.search(text, position)):
            position = found.start()
            length = self._longest(text, position)
            if not length:
                position += 1
                continue
            if start < position:
                yield text[start:position]
            start = position + length
            yield self._ids[text[position:start]]
            position = start
        if start < len(text):
            yield text[start:]

    def _longest(self, text: str, position: int) -> int:
        pair = text[position : position + 2]
        lengths = self._lengths.get(pair, ()) or ()
        for length in lengths:
            if text[position : position + length] in self._ids:
                return length
        return 1 if pair[0] in self._ids else 0
