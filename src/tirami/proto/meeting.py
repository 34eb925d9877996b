"""What two nodes say about being connected, and about where others are."""

from typing import Annotated, ClassVar

import msgspec

from tirami.proto.codec import U64, Bytes16, Bytes32, Name
from tirami.proto.message import KIB, U16, U32, Label, Message, Shown, SignedBody, Text


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
        shown: that debit, what the reader signed last in a session with the sender, the highest of its quota, and the
            newest head of its log, as far as there are any.
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
    shown: Annotated[tuple[Shown, ...], msgspec.Meta(max_length=4)] = ()


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
    """Yes; ``nonce`` is the ping's.

    Attributes:
        at_ms: the sender's time, Unix milliseconds; 0 for who does not say.
    """

    TYPE: ClassVar[int] = 0x0004
    LIMIT: ClassVar[int] = 64

    nonce: U64
    at_ms: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)] = 0


class Leaving(Message, frozen=True):
    """This node stops on purpose: forget it now rather than after a silence."""

    TYPE: ClassVar[int] = 0x0005

    reason: Label


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
    """Whether it answered, and how soon, signed by who called."""

    TYPE: ClassVar[int] = 0x0055
    LIMIT: ClassVar[int] = 512

    probe: SignedBody
