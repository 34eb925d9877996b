"""Record ids in a hash table of their own."""

from hashlib import sha256

from tirami.ledger.columns import RecordIds


def identity(number: int) -> bytes:
    return sha256(number.to_bytes(8)).digest()


def test_every_id_is_found_at_its_place_while_the_table_grows() -> None:
    ids, count = RecordIds(), 20_000
    for number in range(count):
        assert ids.find(identity(number)) is None
        assert ids.add(identity(number)) == number == ids.find(identity(number))
    assert len(ids) == count
    assert [ids.find(identity(number)) for number in range(count)] == list(range(count))
    assert [ids[number] for number in range(count)] == [identity(number) for number in range(count)]
    assert list(ids.in_order()) == sorted(map(identity, range(count)))
    assert not any(identity(number) in ids for number in range(count, 2 * count))


def test_ids_that_differ_in_their_last_byte_only() -> None:
    ids, close = RecordIds(), [bytes(31) + bytes([last]) for last in range(256)]
    for record_id in close:
        ids.add(record_id)
    assert [ids.find(record_id) for record_id in close] == list(range(256))


def test_what_is_no_id_is_not_found() -> None:
    ids = RecordIds()
    ids.add(identity(1))
    assert ids.find(b"") is None
    assert ids.find(identity(1)[:31]) is None
