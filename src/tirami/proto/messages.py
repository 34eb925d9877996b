"""Every message two nodes exchange: its number, its fields, its bounds (TIP-10).

A message is a MessagePack array in declaration order. Each class has a ``TYPE``, which stands in the frame, and a
``LIMIT``, the most bytes its body may have: the receiver refuses a longer one before it reads it. Fields that a later
version adds stand at the end and are ignored by those who do not know them. Nothing here is signed by itself; what is
signed travels as the canonical body of a record beside its signature.
"""

from typing import Annotated, ClassVar, Literal

import msgspec

from tirami.proto.codec import U64, Bytes16, Bytes32, Bytes64, Name
from tirami.proto.envelope import Body, Envelope

KIB = 1024
U16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
Token = U32
Text = Annotated[str, msgspec.Meta(max_length=1024)]
Label = Annotated[str, msgspec.Meta(max_length=64)]
MAX_PROMPT = 16_000
"""Prompt tokens of one request."""
MAX_PIECE = 256
"""Tokens of one chunk."""
BLOCK_PART = 256 * KIB
MAX_BLOCK = 64 * KIB * KIB
"""Bytes of a tokenizer block (B10)."""
VERSION = 1
"""Version of this protocol; ``VERSION`` … ``VERSION`` is what this build speaks."""


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Base of everything said between nodes: fields in order of declaration, later versions only append.

    Attributes:
        TYPE: number on the wire, 1 … 65535, never reused.
        LIMIT: greatest body, bytes.
    """

    TYPE: ClassVar[int] = 0
    LIMIT: ClassVar[int] = 4 * KIB


class SignedBody(msgspec.Struct, frozen=True, array_like=True):
    """A record's canonical body with one signature over ``tag ‖ body``."""

    body: Body
    signature: Bytes64


class Shown(msgspec.Struct, frozen=True, array_like=True):
    """Something its reader signed once: whoever lost its counter or its log believes nothing but that (B9)."""

    kind: Literal["acceptance", "trade", "transfer", "grant", "head"]
    body: Body
    signature: Bytes64


# --- the connection --------------------------------------------------------------------------------------------------


class Hello(Message, frozen=True):
    """First on a connection, both ways: who speaks what, under which network file.

    Attributes:
        version_min, version_max: protocol versions this node speaks.
        network, network_hash: id and hash of its network file (B5). Another id is refused; with another hash records
            are exchanged, but books are not compared.
        features: what it can beyond the version, sorted.
        agent: name and version of the program, for people.
        seen_incarnation, seen_number: the highest this node has seen under the key it speaks to (B9).
        listening: where it can be dialled, as far as it knows: ``HOST:PORT``.
        shown: that debit, the same of its quota, and the newest head of its log, as far as there are any.
    """

    TYPE: ClassVar[int] = 0x0001

    version_min: U16
    version_max: U16
    network: Name
    network_hash: Bytes32
    features: Annotated[tuple[Label, ...], msgspec.Meta(max_length=32)]
    agent: Label
    seen_incarnation: U64
    seen_number: U64
    listening: Annotated[tuple[Label, ...], msgspec.Meta(max_length=8)]
    shown: Annotated[tuple[Shown, ...], msgspec.Meta(max_length=3)] = ()


class Refused(Message, frozen=True):
    """Why this node ends the connection or the exchange: a stable code and a sentence."""

    TYPE: ClassVar[int] = 0x0002

    code: Label
    message: Text
    retry_after_s: U32 = 0


class Ping(Message, frozen=True):
    """Are you there?"""

    TYPE: ClassVar[int] = 0x0003
    LIMIT: ClassVar[int] = 64

    nonce: U64


class Pong(Message, frozen=True):
    """Yes; ``nonce`` is the ping's."""

    TYPE: ClassVar[int] = 0x0004
    LIMIT: ClassVar[int] = 64

    nonce: U64


class Leaving(Message, frozen=True):
    """This node stops on purpose: forget it now rather than after a silence."""

    TYPE: ClassVar[int] = 0x0005

    reason: Label


# --- records everywhere (B16) ----------------------------------------------------------------------------------------


class Records(Message, frozen=True):
    """Records, new ones or those asked for."""

    TYPE: ClassVar[int] = 0x0010
    LIMIT: ClassVar[int] = 512 * KIB

    envelopes: Annotated[tuple[Envelope, ...], msgspec.Meta(max_length=64)]


class RecordsWanted(Message, frozen=True):
    """Send me these. Those the receiver does not have it leaves out."""

    TYPE: ClassVar[int] = 0x0011
    LIMIT: ClassVar[int] = 36 * KIB

    ids: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=1024)]


class HeadSeen(Message, frozen=True):
    """The newest signed head of the sender's log, and which records its book is folded from.

    Attributes:
        records: how many of network scope.
        fingerprint: of their ids, as a reconciliation has it. Equal ones under equal network files are equal books,
            because the state is a function of both.
    """

    TYPE: ClassVar[int] = 0x0012

    head: SignedBody
    records: U64
    fingerprint: Bytes16


class ConsistencyWanted(Message, frozen=True):
    """Prove that your log of ``second`` leaves begins with that of ``first``."""

    TYPE: ClassVar[int] = 0x0013
    LIMIT: ClassVar[int] = 128

    log_id: Bytes16
    first: U64
    second: U64


class ConsistencyProof(Message, frozen=True):
    """An RFC 6962 consistency path."""

    TYPE: ClassVar[int] = 0x0014

    path: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=64)]


class FraudFound(Message, frozen=True):
    """A fraud proof (B8), as its file: whoever checks it needs nothing else."""

    TYPE: ClassVar[int] = 0x0015
    LIMIT: ClassVar[int] = 1024 * KIB

    proof: Annotated[bytes, msgspec.Meta(max_length=1000 * KIB)]


class Reconcile(Message, frozen=True):
    """One message of a reconciliation (see ``tirami.proto.reconciliation``); it has its own encoding and bounds."""

    TYPE: ClassVar[int] = 0x0016
    LIMIT: ClassVar[int] = 65 * KIB

    step: Annotated[bytes, msgspec.Meta(max_length=64 * KIB)]


# --- the market ------------------------------------------------------------------------------------------------------


class SignalSeen(Message, frozen=True):
    """A provider's signed price signal, passed on unchanged."""

    TYPE: ClassVar[int] = 0x0020
    LIMIT: ClassVar[int] = 20 * KIB

    signal: SignedBody


class ObservationSeen(Message, frozen=True):
    """What one key signed about another's service, passed on unchanged."""

    TYPE: ClassVar[int] = 0x0021

    observation: SignedBody


class KillOrdered(Message, frozen=True):
    """An operator's signed order to its own nodes, passed on unchanged (B13)."""

    TYPE: ClassVar[int] = 0x0022

    order: SignedBody


class RotationSeen(Message, frozen=True):
    """A key's signed successor or revocation, passed on unchanged."""

    TYPE: ClassVar[int] = 0x0023

    rotation: SignedBody


# --- one answer (ARCHITECTURE §5) ------------------------------------------------------------------------------------


class Ask(Message, frozen=True):
    """A request for a quote: what is to be answered, for whom, and how.

    Attributes:
        request_id: of the exchange, for both sides' logs.
        payer: the key that will sign.
        model_digest: of the model file; nothing else names a model.
        prompt: token ids, rendered by the payer (B10).
        max_tokens: most completion tokens.
        seed, temperature_ppm, top_p_ppm, top_k: the draw, as the quote will repeat it.
        shaping: canonical JSON of what else shapes the answer; empty for nothing.
        nonce: 32 random bytes, the payer's half of the session's secret (B12).
        max_price_in, max_price_out: µTRM a token; a dearer offer is not wanted.
    """

    TYPE: ClassVar[int] = 0x0030
    LIMIT: ClassVar[int] = 192 * KIB

    request_id: Label
    payer: Bytes32
    model_digest: Bytes32
    prompt: Annotated[tuple[Token, ...], msgspec.Meta(min_length=1, max_length=MAX_PROMPT)]
    max_tokens: U32
    seed: U64
    temperature_ppm: U64
    top_p_ppm: U64
    top_k: U64
    shaping: Annotated[bytes, msgspec.Meta(max_length=64 * KIB)]
    nonce: Bytes32
    max_price_in: U64
    max_price_out: U64


class ModelFacts(msgspec.Struct, frozen=True, array_like=True):
    """What the FLOP formula needs, and what people want to read. Money depends on none of it."""

    name: Annotated[str, msgspec.Meta(max_length=256)]
    context_length: U32
    parameters: U64
    active_parameters: U64
    layers: U32
    hidden: U32
    quantization: Label


class Offer(Message, frozen=True):
    """The provider's signed quote, with its half of the secret, and the highest debit it has seen of the payer (B9).

    ``shown`` is that debit; numbers without it are nobody's business.
    """

    TYPE: ClassVar[int] = 0x0031

    quote: SignedBody
    nonce: Bytes32
    model: ModelFacts
    seen_incarnation: U64
    seen_number: U64
    shown: Annotated[tuple[Shown, ...], msgspec.Meta(max_length=1)] = ()


class Accept(Message, frozen=True):
    """The payer's signed acceptance: the most this can ever cost."""

    TYPE: ClassVar[int] = 0x0032
    LIMIT: ClassVar[int] = 8 * KIB

    acceptance: SignedBody


class Piece(Message, frozen=True):
    """A piece of the answer: token ids with their text, the count and the running hash after it."""

    TYPE: ClassVar[int] = 0x0033
    LIMIT: ClassVar[int] = 32 * KIB

    ids: Annotated[tuple[Token, ...], msgspec.Meta(max_length=MAX_PIECE)]
    text: Annotated[bytes, msgspec.Meta(max_length=24 * KIB)]
    count: U64
    running_hash: Bytes32


class Payment(Message, frozen=True):
    """A voucher: the trade as it stands, signed by the payer (B7)."""

    TYPE: ClassVar[int] = 0x0034

    trade: SignedBody


class Finish(Message, frozen=True):
    """The answer has ended; the provider's meter reading, for the payer's records.

    The provider waits for a voucher over ``completion_tokens`` before it countersigns.
    """

    TYPE: ClassVar[int] = 0x0035

    reason: Literal["stop", "length", "cancelled", "killed", "node_stopped", "provider_failed", "idle_timeout"]
    prompt_tokens: U64
    completion_tokens: U64
    flop: U64
    ttft_us: U64
    wall_us: U64


class Settled(Message, frozen=True):
    """The provider's signature under the last voucher's trade; both book it."""

    TYPE: ClassVar[int] = 0x0036

    record_id: Bytes32
    signature: Bytes64


class Cancel(Message, frozen=True):
    """The consumer wants no more; what was delivered is vouched for and settled."""

    TYPE: ClassVar[int] = 0x0037
    LIMIT: ClassVar[int] = 128

    reason: Label


class Working(Message, frozen=True):
    """Nothing to show yet, but the prompt is being read: tokens of it so far. Keeps idle time-outs away."""

    TYPE: ClassVar[int] = 0x0038
    LIMIT: ClassVar[int] = 64

    prompt_tokens: U64


# --- the tokenizer block (B10) ---------------------------------------------------------------------------------------


class BlockWanted(Message, frozen=True):
    """Send the metadata block with this SHA-256."""

    TYPE: ClassVar[int] = 0x0040
    LIMIT: ClassVar[int] = 128

    digest: Bytes32


class BlockFollows(Message, frozen=True):
    """It has ``size`` bytes; they follow in parts."""

    TYPE: ClassVar[int] = 0x0041
    LIMIT: ClassVar[int] = 64

    size: Annotated[int, msgspec.Meta(ge=1, le=MAX_BLOCK)]


class BlockPart(Message, frozen=True):
    """The next bytes of it."""

    TYPE: ClassVar[int] = 0x0042
    LIMIT: ClassVar[int] = BLOCK_PART + 16

    data: Annotated[bytes, msgspec.Meta(min_length=1, max_length=BLOCK_PART)]


# --- finding each other ----------------------------------------------------------------------------------------------


class PeerSeen(msgspec.Struct, frozen=True, array_like=True):
    """A node somebody is or was connected to, and where."""

    key: Bytes32
    addresses: Annotated[tuple[Label, ...], msgspec.Meta(max_length=8)]


class PeersWanted(Message, frozen=True):
    """Whom do you know?"""

    TYPE: ClassVar[int] = 0x0050
    LIMIT: ClassVar[int] = 64

    most: Annotated[int, msgspec.Meta(ge=1, le=64)]


class Peers(Message, frozen=True):
    """Some of them."""

    TYPE: ClassVar[int] = 0x0051
    LIMIT: ClassVar[int] = 64 * KIB

    peers: Annotated[tuple[PeerSeen, ...], msgspec.Meta(max_length=64)]


class InviteShown(Message, frozen=True):
    """A single-use invitation, proven without being shown: a MAC under its secret over both keys."""

    TYPE: ClassVar[int] = 0x0052
    LIMIT: ClassVar[int] = 128

    invite: Bytes16
    proof: Bytes32


class InviteTaken(Message, frozen=True):
    """The invitation was good and is used up."""

    TYPE: ClassVar[int] = 0x0053
    LIMIT: ClassVar[int] = 64

    invite: Bytes16


class ProbeWanted(Message, frozen=True):
    """Try to reach this key there, and say whether it answered."""

    TYPE: ClassVar[int] = 0x0054
    LIMIT: ClassVar[int] = 256

    peer: PeerSeen


class Probed(Message, frozen=True):
    """Whether it answered, and after how many microseconds."""

    TYPE: ClassVar[int] = 0x0055
    LIMIT: ClassVar[int] = 64

    reached: bool
    rtt_us: U64


MESSAGES: tuple[type[Message], ...] = (
    Hello, Refused, Ping, Pong, Leaving,
    Records, RecordsWanted, HeadSeen, ConsistencyWanted, ConsistencyProof, FraudFound, Reconcile,
    SignalSeen, ObservationSeen, KillOrdered, RotationSeen,
    Ask, Offer, Accept, Piece, Payment, Finish, Settled, Cancel, Working,
    BlockWanted, BlockFollows, BlockPart,
    PeersWanted, Peers, InviteShown, InviteTaken, ProbeWanted, Probed,
)  # fmt: skip
"""The registry: TIP-10 is generated from it."""
