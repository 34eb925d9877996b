"""What is handed out at once: as few tokens as spell whole characters, so that little runs ahead of a voucher (B11)."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from tirami.core.units import TokenCount
from tirami.infer import Chunk, shown

Decode = Callable[[tuple[int, ...]], bytes]
"""The bytes these tokens stand for."""


class Part(NamedTuple):
    ids: tuple[int, ...]
    spelled: bytes
    text: str


def divided(chunk: Chunk, decode: Decode) -> Iterator[Chunk]:
    """``chunk`` in its smallest parts of whole characters; as it is where its ids spell something else.

    An engine joins what it held back, because it could have begun a stop text that its payer chose. One that did come
    is looked for in one piece: it stays together, from the token on in which it begins. So what a payer can have beyond
    its window is a text that it wrote itself, of at most 256 characters, or one character.
    """
    parts = list(_parts(chunk.ids, decode)) if len(chunk.ids) > 1 else []
    if not parts or b"".join(part.spelled for part in parts) != chunk.spelled:
        yield chunk
        return
    count = chunk.count - len(chunk.ids)
    for ids, spelled, text in _together(parts, chunk.reasoning + chunk.text):
        count += len(ids)
        raw = None if text.encode() == spelled else spelled
        yield replace(chunk, text=text, ids=ids, count=TokenCount(count), logprobs=(), reasoning="", raw=raw)


def _together(parts: list[Part], text: str) -> Iterator[Part]:
    """``parts``, of which ``text`` is shown: those that spell what it ends before are one."""
    if "".join(part.text for part in parts) == text:
        yield from parts
        return
    for number, part in enumerate(parts):
        if len(part.text) > len(text):
            rest = parts[number:]
            ids = tuple(token for each in rest for token in each.ids)
            yield Part(ids, b"".join(each.spelled for each in rest), text)
            return
        yield part
        text = text[len(part.text) :]


def _parts(ids: tuple[int, ...], decode: Decode) -> Iterator[Part]:
    begun = 0
    for end in range(1, len(ids) + 1):
        spelled = decode(ids[begun:end])
        seen = shown(spelled)
        if seen.whole:
            yield Part(ids[begun:end], spelled, seen.text)
            begun = end
