"""The rogue's cheats: each is described, and the false signatures are what they are said to be."""

from pathlib import Path

from tests.proto.samples import TRADE
from tirami.core.keys import SigningKey, verify
from tirami.proto import Trade, decode, encode, sign
from tirami.testing import rogue
from tirami.testing.rogue import consumer, provider
from tirami.testing.rogue.lies import HONEST, Turns, bent, flipped, resigned


def test_every_cheat_is_described() -> None:
    lines = (rogue.__doc__ or "").splitlines()
    described = [line.split()[0] for line in lines if "  " in line.strip() and not line.startswith("=")]
    assert sorted(described) == sorted([*provider.CHEATS, *consumer.CHEATS])


def test_cheats_take_turns_unless_one_is_named(tmp_path: Path) -> None:
    turns = Turns(provider.CHEATS, ["count", "forged", "ids"], tmp_path / "cheat")
    assert [turns.next() for _ in range(3)] == ["count", "ids", "count"], "those of the other side are not counted"
    (tmp_path / "cheat").write_text("split\n")
    assert [turns.next() for _ in range(2)] == ["split", "split"]
    (tmp_path / "cheat").write_text("forged")
    assert turns.next() == HONEST
    assert Turns(consumer.CHEATS, ["count"], tmp_path / "none").next() == HONEST


def test_a_bent_signature_is_another_one_that_strict_verification_refuses() -> None:
    key = SigningKey.generate()
    message = b"a message"
    good = key.sign(message)
    assert verify(key.public_key, good, message)
    assert bent(good) != good and bent(good)[:32] == good[:32]
    assert not verify(key.public_key, bent(good), message)


def test_a_flipped_signature_differs_in_one_bit_and_is_refused() -> None:
    key = SigningKey.generate()
    message = b"a message"
    good, other = key.sign(message), flipped(key.sign(message))
    assert (int.from_bytes(good) ^ int.from_bytes(other)).bit_count() == 1
    assert not verify(key.public_key, other, message)


def test_a_record_is_signed_anew() -> None:
    key = SigningKey.generate()
    made = resigned(Trade, encode(TRADE), key, amount=7)
    other = decode(Trade, made.body)
    assert other.amount == 7
    assert made.signature == sign(other, key)
