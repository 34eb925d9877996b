"""Offline checks: RFC 6962 arithmetic, heads and receipts. Needs no node and no network."""

from tirami.verify.bill import check_bill
from tirami.verify.head import verify_growth, verify_head
from tirami.verify.merkle import (
    empty_root,
    largest_power_of_two_below,
    leaf_hash,
    node_hash,
    root_from_inclusion,
    verify_consistency,
    verify_inclusion,
)
from tirami.verify.receipt import VerifiedReceipt, verify_receipt

__all__ = [
    "VerifiedReceipt",
    "check_bill",
    "empty_root",
    "largest_power_of_two_below",
    "leaf_hash",
    "node_hash",
    "root_from_inclusion",
    "verify_consistency",
    "verify_growth",
    "verify_head",
    "verify_inclusion",
    "verify_receipt",
]
