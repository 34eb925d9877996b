"""Accounts: double entry over integer TRM (spec 08 §5.2).

Each account has exactly one key that may take from it (PROTOCOL B1). A key's account holds one *net position*:
its positive side is spendable, its negative side is the drawn credit line. Local accounts belong to the node's own
use and fund nothing else (B14). A quota is an issuer's allowance for one calendar day; grants are its debits.
"""

from enum import StrEnum
from typing import NamedTuple


class AccountKind(StrEnum):
    KEY = "key"
    LOCAL = "local"
    QUOTA = "quota"
    LINES = "lines"
    """Counter-account of all granted lines: what quotas have handed out."""
    ISSUANCE = "issuance"
    BURN = "burn"


class Account(NamedTuple):
    """``owner`` is the key that numbers what is taken; ``period`` is the day of a quota, else 0."""

    kind: AccountKind
    owner: bytes
    period: int = 0


ISSUANCE = Account(AccountKind.ISSUANCE, b"")
BURN = Account(AccountKind.BURN, b"")
LINES = Account(AccountKind.LINES, b"")


def key_account(owner: bytes) -> Account:
    return Account(AccountKind.KEY, owner)


def local_account(owner: bytes) -> Account:
    return Account(AccountKind.LOCAL, owner)


def quota_account(issuer: bytes, period: int) -> Account:
    return Account(AccountKind.QUOTA, issuer, period)
