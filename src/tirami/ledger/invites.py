"""Invitations of this node: made, used, taken back. A fold over facts, by their numbers; no secret is in it."""

from dataclasses import dataclass, field
from typing import Final

from tirami.core.errors import Conflict, InviteNotFound
from tirami.core.units import UnixMs
from tirami.ledger.entries import GuestTaken, InviteMade, InviteRevoked

FEW: Final = 64


@dataclass(frozen=True, slots=True)
class Invite:
    """One that was made.

    Attributes:
        number: 16 bytes.
        label: for people.
    """

    number: bytes
    label: str
    made_ms: UnixMs
    expires_ms: UnixMs


@dataclass(slots=True)
class Invites:
    """Those that were made, oldest first, until they expire; those used and taken back, for ever."""

    made: dict[bytes, Invite] = field(default_factory=dict)
    used: dict[bytes, bytes] = field(default_factory=dict)
    """Number → key that used it."""
    revoked: set[bytes] = field(default_factory=set)
    _sweep_at: int = FEW

    def apply(self, fact: InviteMade | InviteRevoked | GuestTaken, at_ms: UnixMs) -> None:
        match fact:
            case InviteMade():
                if len(self.made) >= self._sweep_at:  # now and then, so that making n of them takes n steps
                    self.made = {invite.number: invite for invite in self.live(at_ms)}
                    self._sweep_at = max(FEW, 2 * len(self.made))
                self.made[fact.invite] = Invite(fact.invite, fact.label, at_ms, UnixMs(fact.expires_ms))
            case InviteRevoked():
                self.revoked.add(fact.invite)
            case GuestTaken():
                self.used[fact.invite] = fact.key

    def live(self, now_ms: int) -> list[Invite]:
        """What has not expired, oldest first, used and revoked ones too."""
        return [invite for invite in self.made.values() if now_ms <= invite.expires_ms]

    def revocable(self, number: bytes, now_ms: int) -> Invite:
        """The live one of this number. Raises ``InviteNotFound``, ``Conflict`` when it has been used."""
        invite = self.made.get(number)
        if invite is None or now_ms > invite.expires_ms:
            raise InviteNotFound("no such invitation: never made here, or expired", param="invite")
        if number in self.used:
            raise Conflict(f"{self.used[number].hex()} has used this invitation already", param="invite")
        return invite
