"""Probes of TIP-13: as who called signs one, and what who asked takes or refuses."""

from typing import Any

from tests.proto.samples import AGENT, AT, NODE

from tirami.core.clock import APART_MS
from tirami.core.keys import SigningKey
from tirami.core.units import UnixMs
from tirami.net.probebook import ProbeBook
from tirami.proto import Probe, SignedBody, encode, sign
from tools.vectors.case import Case, case, plain, replaced, verdict

NETWORK = "testnet"
ASKED = ("192.0.2.1:4433", "[2001:db8::1]:4433")
REACHED = Probe(NETWORK, AGENT.public_key, NODE.public_key, ASKED, True, 1_500, AT)
"""``AGENT`` called ``NODE``, which had asked it to."""
MISSED = replaced(REACHED, addresses=ASKED[:1], reached=False, rtt_us=0, at_ms=AT + 1)


def signed() -> list[Case]:
    return [_signed("one that was reached", REACHED), _signed("one that was not", MISSED)]


def taken() -> list[Case]:
    """What a node that has ``before`` of a peer makes of what that peer answers."""
    return [
        _taken("as it was signed", REACHED),
        _taken("from where it spoke", _changed(addresses=("198.51.100.9:1024",))),
        _taken("two addresses that it did not name", _changed(addresses=("198.51.100.9:1024", "198.51.100.9:1025"))),
        _taken("a name that it did not name", _changed(addresses=("node.example:4433",))),
        _taken("an hour ago", _changed(at_ms=AT - APART_MS)),
        _taken("longer ago", _changed(at_ms=AT - APART_MS - 1)),
        _taken("an hour ahead", _changed(at_ms=AT + APART_MS)),
        _taken("further ahead", _changed(at_ms=AT + APART_MS + 1)),
        _taken("of another network", _changed(network="othernet")),
        _taken("about another node", _changed(observed=AGENT.public_key)),
        _taken("in another's name", _changed(observer=NODE.public_key)),
        _taken("signed by another key", REACHED, signer=NODE),
        _taken("newer than the last", REACHED, before=_changed(at_ms=AT - 1)),
        _taken("said before", REACHED, before=REACHED),
        _taken("older than the last", REACHED, before=_changed(at_ms=AT + 1)),
    ]


def _signed(name: str, probe: Probe) -> Case:
    signature, key = sign(probe, AGENT), AGENT.public_key
    return case(name, struct="Probe", fields=plain(probe), body=encode(probe), signature=signature, key=key)


def _taken(name: str, probe: Probe, signer: SigningKey = AGENT, before: Probe | None = None) -> Case:
    kept = ProbeBook(NETWORK, NODE.public_key)
    if before is not None:
        _take(kept, before, AGENT)
    return case(
        name,
        network=NETWORK,
        node=NODE.public_key,
        peer=AGENT.public_key,
        asked=ASKED,
        now_ms=AT,
        before_ms=None if before is None else before.at_ms,
        body=encode(probe),
        signature=sign(probe, signer),
    ) | verdict(lambda: _take(kept, probe, signer))


def _take(kept: ProbeBook, probe: Probe, signer: SigningKey) -> Probe:
    return kept.take(SignedBody(encode(probe), sign(probe, signer)), AGENT.public_key, ASKED, UnixMs(AT))


def _changed(**fields: Any) -> Probe:
    changed: Probe = replaced(REACHED, **fields)
    return changed
