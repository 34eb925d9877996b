"""What is kept of what peers sign about reaching this node."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.proto.samples import AGENT, AT, NODE
from tirami.core.clock import APART_MS
from tirami.core.errors import VerificationError
from tirami.core.keys import SigningKey
from tirami.core.units import UnixMs
from tirami.net.probebook import KEPT, KEPT_MS, ProbeBook
from tirami.proto import Probe, SignedBody, encode, sign

ASKED = ("192.0.2.1:4433", "[2001:db8::1]:4433")
NOW = UnixMs(AT)
SAID = Probe("testnet", AGENT.public_key, NODE.public_key, ASKED, True, 1_500, NOW)


def probe(**changed: Any) -> Probe:
    return Probe(**{name: getattr(SAID, name) for name in Probe.__struct_fields__} | changed)


def stated(said: Probe = SAID, signer: SigningKey = AGENT) -> SignedBody:
    return SignedBody(encode(said), sign(said, signer))


def book() -> ProbeBook:
    return ProbeBook("testnet", NODE.public_key)


def take(into: ProbeBook, said: Probe, signer: SigningKey = AGENT, now: int = NOW) -> Probe:
    return into.take(stated(said, signer), signer.public_key, ASKED, UnixMs(now))


def test_what_a_peer_signs_when_it_is_asked_is_kept() -> None:
    kept = book()
    assert kept.newest is None and not len(kept)
    assert take(kept, SAID) == SAID == kept.newest
    failed = probe(reached=False, rtt_us=0, at_ms=NOW + 1)
    assert take(kept, failed) == failed == kept.newest
    assert (len(kept), kept.changes) == (2, 2)


@pytest.mark.parametrize(
    "good",
    [
        probe(addresses=ASKED[:1]),
        probe(addresses=ASKED[1:]),
        probe(addresses=("198.51.100.9:1024",)),
        probe(at_ms=NOW - APART_MS),
        probe(at_ms=NOW + APART_MS),
    ],
)
def test_where_it_saw_this_node_speak_from_and_its_own_clock_are_its_to_know(good: Probe) -> None:
    assert take(book(), good) == good


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (probe(network="othernet"), "another node or network"),
        (probe(observed=SigningKey.generate().public_key), "another node or network"),
        (probe(observer=SigningKey.generate().public_key), "somebody else"),
        (probe(at_ms=NOW - APART_MS - 1), "another time"),
        (probe(at_ms=NOW + APART_MS + 1), "another time"),
        (probe(addresses=(ASKED[0], "198.51.100.9:1024")), "not asked about"),
        (probe(addresses=("node.example:4433",)), "not asked about"),
        (probe(addresses=("nonsense",)), "not asked about"),
        (probe(reached=False, rtt_us=1), "reached nobody"),
    ],
)
def test_what_is_about_something_else_is_refused(said: Probe, why: str) -> None:
    kept = book()
    with pytest.raises(VerificationError, match=why):
        take(kept, said)
    assert not len(kept) and not kept.changes


def test_nobody_is_believed_about_itself() -> None:
    own = probe(observer=NODE.public_key)
    with pytest.raises(VerificationError, match="another node"):
        take(book(), own, NODE)


@pytest.mark.parametrize(
    "forge",
    [
        lambda body: SignedBody(body, sign(SAID, NODE)),
        lambda body: SignedBody(body, bytes(64)),
        lambda body: SignedBody(encode(probe(reached=False, rtt_us=0)), sign(SAID, AGENT)),
        lambda body: SignedBody(body + b"\0", sign(SAID, AGENT)),
        lambda body: SignedBody(body[:-1], sign(SAID, AGENT)),
        lambda body: SignedBody(b"", sign(SAID, AGENT)),
    ],
)
def test_what_its_observer_did_not_sign_is_refused(forge: Callable[[bytes], SignedBody]) -> None:
    kept = book()
    with pytest.raises(VerificationError):
        kept.take(forge(encode(SAID)), AGENT.public_key, ASKED, NOW)
    assert not len(kept)


def test_an_old_statement_counts_once() -> None:
    """Of each peer by its own clock; others' clocks may be behind."""
    kept, other = book(), SigningKey.generate()
    take(kept, SAID)
    for again in (SAID, probe(reached=False, rtt_us=0), probe(at_ms=NOW - 1)):
        with pytest.raises(VerificationError, match="not newer"):
            take(kept, again)
    assert take(kept, probe(observer=other.public_key, at_ms=NOW - 1), other)
    assert len(kept) == 2


def test_what_was_said_while_clocks_were_wrong_bars_nobody() -> None:
    """Of a time that is still to come here: this node's clock, and that peer's, once stood there."""
    kept, ahead = book(), NOW + 100 * APART_MS
    take(kept, probe(at_ms=ahead), now=ahead)
    assert take(kept, SAID) == SAID
    assert len(kept) == 1


def test_what_is_kept_is_bounded_in_number_and_in_time() -> None:
    kept, peers = book(), [SigningKey.generate() for _ in range(2)]
    take(kept, probe(observer=peers[0].public_key), peers[0])
    first = take(kept, probe(observer=peers[1].public_key, at_ms=NOW + 1), peers[1], NOW + 1)
    last = take(kept, probe(at_ms=NOW + 1 + KEPT_MS), now=NOW + 1 + KEPT_MS)
    assert [said for said, _ in kept._kept] == [first, last]
    kept._kept *= KEPT
    take(kept, probe(at_ms=last.at_ms + 1), now=last.at_ms + 1)
    assert len(kept) == KEPT


def test_a_full_book_fits_its_file_and_is_read_again() -> None:
    longest = probe(network="n" * 64, addresses=("a" * 64, "b" * 64), rtt_us=60_000_000, at_ms=2**64 - 1)
    kept = ProbeBook("n" * 64, NODE.public_key)
    kept._kept = ((longest, stated(longest)),) * KEPT
    written = kept.to_bytes()
    assert len(written) < 1 << 22
    again = ProbeBook("n" * 64, NODE.public_key)
    again.restore(written)
    assert again._kept == kept._kept and not again.changes


def test_only_what_is_about_this_node_comes_back_from_disk() -> None:
    kept = book()
    take(kept, SAID)
    entry = json.loads(kept.to_bytes())["probes"][0]
    other = ProbeBook("testnet", AGENT.public_key)
    other.restore(kept.to_bytes())
    assert not len(other), "another key's file"
    bad = [{}, {"probe": "?", "signature": "?"}, {"probe": 1, "signature": 2}, 7, None, entry]
    again = book()
    again.restore(json.dumps({"probes": bad}).encode())
    assert again.newest == SAID and len(again) == 1
    for nonsense in (b"", b"{}", b"[]", b"[" * 10_000, b'{"probes": 7}', b"\xff"):
        again = book()
        again.restore(nonsense)
        assert not len(again)
