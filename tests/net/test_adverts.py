"""Adverts: believed only as far as their node's own signature, their network and their date go."""

import json
from base64 import b64encode

import pytest

from tirami.core.clock import APART_MS
from tirami.core.errors import VerificationError
from tirami.core.keys import SigningKey
from tirami.core.units import UnixMs
from tirami.net import PeerAddress
from tirami.net.addressbook import Trust
from tirami.net.adverts import LIFETIME_MS, MAX_TEXT, read, write
from tirami.proto import Advert, encode, sign

NODE = SigningKey.from_seed(bytes(31) + b"\1")
OWN = PeerAddress(NODE.public_key, ("8.8.8.8:4433", "192.168.1.7:4433", "node.example:4433"))
NOW = UnixMs(1_800_000_000_000)


def text(**changed: object) -> str:
    fields = {"network": "testnet", "node": NODE.public_key, "addresses": ("8.8.8.8:1",)}
    fields |= {"lifetime_ms": 1_000, "at_ms": NOW} | changed
    signer = fields.pop("signer", NODE)
    advert = Advert(**fields)  # type: ignore[arg-type]
    signature = sign(advert, signer)  # type: ignore[arg-type]
    return json.dumps({"advert": b64encode(encode(advert)).decode(), "signature": b64encode(signature).decode()})


def test_what_is_written_is_read() -> None:
    written = write(OWN, "testnet", NODE, NOW, Trust.FAR)
    assert written is not None and len(written) < MAX_TEXT
    assert read(written, "testnet", NOW) == PeerAddress(NODE.public_key, ("8.8.8.8:4433",))
    assert read(written, "testnet", UnixMs(NOW + LIFETIME_MS)).key == NODE.public_key


def test_no_private_address_is_advertised_to_strangers() -> None:
    assert write(PeerAddress(NODE.public_key, ("192.168.1.7:1",)), "testnet", NODE, NOW, Trust.FAR) is None


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "{}",
        "[]",
        "x" * (MAX_TEXT + 1),
        "[" * MAX_TEXT,
        json.dumps({"advert": "?", "signature": ""}),
        json.dumps({"advert": 1, "signature": 2}),
        text(signer=SigningKey.generate()),
        text(network="othernet"),
        text(at_ms=NOW - 1_001),
        text(at_ms=NOW + APART_MS + 1),
        text(addresses=("nonsense",)),
        text(node=bytes(32)),
    ],
)
def test_what_is_none_or_not_for_us(bad: str) -> None:
    with pytest.raises(VerificationError):
        read(bad, "testnet", NOW)
