"""Tokenizer blocks between peers: whoever has one brings it; its digest says whether it is the right one (B10)."""

import asyncio
from collections.abc import Callable

from tirami.core.errors import TokenizerError, WireError
from tirami.core.keys import Digest
from tirami.infer import MetadataBlock
from tirami.net.frames import FrameReader, FrameWriter, registry
from tirami.net.peer import Peer
from tirami.net.transport import Stream
from tirami.proto import BlockFollows, BlockPart, BlockWanted, Refused

PART = 256 * 1024
FETCH_S = 60.0
BRINGING = registry(BlockFollows, BlockPart, Refused)


async def bring(stream: Stream, wanted: BlockWanted, find: Callable[[Digest], bytes | None]) -> None:
    """Answer a peer that wants a block: send it, or say that it is not here. ``find`` may read files."""
    writer, data = FrameWriter(stream), await asyncio.to_thread(find, Digest(wanted.digest))
    if data is None:
        await writer.write(Refused("not_found", "no such block here"))
    else:
        await writer.write(BlockFollows(len(data)))
        for start in range(0, len(data), PART):
            await writer.write(BlockPart(data[start : start + PART]))
    await stream.finish()


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
        raise TokenizerError(f"the peer has no such metadata block: {first.message}")
    if not isinstance(first, BlockFollows):
        raise WireError(f"a {type(first).__name__} is out of place here")
    data = bytearray()
    while len(data) < first.size:
        part = await reader.read()
        if not isinstance(part, BlockPart) or len(data) + len(part.data) > first.size:
            raise WireError("the parts of a block are not what was announced")
        data += part.data
    return bytes(data)
