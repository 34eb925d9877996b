"""Balances, trades, the network and transfers. Field names of the original are kept, with ``*_trm`` twins."""

from typing import Annotated, Literal

from pydantic import Field

from tirami.api.schemas.base import MAX_SAFE, AccountId, Body, Hex32, Query, Reply


class BalanceQuery(Query):
    node: AccountId | None = None
    """Whose balance; needs the right to see it. Default: the caller's own."""
    limit: Annotated[int, Field(ge=1, le=100)] = 10
    """Trades of the history."""
    cursor: Annotated[int, Field(ge=0, le=MAX_SAFE)] | None = None
    """``next_cursor`` of the page before."""


class BalanceReply(Reply):
    node_id: str
    network: str
    network_hash: str
    contributed: int
    consumed: int
    reserved: int
    net_balance: int
    effective_balance: int
    credit_limit: int
    credit_drawn: int
    contributed_trm: int
    consumed_trm: int
    reserved_trm: int
    reputation: float
    """0 to 1: what this node and those who paid that key hold of it as a provider; 0.5 before anybody judged."""
    trade_count: int
    history: list["TradeEntry"]
    """Trades of this account, newest first."""
    next_cursor: int | None


class TradesQuery(Query):
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[int, Field(ge=0, le=MAX_SAFE)] | None = None
    """``next_cursor`` of the page before."""
    node: AccountId | None = None
    """Only trades of this key, as payer or provider."""
    scope: Literal["local", "network"] | None = None
    model: Hex32 | None = None
    """Only answers of the model with this digest."""
    since: Annotated[int, Field(ge=0, le=MAX_SAFE)] | None = None
    until: Annotated[int, Field(ge=0, le=MAX_SAFE)] | None = None
    """Unix milliseconds: ``since`` ≤ timestamp < ``until``."""
    signatures: bool = False
    proofs: bool = False
    """With each trade its audit path to one signed head, ``head`` of the reply."""


class TradeEntry(Reply):
    id: str
    provider: str
    consumer: str
    trm_amount: int
    tokens_processed: int
    prompt_tokens: int
    timestamp: int
    model_id: str
    flops_estimated: int
    trm_per_gflop: float
    """Price against work: 1 TRM is said to stand for 10⁹ FLOP."""
    scope: str
    session: int
    leaf_index: int
    applied: bool
    """Whether the payer's account covered it."""
    signatures: list[str] | None = None
    """Payer's, provider's; on request."""
    proof: list[str] | None = None
    """RFC 6962 audit path, on request; ``null`` while no durable head covers the trade."""


class TradesReply(Reply):
    count: int
    trades: list[TradeEntry]
    next_cursor: int | None
    head: "HeadEntry | None" = None
    """What the proofs lead to."""


class RecordsQuery(Query):
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[int, Field(ge=0, le=MAX_SAFE)] | None = None
    """``next_cursor`` of the page before."""
    kind: Literal["trade", "transfer", "grant"] | None = None
    node: AccountId | None = None
    """Only records of this key, as payer or payee."""
    since: Annotated[int, Field(ge=0, le=MAX_SAFE)] | None = None
    until: Annotated[int, Field(ge=0, le=MAX_SAFE)] | None = None
    """Unix milliseconds: ``since`` ≤ booked_at < ``until``."""
    signatures: bool = False
    """With each record what was signed: ``body``, ``signatures`` and ``attachments``."""
    proofs: bool = False
    """With each record its audit path to one signed head, ``head`` of the reply."""


class RecordEntry(Reply):
    """One leaf of the log. All those that applied, added up by payer and payee, are the balances of the book."""

    id: str
    """SHA-256 of the kind's tag and the body."""
    kind: str
    """``trade``, ``transfer`` or ``grant`` (a credit line)."""
    leaf_index: int
    scope: str
    """``local`` for the owner's own use, which moves nothing between the accounts of the network."""
    payer: str
    """Who gives: the payer of a trade or transfer, the issuer of a grant."""
    payee: str
    """Who gets: the provider of a trade, the receiver of a transfer, whose line a grant is."""
    trm_amount: int
    """TRM moved. Of a grant the credit line it opens, which moves nothing: of several the largest counts."""
    timestamp: int
    """As it was signed."""
    booked_at: int
    """When this node booked it; never runs backwards."""
    due_at: int | None
    """When what a grant lends is due."""
    applied: bool
    """Whether the payer's account, or the issuer's quota, covered it."""
    body: str | None = None
    """Canonical bytes, on request. The leaf is the body followed by the signatures."""
    signatures: list[str] | None = None
    """The payer's, and of a trade the provider's after it, over tag and body; on request."""
    attachments: list[str] | None = None
    """Of a trade its acceptance, which the body names by hash, and the payer's signature over that; on request."""
    proof: list[str] | None = None
    """RFC 6962 audit path, on request; ``null`` while no durable head covers the record."""


class RecordsReply(Reply):
    count: int
    records: list[RecordEntry]
    next_cursor: int | None
    head: "HeadEntry | None" = None
    """What the proofs lead to."""


class HeadEntry(Reply):
    network: str
    network_hash: str
    log_id: str
    node: str
    size: int
    root: str
    at_ms: int
    body: str
    signature: str


class ProofReply(Reply):
    id: str
    leaf_index: int
    proof: list[str]
    head: HeadEntry


class ConsistencyQuery(Query):
    first: Annotated[int, Field(ge=1, le=MAX_SAFE)]
    second: Annotated[int, Field(ge=1, le=MAX_SAFE)]


class ConsistencyReply(Reply):
    first: int
    second: int
    proof: list[str]


class NetworkReply(Reply):
    network: str
    network_hash: str
    total_nodes: int
    total_contributed_cu: int
    total_consumed_cu: int
    total_contributed_trm: int
    total_consumed_trm: int
    total_trades: int
    trade_volume: int
    total_flop: int
    local_trades: int
    local_volume_trm: int
    avg_reputation: float
    """Mean over the providers something was heard of last, at most 1 000; 0.5 for none, 0 before the first trade."""
    merkle_root: str
    log_size: int
    sum_of_accounts: int
    """Running Σ over all accounts, ISSUANCE and BURN included: always 0."""
    minted: int
    burned: int
    circulating: int
    """Minted and not burned."""
    credit_outstanding: int


class StateReply(Reply):
    """The whole book, added up anew."""

    network_hash: str
    state_hash: str
    """Of what a network shares: equal on every node that holds the same records under the same network file."""
    own_state_hash: str
    """The same with this node's local trades, which no other node holds."""
    records: int
    accounts: int
    sum_of_accounts: int


class TransferRequest(Body):
    to: AccountId
    amount: Annotated[int, Field(ge=1, le=MAX_SAFE)]


class TransferReply(Reply):
    record_id: str
    to: str
    amount: int
    effective_balance: int
    """Of the receiver, now; also where the transfer itself is an earlier one under the same idempotency key."""
    network_hash: str
