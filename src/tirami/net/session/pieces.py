"""What is handed out at once: as few tokens as spell whole characters, so that little runs ahead of a voucher (B11)."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from tirami.core.units import TokenCount
from tirami.infer import Chunk

Decode = Callable[[tuple[int, ...]], bytes]
"""The bytes these tokens stand for."""


def divided(chunk: Chunk, decode: Decode) -> Iterator[Chunk]:
    """``chunk`` in its smallest parts of whole characters; as it is where some of it is not shown as it is spelled.

    An engine joins what it held back, because it could have begun a stop text that its payer chose.
    """
    if len(chunk.ids) < 2 or chunk.raw is not None:
        yield chunk
        return
    parts = list(_parts(chunk.ids, decode))
    if b"".join(data for _, data in parts) != chunk.spelled:
        yield chunk
        return
    count = chunk.count - len(chunk.ids)
    for ids, data in parts:
        count += len(ids)
        yield replace(chunk, text=data.decode(), ids=ids, count=TokenCount(count), logprobs=(), reasoning="")


def _parts(ids: tuple[int, ...], decode: Decode) -> Iterator[tuple[tuple[int, ...], bytes]]:
    begun = 0
    for end in range(1, len(ids) + 1):
        data = decode(ids[begun:end])
        if _is_whole(data):
            yield ids[begun:end], data
            begun = end


def _is_whole(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
