"""The mesh as people see it: peers, connections, selling, buying, earnings."""

from typing import Annotated

from pydantic import Field

from tirami.api.schemas.base import Body, Query, Reply

ModelName = Annotated[str, Field(min_length=1, max_length=256)]


class PeersQuery(Query):
    model: ModelName | None = None
    """Judge peers by this model: who does not serve it is not chosen for it."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class OfferingEntry(Reply):
    """A model a peer sells."""

    name: str
    digest: str
    tokenizer_digest: str
    context_length: int
    price_in_utrm: int
    price_out_utrm: int
    """µTRM a token."""


class ProbeEntry(Reply):
    """One node called another where it says it is, as a stranger would: with a fresh key, from a fresh port."""

    by: str | None
    """The key of the node that called; ``null`` for tokens bound to an account."""
    reached: bool
    rtt_ms: float | None
    """Until it answered; ``null`` when it did not."""
    address: str | None
    """Where; ``null`` for tokens bound to an account."""
    at_ms: int


class PeerEntry(Reply):
    """A peer: its connection, and what it last said of itself, as it signed it.

    What comes of its signal is empty or 0 for a peer that sells nothing.
    """

    node_id: str
    connected: bool
    kept: bool
    """This node stays with it: it is called until it answers, and again when it is lost."""
    failure: str | None
    """Why the last call of it was in vain; ``null`` while connected, before a call, for tokens bound to an account."""
    again_s: int | None
    """Seconds until it may be called again, where a call was in vain."""
    address: str | None
    """``ip:port`` of its end; ``null`` over a relay, without a connection, or for tokens bound to an account."""
    dialled: bool | None
    """Whether this node called it."""
    latency_ms: float | None
    """Round trip of a request on the connection, as measured; ``null`` before the first."""
    latency_ema_ms: float
    """What the scheduler counts: smoothed time until it answered requests; 500 for one never asked."""
    probe: ProbeEntry | None
    """Whether this node reached it as a stranger, when it last asked for that; ``null`` if it has not lately."""
    agent: str | None
    protocol_version: int
    features: list[str]
    same_network_file: bool | None
    """Whether its network file is ours, bit for bit; ``null`` without a connection."""
    price_multiplier: float
    available_cu: int
    available_trm: int
    """TRM of work it can take within the next minute."""
    free_tokens: int
    slots: int
    """Answers that could begin there at this moment."""
    audit_tier: str
    models: list[str]
    offerings: list[OfferingEntry]
    reputation: float
    score: float | None
    """The scheduler's, for 1 000 tokens of its best offer; ``null`` when it could not be asked."""
    why_not: str | None
    """Why nothing is bought from it; ``null`` where it would be."""
    clock_ahead_ms: int | None
    """How far its clock stands ahead of ours, as it told last; negative is behind, ``null`` without a connection."""
    last_seen: int
    """When it signed its signal, Unix ms; 0 without one."""
    age_ms: int | None
    """Since that signal arrived."""
    stale: bool
    """What it said counts for nothing any more."""
    signal: str | None
    """The signed bytes of the signal."""
    signature: str | None
    """The peer's signature over ``tirami/1/signal`` and those bytes."""


class PeersReply(Reply):
    enabled: bool
    """Whether this node is on the mesh at all."""
    starting: bool
    """It is not yet, and will be: the model is loaded first."""
    count: int
    """Peers known; the list holds the first of them: connected ones, those kept, the best ones, then others."""
    connected: int
    peers: list[PeerEntry]


class TopologyNode(Reply):
    node_id: str
    address: str | None
    """Where others may find it: key and ways; ``null`` off the mesh, and for tokens bound to an account."""
    models: list[str]
    network: str
    network_hash: str


class TopologyLink(Reply):
    """A connection."""

    node_id: str
    address: str | None
    relayed: bool
    dialled: bool
    kept: bool
    """It is dialled again when it is lost."""
    connected_s: float
    latency_ms: float | None
    agent: str
    listening: list[str]
    """Where it says it can be reached."""
    models: list[str]


class TopologyReply(Reply):
    enabled: bool
    node: TopologyNode
    links: list[TopologyLink]
    missing: list[str]
    """Keys of peers this node keeps dialling and does not reach."""
    known_providers: int
    """Keys with a price signal, connected or heard of through others."""


class SellingReport(Reply):
    on: bool
    """Strangers are served now: ``mesh.sell``, the agent may earn, not paused, no kill switch, the node key is good."""
    paused: bool
    running: int
    """Sessions of strangers."""
    slots: int
    """Most of them at a time."""
    free: int
    """Places for strangers now."""
    idle_only: bool
    models: list[str]
    """What is offered."""
    sold: int
    """Sessions settled since the start."""


class BuyingReport(Reply):
    consume: str
    """``off``, ``trusted`` or ``any``: whose answers may be bought."""
    trusted: list[str]
    denied: list[str]
    max_trm: int
    """Most TRM of one bought answer; 0 for no bound of its own."""
    payer: str
    """The account that pays for what the owner has bought."""
    bought: int
    """Sessions begun since the start."""


class CallingEntry(Reply):
    """A peer this node stays with and does not reach."""

    node_id: str
    address: str
    """Key and ways, as it is called."""
    failure: str | None
    """Why the last call was in vain; ``null`` before the first."""
    again_s: int | None
    """Seconds until the next."""


class MeshReport(Reply):
    enabled: bool
    starting: bool
    """It is not on the mesh yet, and will be: the model is loaded first."""
    address: str | None
    relay: str
    probe: ProbeEntry | None
    """Whether a peer reached this node as a stranger, the last time one said; ``null`` while none has."""
    peers: int
    """Connected."""
    calling: list[CallingEntry]
    """Some of those that are called until they answer; none for tokens bound to an account."""
    providers: int
    """Keys with a price signal."""
    selling: SellingReport
    buying: BuyingReport
    statements: list[str]
    """What leaves this machine, who sees it, what may be lost."""


class SellingRequest(Body):
    paused: bool
    operator: Annotated[str, Field(max_length=200)] = ""
    """Who, for people; journaled beside who the caller is."""


class SellingReply(Reply):
    paused: bool
    running: int
    """Sessions that go on to their end."""


class EarningsQuery(Query):
    days: Annotated[int, Field(ge=1, le=400)] = 30
    """How many days back, today included."""


class EarningsEntry(Reply):
    """What one payer paid for one model on one day. Both ``null``: all who found no row of their own that day."""

    day: str
    """Of booking, UTC, as YYYY-MM-DD."""
    payer: str | None
    hosted: bool
    """An account of this node, not a stranger."""
    model_digest: str | None
    model: str | None
    """Its name here, while this machine has it."""
    requests: int
    prompt_tokens: int
    completion_tokens: int
    trm: int


class UnpaidEntry(Reply):
    """What one payer was given in the last 24 hours and did not pay."""

    payer: str
    sessions: int
    trm: int
    refused: bool
    """So much that it is served no more until that is a day old."""


class EarningsReply(Reply):
    node_id: str
    network: str
    trm: int
    """Sum of the rows. Own use earns nothing."""
    requests: int
    rows: list[EarningsEntry]
    """Oldest day first, of a day the largest first."""
    unpaid_trm: int
    """Handed out in the last 24 hours and paid by nobody."""
    unpaid: list[UnpaidEntry]
    """By whom: the 100 who owe most, the largest first."""
