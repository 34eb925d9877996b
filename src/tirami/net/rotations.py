"""Keys that end, told to everybody: checked, written down, passed on once (A-31)."""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from tirami.core.errors import StorageUnavailable
from tirami.core.keys import PublicKey, Signer
from tirami.core.uninterrupted import uninterrupted
from tirami.ledger import KeyRotated, Ledger
from tirami.net.budget import Bucket
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.proto import Message, Rotation, RotationSeen, SignedBody, Successor, rotation, signed
from tirami.verify import check_rotation

_log = structlog.get_logger()
TOLD_AT_MEETING: Final = 256
MOST_OF_PEER: Final = 64
"""Rotations one peer may bring that concern no key of the book: such keys cost nothing."""
OF_STRANGERS: Final = (0.02, 256.0)
"""The same of all peers together, a second and at once: keys of peers cost nothing either, and each is journaled."""
PEERS: Final = 4_096


class Rotations:
    """Of one node.

    Args:
        ended: told every order that says something new, this node's own included.
    """

    def __init__(self, ledger: Ledger, mesh: Mesh, ended: Callable[[Rotation], None] = lambda _: None) -> None:
        self._ledger = ledger
        self._mesh = mesh
        self._ended = ended
        self._brought: OrderedDict[PublicKey, int] = OrderedDict()
        self._strangers = Bucket(*OF_STRANGERS, ledger.now() / 1000)
        mesh.on_message(RotationSeen, self._heard)
        mesh.add(self)

    async def order(self, key: Signer, successor: Successor | None) -> tuple[Rotation, SignedBody]:
        """End ``key``, in favour of ``successor`` or of nobody: the order as signed, durable here and told.

        Raises ``StorageUnavailable``.
        """
        ledger = self._ledger
        incarnation, number, _ = ledger.state.last_signed(key.public_key)
        last = max((incarnation, number), (ledger.state.holds.incarnation, ledger.books(key.public_key).last_number))
        made = rotation(ledger.network.id, key, successor, last, ledger.now())
        own = signed(made, key)
        order = SignedBody(own.body, own.signature)
        await uninterrupted(self._take(made, order, None))
        return made, order

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
            await uninterrupted(self._take(made, message.rotation, peer))

    async def _take(self, made: Rotation, order: SignedBody, source: Peer | None) -> None:
        """Not to be interrupted: it says nothing new once it is in the journal, and nobody would be told any more."""
        _log.warning("key_ended", key=made.key.hex(), successor=made.successor.hex())
        await self._ledger.append([KeyRotated(order.body, order.signature)])
        self._mesh.pass_on(RotationSeen(order), but=() if source is None else (source.key,))
        self._ended(made)

    def _affords(self, peer: Peer) -> bool:
        brought = self._brought.pop(peer.key, 0)
        self._brought[peer.key] = brought + 1
        while len(self._brought) > PEERS:
            self._brought.popitem(last=False)
        return brought < MOST_OF_PEER and self._strangers.allows(1.0, self._ledger.now() / 1000)
