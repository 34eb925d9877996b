"""TIP-13: every message of the registry stands in it, and its frames, adverts and probes are what the document says."""

import json
import re
from base64 import b64decode

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.docs.test_market_vectors import typed
from tests.docs.test_protocol import TABLES, TEXTS, Case, Refused, V, cases, outcome, packed, raw
from tirami.core.keys import PublicKey
from tirami.net import adverts
from tirami.net.frames import decode, encode
from tirami.net.probebook import ProbeBook
from tirami.proto import MESSAGES, SignedBody

KINDS = {kind.__name__: kind for kind in MESSAGES}
ROW = re.compile(r"^\| `(0x[0-9a-f]{4})` \| (\w+) \| (\d+) \| (.*?) \|", re.MULTILINE)


@pytest.mark.row("DOC-06")
def test_13_there_are_at_least_28_messages_and_all_are_listed() -> None:
    rows = ROW.findall(TEXTS["TIP-13-wire.md"])
    listed = {name: (int(number, 16), int(limit)) for number, name, limit, _ in rows}
    assert listed == {kind.__name__: (kind.TYPE, kind.LIMIT) for kind in MESSAGES}
    assert len(listed) == len({number for number, _ in listed.values()}) >= 28
    assert {case["name"] for case in V[13]["frames"]} == set(listed)


@cases(13, "frames")
def test_13_frames_by_hand(case: Case) -> None:
    """Header and body as the document has them; a typed reader gets the same message back, and so does a plain one."""
    frame, kind = raw(case["frame"]), KINDS[case["name"]]
    assert (int.from_bytes(frame[:2]), int.from_bytes(frame[2:6])) == (case["type"], len(frame) - 6)
    body = frame[6:]
    assert len(body) <= case["limit"]
    fields = msgspec.msgpack.decode(body)
    assert len(fields) == len(kind.__struct_fields__)
    assert encode(decode(kind, body)) == frame
    later = msgspec.msgpack.encode([*fields, "a field of a later version"])
    assert decode(kind, later) == decode(kind, body)


# --- adverts: rule 18 --------------------------------------------------------------------------------------------


@cases(13, "adverts")
def test_13_an_advert_by_hand(case: Case) -> None:
    tag, rows = TABLES[case["struct"]]
    fields, event = case["fields"], case["event"]
    body = packed([typed(kind, fields[name]) for name, kind in rows])
    assert body == raw(case["body"])
    Ed25519PublicKey.from_public_bytes(raw(case["key"])).verify(raw(case["signature"]), tag.encode() + body)
    assert case["key"] == fields["node"]
    assert {name: b64decode(text).hex() for name, text in json.loads(event["content"]).items()} == {
        "advert": case["body"],
        "signature": case["signature"],
    }
    expiration = (fields["at_ms"] + fields["lifetime_ms"]) // 1000
    assert event["kind"] == 31_990
    assert event["tags"] == [["d", f"tirami/1/{fields['network']}"], ["expiration", str(expiration)]]


def advertised(case: Case) -> tuple[str, list[str]]:
    """Key and addresses, or :class:`Refused` with the code."""
    tag, rows = TABLES["Advert"]
    try:
        content = json.loads(case["content"])
        body, signature = (b64decode(content[name], validate=True) for name in ("advert", "signature"))
        network, node, addresses, lifetime_ms, at_ms = values = msgspec.msgpack.decode(body)
    except (ValueError, KeyError, msgspec.DecodeError) as error:
        raise Refused("non_canonical") from error
    if len(case["content"]) > 4_096 or packed(values) != body or len(values) != len(rows):
        raise Refused("non_canonical")
    in_time = at_ms - 3_600_000 <= case["now_ms"] <= at_ms + lifetime_ms
    if network != case["network"] or not in_time:
        raise Refused("invalid_proof")
    try:
        Ed25519PublicKey.from_public_bytes(node).verify(signature, tag.encode() + body)
    except InvalidSignature as error:
        raise Refused("invalid_proof") from error
    if any(":" not in address for address in addresses):
        raise Refused("non_canonical")
    return node.hex(), addresses


@cases(13, "read")
def test_13_what_is_read_of_adverts(case: Case) -> None:
    outcome(case, lambda: adverts.read(case["content"], case["network"], case["now_ms"]))
    if "error" in case:
        with pytest.raises(Refused, match=case["error"]):
            advertised(case)
        return
    assert advertised(case) == (case["node"], case["addresses"])
    found = adverts.read(case["content"], case["network"], case["now_ms"])
    assert (found.key.hex(), list(found.direct)) == (case["node"], case["addresses"])


# --- probes: rule 17 ---------------------------------------------------------------------------------------------


@cases(13, "probes")
def test_13_a_probe_by_hand(case: Case) -> None:
    tag, rows = TABLES[case["struct"]]
    body = packed([typed(kind, case["fields"][name]) for name, kind in rows])
    assert body == raw(case["body"])
    Ed25519PublicKey.from_public_bytes(raw(case["key"])).verify(raw(case["signature"]), tag.encode() + body)
    assert case["key"] == case["fields"]["observer"]


def probed(case: Case) -> None:
    """Nothing, or :class:`Refused` with the code."""
    tag, rows = TABLES["Probe"]
    body = raw(case["body"])
    values = msgspec.msgpack.decode(body)
    assert packed(values) == body and len(values) == len(rows)
    network, observer, observed, addresses, _, _, at_ms = values
    about = (network, observer.hex(), observed.hex()) == (case["network"], case["peer"], case["node"])
    in_time = abs(at_ms - case["now_ms"]) <= 3_600_000
    is_news = case["before_ms"] is None or at_ms > case["before_ms"]
    named = set(addresses) <= set(case["asked"])
    seen = len(addresses) == 1 and re.fullmatch(r"([0-9.]+|\[[0-9a-f:]+\]):\d+", addresses[0])
    if not (about and in_time and is_news and (named or seen)):
        raise Refused("invalid_proof")
    try:
        Ed25519PublicKey.from_public_bytes(observer).verify(raw(case["signature"]), tag.encode() + body)
    except InvalidSignature as error:
        raise Refused("invalid_proof") from error


@cases(13, "taken")
def test_13_what_is_taken_of_probes(case: Case) -> None:
    if case["before_ms"] is None:
        book = ProbeBook(case["network"], PublicKey(raw(case["node"])))
        stated = SignedBody(raw(case["body"]), raw(case["signature"]))
        outcome(case, lambda: book.take(stated, PublicKey(raw(case["peer"])), case["asked"], case["now_ms"]))
    if "error" in case:
        with pytest.raises(Refused, match=case["error"]):
            probed(case)
        return
    probed(case)
