"""A rotated node goes on in its own directory, under the key that waited there (A-31)."""

from pathlib import Path

import pytest

from tests.node.nodes import config, network_file, node
from tests.node.test_guests import post
from tests.node.test_handover import own, rotation
from tests.node.test_mesh import two
from tests.waiting import until
from tirami.core.clock import SystemClock
from tirami.core.errors import JournalCorrupt, KeyFileError
from tirami.core.keyfile import NEXT_KEY, NODE_KEY, SEAL_KEY, load_or_create_node_key
from tirami.core.keys import PublicKey, SigningKey
from tirami.core.units import Trm
from tirami.ledger import transfer
from tirami.node import takeover
from tirami.node.parts import open_parts
from tirami.testing import MemoryNetwork


def waiting(home: Path) -> SigningKey:
    return load_or_create_node_key(home / NEXT_KEY)[0]


async def rotated(home: Path, file: Path) -> tuple[SigningKey, PublicKey]:
    """The node in ``home`` ordered that its waiting key follow it, and stopped: that key, and an account of it."""
    async with node(home, file, MemoryNetwork()) as at:
        status, made = await post(at, "accounts", label="lodger")
        assert status == 200, made
        status, ended = await post(at, "key/rotate", **rotation(at, waiting(home)))
        assert status == 200, ended
        return waiting(home), PublicKey(bytes.fromhex(str(made["account"])))


async def test_it_starts_under_the_new_key_with_its_book_and_its_accounts(tmp_path: Path) -> None:
    file, (first, _) = network_file(tmp_path, ("a", "b"), issuers=("a",))
    home, old = tmp_path / "a", PublicKey(bytes.fromhex(first))
    new, lodger = await rotated(home, file)
    for _ in range(2):  # and at every start that follows
        async with open_parts(config(home, file), SystemClock()) as parts:
            ledger = parts.ledger
            assert parts.key.public_key == new.public_key
            assert not (home / NEXT_KEY).exists() and (home / SEAL_KEY).stat().st_mode & 0o777 == 0o600
            assert parts.payers.hosted(lodger).signer.public_key == lodger, "sealed under the first"
            assert ledger.state.is_own(new.public_key) and not ledger.state.is_own(old)
            ledger.gate.check_open(new.public_key)
            assert (await parts.heads.current()).head.node == new.public_key


async def test_what_it_earned_is_spent_under_the_new_key_and_peers_trust_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, file = tmp_path / "seller", tmp_path / "network.json"
    async with two(tmp_path, monkeypatch) as mesh:
        seller, old = mesh.seller, own(mesh.seller)
        assert (await mesh.ask())[0] == 200
        await until(lambda: seller.net > 1)
        earned = seller.net
        status, ended = await post(seller, "key/rotate", **rotation(seller, waiting(home)))
        assert (status, ended["moved_trm"]) == (200, earned)
    memory, trust = MemoryNetwork(seed=2), {"mesh.consume": "trusted", "mesh.trusted": old.hex()}
    async with (
        node(tmp_path / "buyer", file, memory, **trust) as buyer,
        node(home, file, memory, **{"mesh.bootstrap": str(buyer.mesh.mesh.address())}) as again,
    ):
        await until(lambda: own(again) in buyer.mesh.mesh.peers)
        await until(lambda: buyer.mesh.shop.objection(own(again)) is None)
        assert "rotated" in str(buyer.mesh.shop.objection(old))
        assert again.net == earned
        _, booked = transfer(again.parts.ledger, again.parts.key, own(buyer), Trm(1))
        await booked
        await until(lambda: buyer.parts.ledger.balance(own(again)).net == earned - 1)
        book = buyer.parts.ledger.state.book
        await until(lambda: book.own_state_hash() == again.parts.ledger.state.book.own_state_hash())


@pytest.mark.parametrize("done", ["nothing", "sealed", "replaced"])
async def test_broken_off_anywhere_it_is_begun_again(tmp_path: Path, done: str) -> None:
    file, _ = network_file(tmp_path, ("a",))
    home = tmp_path / "a"
    new, lodger = await rotated(home, file)
    if done != "nothing":
        (home / SEAL_KEY).write_bytes((home / NODE_KEY).read_bytes())
        (home / SEAL_KEY).chmod(0o600)
    if done == "replaced":
        (home / NEXT_KEY).replace(home / NODE_KEY)
    async with open_parts(config(home, file), SystemClock()) as parts:
        assert parts.key.public_key == new.public_key
        assert parts.payers.hosted(lodger).signer.public_key == lodger


async def test_a_key_that_waits_without_an_order_waits_on(tmp_path: Path) -> None:
    file, (first,) = network_file(tmp_path, ("a",))
    waiting(tmp_path / "a")
    async with open_parts(config(tmp_path / "a", file), SystemClock()) as parts:
        assert parts.key.public_key.hex() == first
    assert (tmp_path / "a" / NEXT_KEY).exists() and not (tmp_path / "a" / SEAL_KEY).exists()


async def test_a_waiting_key_that_cannot_be_read_is_named_before_the_journal_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = network_file(tmp_path, ("a",))
    home, opened = tmp_path / "a", list[Path]()
    new, _ = await rotated(home, file)
    (home / NEXT_KEY).chmod(0o644)
    with monkeypatch.context() as patched:
        patched.setattr(takeover, "open_ledger", lambda path, *_, **__: opened.append(path))
        with pytest.raises(KeyFileError, match="next.key is open to others"):
            async with open_parts(config(home, file), SystemClock()):
                pytest.fail("the node started")
    assert not opened
    (home / NEXT_KEY).chmod(0o600)
    async with open_parts(config(home, file), SystemClock()) as parts:
        assert parts.key.public_key == new.public_key


async def test_another_key_does_not_open_the_journal(tmp_path: Path) -> None:
    file, _ = network_file(tmp_path, ("a",))
    home = tmp_path / "a"
    await rotated(home, file)
    (home / SEAL_KEY).write_bytes((home / NODE_KEY).read_bytes())
    (home / SEAL_KEY).chmod(0o600)
    (home / NODE_KEY).write_bytes(SigningKey.generate().seed)
    (home / NEXT_KEY).unlink()
    with pytest.raises(JournalCorrupt, match="belongs to node"):
        async with open_parts(config(home, file), SystemClock()):
            pytest.fail("the node started")
