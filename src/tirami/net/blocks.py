"""Tokenizer blocks between peers: whoever has one brings it; its digest says whether it is the right one (B10)."""

import asyncio
from collections import Counter
from collections.abc import Callable

from tirami.core.errors import TokenizerError, WireError
from tirami.core.keys import Digest, PublicKey
from tirami.infer import MetadataBlock
from tirami.net.frames import FrameReader, FrameWriter, registry
from tirami.net.peer import Peer
from tirami.net.transport import Stream
from tirami.proto import BlockFollows, BlockPart, BlockWanted, Refused

PART = 256 * 1024
FETCH_S = 60.0
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


async def fetch(peer: Peer, digest: Digest) -> MetadataBlock:
    """A block from this peer, checked. Raises ``TokenizerError``, ``MeshError``, ``TimeoutError``."""
    stream = await peer.connection.open()
    try:
        async with asyncio.timeout(FETCH_S):
            await FrameWriter(stream).write(BlockWanted(digest))
            data = await _received(FrameReader(stream, BRINGING))
        return await asyncio.to_thread(MetadataBlock.of_bytes, data, digest)
    finally:
        await stream.reset()


async def _received(reader: FrameReader) -> bytes:
    first = await reader.read()
    if isinstance(first, Refused):
        raise TokenizerError(f"the peer brings no metadata block: {first.message}")
    if not isinstance(first, BlockFollows):
        raise WireError(f"a {type(first).__name__} is out of place here")
    data = bytearray()
    while len(data) < first.size:
        part = await reader.read()
        if not isinstance(part, BlockPart) or len(data) + len(part.data) > first.size:
            raise WireError("the parts of a block are not what was announced")
        data += part.data
    return bytes(data)
