"""Invitations as the journal knows them: listed until they expire, used or taken back for ever."""

import pytest

from tirami.core.errors import Conflict, InviteNotFound
from tirami.core.units import UnixMs
from tirami.ledger import GuestTaken, InviteMade, InviteRevoked, Settings
from tirami.ledger.invites import FEW

A, B, C = (bytes([n]) * 16 for n in (1, 2, 3))
KEY = bytes(32)


def settings(*facts: InviteMade | InviteRevoked | GuestTaken) -> Settings:
    made = Settings()
    for number, fact in enumerate(facts):
        made.apply(fact, number, UnixMs(number))
    return made


def test_what_is_live_is_listed_oldest_first() -> None:
    invites = settings(InviteMade(B, 50, "bob"), InviteMade(A, 100, ""), InviteRevoked(A)).invites
    assert [(invite.number, invite.label, invite.made_ms) for invite in invites.live(50)] == [(B, "bob", 0), (A, "", 1)]
    assert [invite.number for invite in invites.live(51)] == [A], "a revoked one stays in the list until it expires"
    assert invites.live(101) == []


def test_only_what_is_here_unexpired_and_unused_can_be_taken_back() -> None:
    known = settings(InviteMade(A, 100, ""), InviteMade(B, 100, ""), GuestTaken(B, KEY))
    assert known.guests == {KEY: B}
    assert known.invites.revocable(A, 100).number == A
    for number, now, error in ((A, 101, InviteNotFound), (C, 1, InviteNotFound), (B, 1, Conflict)):
        with pytest.raises(error) as refused:
            known.invites.revocable(number, now)
        assert refused.value.param == "invite"


def test_expired_ones_are_dropped_and_what_became_of_them_is_not() -> None:
    known = settings(InviteMade(A, 1, ""), InviteRevoked(A), InviteMade(B, 1, ""), GuestTaken(B, KEY))
    for number in range(1, 50 * FEW):
        known.apply(InviteMade(number.to_bytes(16), 10 + number, ""), number, UnixMs(10 + number))
        assert len(known.invites.made) <= FEW
    assert known.invites.revoked == {A} and known.invites.used == {B: KEY}
