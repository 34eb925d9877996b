"""Settings: a fold over facts: kill switch, policies, approvals, hosted accounts, tokens, answers, price, heads."""

from dataclasses import dataclass, field
from typing import Final

from tirami.core.keys import Digest, sha256
from tirami.core.units import UnixMs
from tirami.ledger.answers import Answers
from tirami.ledger.approvals import Approvals
from tirami.ledger.entries import (
    AccountCreated,
    AccountDisabled,
    AccountResealed,
    ApprovalDecided,
    ApprovalRequested,
    ApprovalUsed,
    Fact,
    FraudProven,
    GuestTaken,
    HeadPublished,
    InviteMade,
    InviteRevoked,
    JournalOpened,
    KillSet,
    NodeStarted,
    PolicySet,
    PreferencesSet,
    PriceObserved,
    RequestAnswered,
    SellingPaused,
    TokenExpirySet,
    TokenIssued,
    TokenRevoked,
)
from tirami.ledger.invites import Invites
from tirami.ledger.safety import Policy

FEW_TOKENS: Final = 64


@dataclass(slots=True)
class HostedAccount:
    """An agent's account whose key this node keeps, encrypted."""

    account: bytes
    label: str
    sealed: bytes
    created_ms: UnixMs
    disabled: bool = False


@dataclass(slots=True)
class Token:
    """A bearer token as the node knows it: by hash only.

    ``account`` is empty when the token is bound to no hosted account; ``expires_ms`` 0 means never.
    """

    hash: bytes
    account: bytes
    scope: str
    created_ms: UnixMs
    expires_ms: UnixMs
    label: str

    def expired(self, now_ms: int) -> bool:
        return self.expires_ms != 0 and now_ms >= self.expires_ms


@dataclass(frozen=True, slots=True)
class Conviction:
    """A key that was proven guilty.

    Attributes:
        evidence_id: SHA-256 of the proof.
        seq: where in the journal the proof is.
    """

    key: bytes
    evidence_id: Digest
    seq: int
    at_ms: UnixMs


@dataclass(slots=True)
class Settings:
    """Everything facts say, as it stands now. ``kill_seq`` is the journal position of the newest kill fact."""

    opened: JournalOpened | None = None
    nodes: set[bytes] = field(default_factory=set)
    """Every key the node of this journal has had."""
    started: NodeStarted | None = None
    kill: KillSet | None = None
    kill_seq: int = 0
    thrown_here_ms: UnixMs | None = None
    """When the switch was last thrown on this node itself, whatever was ordered since; ``None`` once released."""
    kill_orders: dict[bytes, int] = field(default_factory=dict)
    """By operator key, the highest number of its orders to the mesh that were carried out."""
    policies: dict[bytes, Policy] = field(default_factory=dict)
    approvals: Approvals = field(default_factory=Approvals)
    answers: Answers = field(default_factory=Answers)
    accounts: dict[bytes, HostedAccount] = field(default_factory=dict)
    tokens: dict[bytes, Token] = field(default_factory=dict)
    _sweep_at: int = FEW_TOKENS
    """How many tokens there may be before the expired ones are dropped."""
    convicted: dict[bytes, Conviction] = field(default_factory=dict)
    """Each guilty key's, the oldest first."""
    guests: dict[bytes, bytes] = field(default_factory=dict)
    """Key → invitation it came with."""
    invites: Invites = field(default_factory=Invites)
    paused: bool = False
    """Whether the operator lets no stranger be served until further notice."""
    preferences: PreferencesSet | None = None
    """Of the node's agent; ``None`` while the owner has set none."""
    head: HeadPublished | None = None
    price: PriceObserved | None = None
    price_ms: UnixMs = UnixMs(0)

    def apply(self, fact: Fact, seq: int, at_ms: UnixMs) -> None:
        match fact:
            case JournalOpened():
                self._open(fact)
            case NodeStarted():
                self.started = fact
            case KillSet():
                self.kill, self.kill_seq = fact, seq
                if not fact.active or not fact.order:
                    self.thrown_here_ms = at_ms if fact.active else None
                self.kill_orders[fact.key] = max(self.kill_orders.get(fact.key, 0), fact.order)
            case PolicySet():
                budgets = (fact.per_request, fact.per_hour, fact.lifetime)
                self.policies[fact.account] = Policy(*budgets, fact.approval_above, fact.per_minute)
            case ApprovalRequested() | ApprovalDecided() | ApprovalUsed():
                self.approvals.apply(fact, at_ms)
            case RequestAnswered():
                self.answers.apply(fact, at_ms)
            case AccountCreated():
                self.accounts[fact.account] = HostedAccount(fact.account, fact.label, fact.sealed, at_ms)
            case AccountResealed():
                self.accounts[fact.account].sealed = fact.sealed
            case AccountDisabled():
                self.accounts[fact.account].disabled = True
            case HeadPublished():
                self.head = fact
            case FraudProven():
                self.convicted.setdefault(fact.key, Conviction(fact.key, sha256(fact.proof), seq, at_ms))
            case InviteMade() | InviteRevoked():
                self.invites.apply(fact, at_ms)
            case GuestTaken():
                self.guests[fact.key] = fact.invite
                self.invites.apply(fact, at_ms)
            case SellingPaused():
                self.paused = fact.paused
            case PreferencesSet():
                self.preferences = fact
            case PriceObserved():
                self.price, self.price_ms = fact, at_ms
            case TokenIssued() | TokenExpirySet() | TokenRevoked():
                self._apply_token(fact, at_ms)

    def _open(self, fact: JournalOpened) -> None:
        """The first time, or under the key that follows the one before, which is bound by the same policy."""
        if self.opened is not None and self.opened.node in self.policies:
            self.policies[fact.node] = self.policies[self.opened.node]
        self.opened = fact
        self.nodes.add(fact.node)

    def _apply_token(self, fact: TokenIssued | TokenExpirySet | TokenRevoked, at_ms: UnixMs) -> None:
        match fact:
            case TokenIssued():
                if len(self.tokens) >= self._sweep_at:  # now and then, so that issuing n tokens takes n steps
                    self.tokens = {key: token for key, token in self.tokens.items() if not token.expired(at_ms)}
                    self._sweep_at = max(FEW_TOKENS, 2 * len(self.tokens))
                created, expires = UnixMs(fact.created_ms), UnixMs(fact.expires_ms)
                self.tokens[fact.hash] = Token(fact.hash, fact.account, fact.scope, created, expires, fact.label)
            case TokenExpirySet():
                if fact.hash in self.tokens:
                    self.tokens[fact.hash].expires_ms = UnixMs(fact.expires_ms)
            case TokenRevoked():
                self.tokens.pop(fact.hash, None)
