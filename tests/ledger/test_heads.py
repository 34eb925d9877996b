"""Heads, proofs and receipts: shown when they are durable, and never over leaves the disk has lost."""

import asyncio
import shutil
from collections.abc import Awaitable
from pathlib import Path

import pytest

from tests.ledger.crash import copied
from tests.ledger.disk import Disk
from tests.market.conftest import House, opened_house
from tests.market.test_inference import serve
from tirami.core.errors import InvalidProof, RecordNotFound, StorageUnavailable
from tirami.core.keys import Digest, SigningKey
from tirami.ledger import Evidence, Inclusion, SignedHead, grant_line
from tirami.ledger.entries import EntryKind, HeadPublished, decode_content
from tirami.proto import Cited, leaf
from tirami.verify import leaf_hash, verify_consistency, verify_inclusion, verify_receipt


def durable_heads(house: House) -> list[bytes]:
    rows = house.ledger._journal._database.execute("SELECT kind, body FROM entries ORDER BY seq")
    contents = [decode_content(kind, body) for kind, body in rows if kind == EntryKind.FACT]
    return [content.head for content in contents if isinstance(content, HeadPublished)]


async def a_trade(house: House) -> Digest:
    settlement = await serve(house)
    assert settlement.record_id is not None
    return settlement.record_id


def a_leaf(house: House) -> Awaitable[None]:
    """A record on its way to the disk."""
    booked = grant_line(house.ledger, house.node, SigningKey.generate().public_key)
    assert booked is not None
    return booked


async def answered_while_written(disk: Disk, *questions: Awaitable[object]) -> list[object]:
    """Answers to questions asked while the disk is held; none may be given before it is let go."""
    disk.hold()
    asked = [asyncio.ensure_future(question) for question in questions]
    await disk.writing.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not any(task.done() for task in asked)
    disk.release()
    return await asyncio.gather(*asked)


async def test_no_head_is_shown_before_it_is_durable(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await a_trade(house)
    size = house.ledger.state.log.size
    disk = Disk(house.ledger, monkeypatch)
    disk.hold()
    first, second = (asyncio.create_task(house.heads.current()) for _ in range(2))
    await disk.writing.wait()
    third = asyncio.create_task(house.heads.current())
    for _ in range(20):
        await asyncio.sleep(0)
        with pytest.raises(InvalidProof):
            house.heads.consistency(1, size)
        assert house.heads.published is None
    assert not (first.done() or second.done() or third.done())
    disk.release()
    heads = await asyncio.gather(first, second, third)
    assert {head.head.size for head in heads} == {size}
    assert {head.body for head in heads} <= set(durable_heads(house))
    assert house.heads.consistency(1, size)


async def test_a_head_says_the_network_file_of_now_though_the_log_has_not_grown(tmp_path: Path) -> None:
    """By it books are compared (B5). Of one log and one size, with one root: it contradicts nothing (B8)."""
    async with opened_house(tmp_path) as house:
        former = await house.heads.current()
    async with opened_house(tmp_path, node=house.node, welcome_hours=71) as house:
        assert house.heads.published is None
        head = await house.heads.current()
        assert head.head.network_hash == house.ledger.network.hash != former.head.network_hash
        assert (head.head.log_id, head.head.size, head.head.root) == (
            former.head.log_id,
            former.head.size,
            former.head.root,
        )
        evidence = Evidence(house.ledger.network.id)
        assert [evidence.see(Cited("head", one.body, one.signature)) for one in (former, head)] == [None, None]
        assert await house.heads.current() == head


async def test_proofs_and_receipts_wait_for_their_head(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    trade = await a_trade(house)
    heads, disk = house.heads, Disk(house.ledger, monkeypatch)
    first, second, receipt, again = await answered_while_written(
        disk, heads.inclusion(trade), heads.inclusion(trade), heads.receipt(trade), heads.receipt(trade)
    )
    for found in (first, second):
        assert isinstance(found, Inclusion)
        assert found.head.body in durable_heads(house)
        record, head = found.record, found.head.head
        verify_inclusion(leaf_hash(leaf(record.envelope)), record.leaf_index, head.size, found.path, head.root)
    for file in (receipt, again):
        assert isinstance(file, bytes)
        assert verify_receipt(file).amount == 10


async def test_a_known_head_is_shown_without_waiting(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    trade = await a_trade(house)
    shown = await house.heads.current()
    disk = Disk(house.ledger, monkeypatch)
    disk.hold()
    pending = a_leaf(house)
    assert (await house.heads.inclusion(trade)).head == shown
    assert house.heads.published == shown
    disk.release()
    await pending


async def test_no_head_covers_leaves_the_disk_has_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[SignedHead] = []
    async with opened_house(tmp_path) as house:
        node = house.node
        await a_trade(house)
        shown.append(await house.heads.current())
        disk = Disk(house.ledger, monkeypatch)
        for _ in range(3):
            disk.hold()
            lost = a_leaf(house)
            record = house.ledger.state.records[-1].record_id
            asked = [asyncio.create_task(house.heads.current()) for _ in range(2)]
            proof, receipt = (asyncio.create_task(ask(record)) for ask in (house.heads.inclusion, house.heads.receipt))
            await disk.writing.wait()
            disk.full = True
            disk.release()
            shown += await asyncio.gather(*asked)
            for unanswered in (lost, proof, receipt):
                with pytest.raises(StorageUnavailable):
                    await unanswered
            with pytest.raises(RecordNotFound):
                await house.heads.inclusion(record)
            shown.append(await house.heads.current())
            disk.full = False
            await a_leaf(house)
            shown.append(await house.heads.current())
    async with opened_house(tmp_path, node=node) as again:
        log = again.ledger.state.log
        for head in (signed.head for signed in shown):
            verify_consistency(head.size, log.size, head.root, log.root(), log.consistency(head.size, log.size))


async def test_without_any_head_a_full_disk_is_an_error(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(house.ledger, monkeypatch)
    disk.full = True
    with pytest.raises(StorageUnavailable):
        await house.heads.current()
    assert house.heads.published is None
    disk.full = False
    assert (await house.heads.current()).head.size == house.ledger.state.log.size
    disk.full = True
    assert await house.heads.current() == house.heads.published


async def test_a_head_outlives_a_restart(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        await a_trade(house)
        head = await house.heads.current()
    async with opened_house(tmp_path, node=house.node) as again:
        assert again.heads.published == head


async def test_a_head_of_a_log_given_up_is_served_no_more(tmp_path: Path) -> None:
    """After a rollback the old head is not a head of this log: not shown, not quoted, proven against nothing."""
    home = tmp_path / "home"
    async with opened_house(home) as house:
        await a_trade(house)
        given_up = await house.heads.current()
    old = copied(home, tmp_path / "old")
    async with opened_house(home, node=house.node) as house:
        await a_leaf(house)
    for file in old.glob("journal.db*"):
        shutil.copy(file, home / file.name)
    async with opened_house(home, node=house.node, accept_rollback=True) as house:
        assert house.heads.published is None
        with pytest.raises(InvalidProof):
            house.heads.consistency(given_up.head.size, given_up.head.size)
        head = await house.heads.current()
        assert head.head.size == given_up.head.size
        assert head.head.log_id != given_up.head.log_id
        assert house.heads.published == head
