"""TIP-11 and TIP-12 judged again by means of their own: no line of the product decides here."""

import json
import re
from typing import Any

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.docs.test_protocol import TABLES, Case, Refused, cases, file_of, outcome, raw, read, sha
from tests.net.sets import idset, name
from tests.proto.samples import Log
from tirami.net.reconciliation import Reconciliation
from tirami.verify import verify_fraud

NAMES = {kind.lower(): kind for kind in ("Acceptance", "Trade", "Transfer", "Grant", "Head")}
KINDS = ("same-number", "totals", "ceiling", "two-heads", "rewritten-log")
SPEAKS = {"acceptance": "payer", "trade": "payer", "transfer": "payer", "grant": "issuer", "head": "node"}


# --- TIP-11 ------------------------------------------------------------------------------------------------------


def grown(first: int, size: int, path: list[bytes], root: bytes | None) -> tuple[bytes, bytes]:
    """(old, new) root by the recursive definition of RFC 6962 §2.1.2; takes its hashes off ``path``."""
    if first == size:
        node = path.pop() if root is None else root
        return node, node
    if not path:
        raise Refused("too short")
    last, split = path.pop(), Log.split(size)
    if first <= split:
        old, new = grown(first, split, path, root)
        return old, sha(b"\x01", new, last)
    old, new = grown(first - split, size - split, path, None)
    return sha(b"\x01", last, old), sha(b"\x01", last, new)


def series(kind: str, record: dict[str, Any]) -> tuple[Any, ...]:
    return (kind == "grant", record["incarnation"], record["period"] if kind == "grant" else 0)


def contradict(document: Case, kinds: list[str], bodies: list[bytes], records: list[dict[str, Any]]) -> bool:
    """The table of the document."""
    first, second, kind = records[0], records[1], document["kind"]
    if kind in ("two-heads", "rewritten-log"):
        if kinds != ["head", "head"] or first["log_id"] != second["log_id"]:
            return False
        if kind == "two-heads":
            return bodies[0] < bodies[1] and first["size"] == second["size"] and first["root"] != second["root"]
        root, *path = map(raw, document["path"])
        if not 0 < first["size"] < second["size"] or root == first["root"]:
            return False
        found = grown(first["size"], second["size"], path, root)
        return found == (root, second["root"]) and not path
    if "head" in kinds or len({series(*pair) for pair in zip(kinds, records, strict=True)}) != 1:
        return False
    numbers = [record.get("number", record.get("session")) for record in records]
    amounts = [record.get("amount", record.get("limit", 0)) for record in records]
    if kinds[0] == "trade":
        return False
    opened: dict[int, int] = {}
    for session in first.get("open", []):
        opened[session["number"]] = opened.get(session["number"], 0) + session["ceiling"]
    if kind == "totals":
        covered = all(number < numbers[0] and number not in opened for number in numbers[1:])
        once = all(one < other for one, other in zip(numbers[1:], numbers[2:], strict=False))
        return covered and once and all(amounts[1:]) and sum(amounts[1:]) > first["settled"]
    if len(records) != 2:
        return False
    if kind == "same-number":
        return kinds[1] != "trade" and numbers[0] == numbers[1] and bodies[0] < bodies[1]
    return numbers[1] in opened and opened[numbers[1]] < max(second.get("ceiling", 0), amounts[1])


def convicts(text: str) -> bool:
    """The rules of TIP-11, one after the other."""
    try:
        document = json.loads(text)
        if json.dumps(document, sort_keys=True, separators=(",", ":")) != text:
            return False
        if set(document) != {field for field, _ in TABLES["FraudProof"][1]} or document["format"] != "tirami/1/fraud":
            return False
        if not 2 <= len(document["records"]) <= 1025 or bool(document["path"]) != (document["kind"] == "rewritten-log"):
            return False
        kinds = [cited["kind"] for cited in document["records"]]
        bodies = [raw(cited["body"]) for cited in document["records"]]
        records = [read(NAMES[kind], body) for kind, body in zip(kinds, bodies, strict=True)]
        key = Ed25519PublicKey.from_public_bytes(raw(document["guilty"]))
        for cited, kind, body, record in zip(document["records"], kinds, bodies, records, strict=True):
            if (record["network"], record[SPEAKS[kind]].hex()) != (document["network"], document["guilty"]):
                return False
            if not re.fullmatch("[0-9a-f]{128}", cited["signature"]):
                return False
            key.verify(raw(cited["signature"]), TABLES[NAMES[kind]][0].encode() + body)
        return document["kind"] in KINDS and contradict(document, kinds, bodies, records)
    except (ValueError, LookupError, Refused, InvalidSignature):
        return False


@cases(11, "files")
def test_11_files(case: Case) -> None:
    outcome(case, lambda: verify_fraud(case["text"].encode()))
    assert convicts(case["text"]) is ("error" not in case)


# --- TIP-12 ------------------------------------------------------------------------------------------------------


def inside(ids: set[bytes], lower: bytes, upper: bytes) -> list[bytes]:
    return sorted(one for one in ids if lower <= one and (not upper or one < upper))


def printed(ids: list[bytes]) -> bytes:
    total = sum(int.from_bytes(sha(one)) for one in ids) % 2**256
    return sha(total.to_bytes(32), len(ids).to_bytes(8))[:16]


@cases(12, "fingerprints")
def test_12_fingerprints(case: Case) -> None:
    ids = {sha(number.to_bytes(8)) for number in range(*case["numbers"])}
    chosen = inside(ids, raw(case["lower"]), raw(case["upper"]))
    assert (len(chosen), printed(chosen).hex()) == (case["count"], case["fingerprint"])


@cases(12, "conversations")
def test_12_conversations(case: Case) -> None:
    """Every sentence is true, answers one that was said, and at the end both know everything."""
    sets = [{sha(number.to_bytes(8)) for number in range(*case[side])} for side in ("first", "second")]
    learned: list[set[bytes]] = [set(), set()]
    asked: list[tuple[bytes, bytes]] = [(b"", b"")]
    for turn, text in enumerate(case["messages"]):
        mine, theirs = sets[turn % 2], sets[1 - turn % 2]
        assert len(raw(text)) <= 65_536
        ranges, more = msgspec.msgpack.decode(raw(text))
        assert more is False, "these are short"
        said: list[tuple[bytes, bytes]] = []
        for kind, lower, upper, *rest in ranges:
            assert any(low <= lower and (not high or (upper and upper <= high)) for low, high in asked)
            ids = inside(mine, lower, upper)
            if kind == 0:
                assert rest == [printed(ids)]
                said.append((lower, upper))
            elif kind == 1:
                assert rest == [ids]
                said.append((lower, upper))
            else:
                other = inside(theirs, lower, upper)
                assert rest == [[one for one in ids if one not in theirs], [one for one in other if one not in mine]]
                learned[turn % 2] |= set(rest[1])
                learned[1 - turn % 2] |= set(rest[0])
        asked = said
    assert learned == [sets[1] - sets[0], sets[0] - sets[1]]
    assert [sorted(one.hex() for one in ids) for ids in learned] == [case["first_lacks"], case["second_lacks"]]


@cases(12, "conversations")
def test_12_the_reference_says_just_that(case: Case) -> None:
    sides = [Reconciliation(idset(map(name, range(*case[side])))) for side in ("first", "second")]
    said: bytes | None = sides[0].begin()
    for turn, text in enumerate(case["messages"], start=1):
        assert said == raw(text)
        said = sides[turn % 2].step(raw(text)).reply
    assert said is None


@cases(12, "messages")
def test_12_refused(case: Case) -> None:
    assert case["error"] == "invalid_reconciliation"
    side = Reconciliation(idset(map(name, range(*case["numbers"]))))
    outcome(case, lambda: side.step(file_of(case)))
    try:
        ranges, _more = msgspec.msgpack.decode(file_of(case))
        assert len(file_of(case)) <= 65_536
        reached, known = b"", {sha(number.to_bytes(8)) for number in range(*case["numbers"])}
        for place, (kind, lower, upper, *rest) in enumerate(ranges):
            assert kind in (0, 1, 2) and len(rest) == 1 + (kind == 2)
            assert kind or len(rest[0]) == 16
            assert max(len(lower), len(upper)) <= 32
            assert not upper or lower < upper
            assert not place or (reached and lower >= reached)
            reached = upper
            for ids in rest if kind else ():
                assert ids == inside(set(ids), lower, upper)
                assert all(len(one) == 32 for one in ids)
            assert kind != 2 or set(rest[1]) <= known
    except (AssertionError, ValueError, msgspec.MsgspecError):
        return
    pytest.fail("nothing is wrong with this one")
