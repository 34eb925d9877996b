"""Invitations: a token that one person gives another, and how it is shown to the node that made it.

::

    token  = "tirami1." base64url(payload ‖ first 4 bytes of SHA-256(payload)), without padding
    payload = MessagePack [invite, secret, address, network id, network hash]
    invite = u48be expiry in Unix milliseconds ‖ 10 random bytes

The secret never leaves the newcomer: what crosses the wire is a MAC under it over both keys, worth nothing to any
other node. Whoever holds the *token* can use it, once: it is sent as privately as a password.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Final, Self

import msgspec

from tirami.core.errors import InvalidField, PeerRefused, WireError
from tirami.core.keys import PublicKey, sha256
from tirami.core.units import UnixMs
from tirami.net.address import PeerAddress
from tirami.net.frames import FrameReader, FrameWriter, registry
from tirami.net.peer import Peer
from tirami.proto import InviteShown, InviteTaken, Refused

PREFIX: Final = "tirami1."
MAX_TOKEN: Final = 1_024
SECRET: Final = 16
ANSWERS: Final = registry(InviteTaken, Refused)
_TAG: Final = b"tirami/1/invite"


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a token says.

    Attributes:
        invite: its number; holds when it expires.
        secret: 16 bytes.
        address: the node that made it, and where it is.
        network, network_hash: of that node's network file.
    """

    invite: bytes
    secret: bytes
    address: PeerAddress
    network: str
    network_hash: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ``InvalidField`` (``param`` is ``token``) for anything that is no token, or not all of one."""
        text = text.strip()
        if not text.startswith(PREFIX) or len(text) > MAX_TOKEN:
            raise _invalid(f"an invitation begins with {PREFIX}")
        try:
            encoded = text.removeprefix(PREFIX).encode("ascii")
            data = urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
            payload, check = data[:-4], data[-4:]
            if sha256(payload)[:4] != check:
                raise ValueError("the checksum differs")
            fields = msgspec.msgpack.decode(payload, type=tuple[bytes, bytes, str, str, bytes])
            invite, secret, address, network, network_hash = fields
            if (len(invite), len(secret), len(network_hash)) == (16, SECRET, 32):
                return cls(invite, secret, PeerAddress.parse(address), network, network_hash)
        except (ValueError, msgspec.MsgspecError, InvalidField) as error:
            raise _invalid("the invitation is damaged: was all of it copied?") from error
        raise _invalid("this is no invitation")

    def __str__(self) -> str:
        fields = (self.invite, self.secret, str(self.address), self.network, self.network_hash)
        payload = msgspec.msgpack.encode(fields)
        return PREFIX + urlsafe_b64encode(payload + sha256(payload)[:4]).rstrip(b"=").decode()

    @property
    def expires_ms(self) -> UnixMs:
        return expiry(self.invite)


def number(expires_ms: int, chance: bytes) -> bytes:
    """Number of a new invitation, from 10 random bytes."""
    return expires_ms.to_bytes(6, "big") + chance


def expiry(invite: bytes) -> UnixMs:
    return UnixMs(int.from_bytes(invite[:6], "big"))


def proof(secret: bytes, invite: bytes, inviter: PublicKey, newcomer: PublicKey) -> bytes:
    """HMAC-SHA256 that the newcomer knows the secret; good between these two keys only."""
    return hmac.digest(secret, _TAG + invite + inviter + newcomer, "sha256")


def proves(shown: InviteShown, secret: bytes, inviter: PublicKey, newcomer: PublicKey) -> bool:
    return hmac.compare_digest(shown.proof, proof(secret, shown.invite, inviter, newcomer))


async def show(peer: Peer, invitation: Invitation, own: PublicKey) -> None:
    """Show an invitation to the node that made it, which keeps this one as its guest from then on.

    Raises ``PeerRefused`` when it is not good (any more), ``MeshError``. Waits as long as it takes.
    """
    stream = await peer.connection.open()
    try:
        shown = proof(invitation.secret, invitation.invite, peer.key, own)
        await FrameWriter(stream).write(InviteShown(invitation.invite, shown))
        answer = await FrameReader(stream, ANSWERS).read()
    finally:
        await stream.reset()
    if isinstance(answer, Refused):
        raise PeerRefused(answer.message, refused=answer.code)
    if not isinstance(answer, InviteTaken) or answer.invite != invitation.invite:
        raise WireError("another invitation was taken than was shown")


def _invalid(message: str) -> InvalidField:
    return InvalidField(message, param="token")
