"""Offline checks: RFC 6962 arithmetic, heads, receipts, statements and fraud proofs. Needs no node and no network."""

from tirami.verify.bill import check_bill
from tirami.verify.claim import Claim, claim_of
from tirami.verify.fraud import Verdict, verify_fraud
from tirami.verify.head import verify_growth, verify_head
from tirami.verify.merkle import (
    RunningRoot,
    empty_root,
    largest_power_of_two_below,
    leaf_hash,
    node_hash,
    root_from_inclusion,
    verify_consistency,
    verify_inclusion,
)
from tirami.verify.receipt import VerifiedReceipt, verify_receipt
from tirami.verify.record import VerifiedRecord, verify_record
from tirami.verify.rotation import check_rotation, check_successor
from tirami.verify.statement import NOBODY, Tally, VerifiedStatement, verify_statement

__all__ = [
    "NOBODY",
    "Claim",
    "RunningRoot",
    "Tally",
    "Verdict",
    "VerifiedReceipt",
    "VerifiedRecord",
    "VerifiedStatement",
    "check_bill",
    "check_rotation",
    "check_successor",
    "claim_of",
    "empty_root",
    "largest_power_of_two_below",
    "leaf_hash",
    "node_hash",
    "root_from_inclusion",
    "verify_consistency",
    "verify_fraud",
    "verify_growth",
    "verify_head",
    "verify_inclusion",
    "verify_receipt",
    "verify_record",
    "verify_statement",
]
