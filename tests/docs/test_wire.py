"""TIP-13: every message of the registry stands in it, and its frames are what the document says."""

import re

import msgspec
import pytest

from tests.docs.test_protocol import TEXTS, Case, V, cases, raw
from tirami.net.frames import decode, encode
from tirami.proto import MESSAGES

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
