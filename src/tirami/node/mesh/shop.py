"""Where this node buys what it cannot make: consent, choice of a provider, its tokenizer, its quote."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import structlog

from tirami.core.config import MeshConfig
from tirami.core.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    MeshError,
    ModelNotFound,
    NoModel,
    TiramiError,
    TokenizerError,
)
from tirami.core.keys import Digest, PublicKey
from tirami.core.units import Trm
from tirami.infer import Count, Message, Prompt, Prompter, Prompters, Sampling, Tools
from tirami.ledger import LOCAL, Ledger, Payer
from tirami.market import DEFAULT_MAX_TOKENS, Order, PeerRegistry, Provider
from tirami.net.blocks import fetch
from tirami.net.mesh import Mesh
from tirami.net.opinions import Opinions
from tirami.net.peer import Peer
from tirami.net.session import IDLE_S, IMPATIENT_S, Purchase, Wanted, purchase
from tirami.node.chat import ChatCall
from tirami.proto import MAX_PROMPT

_log = structlog.get_logger()
RETRY_AFTER_S = 5
LAST_MS = 30_000
"""How long who broke its word comes after all others."""
TRIES = 3
"""Providers asked before a request is given up."""


class TokenizerCheck:
    """Checks pieces with the model's own tokenizer. A :class:`~tirami.net.session.consumer.Checker`."""

    def __init__(self, prompter: Prompter) -> None:
        self._tokenizer = prompter.tokenizer
        self._count = Count(prompter.tokenizer)

    def decode(self, ids: tuple[int, ...]) -> bytes:
        return self._tokenizer.decode(ids)

    def feed(self, data: bytes) -> int:
        return self._count.feed(data)


class Shop:
    """The buying side of one node.

    Args:
        prompters: tokenizers at hand, by digest.
        opinions: told how every answer that was accepted ended.
        node: who pays for the owner: local funds do not leave the machine (B14).
    """

    def __init__(
        self,
        config: MeshConfig,
        ledger: Ledger,
        mesh: Mesh,
        peers: PeerRegistry,
        prompters: Prompters,
        opinions: Opinions,
        node: Payer,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._mesh = mesh
        self._peers = peers
        self._prompters = prompters
        self._opinions = opinions
        self._node = node
        self._broke: dict[bytes, int] = {}
        """When a provider broke its word, Unix milliseconds; of late only."""
        self._trusted = _keys(config.trusted)
        self._denied = _keys(config.denied)
        self.bought = 0
        """Sessions begun."""
        self.running = 0

    @property
    def open(self) -> bool:
        """Whether a prompt may leave this machine at all."""
        return self._config.consume != "off"

    def providers(self, model: str | None, tokens: int) -> list[Provider]:
        """Whom to ask, the best first; only connected ones, and those the owner agreed to.

        Who broke its word of late comes after all others.
        """
        now, connected = self._ledger.now(), self._mesh.peers
        good: list[Provider] = []
        late: list[Provider] = []

        def allowed(key: bytes) -> bool:
            return key in connected and self._refusal(key) is None

        for provider in self._peers.ranked(model, tokens, now, allowed):
            broke = now - self._broke.get(provider.peer.signal.node, -LAST_MS) < LAST_MS
            (late if broke else good).append(provider)
            if len(good) == TRIES:
                break
        return (good + late)[:TRIES]

    def objection(self, key: bytes) -> str | None:
        """Why this peer is not bought from; ``None`` for no reason."""
        missing = None if PublicKey(key) in self._mesh.peers else "it is not connected"
        return self._refusal(key) or missing

    def _refusal(self, key: bytes) -> str | None:
        """The same, were it connected."""
        if not self.open:
            return "no prompt leaves this machine (mesh.consume = off)"
        if key in self._denied:
            return "it is on the deny list"
        if self._ledger.state.succession.ended(key):
            return "its key was rotated or revoked"
        if self._config.consume == "trusted" and key not in self._trusted:
            return "it is not on the list of trusted providers"
        return None

    @contextmanager
    def session(self) -> Iterator[None]:
        """Around one bought answer."""
        self.bought += 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    async def prompter(self, provider: Provider) -> Prompter:
        """The tokenizer of what it serves, fetched from it when no other is at hand. Raises ``TokenizerError``."""
        digest = Digest(provider.offering.tokenizer_digest)
        known = await asyncio.to_thread(self._prompters.get, digest)
        if known is not None:
            return known
        block = await fetch(self._mesh.peers[PublicKey(provider.peer.signal.node)], digest)
        return await asyncio.to_thread(self._prompters.add, block)

    async def prepare(
        self, prompter: Prompter, messages: Sequence[Message], tools: Tools | None, text: str | Sequence[int] | None
    ) -> Prompt:
        """The prompt as ids. Raises ``InvalidRequest``, ``TokenizerError``."""
        if text is None:
            return await prompter.prepare(messages, tools)
        if isinstance(text, str):
            return prompter.prepare_text(text)
        raise InvalidRequest("a prompt of token ids needs the model at hand", param="prompt")

    async def offers(self, call: ChatCall, sampling: Sampling) -> AsyncGenerator[tuple[Purchase, Order], None]:
        """Checked quotes, one after the other, of the best providers that give one; whoever takes one stops here.

        A provider is waited for the shorter if another could be asked. Raises ``ModelNotFound``, ``NoModel``, or what
        the last provider said, where there was no quote at all.
        """
        problem: TiramiError | None = None
        found = self.providers(call.model, sampling.max_tokens or DEFAULT_MAX_TOKENS)
        offered = False
        for number, provider in enumerate(found, 1):
            try:
                offer = await self._offer(provider, call, sampling, IDLE_S if number == len(found) else IMPATIENT_S)
            except (MeshError, TokenizerError, TimeoutError) as error:
                _log.info("provider_passed_over", provider=provider.peer.signal.node.hex(), reason=str(error))
                problem = error if isinstance(error, TiramiError) else problem
                continue
            if offer is not None:
                offered = True
                yield offer
        if offered:
            return
        if problem is not None:
            raise problem
        if call.model is None:
            raise NoModel("no model is loaded, and no peer serves one", retry_after=RETRY_AFTER_S)
        raise ModelNotFound(f"the model {call.model!r} is neither installed nor served by a peer", param="model")

    def ended(self, bought: Purchase) -> None:
        """What was bought is over, however it ended. Who broke its word comes last for a while."""
        provider, now = bought.offered.quote.provider, self._ledger.now()
        if bought.kept is None:
            return
        self._opinions.experienced(provider, good=bought.kept)
        self._broke = {key: at for key, at in self._broke.items() if now - at < LAST_MS and key != provider}
        if not bought.kept:
            self._broke[provider] = now

    async def _offer(
        self, provider: Provider, call: ChatCall, sampling: Sampling, patience_s: float
    ) -> tuple[Purchase, Order] | None:
        """``None`` when it is not connected any more."""
        began, key = time.monotonic(), PublicKey(provider.peer.signal.node)
        payer = call.payer
        payer = replace(self._node, permit=payer.permit) if payer.scope == LOCAL else payer
        prompter = await self.prompter(provider)
        text = call.prompts[0] if call.prompts else None
        prompt = await self.prepare(prompter, call.messages, call.tools, text)
        how = self._bounded(provider, prompt, sampling, payer)
        peer = self._mesh.peers.get(key)
        if peer is None:
            return None
        bought = await self._quote(peer, provider, payer, prompt, prompter, how, call.request_id, patience_s)
        self._peers.update_latency(key, (time.monotonic() - began) * 1000)
        order = Order(
            payer=payer,
            engine=None,
            prompt=prompt,
            sampling=how,
            max_tokens=how.max_tokens,
            request_id=call.request_id,
            offered=bought.offered,
        )
        return bought, order

    async def _quote(
        self,
        peer: Peer,
        provider: Provider,
        payer: Payer,
        prompt: Prompt,
        prompter: Prompter,
        sampling: Sampling,
        request_id: str,
        patience_s: float,
    ) -> Purchase:
        offering = provider.offering
        wanted = Wanted(
            network=self._ledger.network,
            provider=peer.key,
            payer=payer.key,
            model_digest=Digest(offering.model_digest),
            tokenizer_digest=Digest(offering.tokenizer_digest),
            prompt=prompt,
            sampling=sampling,
            most=provider.candidate.price,
            request_id=request_id,
        )
        stream = await peer.connection.open()
        return await purchase(
            stream,
            wanted,
            TokenizerCheck(prompter),
            os.urandom,
            self._ledger.now(),
            self._ledger.restarts.heard,
            patience_s,
        )

    def _bounded(self, provider: Provider, prompt: Prompt, sampling: Sampling, payer: Payer) -> Sampling:
        """With a length: what was asked for, or the default, which context, funds and ``mesh.max_trm`` may shorten.

        Raises ``ContextLengthExceeded``, ``InvalidRequest`` when that was asked for and does not fit.
        """
        if len(prompt.tokens) > MAX_PROMPT:
            message = f"peers are asked with at most {MAX_PROMPT} prompt tokens, these are {prompt.count}"
            raise ContextLengthExceeded(message, param="messages")
        candidate, most = provider.candidate, self._config.max_trm
        room = provider.offering.context_length - prompt.count
        if room < max(1, sampling.max_tokens):
            context = provider.offering.context_length
            raise ContextLengthExceeded(f"{prompt.count} prompt tokens and the answer exceed the context of {context}")
        if sampling.max_tokens:
            cost = candidate.cost(prompt.count, sampling.max_tokens)
            if most and cost > most:
                raise InvalidRequest(f"up to {cost} TRM, and mesh.max_trm is {most}", param="max_tokens")
            return sampling
        bounds = [self._ledger.gate.headroom(payer.key, payer.permit), Trm(most) if most else None]
        within = [candidate.price.tokens_within(bound, prompt.count) for bound in bounds if bound is not None]
        return replace(sampling, max_tokens=max(1, min(DEFAULT_MAX_TOKENS, room, *within)))


def _keys(text: str) -> frozenset[bytes]:
    return frozenset(bytes.fromhex(part.strip()) for part in text.split(",") if part.strip())
