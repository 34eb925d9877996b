"""Whether a peer's log only grows: each newer head is to begin with the one that was checked before (RFC 6962 §2.1.2).

Two signed heads that contradict each other convict (PROTOCOL B8), and so does a path that leads to the newer head from
another root. A path that leads nowhere proves nothing to others, but is enough to have no more to do with this peer.
Silence is no offence: who does not answer is asked again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import structlog

from tirami.core.clock import Clock
from tirami.core.errors import InvalidProof, MeshError, WireError
from tirami.core.keys import PublicKey
from tirami.ledger import Heads
from tirami.net.frames import FrameReader, FrameWriter, registry
from tirami.net.memory import HEADS, Memory
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.net.transport import Stream
from tirami.net.watch import Watch
from tirami.proto import Cited, ConsistencyProof, ConsistencyWanted, Head, Refused, SignedBody, decode
from tirami.verify.merkle import roots_from_consistency

_log = structlog.get_logger()
ASK_S: Final = 10.0
"""A peer is asked how its log grew this often at most."""
ANSWER_S: Final = 1.0
"""A peer is answered this often at most."""
WAIT_S: Final = 5.0
LOOK_S: Final = 0.5
AT_ONCE: Final = 16
PROVING = registry(ConsistencyProof, Refused)


class Logs:
    """The logs of this node's peers, and its own for those who ask.

    Args:
        alarm: told the key of a peer whose log does not grow from what it was, and why.
    """

    def __init__(
        self,
        heads: Heads,
        memory: Memory,
        watch: Watch,
        mesh: Mesh,
        clock: Clock,
        alarm: Callable[[PublicKey, str], None],
    ) -> None:
        self._own = heads
        self._memory = memory
        self._watch = watch
        self._mesh = mesh
        self._clock = clock
        self._alarm = alarm
        self._checked: OrderedDict[PublicKey, SignedBody] = OrderedDict()
        """The newest head of a peer that grew from those before it."""
        self._newer: dict[PublicKey, tuple[Peer, SignedBody]] = {}
        """Heads that are still to be asked about."""
        self._broken: OrderedDict[PublicKey, str] = OrderedDict()
        self._asked: dict[PublicKey, float] = {}
        self._answered: dict[PublicKey, float] = {}
        mesh.add(self)

    def heard(self, peer: Peer, head: Head, signed: SignedBody) -> None:
        """A head of the peer's own log; its signature has been checked."""
        self._memory.keep(peer.key, signed)
        self._watch.see_all([_cited(signed)])
        checked = self._checked.get(peer.key)
        former = None if checked is None else decode(Head, checked.body)
        if former is None or former.log_id != head.log_id or former.size == 0:
            self._keep(peer.key, signed)
        elif head.size > former.size:
            self._newer[peer.key] = peer, signed

    async def met(self, peer: Peer) -> None:
        """Heads come by gossip."""

    def lost(self, peer: Peer) -> None:
        for known in (self._newer, self._asked, self._answered):
            known.pop(peer.key, None)

    async def run(self) -> None:
        """Until cancelled: ask those whose log has grown, each now and then."""
        while True:
            now = self._clock.monotonic()
            due = [key for key in self._newer if now - self._asked.get(key, -ASK_S) >= ASK_S][:AT_ONCE]
            await asyncio.gather(*(self._check(key) for key in due))
            await asyncio.sleep(LOOK_S)

    async def answer(self, peer: Peer, stream: Stream, wanted: ConsistencyWanted) -> None:
        """A stream on which a peer asks how this node's log grew."""
        writer, now = FrameWriter(stream), self._clock.monotonic()
        published = self._own.published
        if now - self._answered.get(peer.key, -ANSWER_S) < ANSWER_S:
            await writer.write(Refused("rate_limited", "asked too often", round(ANSWER_S)))
        elif published is None or published.head.log_id != wanted.log_id:
            await writer.write(Refused("not_found", "this node has no such log"))
        else:
            self._answered[peer.key] = now
            try:
                path = self._own.consistency(wanted.first, wanted.second)
            except InvalidProof as error:
                await writer.write(Refused(error.code, error.message))
            else:
                await writer.write(ConsistencyProof(tuple(path)))
        await stream.finish()

    async def _check(self, key: PublicKey) -> None:
        grown, checked = self._newer.pop(key, None), self._checked.get(key)
        if grown is None or checked is None:  # the peer was lost meanwhile
            return
        peer, signed = grown
        self._asked[key] = self._clock.monotonic()
        older, newer = decode(Head, checked.body), decode(Head, signed.body)
        try:
            async with asyncio.timeout(WAIT_S):
                path = await _path(peer, older, newer)
        except (MeshError, TimeoutError) as error:
            _log.info("consistency_unanswered", peer=key.hex(), reason=str(error))
            return
        if path is None:
            return
        try:
            old, new = roots_from_consistency(older.size, newer.size, older.root, path)
        except InvalidProof as error:
            self._break(key, error.message)
            return
        if (old, new) == (older.root, newer.root):
            self._keep(key, signed)
            return
        self._watch.see_rewritten(_cited(checked), _cited(signed), old, path)
        self._break(key, f"its {newer.size} leaves do not begin with the {older.size} it had")

    def objection(self, key: PublicKey) -> str | None:
        """Why nobody connects with this key any more, until the next start; ``None`` for no reason."""
        return self._broken.get(key)

    def _break(self, key: PublicKey, reason: str) -> None:
        self._broken[key] = "its log does not grow from what it was"
        while len(self._broken) > HEADS:
            self._broken.popitem(last=False)
        _log.warning("log_inconsistent", peer=key.hex(), reason=reason)
        self._alarm(key, reason)
        self._mesh.shut(key, self._broken[key])

    def _keep(self, key: PublicKey, signed: SignedBody) -> None:
        self._checked[key] = signed
        self._checked.move_to_end(key)
        while len(self._checked) > HEADS:
            self._checked.popitem(last=False)


async def _path(peer: Peer, older: Head, newer: Head) -> tuple[bytes, ...] | None:
    """The peer's own answer; ``None`` when it gives none. Raises ``MeshError``."""
    stream = await peer.connection.open()
    try:
        await FrameWriter(stream).write(ConsistencyWanted(newer.log_id, older.size, newer.size))
        answer = await FrameReader(stream, PROVING).read()
    finally:
        await stream.reset()
    if isinstance(answer, Refused):
        return None
    if not isinstance(answer, ConsistencyProof):
        raise WireError(f"a {type(answer).__name__} is out of place here")
    return answer.path


def _cited(head: SignedBody) -> Cited:
    return Cited("head", head.body, head.signature)
