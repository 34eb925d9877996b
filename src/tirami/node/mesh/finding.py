"""How this node finds others: its address book on disk, peers of peers, and whoever announces nodes elsewhere."""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from random import SystemRandom
from typing import Final, Protocol

import structlog

from tirami.core.errors import InvalidField, WireError
from tirami.net import PeerAddress, Stream
from tirami.net.addressbook import AddressBook, Trust
from tirami.net.dialler import Dialler
from tirami.net.exchange import Exchange
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.net.probes import Call, Probes
from tirami.node.mesh.guests import Guests
from tirami.node.mesh.keptfile import KeptFile
from tirami.node.parts import Parts
from tirami.proto import InviteShown, Message, PeersWanted, ProbeWanted

_log = structlog.get_logger()
MAX_PEERS: Final = 1 << 20
MAX_PROBES: Final = 1 << 22
SAVE_S: Final = 30.0
AGAIN_S: Final = 60.0
"""After a source broke down it is tried again."""
FINDING: Final[tuple[type[Message], ...]] = (InviteShown, PeersWanted, ProbeWanted)
"""What opens a stream of this kind."""


Found = Callable[[Iterable[PeerAddress], Trust], None]
"""Told of nodes that may be there, and how far that is to be believed."""


class Source(Protocol):
    """Where nodes are announced beyond the mesh itself: the local network, Nostr, DNS."""

    @property
    def name(self) -> str:
        """For the log, and whose hints these are."""

    async def run(self, found: Found) -> None:
        """Announce this node, where that is the way, and tell what is found, until cancelled."""


class Finding:
    """The finding side of one node.

    Args:
        sources: beside what peers tell.
        call: how another node is reached as by a stranger; ``None`` probes nobody.
    """

    def __init__(self, parts: Parts, mesh: Mesh, sources: Sequence[Source] = (), call: Call | None = None) -> None:
        """Raises ``ConfigError`` for an invitation that is none to this network."""
        self._mesh = mesh
        self._sources = sources
        self._seeds = parts.ledger.network.seeds
        random = SystemRandom()
        self.book = AddressBook(mesh.key, random)
        self.exchange = Exchange(mesh, self.book, parts.clock, parts.ledger.now, random, parts.config.mesh.peers)
        may, ask = parts.config.mesh.peers > 0, self.exchange.ask_anew
        self.dialler = Dialler(mesh, self.book, parts.clock, may=may, ask=ask)
        self.probes = Probes(mesh, call, parts.key, parts.ledger.network.id, parts.clock, parts.ledger.now, random)
        home = parts.home.path
        self._files = (
            KeptFile(home / "peers.json", self.book, MAX_PEERS),
            KeptFile(home / "probes.json", self.probes.book, MAX_PROBES),
        )
        self.guests = Guests(mesh, parts.ledger, parts.key, self.book, os.urandom)
        self._invitation = self.guests.invitation(parts.config.mesh.invitation)

    async def run(self) -> None:
        """Until cancelled; address book and probes are on disk then."""
        await asyncio.to_thread(self._load)
        self.exchange.hear("network file", _parsed(self._seeds), Trust.OWNER)
        for address in self.book.pinned("inviter"):
            self._mesh.keep(address)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.exchange.run())
                group.create_task(self.dialler.run())
                group.create_task(self._keep_saved())
                group.create_task(self.probes.run())
                if self._invitation is not None:
                    group.create_task(self.guests.join_when_possible(self._invitation), name="join")
                for source in self._sources:
                    group.create_task(self._follow(source), name=f"found-by-{source.name}")
        finally:
            self._save()

    async def answer(self, peer: Peer, stream: Stream, first: Message) -> None:
        """A peer opened a stream with one of :data:`FINDING`."""
        match first:
            case InviteShown():
                await self.guests.answer(peer, stream, first)
            case PeersWanted():
                await self.exchange.answer(peer, stream, first)
            case ProbeWanted():
                await self.probes.answer(peer, stream, first)
            case _:
                raise WireError("this opens no stream")

    async def _follow(self, source: Source) -> None:
        """A source that breaks down takes nothing with it."""
        while True:
            try:
                await source.run(lambda addresses, trust: self.exchange.hear(source.name, addresses, trust))
            except Exception as error:
                _log.warning("source_failed", source=source.name, reason=str(error) or type(error).__name__)
            await asyncio.sleep(AGAIN_S)

    async def _keep_saved(self) -> None:
        while True:
            await asyncio.sleep(SAVE_S)
            await asyncio.to_thread(self._save)

    def _load(self) -> None:
        for file in self._files:
            file.load()

    def _save(self) -> None:
        for file in self._files:
            file.save()


def _parsed(texts: Iterable[str]) -> Iterator[PeerAddress]:
    """Those that are addresses."""
    for text in texts:
        with suppress(InvalidField):
            yield PeerAddress.parse(text)
