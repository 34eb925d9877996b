"""Messages of a set reconciliation that nobody takes."""

import msgspec

from tests.net.sets import name
from tirami.proto.reconciliation import Difference, Fingerprint, Listing, ReconciliationMessage, encode_message


def message(*ranges: Fingerprint | Listing | Difference, more: bool = False) -> bytes:
    return encode_message(ReconciliationMessage(ranges, more))


A, B, C = sorted(map(name, range(3)))
REFUSED = {
    "no message": b"\xc1",
    "too long": bytes(64 * 1024 + 1),
    "another shape": msgspec.msgpack.encode([[], False, 1]),
    "an unknown kind of range": msgspec.msgpack.encode([[[3, b"", b"", ()]], False]),
    "a fingerprint of 15 bytes": msgspec.msgpack.encode([[[0, b"", b"", bytes(15)]], False]),
    "a bound of 33 bytes": message(Listing(bytes(33), b"", ())),
    "an id of 31 bytes": message(Listing(b"", b"", (bytes(31),))),
    "a range that ends where it begins": message(Listing(b"\1", b"\1", ())),
    "overlapping ranges": message(Listing(b"", b"\2", ()), Listing(b"\1", b"\3", ())),
    "ranges out of order": message(Listing(b"\2", b"\3", ()), Listing(b"\1", b"\2", ())),
    "a range after the end": message(Listing(b"\2", b"", ()), Listing(b"\3", b"\4", ())),
    "ids out of order": message(Listing(b"", b"", (B, A))),
    "an id twice": message(Difference(b"", b"", (A, A), ())),
    "an id below its range": message(Listing(B, b"", (A,))),
    "an id above its range": message(Difference(b"", B, (), (B,))),
    "too many ranges": message(*(Listing(i.to_bytes(2), i.to_bytes(2) + b"\1", ()) for i in range(1_025))),
    "too many ids in one range": message(Listing(b"", b"", tuple(sorted(map(name, range(1_801)))))),
    "too many ids together": message(
        *(Listing(b"" if low == 0 else bytes([low]), bytes([low + 128]) if low == 0 else b"",
                  tuple(sorted(one for one in map(name, range(2_200)) if low <= one[0] < low + 128)))
          for low in (0, 128))
    ),
    "wants what nobody offered": message(Difference(b"", b"", (), (name(77),))),
}  # fmt: skip
