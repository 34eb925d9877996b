"""Adverts of TIP-13: as a node writes one to a Nostr relay, and what a reader takes or refuses."""

import json
from base64 import b64encode
from typing import Any

from tests.proto.samples import AGENT, AT, NODE

from tirami.core.clock import APART_MS
from tirami.core.keys import Signature, SigningKey
from tirami.core.units import UnixMs
from tirami.net import PeerAddress
from tirami.net.addressbook import Trust
from tirami.net.adverts import LIFETIME_MS, MAX_TEXT, read, write
from tirami.net.nostr import KIND, tags
from tirami.proto import Advert, encode, sign
from tools.vectors.case import Case, case, plain, verdict

NETWORK = "testnet"
NOW = UnixMs(AT)
OWN = PeerAddress(NODE.public_key, ("8.8.8.8:4433", "[2606:4700::1111]:4433", "192.168.1.7:4433", "node.example:4433"))
PUBLIC = Advert(NETWORK, NODE.public_key, OWN.direct[:2], LIFETIME_MS, AT)
"""What of it is told to who is far: no private address, no name."""


def events() -> list[Case]:
    """What a node writes."""
    content = write(OWN, NETWORK, NODE, NOW, Trust.FAR)
    assert content == _text(PUBLIC)
    signed = {"fields": plain(PUBLIC), "body": encode(PUBLIC), "signature": sign(PUBLIC, NODE), "key": NODE.public_key}
    event = {"kind": KIND, "tags": tags(NETWORK, NOW), "content": content}
    return [case("a node with two public addresses", struct="Advert", **signed, event=event)]


def readings() -> list[Case]:
    """What is read of a content, at a time, by a node of a network."""
    good, last = _text(PUBLIC), AT + LIFETIME_MS
    altered = encode(PUBLIC).replace(b"8.8.8.8:4433", b"8.8.4.4:4433")
    return [
        _reading("as it was written", good),
        _reading("in its last millisecond", good, last),
        _reading("over", good, last + 1),
        _reading("an hour ahead", good, AT - APART_MS),
        _reading("further ahead", good, AT - APART_MS - 1),
        _reading("of another network", good, network="othernet"),
        _reading("signed by another key", _text(PUBLIC, AGENT)),
        _reading("another address under the signature", _joined(altered, sign(PUBLIC, NODE))),
        _reading("no address", _text(_changed(addresses=("nonsense",)))),
        _reading("cut body", _joined(encode(PUBLIC)[:-1], sign(PUBLIC, NODE))),
        _reading("no signature", json.dumps({"advert": b64encode(encode(PUBLIC)).decode()})),
        _reading("no JSON", "tirami"),
        _reading("blanks up to the bound", good.ljust(MAX_TEXT)),
        _reading("more than that", good.ljust(MAX_TEXT + 1)),
    ]


def _reading(name: str, content: str, now_ms: int = AT, network: str = NETWORK) -> Case:
    outcome = verdict(lambda: read(content, network, UnixMs(now_ms)))
    if "ok" in outcome:
        found = read(content, network, UnixMs(now_ms))
        outcome = {"node": found.key.hex(), "addresses": list(found.direct)}
    return case(name, network=network, now_ms=now_ms, content=content) | outcome


def _text(advert: Advert, signer: SigningKey = NODE) -> str:
    return _joined(encode(advert), sign(advert, signer))


def _joined(body: bytes, signature: Signature) -> str:
    return json.dumps({"advert": b64encode(body).decode(), "signature": b64encode(signature).decode()})


def _changed(**fields: Any) -> Advert:
    return Advert(**{name: getattr(PUBLIC, name) for name in PUBLIC.__struct_fields__} | fields)
