"""What peers remember of each other's signatures (PROTOCOL B9): who has forgotten is told in the hello.

Added to the mesh before every other part: a node that is shown what its journal does not have begins anew before it
tells, takes or signs anything.
"""

from collections import OrderedDict
from contextlib import suppress
from typing import Final

from tirami.core.errors import JournalCorrupt, StorageUnavailable
from tirami.core.keys import PublicKey
from tirami.ledger import QUOTA, Ledger
from tirami.net.hello import Remembered
from tirami.net.peer import Peer
from tirami.proto import Cited, Head, Shown, SignedBody, decode

HEADS: Final = 4_096
"""Nodes whose newest head is kept, those heard of last."""


class Memory:
    """Of one node: debits from its book, heads from its peers. A part of the mesh."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._heads: OrderedDict[PublicKey, SignedBody] = OrderedDict()

    def keep(self, node: PublicKey, head: SignedBody) -> None:
        """A head of a node, whose signature has been checked; of one log the largest is kept."""
        if (known := self._heads.get(node)) is not None:
            former, newer = decode(Head, known.body), decode(Head, head.body)
            if former.log_id == newer.log_id and former.size > newer.size:
                return
        self._heads[node] = head
        self._heads.move_to_end(node)
        while len(self._heads) > HEADS:
            self._heads.popitem(last=False)

    def of(self, key: PublicKey) -> Remembered:
        """For the hello to ``key``. What cannot be read just now is left out."""
        incarnation, number = 0, 0
        pieces: list[Cited] = []
        with suppress(StorageUnavailable, JournalCorrupt):
            incarnation, number, paid = self._ledger.state.last_signed(key)
            *_, granted = self._ledger.state.last_signed(QUOTA + key)
            pieces += paid + granted
        if (head := self._heads.get(key)) is not None:
            pieces.append(Cited("head", head.body, head.signature))
        return Remembered(incarnation, number, tuple(Shown(*piece) for piece in pieces))

    async def met(self, peer: Peer) -> None:
        assert peer.hello is not None
        with suppress(StorageUnavailable):  # then nothing is signed either
            self._ledger.restarts.heard([Cited(one.kind, one.body, one.signature) for one in peer.hello.shown])

    def lost(self, peer: Peer) -> None:
        """What was seen stays."""
