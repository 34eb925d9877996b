"""The book: journal, log, accounts, holds, prices and the one gate before money is promised."""

from tirami.ledger.accounts import BURN, ISSUANCE, LINES, Account, AccountKind, Posting, key_account, local_account
from tirami.ledger.admission import LOCAL, NETWORK, Admitted, admit, allowance_rule
from tirami.ledger.book import Book
from tirami.ledger.countersigner import countersigned
from tirami.ledger.debits import Debit, Debits, Demand
from tirami.ledger.entries import (
    AccountCreated,
    AccountDisabled,
    Entry,
    HoldCaptured,
    HoldOpened,
    HoldReleased,
    HoldVouched,
    KillSet,
    PolicySet,
    PriceObserved,
    TokenExpirySet,
    TokenIssued,
    TokenRevoked,
)
from tirami.ledger.heads import Heads, Inclusion, SignedHead
from tirami.ledger.holds import MAX_OPEN, Holds, PayerBooks
from tirami.ledger.journal import Journal
from tirami.ledger.ledger import HOLD_LIFETIME_MS, Balance, Ledger, Payer
from tirami.ledger.lines import grant_line, is_issuer
from tirami.ledger.log import MerkleLog
from tirami.ledger.pricing import UNITY, Price, Tier, price, raw_demand, smoothed, tier_of
from tirami.ledger.records import StoredRecord
from tirami.ledger.safety import Means, Policy, Window
from tirami.ledger.settings import HostedAccount, Settings, Token
from tirami.ledger.state import State
from tirami.ledger.transfers import transfer, transferable

__all__ = [
    "BURN",
    "HOLD_LIFETIME_MS",
    "ISSUANCE",
    "LINES",
    "LOCAL",
    "MAX_OPEN",
    "NETWORK",
    "UNITY",
    "Account",
    "AccountCreated",
    "AccountDisabled",
    "AccountKind",
    "Admitted",
    "Balance",
    "Book",
    "Debit",
    "Debits",
    "Demand",
    "Entry",
    "Heads",
    "HoldCaptured",
    "HoldOpened",
    "HoldReleased",
    "HoldVouched",
    "Holds",
    "HostedAccount",
    "Inclusion",
    "Journal",
    "KillSet",
    "Ledger",
    "Means",
    "MerkleLog",
    "Payer",
    "PayerBooks",
    "Policy",
    "PolicySet",
    "Posting",
    "Price",
    "PriceObserved",
    "Settings",
    "SignedHead",
    "State",
    "StoredRecord",
    "Tier",
    "Token",
    "TokenExpirySet",
    "TokenIssued",
    "TokenRevoked",
    "Window",
    "admit",
    "allowance_rule",
    "countersigned",
    "grant_line",
    "is_issuer",
    "key_account",
    "local_account",
    "price",
    "raw_demand",
    "smoothed",
    "tier_of",
    "transfer",
    "transferable",
]
