"""The first exchange on a connection: who speaks what, under which network file."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tirami.core.errors import MeshError, NoCommonVersion, PeerRefused, WireError
from tirami.net.frames import FrameReader, FrameWriter
from tirami.proto import VERSION, Hello, NetworkFile, Refused, Shown

HELLO_S = 5.0
"""Seconds a peer has to introduce itself."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What this node has seen under another's key (B9): its highest debit, and what shows it."""

    incarnation: int = 0
    number: int = 0
    shown: tuple[Shown, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """What this node says of itself.

    Attributes:
        network: its network file.
        agent: name and version of the program.
        features: what it can beyond the version.
        listening: where it can be dialled, as far as it knows.
    """

    network: NetworkFile
    agent: str
    features: Sequence[str] = ()
    listening: Sequence[str] = field(default=())

    def hello(self, seen: Remembered) -> Hello:
        return Hello(
            version_min=VERSION,
            version_max=VERSION,
            network=self.network.id,
            network_hash=self.network.hash,
            features=tuple(sorted(set(self.features))),
            agent=self.agent,
            seen_incarnation=seen.incarnation,
            seen_number=seen.number,
            listening=tuple(self.listening),
            shown=seen.shown,
        )


async def introduce(reader: FrameReader, writer: FrameWriter, own: Hello) -> Hello:
    """Say hello, hear the other's, and agree. Both sides speak at once.

    Raises ``NoCommonVersion``, ``PeerRefused`` with its reason, ``WireError``, ``ConnectionLost``.
    """
    try:
        async with asyncio.timeout(HELLO_S):
            await writer.write(own)
            theirs = await reader.read()
    except TimeoutError:
        raise WireError(f"no hello within {HELLO_S:g} s") from None
    if isinstance(theirs, Refused):
        raise PeerRefused(theirs.message, refused=theirs.code)
    if not isinstance(theirs, Hello):
        raise WireError(f"a connection begins with a Hello, not a {type(theirs).__name__}")
    try:
        _agree(own, theirs)
    except MeshError as error:
        with suppress(TimeoutError):
            async with asyncio.timeout(HELLO_S):
                await writer.write(Refused(error.code, error.message[:1024]))
        raise
    return theirs


def _agree(own: Hello, theirs: Hello) -> None:
    if theirs.version_min > own.version_max or theirs.version_max < own.version_min:
        raise NoCommonVersion(
            f"versions {theirs.version_min} to {theirs.version_max} meet {own.version_min} to {own.version_max}"
        )
    if theirs.network != own.network:
        raise PeerRefused(f"network {theirs.network!r} is not {own.network!r}", refused="other_network")
