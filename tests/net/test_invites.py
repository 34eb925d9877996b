"""Tokens of invitations: read as written, damaged ones named, and a proof that is good between two keys only."""

import pytest

from tirami.core.errors import InvalidField
from tirami.core.keys import SigningKey
from tirami.core.units import UnixMs
from tirami.net import PeerAddress
from tirami.net.invites import Invitation, expiry, number, proof, proves
from tirami.proto import InviteShown

A, B, C = (SigningKey.from_seed(bytes([n]) * 32).public_key for n in (1, 2, 3))
SECRET = bytes(16)
INVITE = number(1_800_000_000_000, b"0123456789")
INVITATION = Invitation(INVITE, SECRET, PeerAddress(A, ("203.0.113.7:4433",)), "testnet", bytes(32))


def test_a_token_is_read_as_it_was_written() -> None:
    token = str(INVITATION)
    assert Invitation.parse(f"  {token}\n") == INVITATION
    assert token.startswith("tirami1.") and token.isascii() and " " not in token and len(token) < 300
    assert INVITATION.expires_ms == expiry(INVITE) == UnixMs(1_800_000_000_000)


@pytest.mark.parametrize("place", [8, 20, 100, -1])
def test_one_wrong_letter_is_noticed(place: int) -> None:
    letters = list(str(INVITATION))
    letters[place] = "A" if letters[place] != "A" else "B"
    with pytest.raises(InvalidField) as refused:
        Invitation.parse("".join(letters))
    assert refused.value.param == "token"


@pytest.mark.parametrize("text", ["", "tirami1.", "tirami1.é", "hello", "tirami1." + "A" * 2_000, str(INVITATION)[:-9]])
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(InvalidField):
        Invitation.parse(text)


def test_a_proof_is_good_for_one_invitation_between_two_keys() -> None:
    shown = InviteShown(INVITE, proof(SECRET, INVITE, A, B))
    assert proves(shown, SECRET, A, B)
    assert not proves(shown, SECRET, A, C), "who saw it pass cannot use it"
    assert not proves(shown, SECRET, C, B)
    assert not proves(shown, b"1" * 16, A, B)
    assert not proves(InviteShown(number(1_900_000_000_000, b"0123456789"), shown.proof), SECRET, A, B)
