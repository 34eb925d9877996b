"""Tokenizer blocks between peers: whoever has one brings it; its digest says whether it is the right one (B10)."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from tirami.core.errors import ConnectionLost, PeerRefused, StreamEnded, WireError
from tirami.core.keys import Digest, PublicKey
from tirami.infer import MetadataBlock
from tirami.net.frames import FrameReader, FrameWriter, registry
from tirami.net.peer import Peer
from tirami.net.transport import Stream
from tirami.proto import BlockFollows, BlockPart, BlockWanted, Message, Refused

PART: Final = 32 * 1024
"""Small enough that on a slow way, too, something arrives all the time."""
FETCH_S: Final = 60.0
SILENCE_S: Final = 4.0
"""Seconds for a part to arrive; who takes longer counts as gone."""
BRINGINGS, OF_PEER = 8, 4
"""Blocks on their way at a time, in all and to one peer."""
BRINGING = registry(BlockFollows, BlockPart, Refused)


class Bringer:
    """Answers peers that want a block; a few at a time, for each holds one in memory.

    Args:
        find: the block of a digest, if it is here; may read files.
    """

    def __init__(self, find: Callable[[Digest], bytes | None]) -> None:
        self._find = find
        self._bringing: Counter[PublicKey] = Counter()

    async def bring(self, peer: PublicKey, stream: Stream, wanted: BlockWanted) -> None:
        """Send the block, or say why not. Raises ``MeshError``, ``TimeoutError``."""
        writer = FrameWriter(stream)
        async with asyncio.timeout(FETCH_S):
            if self._bringing[peer] >= OF_PEER or self._bringing.total() >= BRINGINGS:
                await writer.write(Refused("queue_full", "blocks are on their way to others", retry_after_s=1))
                await stream.finish()
                return
            self._bringing[peer] += 1
            try:
                await self._send(writer, wanted)
            finally:
                self._bringing[peer] -= 1
                if not self._bringing[peer]:
                    del self._bringing[peer]
            await stream.finish()

    async def _send(self, writer: FrameWriter, wanted: BlockWanted) -> None:
        data = await asyncio.to_thread(self._find, Digest(wanted.digest))
        if data is None:
            await writer.write(Refused("not_found", "no such block here"))
            return
        await writer.write(BlockFollows(len(data)))
        for start in range(0, len(data), PART):
            await writer.write(BlockPart(data[start : start + PART]))


async def fetch(peer: Peer, digest: Digest, silence_s: float = SILENCE_S) -> MetadataBlock:
    """A block from this peer, checked.

    Args:
        silence_s: how long the peer may take for its first word and then for each part.

    Raises:
        PeerRefused: it has none, or no time.
        TokenizerError: what it brought is not that block.
        MeshError: it is gone, or spoke nonsense.
    """
    try:
        async with asyncio.timeout(FETCH_S):
            data = await _brought(peer, digest, silence_s)
    except TimeoutError as error:
        raise ConnectionLost(f"the block was not here after {FETCH_S:g} s") from error
    return await asyncio.to_thread(MetadataBlock.of_bytes, data, digest)


async def _brought(peer: Peer, digest: Digest, silence_s: float) -> bytes:
    try:
        async with asyncio.timeout(silence_s):
            stream = await peer.connection.open()
    except TimeoutError as error:
        raise ConnectionLost(f"no stream to the peer for {silence_s:g} s") from error
    try:
        await FrameWriter(stream).write(BlockWanted(digest))
        return await _received(FrameReader(stream, BRINGING), silence_s)
    finally:
        await stream.reset()


async def _received(reader: FrameReader, silence_s: float) -> bytes:
    first = await _next(reader, silence_s)
    if isinstance(first, Refused):
        raise PeerRefused(f"the peer brings no metadata block: {first.message}", refused=first.code)
    if not isinstance(first, BlockFollows):
        raise WireError(f"a {type(first).__name__} is out of place here")
    data = bytearray()
    while len(data) < first.size:
        part = await _next(reader, silence_s)
        if not isinstance(part, BlockPart) or len(data) + len(part.data) > first.size:
            raise WireError("the parts of a block are not what was announced")
        data += part.data
    return bytes(data)


async def _next(reader: FrameReader, silence_s: float) -> Message:
    try:
        async with asyncio.timeout(silence_s):
            return await reader.read()
    except TimeoutError as error:
        raise ConnectionLost(f"no part of the block for {silence_s:g} s") from error
    except StreamEnded as error:
        raise ConnectionLost("the peer ended before the block did") from error
