"""The book: journal, log, accounts, holds, prices and the one gate before money is promised."""

from tirami.ledger.accounts import BURN, ISSUANCE, LINES, Account, AccountKind, key_account, local_account
from tirami.ledger.admission import LOCAL, NETWORK, Admitted, admit, allowance_rule
from tirami.ledger.answers import Asked
from tirami.ledger.approvals import Approval, Approvals, Verdict
from tirami.ledger.book import Book
from tirami.ledger.breaker import Breaker, Circuit, Trip
from tirami.ledger.countersigner import countersigned
from tirami.ledger.debits import Debits
from tirami.ledger.demands import Debit, Demand
from tirami.ledger.denials import Denial, Denials
from tirami.ledger.entries import (
    AccountCreated,
    AccountDisabled,
    AccountResealed,
    ApprovalDecided,
    ApprovalRequested,
    ApprovalUsed,
    BreakerTripped,
    Entry,
    FraudProven,
    GuestTaken,
    HoldCaptured,
    HoldFailed,
    HoldOpened,
    HoldReleased,
    HoldVouched,
    InviteMade,
    InviteRevoked,
    KeyRotated,
    KillSet,
    PolicySet,
    PreferencesSet,
    PriceObserved,
    SellingPaused,
    TokenExpirySet,
    TokenIssued,
    TokenRevoked,
)
from tirami.ledger.evidence import Evidence
from tirami.ledger.heads import Heads, Inclusion, SignedHead
from tirami.ledger.holds import MAX_OPEN, Holds, PayerBooks
from tirami.ledger.invites import Invite, Invites
from tirami.ledger.journal import Journal
from tirami.ledger.ledger import Balance, Ledger, Payer
from tirami.ledger.lines import grant_line, is_issuer
from tirami.ledger.log import MerkleLog
from tirami.ledger.outlays import AGENT, Outlays
from tirami.ledger.payables import HOLD_LIFETIME_MS
from tirami.ledger.pricing import (
    DEMAND_BOUNDS,
    SUPPLY_BOUNDS,
    SUPPLY_FACTOR,
    UNITY,
    Price,
    Tier,
    price,
    raw_demand,
    smoothed,
    tier_of,
)
from tirami.ledger.records import StoredRecord
from tirami.ledger.safety import NODE_POLICY, OWNER_POLICY, Means, Policy, Window
from tirami.ledger.settings import Conviction, HostedAccount, Settings, Token
from tirami.ledger.spends import SpendWindow
from tirami.ledger.state import QUOTA, State
from tirami.ledger.statements import StatementRun, StatementWindow
from tirami.ledger.transfers import transfer, transferable
from tirami.ledger.usage import DayUsage, Usage, UsageSums
from tirami.ledger.velocity import Velocity

__all__ = [
    "AGENT",
    "BURN",
    "DEMAND_BOUNDS",
    "HOLD_LIFETIME_MS",
    "ISSUANCE",
    "LINES",
    "LOCAL",
    "MAX_OPEN",
    "NETWORK",
    "NODE_POLICY",
    "OWNER_POLICY",
    "QUOTA",
    "SUPPLY_BOUNDS",
    "SUPPLY_FACTOR",
    "UNITY",
    "Account",
    "AccountCreated",
    "AccountDisabled",
    "AccountKind",
    "AccountResealed",
    "Admitted",
    "Approval",
    "ApprovalDecided",
    "ApprovalRequested",
    "ApprovalUsed",
    "Approvals",
    "Asked",
    "Balance",
    "Book",
    "Breaker",
    "BreakerTripped",
    "Circuit",
    "Conviction",
    "DayUsage",
    "Debit",
    "Debits",
    "Demand",
    "Denial",
    "Denials",
    "Entry",
    "Evidence",
    "FraudProven",
    "GuestTaken",
    "Heads",
    "HoldCaptured",
    "HoldFailed",
    "HoldOpened",
    "HoldReleased",
    "HoldVouched",
    "Holds",
    "HostedAccount",
    "Inclusion",
    "Invite",
    "InviteMade",
    "InviteRevoked",
    "Invites",
    "Journal",
    "KeyRotated",
    "KillSet",
    "Ledger",
    "Means",
    "MerkleLog",
    "Outlays",
    "Payer",
    "PayerBooks",
    "Policy",
    "PolicySet",
    "PreferencesSet",
    "Price",
    "PriceObserved",
    "SellingPaused",
    "Settings",
    "SignedHead",
    "SpendWindow",
    "State",
    "StatementRun",
    "StatementWindow",
    "StoredRecord",
    "Tier",
    "Token",
    "TokenExpirySet",
    "TokenIssued",
    "TokenRevoked",
    "Trip",
    "Usage",
    "UsageSums",
    "Velocity",
    "Verdict",
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
