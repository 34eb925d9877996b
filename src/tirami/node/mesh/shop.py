"""Where this node buys what it cannot make: consent, choice of a provider, its tokenizer, its quote."""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction

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
from tirami.market import DEFAULT_MAX_TOKENS, Order, PeerRegistry, Provider, schedule_score
from tirami.net.blocks import fetch
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.net.session import Purchase, Wanted, purchase

_log = structlog.get_logger()
RETRY_AFTER_S = 5
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
        node: who pays for the owner: local funds do not leave the machine (B14).
    """

    def __init__(
        self,
        config: MeshConfig,
        ledger: Ledger,
        mesh: Mesh,
        peers: PeerRegistry,
        prompters: Prompters,
        node: Payer,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._mesh = mesh
        self._peers = peers
        self._prompters = prompters
        self._node = node
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
        """Who could be asked, the best first; only connected ones, and those the owner agreed to."""
        found = self._peers.providers(model, self._ledger.now())
        allowed = [provider for provider in found if self.objection(provider.peer.signal.node) is None]

        def rank(provider: Provider) -> tuple[Fraction, bytes]:
            cost = provider.candidate.cost(0, tokens)
            return -schedule_score(provider.candidate, cost), provider.peer.signal.node

        return sorted(allowed, key=rank)

    def objection(self, key: bytes) -> str | None:
        """Why this peer is not bought from; ``None`` for no reason."""
        if not self.open:
            return "no prompt leaves this machine (mesh.consume = off)"
        if key in self._denied:
            return "it is on the deny list"
        if self._config.consume == "trusted" and key not in self._trusted:
            return "it is not on the list of trusted providers"
        if PublicKey(key) not in self._mesh.peers:
            return "it is not connected"
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

    async def buy(
        self,
        payer: Payer,
        model: str | None,
        messages: Sequence[Message],
        tools: Tools | None,
        text: str | Sequence[int] | None,
        sampling: Sampling,
        request_id: str,
    ) -> tuple[Purchase, Order]:
        """A checked quote of the best provider that gives one; the next best is asked when it does not.

        Raises ``ModelNotFound``, ``NoModel``, or what the last provider said.
        """
        payer = replace(self._node, permit=payer.permit) if payer.scope == LOCAL else payer
        problem: TiramiError | None = None
        for provider in self.providers(model, sampling.max_tokens or DEFAULT_MAX_TOKENS)[:TRIES]:
            began = time.monotonic()
            key = PublicKey(provider.peer.signal.node)
            try:
                prompter = await self.prompter(provider)
                prompt = await self.prepare(prompter, messages, tools, text)
                how = self._bounded(provider, prompt, sampling, payer)
                peer = self._mesh.peers.get(key)
                if peer is None:
                    continue
                bought = await self._quote(peer, provider, payer, prompt, prompter, how, request_id)
            except (MeshError, TokenizerError, TimeoutError) as error:
                _log.info("provider_passed_over", provider=key.hex(), reason=str(error))
                problem = error if isinstance(error, TiramiError) else problem
                continue
            self._peers.update_latency(key, (time.monotonic() - began) * 1000)
            return bought, Order(
                payer=payer,
                engine=None,
                prompt=prompt,
                sampling=how,
                max_tokens=how.max_tokens,
                request_id=request_id,
                offered=bought.offered,
            )
        if problem is not None:
            raise problem
        if model is None:
            raise NoModel("no model is loaded, and no peer serves one", retry_after=RETRY_AFTER_S)
        raise ModelNotFound(f"the model {model!r} is neither installed nor served by a peer", param="model")

    async def _quote(
        self,
        peer: Peer,
        provider: Provider,
        payer: Payer,
        prompt: Prompt,
        prompter: Prompter,
        sampling: Sampling,
        request_id: str,
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
        return await purchase(stream, wanted, TokenizerCheck(prompter), os.urandom, self._ledger.now())

    def _bounded(self, provider: Provider, prompt: Prompt, sampling: Sampling, payer: Payer) -> Sampling:
        """With a length: what was asked for, or the default, which context, funds and ``mesh.max_trm`` may shorten.

        Raises ``ContextLengthExceeded``, ``InvalidRequest`` when that was asked for and does not fit.
        """
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
