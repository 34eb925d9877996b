"""Who signs what contradicts itself is found, proven, and told to everybody (PROTOCOL B8).

Every record that enters this node's book, and every acceptance it is given, is held against what the same key signed
before. A proof stands for itself: who is told of one checks it and believes nobody.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import structlog

from tirami.core.errors import StorageUnavailable
from tirami.core.keys import PublicKey
from tirami.core.uninterrupted import uninterrupted
from tirami.ledger import Evidence, FraudProven, Ledger
from tirami.net.budget import Bucket
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.proto import Cited, Envelope, FraudFound, Message, cited_in
from tirami.proto.fraud import accused
from tirami.verify import Verdict, verify_fraud

_log = structlog.get_logger()
TOLD_AT_MEETING = 64
"""Proofs a newcomer is told at once; the rest it finds itself, from the records."""
MEETING_BYTES = 256 * 1024
LARGEST = 1000 * 1024
KEPT = 1_024
"""Proofs kept at hand to tell; the book of facts knows the others."""
MOST_OF_PEER = 64
"""Proofs one peer may bring: keys cost nothing, and each conviction is written down."""
TOLD = (1.0, 256.0)
"""Proofs taken of all peers, a second and at once; who has none of them finds its own, from the records."""
RETRY_S = 1.0
"""Before a disk that refused a conviction is asked again."""
PEERS = 4_096
"""Peers whose proofs are counted."""
FOUND = 4_096
"""Proofs that wait to be written down."""
FOUND_BYTES = 16 * 1024 * 1024
"""All of them together: peers' proofs wait, too, while the disk is full."""


class Watch:
    """Evidence of one node among its mesh."""

    def __init__(self, ledger: Ledger, mesh: Mesh) -> None:
        self._ledger = ledger
        self._mesh = mesh
        self._evidence = Evidence(ledger.network.id)
        self._known: dict[bytes, FraudFound] = {}
        self._brought: OrderedDict[PublicKey, int] = OrderedDict()
        self._budget = Bucket(*TOLD, ledger.now() / 1000)
        self._found: asyncio.Queue[bytes] = asyncio.Queue(FOUND)
        self._waiting = 0
        """Bytes in it."""
        mesh.on_message(FraudFound, self._told)
        mesh.add(self)

    async def met(self, peer: Peer) -> None:
        left = MEETING_BYTES
        for message in list(self._known.values())[: -TOLD_AT_MEETING - 1 : -1]:
            left -= len(message.proof)
            if left < 0:
                break
            peer.send(message)

    def lost(self, peer: Peer) -> None:
        """Nothing is kept of a peer."""

    def see(self, record: Envelope) -> None:
        """A record that was admitted."""
        self.see_all(cited_in(record))

    def see_all(self, pieces: Iterable[Cited]) -> bool:
        """Pieces whose signatures have been checked. Whether one of them makes the first proof against its key."""
        found = [proof for proof in map(self._evidence.see, pieces) if proof is not None]
        for proof in found:
            self._note(proof)
        return bool(found)

    def see_rewritten(self, older: Cited, newer: Cited, root: bytes, path: Sequence[bytes]) -> None:
        """A path to the newer head from another root than the older's, as the log's own node gave it."""
        self._note(self._evidence.see_path(older, newer, root, path))

    def _note(self, proof: bytes | None) -> None:
        if proof is None:
            return
        if self._found.full() or self._waiting + len(proof) > FOUND_BYTES:
            waiting = f"{self._found.qsize()} proofs wait, {self._waiting} bytes"
            _log.warning("fraud_not_written_down", reason=waiting)  # others will tell it
            return
        self._found.put_nowait(proof)
        self._waiting += len(proof)

    async def run(self) -> None:
        """Until cancelled: convict on what was found."""
        while True:
            proof = await self._found.get()
            self._waiting -= len(proof)
            verdict = await asyncio.to_thread(verify_fraud, proof)
            if not await uninterrupted(self._convict(proof, verdict)):
                self._note(proof)
                await asyncio.sleep(RETRY_S)

    async def _told(self, peer: Peer, message: Message) -> None:
        assert isinstance(message, FraudFound)
        if accused(message.proof) in self._known:
            return  # before it is checked: what says nothing new costs nothing
        brought = self._brought.get(peer.key, 0)
        if brought >= MOST_OF_PEER:
            return
        verdict = await asyncio.to_thread(verify_fraud, message.proof)
        if verdict.guilty not in self._ledger.state.settings.convicted:
            if not self._budget.allows(1, self._ledger.now() / 1000):
                return
            self._brought[peer.key] = brought + 1
            self._brought.move_to_end(peer.key)
            if len(self._brought) > PEERS:
                self._brought.popitem(last=False)
        if not await uninterrupted(self._convict(message.proof, verdict)):
            self._note(message.proof)

    async def _convict(self, proof: bytes, verdict: Verdict) -> bool:
        """Write it down and tell others; ``False`` when it was not written, and is to be tried again.

        Not to be interrupted: it is old news once it is in the journal, and nobody would be told any more.
        """
        if verdict.network != self._ledger.network.id or verdict.guilty in self._known:
            return True
        self._known[verdict.guilty] = message = FraudFound(proof if len(proof) <= LARGEST else b"")
        while len(self._known) > KEPT:
            del self._known[next(iter(self._known))]
        if verdict.guilty not in self._ledger.state.settings.convicted:
            _log.warning("fraud_proven", key=verdict.guilty.hex(), offence=verdict.offence)
            try:
                await self._ledger.record_facts(FraudProven(verdict.guilty, proof))
            except StorageUnavailable as error:
                _log.warning("fraud_not_written_down", reason=error.message)
                self._known.pop(verdict.guilty, None)
                return False
        if message.proof:
            self._mesh.pass_on(message)
        return True
