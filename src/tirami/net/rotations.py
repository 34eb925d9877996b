"""Keys that end, told to everybody: checked, written down, passed on once (A-31)."""

from collections import OrderedDict
from contextlib import suppress
from typing import Final

import structlog

from tirami.core.errors import StorageUnavailable
from tirami.core.keys import PublicKey, Signer
from tirami.ledger import KeyRotated, Ledger
from tirami.net.budget import Bucket
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.proto import Message, Rotation, RotationSeen, SignedBody, rotation, signed
from tirami.verify import check_rotation

_log = structlog.get_logger()
TOLD_AT_MEETING: Final = 256
MOST_OF_PEER: Final = 64
"""Rotations one peer may bring that concern no key of the book: such keys cost nothing."""
OF_STRANGERS: Final = (0.02, 256.0)
"""The same of all peers together, a second and at once: keys of peers cost nothing either, and each is journaled."""
PEERS: Final = 4_096


class Rotations:
    """Of one node."""

    def __init__(self, ledger: Ledger, mesh: Mesh) -> None:
        self._ledger = ledger
        self._mesh = mesh
        self._brought: OrderedDict[PublicKey, int] = OrderedDict()
        self._strangers = Bucket(*OF_STRANGERS, ledger.now() / 1000)
        mesh.on_message(RotationSeen, self._heard)
        mesh.add(self)

    async def order(self, key: Signer, successor: Signer | None) -> Rotation:
        """End ``key``, in favour of ``successor`` or of nobody; durable here and told when it returns.

        Raises ``StorageUnavailable``.
        """
        ledger = self._ledger
        incarnation, number, _ = ledger.state.last_signed(key.public_key)
        last = max((incarnation, number), (ledger.state.holds.incarnation, ledger.books(key.public_key).last_number))
        made = rotation(ledger.network.id, key, successor, last, ledger.now())
        order = signed(made, key)
        await self._take(made, SignedBody(order.body, order.signature), None)
        return made

    async def met(self, peer: Peer) -> None:
        for order in self._ledger.state.succession.newest(TOLD_AT_MEETING):
            peer.send(RotationSeen(order))

    def lost(self, peer: Peer) -> None:
        """What it brought stays counted."""

    async def _heard(self, peer: Peer, message: Message) -> None:
        assert isinstance(message, RotationSeen)
        made, state = check_rotation(message.rotation, self._ledger.network.id), self._ledger.state
        if not state.succession.says_more(made):
            return
        if state.sightings.get(made.key) is None and not state.trades_of(made.key) and not self._affords(peer):
            return
        with suppress(StorageUnavailable):
            await self._take(made, message.rotation, peer)

    async def _take(self, made: Rotation, order: SignedBody, source: Peer | None) -> None:
        _log.warning("key_ended", key=made.key.hex(), successor=made.successor.hex())
        written = self._ledger.append([KeyRotated(order.body, order.signature)])
        for peer in self._mesh.peers.values():
            if peer is not source:
                peer.send(RotationSeen(order))
        await written

    def _affords(self, peer: Peer) -> bool:
        brought = self._brought.pop(peer.key, 0)
        self._brought[peer.key] = brought + 1
        while len(self._brought) > PEERS:
            self._brought.popitem(last=False)
        return brought < MOST_OF_PEER and self._strangers.allows(1.0, self._ledger.now() / 1000)
