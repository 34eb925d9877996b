"""Hosted keys at rest."""

import msgspec
import pytest

from tirami.core import keystore as module
from tirami.core.errors import KeystoreError
from tirami.core.keys import SigningKey
from tirami.core.keystore import Keystore, Tried

NODE = SigningKey.from_seed(b"\x01" * 32)
ACCOUNT = SigningKey.from_seed(b"\x02" * 32)
OTHER = SigningKey.from_seed(b"\x03" * 32)


def test_sealed_and_opened_by_the_same_node() -> None:
    sealed = Keystore(NODE).seal(ACCOUNT)
    assert Keystore(NODE).open(ACCOUNT.public_key, sealed).seed == ACCOUNT.seed
    assert ACCOUNT.seed not in sealed
    assert NODE.seed not in sealed
    assert Keystore(NODE).seal(ACCOUNT) != sealed, "a fresh nonce each time"


def test_another_node_or_account_cannot_open() -> None:
    sealed = Keystore(NODE).seal(ACCOUNT)
    for keystore, account in ((Keystore(OTHER), ACCOUNT), (Keystore(NODE), OTHER)):
        with pytest.raises(KeystoreError, match=account.public_key.hex()):
            keystore.open(account.public_key, sealed)


def test_every_changed_bit_is_noticed() -> None:
    keystore = Keystore(NODE)
    sealed = keystore.seal(ACCOUNT)
    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(KeystoreError):
            keystore.open(ACCOUNT.public_key, bytes(changed))
    for cut in (b"", sealed[:-1], sealed + b"\0", bytes(10_000)):
        with pytest.raises(KeystoreError):
            keystore.open(ACCOUNT.public_key, cut)


def test_a_passphrase_is_needed_and_must_be_right() -> None:
    sealed = Keystore(NODE, "correct horse").seal(ACCOUNT)
    assert Keystore(NODE, "correct horse").open(ACCOUNT.public_key, sealed).seed == ACCOUNT.seed
    for wrong in (None, "", "correct horse "):
        with pytest.raises(KeystoreError):
            Keystore(NODE, wrong).open(ACCOUNT.public_key, sealed)
    with pytest.raises(KeystoreError):
        Keystore(OTHER, "correct horse").open(ACCOUNT.public_key, sealed)


def test_setting_a_passphrase_later_keeps_old_keys_readable() -> None:
    sealed = Keystore(NODE).seal(ACCOUNT)
    assert Keystore(NODE, "new").open(ACCOUNT.public_key, sealed).seed == ACCOUNT.seed


def test_one_derivation_a_salt(monkeypatch: pytest.MonkeyPatch) -> None:
    derived: list[bytes] = []
    real = Keystore._derive
    monkeypatch.setattr(Keystore, "_derive", lambda self, salt: derived.append(salt) or real(self, salt))
    monkeypatch.setattr(module, "ARGON2_KIB", 64)
    first = Keystore(NODE, "x")
    blobs = [(key, first.seal(key)) for key in (ACCOUNT, OTHER)]
    assert len(set(derived)) == len(derived) == 1
    second = Keystore(NODE, "x")
    for key, sealed in blobs:
        assert second.open(key.public_key, sealed).seed == key.seed
    assert msgspec.msgpack.decode(second.seal(ACCOUNT))[1] == derived[0], "the salt seen first is kept"
    assert len(derived) == 2


def test_one_key_of_each_salt_tells_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    derived: list[bytes] = []
    real = Keystore._derive
    monkeypatch.setattr(Keystore, "_derive", lambda self, salt: derived.append(salt) or real(self, salt))
    monkeypatch.setattr(module, "ARGON2_KIB", 64)
    keys = [SigningKey.from_seed(bytes([number]) * 32) for number in range(10, 16)]
    sealed = {}
    for word, some in (("", keys[:1]), ("a", keys[1:3]), ("b", keys[3:])):
        keystore = Keystore(NODE, word)
        sealed |= {key.public_key: keystore.seal(key) for key in some}
    names = [key.public_key for key in keys]
    derived.clear()
    assert Keystore(NODE, "a").tried(sealed) == Tried(1, 5, 2, tuple(names[3:]))
    assert len(derived) == 3
    assert Keystore(NODE, "b").tried(sealed) == Tried(1, 5, 3, tuple(names[1:3]))
    assert Keystore(NODE).tried(sealed) == Tried(1, 5, 0, tuple(names[1:]))
    assert Keystore(NODE, "c").tried({names[0]: b""}) == Tried(0, 0, 0, (names[0],)), "damaged"


def test_keys_under_several_salts_come_under_one(monkeypatch: pytest.MonkeyPatch) -> None:
    derived: list[bytes] = []
    real = Keystore._derive
    monkeypatch.setattr(Keystore, "_derive", lambda self, salt: derived.append(salt) or real(self, salt))
    monkeypatch.setattr(module, "ARGON2_KIB", 64)
    keys = [SigningKey.from_seed(bytes([number]) * 32) for number in range(10, 16)]
    words = ("", "a", "a", "a", "another")
    sealed = {key.public_key: Keystore(NODE, word).seal(key) for key, word in zip(keys, words, strict=False)}
    keystore = Keystore(NODE, "a")
    keystore.tried(sealed)
    derived.clear()
    anew = keystore.united(sealed)
    assert list(anew) == [keys[2].public_key, keys[3].public_key], "neither the first, nor what is bare or another's"
    assert not derived
    united = {**sealed, **anew}
    later = Keystore(NODE, "a")
    assert later.tried(united) == Tried(1, 4, 3, (keys[4].public_key,))
    assert len(derived) == 3, "bare, the one salt, and the other passphrase's"
    assert [later.open(key.public_key, united[key.public_key]).seed for key in keys[:4]] == [k.seed for k in keys[:4]]
    assert later.united(united) == {}
    assert Keystore(NODE).united(sealed) == {}


def test_the_strength_of_argon2id_is_fixed() -> None:
    assert (module.ARGON2_KIB, module.ARGON2_PASSES, module.ARGON2_LANES) == (65_536, 3, 4)


def test_nothing_secret_in_its_representation() -> None:
    shown = repr(Keystore(NODE, "correct horse"))
    assert "horse" not in shown
    assert NODE.seed.hex() not in shown
