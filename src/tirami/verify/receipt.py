"""Offline check of a receipt: no node, no network, nothing believed that is not signed or hashed."""

from dataclasses import dataclass

from tirami.core.errors import InvalidReceipt, VerificationError
from tirami.core.keys import Digest, PublicKey, Signature, sha256
from tirami.core.keys import verify as verify_signature
from tirami.core.units import Trm
from tirami.proto import Acceptance, Head, Trade, decode, parse_receipt, summary_of
from tirami.verify.bill import check_bill
from tirami.verify.merkle import leaf_hash, verify_inclusion


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """What a valid receipt proves, and on whose word.

    ``trusted`` tells whether the log's and the provider's keys were among those the caller named; without such a
    list the keys are the receipt's own: it then proves that *these* keys signed, not whose they are.
    """

    trade: Trade
    record_id: Digest
    acceptance: Acceptance
    head: Head
    leaf_index: int
    trusted: bool

    @property
    def amount(self) -> Trm:
        return Trm(self.trade.amount)

    @property
    def payer(self) -> PublicKey:
        return PublicKey(self.trade.payer)

    @property
    def provider(self) -> PublicKey:
        return PublicKey(self.trade.provider)

    @property
    def log_node(self) -> PublicKey:
        """Whose log the trade stands in."""
        return PublicKey(self.head.node)

    @property
    def trust(self) -> str:
        """Whose keys were believed, in words; several lines."""
        keys = f"payer {self.payer.hex()}\nprovider {self.provider.hex()}\nlog node {self.log_node.hex()}"
        if self.trusted:
            return f"{keys}\nprovider and log node are among the keys you named"
        return f"{keys}\nall three are taken from the receipt itself: these keys signed, whose they are is not shown"


def verify_receipt(data: bytes, trusted: frozenset[PublicKey] | None = None) -> VerifiedReceipt:
    """Check every byte of a receipt file.

    Args:
        data: the file.
        trusted: keys the caller knows; the provider and the node whose log it is must be among them.

    Raises:
        InvalidReceipt: with the first reason found.
    """
    receipt = parse_receipt(data)
    try:
        body, acceptance_body, head_body = map(bytes.fromhex, (receipt.body, receipt.acceptance, receipt.head))
        trade, head = decode(Trade, body), decode(Head, head_body)
        acceptance = decode(Acceptance, acceptance_body)
        payer_signature, provider_signature = map(bytes.fromhex, receipt.signatures)
        _signed(trade.payer, payer_signature, Trade.TAG + body, "the payer's signature")
        _signed(trade.provider, provider_signature, Trade.TAG + body, "the provider's signature")
        acceptance_signature = bytes.fromhex(receipt.acceptance_signature)
        _signed(trade.payer, acceptance_signature, Acceptance.TAG + acceptance_body, "the acceptance's signature")
        _signed(head.node, bytes.fromhex(receipt.head_signature), Head.TAG + head_body, "the head's signature")
        proof = [bytes.fromhex(node) for node in receipt.proof]
        leaf = leaf_hash(body + payer_signature + provider_signature)
        verify_inclusion(leaf, receipt.leaf_index, head.size, proof, head.root)
        check_bill(trade, acceptance, sha256(Acceptance.TAG, acceptance_body))
    except InvalidReceipt:
        raise
    except VerificationError as error:
        raise InvalidReceipt(error.message) from error
    if receipt.trade != summary_of(trade, body):
        raise InvalidReceipt("the readable summary disagrees with the signed body")
    if head.network != trade.network:
        raise InvalidReceipt("the head belongs to another network than the trade")
    if trusted is not None and not {head.node, trade.provider} <= trusted:
        raise InvalidReceipt("the receipt is signed by keys you did not name as trusted")
    record_id = sha256(Trade.TAG, body)
    return VerifiedReceipt(trade, record_id, acceptance, head, receipt.leaf_index, trusted is not None)


def _signed(key: bytes, signature: bytes, message: bytes, what: str) -> None:
    if not verify_signature(PublicKey(key), Signature(signature), message):
        raise InvalidReceipt(f"{what} does not verify")
