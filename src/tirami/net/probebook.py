"""What peers signed about reaching this node, kept for whoever is to be shown it, over restarts.

Pure: time is handed in. Only what a peer said when it was asked comes in here, and only once: it names this node, this
network, that peer, where it was to call, and a time that is about now and later than that peer's last.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from tirami.core.clock import APART_MS
from tirami.core.errors import InvalidField, InvalidProof, VerificationError
from tirami.core.keys import PublicKey, Signature, verify
from tirami.core.units import DAY_MS, UnixMs
from tirami.net.address import HostPort
from tirami.proto import Probe, SignedBody, decode

KEPT_MS: Final = 30 * DAY_MS
KEPT: Final = 30 * 24 * 6
"""As many as there are in that time: one every ten minutes."""


class ProbeBook:
    """Of one node.

    Args:
        network: id of the network.
        own: the node's key.

    Attributes:
        changes: rises with whatever is worth writing to disk.
    """

    def __init__(self, network: str, own: PublicKey) -> None:
        self._network = network
        self._own = own
        self._kept: tuple[tuple[Probe, SignedBody], ...] = ()
        """In the order they came; replaced as a whole, for it is read and written in another thread."""
        self.changes = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def newest(self) -> Probe | None:
        return self._kept[-1][0] if self._kept else None

    def take(self, stated: SignedBody, peer: PublicKey, asked: Collection[str], now_ms: UnixMs) -> Probe:
        """What a peer said that was asked to call at these addresses. Raises ``VerificationError``."""
        probe = decode(Probe, stated.body)
        if probe.observer != peer:
            raise InvalidProof("a probe of somebody else")
        if abs(probe.at_ms - now_ms) > APART_MS:
            raise InvalidProof("a probe of another time")
        recent = [kept for kept in self._kept if now_ms - KEPT_MS <= kept[0].at_ms <= now_ms + APART_MS]
        if any(other.observer == peer and other.at_ms >= probe.at_ms for other, _ in recent):
            raise InvalidProof("a probe that is not newer than the last one of this peer")
        if not _about(probe.addresses, asked):
            raise InvalidProof("a probe at an address that was not asked about")
        self._check(probe)
        if not verify(peer, Signature(stated.signature), Probe.TAG + stated.body):
            raise InvalidProof("a probe that its observer did not sign")
        self._kept = (*recent, (probe, stated))[-KEPT:]
        self.changes += 1
        return probe

    def _check(self, probe: Probe) -> None:
        """Whom it is about, and that it makes sense. Raises ``InvalidProof``."""
        if (probe.network, probe.observed) != (self._network, self._own) or probe.observer == self._own:
            raise InvalidProof("a probe of another node or network")
        if probe.rtt_us and not probe.reached:
            raise InvalidProof("a probe that reached nobody, and took so long")

    # --- on disk -------------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """JSON of what was signed, byte by byte."""
        probes = [{"probe": _text(stated.body), "signature": _text(stated.signature)} for _, stated in self._kept]
        return json.dumps({"format": "tirami/1/probes", "probes": probes}, indent=1).encode()

    def restore(self, data: bytes) -> None:
        """What an earlier run wrote; what makes no sense is passed over.

        Signatures were checked before they came to disk, and whoever is shown one checks it.
        """
        found = []
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            for entry in json.loads(data)["probes"][-KEPT:]:
                with suppress(ValueError, TypeError, KeyError, VerificationError):
                    stated = SignedBody(*(b64decode(entry[name], validate=True) for name in ("probe", "signature")))
                    probe = decode(Probe, stated.body)
                    self._check(probe)
                    found.append((probe, stated))
        self._kept = tuple(found)


def _about(called: tuple[str, ...], asked: Collection[str]) -> bool:
    """These addresses, or the one the peer saw the question come from, which the asker cannot know."""
    with suppress(InvalidField):
        return set(called) <= set(asked) or (len(called) == 1 and HostPort.parse(called[0]).ip is not None)
    return False


def _text(data: bytes) -> str:
    return b64encode(data).decode()
