"""Every message two nodes exchange: what all are told, the tokenizer block, and the registry of all (TIP-10)."""

from typing import Annotated, ClassVar

import msgspec

from tirami.proto.answer import Accept, Ask, Cancel, Finish, Offer, Payment, Piece, Settled, Working
from tirami.proto.codec import U64, Bytes16, Bytes32
from tirami.proto.envelope import Envelope
from tirami.proto.meeting import (
    Hello,
    InviteShown,
    InviteTaken,
    Leaving,
    Peers,
    PeersWanted,
    Ping,
    Pong,
    Probed,
    ProbeWanted,
    Refused,
)
from tirami.proto.message import KIB, U32, Message, SignedBody

BLOCK_PART = 256 * KIB
MAX_BLOCK = 64 * KIB * KIB
"""Bytes of a tokenizer block (B10)."""


# --- records everywhere (B16) ----------------------------------------------------------------------------------------


class Records(Message, frozen=True):
    """Records the receiver may not have."""

    TYPE: ClassVar[int] = 0x0010
    LIMIT: ClassVar[int] = 512 * KIB

    envelopes: Annotated[tuple[Envelope, ...], msgspec.Meta(max_length=64)]


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
    """A provider's signed price signal, passed on unchanged.

    Attributes:
        age_ms: since when the sender knows it, and whoever told it before: no two clocks are compared.
    """

    TYPE: ClassVar[int] = 0x0020
    LIMIT: ClassVar[int] = 20 * KIB

    signal: SignedBody
    age_ms: U32 = 0


class ObservationSeen(Message, frozen=True):
    """What one key signed about another's service, passed on unchanged."""

    TYPE: ClassVar[int] = 0x0021

    observation: SignedBody


class KillOrdered(Message, frozen=True):
    """An operator's signed order to its own nodes, passed on unchanged (B13)."""

    TYPE: ClassVar[int] = 0x0022

    order: SignedBody


class KillAnswered(Message, frozen=True):
    """What one of the operator's nodes signed about its order, on the order's way back."""

    TYPE: ClassVar[int] = 0x8024

    answer: SignedBody


class RotationSeen(Message, frozen=True):
    """A key's signed successor or revocation, passed on unchanged."""

    TYPE: ClassVar[int] = 0x0023

    rotation: SignedBody


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


MESSAGES: tuple[type[Message], ...] = (
    Hello, Refused, Ping, Pong, Leaving,
    Records, HeadSeen, ConsistencyWanted, ConsistencyProof, FraudFound, Reconcile,
    SignalSeen, ObservationSeen, KillOrdered, KillAnswered, RotationSeen,
    Ask, Offer, Accept, Piece, Payment, Finish, Settled, Cancel, Working,
    BlockWanted, BlockFollows, BlockPart,
    PeersWanted, Peers, InviteShown, InviteTaken, ProbeWanted, Probed,
)  # fmt: skip
"""The registry: TIP-10 is generated from it."""
