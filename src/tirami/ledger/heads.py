"""Signed tree heads, proofs and receipts: what a stranger needs to check this book.

A head covers durable leaves only and is itself journaled before it is shown, so that every head ever served has a
consistency proof to every later one, whatever crashes in between (I-16).
"""

from dataclasses import dataclass

from tirami.core.errors import InvalidProof, RecordNotFound, StorageUnavailable, TradeNotFound
from tirami.core.keys import Digest, Signature, Signer
from tirami.ledger.entries import HeadPublished
from tirami.ledger.ledger import Ledger
from tirami.ledger.records import StoredRecord
from tirami.proto import Head, build_receipt, decode, encode, sign


@dataclass(frozen=True, slots=True)
class SignedHead:
    head: Head
    body: bytes
    signature: Signature


@dataclass(frozen=True, slots=True)
class Inclusion:
    """Where a record stands and the audit path from its leaf to the head's root."""

    record: StoredRecord
    path: list[Digest]
    head: SignedHead


class Heads:
    """Publishes the heads of one ledger's log."""

    def __init__(self, ledger: Ledger, node: Signer) -> None:
        self._ledger = ledger
        self._node = node
        fact = ledger.state.settings.head
        self._published: SignedHead | None = None
        if fact is not None:
            self._published = SignedHead(decode(Head, fact.head), fact.head, Signature(fact.signature))

    @property
    def published(self) -> SignedHead | None:
        """The newest durable head of this log that this node signed; every leaf under it is durable.

        ``None`` before the first, also after a rollback: what was signed then belongs to a log given up (B9). Nor is
        one shown that says another network file than the node has now: by it books are compared (B5).
        """
        started, published = self._ledger.state.settings.started, self._published
        if started is None or published is None or published.head.log_id != started.log_id:
            return None
        return published if published.head.network_hash == self._ledger.network.hash else None

    async def current(self) -> SignedHead:
        """A head over everything booked so far, durable before it is returned.

        While the journal cannot be written, the newest one there is. Raises ``StorageUnavailable`` when there is none.
        """
        try:
            return await self._publish()
        except StorageUnavailable:
            if self.published is None:
                raise
            return self.published

    async def _publish(self) -> SignedHead:
        state, published = self._ledger.state, self.published
        if published is not None and published.head.size == state.log.size:
            return published
        started = state.settings.started
        assert started is not None
        head = Head(
            network=self._ledger.network.id,
            network_hash=self._ledger.network.hash,
            log_id=started.log_id,
            node=self._node.public_key,
            size=state.log.size,
            root=state.log.root(),
            at_ms=self._ledger.now(),
        )
        signed = SignedHead(head, encode(head), sign(head, self._node))
        await self._ledger.record_facts(HeadPublished(signed.body, signed.signature))
        if (newest := self.published) is None or newest.head.size < head.size:
            self._published = signed
        return signed

    async def inclusion(self, record_id: bytes) -> Inclusion:
        """Raises ``RecordNotFound``; ``StorageUnavailable`` when no durable head covers the record yet."""
        record = self._ledger.state.stored(record_id)
        if record is None:
            raise RecordNotFound(f"no record {record_id.hex()} in this book", param="id")
        signed = self.published
        if signed is None or signed.head.size <= record.leaf_index:
            signed = await self._publish()
        path = self._ledger.state.log.inclusion(record.leaf_index, signed.head.size)
        return Inclusion(record, path, signed)

    async def receipt(self, record_id: bytes) -> bytes:
        """The receipt file of a trade: RFC 8785 bytes that verify without a node."""
        found = await self.inclusion(record_id)
        if found.record.envelope.kind != "trade":
            raise TradeNotFound("receipts exist for trades", param="id")
        index = found.record.leaf_index
        return build_receipt(found.record.envelope, index, found.path, found.head.body, found.head.signature)

    def consistency(self, first: int, second: int) -> list[Digest]:
        """Raises ``InvalidProof`` unless 0 < first ≤ second ≤ the size of the newest published head."""
        published = self.published
        size = published.head.size if published else 0
        if not 0 < first <= second <= size:
            raise InvalidProof(f"sizes must satisfy 0 < first <= second <= {size}", param="second")
        return self._ledger.state.log.consistency(first, second)
