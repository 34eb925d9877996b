"""Observations of providers among peers: signed by who made them, passed on once by everybody who can weigh them."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from tirami.core.errors import WireError
from tirami.core.keys import PublicKey, Signature, Signer, verify
from tirami.core.units import UnixMs
from tirami.market import Reputation
from tirami.net.mesh import FAN_OUT, Mesh
from tirami.net.peer import Peer
from tirami.proto import Message, Observation, ObservationSeen, SignedBody, decode, encode, sign

TELL_S: Final = 5.0
"""What was experienced meanwhile is told at once; the trade it weighs by has gone ahead."""
AT_MEETING: Final = 256
KEPT: Final = 4_096
"""Observations kept as they came, to tell a newcomer."""


class Opinions:
    """Tells what this node experienced, and passes on what others did.

    Args:
        network: id of the network.
        latency_ms: smoothed, of a provider.
        now: wall time, as the ledger has it.
    """

    def __init__(
        self,
        mesh: Mesh,
        reputation: Reputation,
        node: Signer,
        network: str,
        latency_ms: Callable[[bytes], int],
        now: Callable[[], UnixMs],
    ) -> None:
        self._mesh = mesh
        self._reputation = reputation
        self._node = node
        self._network = network
        self._latency_ms = latency_ms
        self._now = now
        self._due: dict[bytes, None] = {}
        self._known: OrderedDict[tuple[bytes, bytes], ObservationSeen] = OrderedDict()
        mesh.on_message(ObservationSeen, self._heard)
        mesh.add(self)

    def experienced(self, provider: bytes, *, good: bool) -> None:
        """An answer bought of this provider is over."""
        self._reputation.experienced(provider, good=good)
        self._due[provider] = None

    async def met(self, peer: Peer) -> None:
        for message in list(self._known.values())[-AT_MEETING:]:
            peer.send(message)

    def lost(self, peer: Peer) -> None:
        """Nothing is kept of a peer."""

    async def run(self) -> None:
        """Until cancelled: tell what is due."""
        while True:
            await asyncio.sleep(TELL_S)
            due, self._due = self._due, {}
            for provider in due:
                observation = self._own(provider)
                message = ObservationSeen(SignedBody(encode(observation), sign(observation, self._node)))
                self._keep(observation, message)
                self._mesh.pass_on(message)

    def _own(self, provider: bytes) -> Observation:
        score, sessions = self._reputation.own_view(provider)
        return Observation(
            network=self._network,
            observer=self._node.public_key,
            subject=provider,
            score_ppm=score,
            sessions=sessions,
            latency_ms=self._latency_ms(provider),
            at_ms=self._now(),
        )

    async def _heard(self, peer: Peer, message: Message) -> None:
        assert isinstance(message, ObservationSeen)
        body, signature = message.observation.body, Signature(message.observation.signature)
        observation = decode(Observation, body)
        if observation.network != self._network or not self._reputation.is_news(observation, self._now()):
            return  # before the signature: what weighs nothing costs nothing
        if not verify(PublicKey(observation.observer), signature, Observation.TAG + body):
            raise WireError("an observation that its observer did not sign")
        if not self._reputation.take(observation, self._now()):
            return
        self._keep(observation, message)
        self._mesh.pass_on(message, but=(peer.key, observation.observer), most=FAN_OUT)

    def _keep(self, observation: Observation, message: ObservationSeen) -> None:
        pair = (observation.observer, observation.subject)
        self._known[pair] = message
        self._known.move_to_end(pair)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
