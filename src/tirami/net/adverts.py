"""Adverts as text for places that carry text: written by who holds the node key, read as what a stranger wrote.

::

    {"advert": base64(body), "signature": base64(node's signature over tag ‖ body)}
"""

import json
from base64 import b64decode, b64encode
from typing import Final

from tirami.core.clock import APART_MS
from tirami.core.errors import InvalidField, InvalidProof, NonCanonical
from tirami.core.keys import PublicKey, Signature, Signer, verify
from tirami.core.units import UnixMs
from tirami.net.address import PeerAddress
from tirami.net.addressbook import MAX_WAYS, Trust, believed
from tirami.proto import Advert, decode, signed

MAX_TEXT: Final = 4_096
LIFETIME_MS: Final = 3 * 3_600_000


def write(own: PeerAddress, network: str, node: Signer, now_ms: UnixMs, trust: Trust) -> str | None:
    """An advert of this node; ``None`` while it knows no address its readers could use.

    Args:
        trust: how far readers will believe it; private addresses are nobody else's business otherwise.
    """
    ways = tuple(way for way in believed(own.direct, trust) if len(way) <= 64)
    if not ways:
        return None
    advert = signed(Advert(network, own.key, ways[:MAX_WAYS], LIFETIME_MS, now_ms), node)
    fields = {"advert": b64encode(advert.body).decode(), "signature": b64encode(advert.signature).decode()}
    return json.dumps(fields)


def read(text: str, network: str, now_ms: UnixMs) -> PeerAddress:
    """The node an advert is of. Raises ``VerificationError`` for one that is none, of another network, or old."""
    if len(text) > MAX_TEXT:
        raise NonCanonical(f"an advert has at most {MAX_TEXT} characters")
    try:
        fields = json.loads(text)
        body, signature = (b64decode(fields[name], validate=True) for name in ("advert", "signature"))
        advert = decode(Advert, body)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NonCanonical(f"not an advert: {error}") from error
    if advert.network != network:
        raise InvalidProof("an advert of another network")
    if not now_ms - advert.lifetime_ms <= advert.at_ms <= now_ms + APART_MS:
        raise InvalidProof("an advert that is out of date")
    if not verify(PublicKey(advert.node), Signature(signature), Advert.TAG + body):
        raise InvalidProof("an advert its node did not sign")
    try:
        return PeerAddress(PublicKey(advert.node), advert.addresses)
    except InvalidField as error:
        raise NonCanonical(f"an advert with an address that is none: {error.message}") from error
