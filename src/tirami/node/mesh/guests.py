"""Invitations of this node, and the one it came with.

What an invitation gives: its maker keeps the newcomer's key in its journal as a *guest*. A guest is served with the
whole window of tokens ahead of its vouchers instead of a stranger's (B11), its address is never forgotten, and where
the maker is an issuer of the network it gets its welcome line. It gives no consent: no prompt goes to a guest, or to
who invited, unless ``mesh.consume`` says so.

The secret of an invitation is derived from the node key and its number, which holds its expiry; so it is nowhere kept,
and shown once. That it was made, and that it was taken back, is a fact in the journal; that it was used is one in one
group with the grant: used once is used for ever.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from tirami.core.errors import (
    ConfigError,
    InvalidField,
    MeshError,
    PeerRefused,
    PeerUnreachable,
    TiramiError,
)
from tirami.core.keys import SigningKey, hkdf
from tirami.core.units import DAY_MS
from tirami.ledger import GuestTaken, InviteMade, Ledger, grant_line, is_issuer
from tirami.net import FrameWriter, PeerAddress, Stream
from tirami.net.addressbook import AddressBook
from tirami.net.exchange import address_of
from tirami.net.invites import SECRET, Invitation, expiry, number, proves, show
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.node.mesh.arrival import Arrival
from tirami.proto import InviteShown, InviteTaken, Refused

_log = structlog.get_logger()
LONGEST_MS: Final = 30 * DAY_MS
JOIN_S: Final = 20.0
TRIES: Final = 4
PAUSE_S: Final = 0.5
AGAIN_S: Final = 10.0


class Guests:
    """Who came to this node by invitation, and whom this node came to.

    Args:
        random: so many random bytes.
    """

    def __init__(
        self, mesh: Mesh, ledger: Ledger, node: SigningKey, book: AddressBook, random: Callable[[int], bytes]
    ) -> None:
        self._mesh = mesh
        self._ledger = ledger
        self._node = node
        self._book = book
        self._random = random
        self.arrival = Arrival(ledger, mesh.key)
        """What comes of the invitation this node was started with."""

    def __contains__(self, key: object) -> bool:
        return key in self._ledger.state.settings.guests

    # --- who invites -------------------------------------------------------------------------------------------

    async def invite(self, lifetime_ms: int, label: str) -> Invitation:
        """A new invitation, known to the journal.

        Raises ``InvalidField`` for a lifetime of nothing, or more than 30 days; ``StorageUnavailable``.
        """
        if not 0 < lifetime_ms <= LONGEST_MS:
            raise InvalidField("an invitation is good for a second to 30 days", param="expires_secs")
        invite = number(self._ledger.now() + lifetime_ms, self._random(10))
        await self._ledger.record_facts(InviteMade(invite, expiry(invite), label))
        return Invitation(invite, self._secret(invite), self._mesh.address(), self._ledger.network)

    async def answer(self, peer: Peer, stream: Stream, shown: InviteShown) -> None:
        """Somebody came with an invitation."""
        writer = FrameWriter(stream)
        try:
            await self._take(peer, shown)
        except TiramiError as error:
            code = error.data.get("refused", error.code)
            await writer.write(Refused(str(code)[:64], error.message[:1024]))
        else:
            await writer.write(InviteTaken(shown.invite))
        await stream.finish()

    async def _take(self, peer: Peer, shown: InviteShown) -> None:
        settings = self._ledger.state.settings
        if not proves(shown, self._secret(shown.invite), self._mesh.key, peer.key):
            raise PeerRefused("this node made no such invitation for you", refused="invite_unknown")
        used_by = settings.invites.used.get(shown.invite)
        if used_by == peer.key:
            return  # the answer was lost on its way
        if used_by is not None:
            raise PeerRefused("this invitation has been used", refused="invite_used")
        if shown.invite in settings.invites.revoked:
            raise PeerRefused("this invitation was taken back", refused="invite_revoked")
        if expiry(shown.invite) < self._ledger.now():
            raise PeerRefused("this invitation has expired", refused="invite_expired")
        if peer.key in settings.convicted:
            raise PeerRefused("a fraud is proven against this key", refused="convicted")
        taken = GuestTaken(shown.invite, peer.key)
        written = None
        if is_issuer(self._ledger, self._mesh.key):
            written = grant_line(self._ledger, self._node, peer.key, taken)
        await (self._ledger.record_facts(taken) if written is None else written)
        self._book.pin(address_of(peer), "guest")
        _log.info("guest_taken", peer=peer.key.hex(), welcome=written is not None)

    def _secret(self, invite: bytes) -> bytes:
        return hkdf(self._node.seed, b"tirami/invite/1" + invite)[:SECRET]

    # --- who is invited ----------------------------------------------------------------------------------------

    def read(self, token: str) -> Invitation:
        """The token of another node of this network. Raises ``InvalidField`` when it is none."""
        invitation, network = Invitation.parse(token), self._ledger.network
        theirs = invitation.network
        if theirs != network:
            raise InvalidField(
                f"the invitation is to network {theirs.id!r} ({theirs.hash.hex()[:16]}…), and this node is of"
                f" {network.id!r} ({network.hash.hex()[:16]}…): join with another data directory",
                param="token",
            )
        if invitation.address.key == self._mesh.key:
            raise InvalidField("this node made that invitation itself", param="token")
        return invitation

    def invitation(self, setting: str) -> Invitation | None:
        """The one this node was started with. Raises ``ConfigError`` when it is none to this network."""
        try:
            invitation = self.read(setting) if setting else None
        except InvalidField as error:
            raise ConfigError(error.message, param="mesh.invitation") from error
        self.arrival.begun = invitation is not None
        return invitation

    async def join(self, invitation: Invitation) -> None:
        """Stay connected to who invited, from now on and after every restart, and show the invitation.

        Raises ``PeerRefused`` when it is not good any more, ``MeshError`` when nobody answers, or nonsense.
        """
        if invitation.expires_ms < self._ledger.now():
            raise PeerRefused("the invitation has expired", refused="invite_expired")
        address = invitation.address
        try:
            async with asyncio.timeout(JOIN_S):
                await self._show(address, invitation)
        except TimeoutError as error:
            raise PeerUnreachable(f"{address} did not answer within {JOIN_S:g} s") from error
        self._book.pin(address, "inviter")
        self._mesh.keep(address)
        _log.info("invitation_taken", peer=address.key.hex())

    async def _show(self, address: PeerAddress, invitation: Invitation) -> None:
        """Where both call each other one of two connections is given up, perhaps under way: so a few times."""
        for attempt in range(1, TRIES + 1):
            try:
                await show(await self._mesh.connect(address), invitation, self._mesh.key)
                return
            except PeerRefused:
                raise
            except MeshError:
                if attempt == TRIES:
                    raise
            await asyncio.sleep(PAUSE_S)

    async def join_when_possible(self, invitation: Invitation) -> None:
        """Try until it is taken, refused or expired; says in the log which, and to whoever started it."""
        while True:
            try:
                await self.join(invitation)
            except PeerRefused as error:
                _log.warning("invitation_refused", reason=error.message)
                self.arrival.refused(error.message)
                break
            except MeshError as error:
                _log.info("inviter_unreachable", reason=str(error))
                self.arrival.unreached(str(error))
            else:
                self.arrival.taken()
                break
            await asyncio.sleep(AGAIN_S)
