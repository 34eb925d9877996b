"""A node that lost its counter begins anew before it signs anything else (PROTOCOL B9).

What it goes by is its own signature: a debit or a head that its journal does not have. A peer's mere word about numbers
moves nothing here, so a lying peer can neither restart this node nor use up its numbers. A second restart within 7 days
means that the key is at work elsewhere: then nothing is signed for the network until a person has looked.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import structlog

from tirami.core.errors import NonCanonical
from tirami.core.keys import PublicKey, Signature, verify
from tirami.ledger.entries import NodeStarted, SignedElsewhere
from tirami.ledger.state import QUOTA
from tirami.proto import Cited, Grant, Head, decode
from tirami.proto.fraud import CITED
from tirami.verify.claim import claim_of

if TYPE_CHECKING:
    from tirami.ledger.ledger import Ledger

_log = structlog.get_logger()


class Restarts:
    """Of one ledger.

    Args:
        node: its key.
    """

    def __init__(self, ledger: "Ledger", node: PublicKey) -> None:
        self._ledger = ledger
        self._node = node

    def follow(self) -> None:
        """Begin a new incarnation if the state says that the old one is lost, and it may."""
        lineage, now = self._ledger.state.lineage, self._ledger.now()
        if lineage.lost and lineage.may_restart(now):
            self._begin(max(lineage.incarnation, lineage.newest, now - 1) + 1)

    def heard(self, shown: Iterable[Cited]) -> None:
        """What somebody shows of this node's own signatures. What is none of them is passed over.

        Raises ``StorageUnavailable``.
        """
        for piece in shown:
            try:
                self._hear(piece)
            except NonCanonical:
                continue

    def _hear(self, piece: Cited) -> None:
        record = decode(CITED[piece.kind], piece.body)
        ledger = self._ledger
        if getattr(record, "network", None) != ledger.network.id:
            return
        if isinstance(record, Head):
            if record.node == self._node and not self._has(record) and _signed(self._node, piece):
                self._log_lost()
            return
        claim = claim_of(record)
        lineage = ledger.state.lineage
        if claim is None or not ledger.state.is_own(claim.series[0]):
            return
        key, _, incarnation, _ = claim.series
        account = QUOTA + key if isinstance(record, Grant) else key
        news = lineage.says_more(account, incarnation)
        if not news or lineage.made(account, incarnation, claim.number, claim.amount) or not _signed(key, piece):
            return
        _log.warning("signed_elsewhere", key=key.hex(), incarnation=incarnation, number=claim.number)
        ledger.append([SignedElsewhere(account, incarnation, claim.number)])
        self.follow()

    def _has(self, head: Head) -> bool:
        """Whether it is a head of this log, or of one that was given up."""
        state = self._ledger.state
        started = state.settings.started
        if started is None or head.log_id != started.log_id:
            return True
        return head.size <= state.log.size and state.log.root(head.size) == head.root

    def _log_lost(self) -> None:
        """A head of this log that this log does not have: the journal is an older copy."""
        lineage = self._ledger.state.lineage
        _log.warning("head_signed_elsewhere", node=self._node.hex())
        if not lineage.lost and not lineage.taken(self._node):
            self._ledger.append([SignedElsewhere(self._node, lineage.incarnation, 0)])
            self.follow()
        lineage = self._ledger.state.lineage
        if lineage.lost or lineage.taken(self._node):  # no other incarnation, but never two logs under one id
            self._begin(lineage.incarnation)

    def _begin(self, incarnation: int) -> None:
        ledger = self._ledger
        _log.warning("incarnation_begun", incarnation=incarnation)
        log_id = ledger.gate.random(16)
        ledger.append([NodeStarted(ledger.now(), incarnation, log_id, ledger.network.hash)])


def _signed(key: bytes, piece: Cited) -> bool:
    return verify(PublicKey(key), Signature(piece.signature), CITED[piece.kind].TAG + piece.body)
