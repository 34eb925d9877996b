"""The four kinds of journal entries: records, holds, claims and facts.

*Records* are signed statements: leaves of the log, replicated unless local. *Holds* are this node's own promises
(open, vouch, capture, release); *claims* are what others have promised to it; *facts* are its own settings. All but
records are journaled, never replicated.
Past tense, because an entry says what happened; the state is a fold over them (I-15).
"""

from enum import IntEnum

import msgspec

from tirami.proto import Envelope


class EntryKind(IntEnum):
    RECORD = 0
    HOLD = 1
    FACT = 2
    CLAIM = 3


class HoldOpened(msgspec.Struct, frozen=True, array_like=True, tag="opened"):
    """A promise of at most ``ceiling`` TRM of ``account``.

    Attributes:
        id: 16 random bytes.
        account: key that pays.
        scope: 0 network, 1 local (PROTOCOL B14).
        incarnation, number: the payer's number of the session (B2).
        ceiling: the most it can ever cost, TRM.
        purpose: ``inference``; ``agent`` for what the owner's agent buys; or ``reservation``, which has no quote and no
            acceptance and is never vouched for.
        expires_ms: Unix milliseconds, from which on nobody is to wait for it; moved by every voucher (10 minutes after
            the last token). While a request owns the hold it ends with the request, not by the clock.
        request_id: the id that runs through HTTP, engine and journal (OBS-07).
        acceptance, acceptance_signature: what the payer signed, canonical body and signature.
        quote, quote_signature: what the provider offered.
        permit: id of the approval it uses; empty where none was needed, and in entries of older nodes.
        again: whether it is another try of a spend that :mod:`~tirami.ledger.velocity` has counted.
    """

    id: bytes
    account: bytes
    scope: int
    incarnation: int
    number: int
    ceiling: int
    purpose: str
    expires_ms: int
    request_id: str
    acceptance: bytes
    acceptance_signature: bytes
    quote: bytes
    quote_signature: bytes
    permit: bytes = b""
    again: bool = False


class HoldVouched(msgspec.Struct, frozen=True, array_like=True, tag="vouched"):
    """The payer signed a running total; from now on it owes at least ``amount``.

    ``trade_body`` and its signature are the voucher; its acceptance is in the entry that opened the hold.
    """

    id: bytes
    amount: int
    trade_body: bytes
    payer_signature: bytes
    expires_ms: int


class HoldCaptured(msgspec.Struct, frozen=True, array_like=True, tag="captured"):
    """The session ended in the record that stands directly before this entry."""

    id: bytes
    record_id: bytes
    amount: int


class HoldReleased(msgspec.Struct, frozen=True, array_like=True, tag="released"):
    """The session ended and nothing is owed."""

    id: bytes
    reason: str


class HoldFailed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """The engine or the settlement of an open session failed: an error for the breaker, whatever is still captured."""

    id: bytes


class HoldOwed(msgspec.Struct, frozen=True, array_like=True, tag="owed"):
    """A session at another node ended at its last voucher, and its trade has not come: owed for ever (B7)."""

    id: bytes
    amount: int


Hold = HoldOpened | HoldVouched | HoldCaptured | HoldReleased | HoldFailed | HoldOwed


class ClaimOpened(msgspec.Struct, frozen=True, array_like=True, tag="claim_opened"):
    """A payer elsewhere accepted this node's quote.

    Attributes:
        id: 16 random bytes.
        payer: key that pays.
        incarnation, number, ceiling: of the acceptance (B2).
        acceptance, acceptance_signature: what the payer signed.
        quote, quote_signature: what this node offered.
    """

    id: bytes
    payer: bytes
    incarnation: int
    number: int
    ceiling: int
    acceptance: bytes
    acceptance_signature: bytes
    quote: bytes
    quote_signature: bytes


class ClaimVouched(msgspec.Struct, frozen=True, array_like=True, tag="claim_vouched"):
    """The payer's voucher arrived, was checked, and is on disk before this node serves past it (B7)."""

    id: bytes
    amount: int
    trade_body: bytes
    payer_signature: bytes


class ClaimSettled(msgspec.Struct, frozen=True, array_like=True, tag="claim_settled"):
    """The claim became the record that stands directly before this entry.

    ``unpaid``: TRM of what was handed out beyond it and never signed for. Entries of older nodes do not have it.
    """

    id: bytes
    record_id: bytes
    unpaid: int = 0


class ClaimDropped(msgspec.Struct, frozen=True, array_like=True, tag="claim_dropped"):
    """The session ended without a voucher: nothing is owed to this node, whatever was handed out (``unpaid``, TRM)."""

    id: bytes
    reason: str
    unpaid: int = 0


Claim = ClaimOpened | ClaimVouched | ClaimSettled | ClaimDropped


class JournalOpened(msgspec.Struct, frozen=True, array_like=True, tag="journal_opened"):
    """The first entry of every journal; again when its node goes on under the key that follows its own (A-31)."""

    version: int
    node: bytes
    network: str
    network_hash: bytes


class NodeStarted(msgspec.Struct, frozen=True, array_like=True, tag="node_started"):
    """A start: numbers of this node's payers begin at ``number_floor`` at least, heads are of ``log_id`` (B9)."""

    number_floor: int
    incarnation: int
    log_id: bytes
    network_hash: bytes


class KillSet(msgspec.Struct, frozen=True, array_like=True, tag="kill_set"):
    """The kill switch was thrown or released by an operator.

    Attributes:
        operator: who that was, for people.
        order: number of the order to the mesh; 0 for this node alone.
        key: operator key that signed it; empty for this node alone. Entries of older nodes do not have it.
    """

    active: bool
    reason: str
    operator: str
    order: int = 0
    key: bytes = b""


class PolicySet(msgspec.Struct, frozen=True, array_like=True, tag="policy_set"):
    """Policy of one account; ``None`` is no limit of that kind.

    Attributes:
        per_request, per_hour, lifetime: budgets, TRM.
        approval_above: a larger spend needs a person's approval, TRM. Entries of older nodes do not have it.
        per_minute: spends admitted in one sliding minute. Entries of older nodes do not have it.
    """

    account: bytes
    per_request: int | None
    per_hour: int | None
    lifetime: int | None
    approval_above: int | None = 500
    per_minute: int | None = 30


class AccountCreated(msgspec.Struct, frozen=True, array_like=True, tag="account_created"):
    """A hosted account; ``sealed`` is its key as the keystore encrypted it."""

    account: bytes
    label: str
    sealed: bytes


class AccountResealed(msgspec.Struct, frozen=True, array_like=True, tag="account_resealed"):
    """The same key of a hosted account, encrypted anew: ``sealed`` takes the place of what was kept before."""

    account: bytes
    sealed: bytes


class AccountDisabled(msgspec.Struct, frozen=True, array_like=True, tag="account_disabled"):
    """The account spends no more; its history and income stay."""

    account: bytes


class TokenIssued(msgspec.Struct, frozen=True, array_like=True, tag="token_issued"):
    """A bearer token, known by its hash only. ``account`` is empty for a token bound to no hosted account."""

    hash: bytes
    account: bytes
    scope: str
    created_ms: int
    expires_ms: int
    label: str


class TokenExpirySet(msgspec.Struct, frozen=True, array_like=True, tag="token_expiry_set"):
    """Rotation: the old token ends at ``expires_ms``."""

    hash: bytes
    expires_ms: int


class TokenRevoked(msgspec.Struct, frozen=True, array_like=True, tag="token_revoked"):
    """The token is worth nothing from now on."""

    hash: bytes


class BreakerTripped(msgspec.Struct, frozen=True, array_like=True, tag="breaker_tripped"):
    """The gate denied a spend for a reason that opens the account's circuit breaker."""

    account: bytes
    cause: str


class ApprovalRequested(msgspec.Struct, frozen=True, array_like=True, tag="approval_requested"):
    """A spend of ``ceiling`` TRM waits for a person until ``expires_ms``; ``id`` is 32 random bytes.

    ``factor`` is the load factor its price had, parts per million; 0 where load does not make the price.
    """

    id: bytes
    account: bytes
    ceiling: int
    expires_ms: int
    factor: int = 0


class ApprovalDecided(msgspec.Struct, frozen=True, array_like=True, tag="approval_decided"):
    """A person said yes or no; a permit lasts until ``expires_ms``."""

    id: bytes
    approved: bool
    operator: str
    expires_ms: int


class ApprovalUsed(msgspec.Struct, frozen=True, array_like=True, tag="approval_used"):
    """The permit was used up by the record that stands in the same group. A hold names its permit itself.

    Older nodes wrote it for holds, too, and then their permits were used up whatever became of them.
    """

    id: bytes


class RequestAnswered(msgspec.Struct, frozen=True, array_like=True, tag="request_answered"):
    """A request under an idempotency key did what stands in the same group.

    Attributes:
        key: hash of caller, operation and key; body: hash of what was asked.
        result: id of the record, or the account.
    """

    key: bytes
    body: bytes
    result: bytes


class HeadPublished(msgspec.Struct, frozen=True, array_like=True, tag="head_published"):
    """A tree head this node signed and may have shown to somebody."""

    head: bytes
    signature: bytes


class FraudProven(msgspec.Struct, frozen=True, array_like=True, tag="fraud_proven"):
    """A key is guilty; ``proof`` is the fraud proof file, checked (B8). Its gates stay closed here from now on."""

    key: bytes
    proof: bytes


class KeyRotated(msgspec.Struct, frozen=True, array_like=True, tag="key_rotated"):
    """A key has ended; ``body`` and ``signature`` are its rotation, checked (A-31)."""

    body: bytes
    signature: bytes


class SignedElsewhere(msgspec.Struct, frozen=True, array_like=True, tag="signed_elsewhere"):
    """A peer has shown a debit of this node's own key that this journal did not make, or a head it does not have (B9).

    ``account`` is the key, or its quota; ``number`` is 0 for a head.
    """

    account: bytes
    incarnation: int
    number: int


class RestartSeen(msgspec.Struct, frozen=True, array_like=True, tag="restart_seen"):
    """A payer elsewhere signed an acceptance in a new incarnation; refused, but its day without credit begins (B9)."""

    payer: bytes
    incarnation: int
    number: int
    acceptance: bytes
    acceptance_signature: bytes


class InviteMade(msgspec.Struct, frozen=True, array_like=True, tag="invite_made"):
    """An invitation, by its number; its secret is nowhere. ``label`` is for people."""

    invite: bytes
    expires_ms: int
    label: str


class InviteRevoked(msgspec.Struct, frozen=True, array_like=True, tag="invite_revoked"):
    """The invitation is worth nothing from now on."""

    invite: bytes


class GuestTaken(msgspec.Struct, frozen=True, array_like=True, tag="guest_taken"):
    """``key`` showed an invitation of this node, which is used up: it is a guest from now on."""

    invite: bytes
    key: bytes


class SellingPaused(msgspec.Struct, frozen=True, array_like=True, tag="selling_paused"):
    """Strangers are served no more, or again: ``paused`` as an operator set it."""

    paused: bool
    operator: str


class PreferencesSet(msgspec.Struct, frozen=True, array_like=True, tag="preferences_set"):
    """What the owner lets the node's agent do, all of it; the fields are those of :mod:`tirami.mind.preferences`.

    Amounts are TRM, fractions parts per million.
    """

    daily_spend_limit_trm: int
    per_task_budget_trm: int
    auto_earn_enabled: bool
    auto_spend_enabled: bool
    idle_utilization_threshold: int
    idle_grace_seconds: int
    min_peer_reputation: int
    content_filter: str


class PriceObserved(msgspec.Struct, frozen=True, array_like=True, tag="price_observed"):
    """The smoothed demand factor, parts per million, once a minute."""

    demand_ppm: int


Fact = (
    JournalOpened
    | NodeStarted
    | KillSet
    | PolicySet
    | AccountCreated
    | AccountResealed
    | AccountDisabled
    | TokenIssued
    | TokenExpirySet
    | TokenRevoked
    | BreakerTripped
    | ApprovalRequested
    | ApprovalDecided
    | ApprovalUsed
    | RequestAnswered
    | HeadPublished
    | FraudProven
    | KeyRotated
    | SignedElsewhere
    | RestartSeen
    | InviteMade
    | InviteRevoked
    | GuestTaken
    | SellingPaused
    | PreferencesSet
    | PriceObserved
)
Content = Envelope | Hold | Claim | Fact

_encoder = msgspec.msgpack.Encoder()
_record = msgspec.msgpack.Decoder(Envelope)
_hold: msgspec.msgpack.Decoder[Hold] = msgspec.msgpack.Decoder(Hold)
_claim: msgspec.msgpack.Decoder[Claim] = msgspec.msgpack.Decoder(Claim)
_fact: msgspec.msgpack.Decoder[Fact] = msgspec.msgpack.Decoder(Fact)


class Entry(msgspec.Struct, frozen=True):
    """One line of the journal: its position, when it was written (Unix ms, never falling) and what it says."""

    seq: int
    at_ms: int
    content: Content


def kind_of(content: Content) -> EntryKind:
    if isinstance(content, Envelope):
        return EntryKind.RECORD
    if isinstance(content, HoldOpened | HoldVouched | HoldCaptured | HoldReleased | HoldFailed | HoldOwed):
        return EntryKind.HOLD
    if isinstance(content, ClaimOpened | ClaimVouched | ClaimSettled | ClaimDropped):
        return EntryKind.CLAIM
    return EntryKind.FACT


def encode_content(content: Content) -> bytes:
    return _encoder.encode(content)


def decode_content(kind: int, body: bytes) -> Content:
    """Inverse of :func:`encode_content`; raises ``msgspec.DecodeError`` or ``ValueError`` on foreign bytes."""
    match EntryKind(kind):
        case EntryKind.RECORD:
            return _record.decode(body)
        case EntryKind.HOLD:
            return _hold.decode(body)
        case EntryKind.CLAIM:
            return _claim.decode(body)
        case EntryKind.FACT:
            return _fact.decode(body)
