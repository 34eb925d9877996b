"""Where this node buys what it cannot make: consent, choice of a provider, its tokenizer, its quote."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice
from typing import TypeVar

import structlog

from tirami.core.clock import APART_MS, apart
from tirami.core.config import MeshConfig
from tirami.core.errors import (
    BadQuote,
    ConnectionLost,
    ContextLengthExceeded,
    InvalidRequest,
    MeshError,
    PeerRefused,
    PeerUnreachable,
    TiramiError,
    TokenizerError,
)
from tirami.core.keys import Digest, PublicKey
from tirami.core.units import Trm
from tirami.infer import MetadataBlock, Prompt, Prompter, Prompters, Sampling
from tirami.ledger import AGENT, LOCAL, Ledger, Payer
from tirami.market import DEFAULT_MAX_TOKENS, Order, PeerRegistry, Provider, schedule_score
from tirami.net import blocks
from tirami.net.dialler import Dialler
from tirami.net.mesh import Mesh
from tirami.net.opinions import Opinions
from tirami.net.peer import Peer
from tirami.net.session import Purchase, Wanted, purchase
from tirami.node.chat import ChatCall
from tirami.node.mesh.consent import Consent
from tirami.node.mesh.goods import Goods
from tirami.node.mesh.inquiry import TRIES, Inquiry, unserved
from tirami.node.mesh.tokenizers import TokenizerCheck
from tirami.proto import MAX_PROMPT, Offering

T = TypeVar("T")
_log = structlog.get_logger()
LAST_MS = 30_000
"""How long who broke its word, or gave none, comes after all others."""
CLEARLY = Fraction(3, 2)
"""So many times as good is who is called although somebody connected serves the model."""
OTHER_FILE = (
    "it uses another network file, or another version of tirami reads the same one otherwise: join with"
    " `tirami invite`, pass --network, or upgrade the older"
)


class Shop:
    """The buying side of one node.

    Args:
        dialler: calls who is not connected.
        prompters: tokenizers at hand, by digest.
        opinions: told how every answer that was accepted ended.
        node: who pays for the owner: local funds do not leave the machine (B14).
        goods: what this node knows of models itself.
    """

    def __init__(
        self,
        config: MeshConfig,
        ledger: Ledger,
        mesh: Mesh,
        peers: PeerRegistry,
        dialler: Dialler,
        prompters: Prompters,
        opinions: Opinions,
        node: Payer,
        goods: Goods,
    ) -> None:
        self._config = config
        self._consent = Consent(config, ledger)
        self._ledger = ledger
        self._mesh = mesh
        self._peers = peers
        self._dialler = dialler
        self._prompters = prompters
        self._opinions = opinions
        self._node = node
        self._goods = goods
        self._broke: dict[bytes, int] = {}
        """When a provider broke its word, or gave none, Unix milliseconds; of late only."""
        self.bought = 0
        """Sessions begun."""
        self.running = 0

    @property
    def open(self) -> bool:
        """Whether a prompt may leave this machine at all."""
        return self._consent.given

    @property
    def overflows(self) -> bool:
        """Whether this node would rather buy what is here as well than let a request wait for a place."""
        return self._config.overflow and self.open

    def providers(self, model: str | bytes | None, tokens: int) -> Iterator[Provider]:
        """Whom to ask, each found when it is asked for: connected ones, then who would be called, the best first.

        Only those the owner agreed to; what is not what it says is left out; who broke its word of late comes last.
        Of those who would be called, whoever spoke of their addresses take turns.
        """
        late: list[Provider] = []
        connected = self._ranked(model, tokens, self._mesh.peers.__contains__)
        called = self._dialler.in_turn(self._ranked(model, tokens, self._callable), _key)
        for provider in chain(connected, called):
            if self._is_late(provider):
                late.append(provider)
            else:
                yield provider
        yield from late

    def _ranked(
        self, model: str | bytes | None, tokens: int, within: Callable[[PublicKey], bool]
    ) -> Iterator[Provider]:
        def allowed(key: bytes) -> bool:
            return within(PublicKey(key)) and self.refusal(key) is None

        for provider in self._peers.ranked(model, tokens, self._ledger.now(), allowed):
            if (fault := self.fault(provider.offering)) is not None:
                _log.info("offering_passed_over", provider=provider.peer.signal.node.hex(), reason=fault)
            else:
                yield provider

    def _is_connected(self, provider: Provider) -> bool:
        return _key(provider) in self._mesh.peers

    def _callable(self, key: PublicKey) -> bool:
        return key not in self._mesh.peers and self._dialler.obstacle(key) is None

    def _is_late(self, provider: Provider) -> bool:
        return self._ledger.now() - self._broke.get(provider.peer.signal.node, -LAST_MS) < LAST_MS

    def awaited(self) -> str:
        """The first of those this node stays with and would buy from that is not reached, or has said nothing yet."""
        for key in self._mesh.kept:
            if self.refusal(key) is None and self._peers.get(key) is None:
                state = "has not said yet what it sells" if key in self._mesh.peers else "is not reached"
                return f"peer {key.hex()[:16]} {state}"
        return ""

    def fault(self, offering: Offering) -> str | None:
        """Why this is bought from nobody; ``None`` for no reason. Raises ``ModelLoadError`` for unreadable pins."""
        return self._goods.fault(offering)

    def objection(self, key: bytes) -> str | None:
        """Why this peer is not bought from; ``None`` for no reason."""
        node = PublicKey(key)
        return self.refusal(key) or (None if node in self._mesh.peers else self._dialler.obstacle(node))

    def refusal(self, key: bytes) -> str | None:
        """The same, were there a connection: what the owner's rules or the other's say against it."""
        peer = self._mesh.peers.get(PublicKey(key))
        if peer is not None and peer.hello is not None and peer.hello.network_hash != self._ledger.network.hash:
            return OTHER_FILE  # whom its file funds, this one need not: it would refuse every purchase
        if peer is not None and _is_of_another_hour(peer):
            return f"its clock is {apart(peer.ahead_ms or 0)} ours"
        return self._consent.refusal(key)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Around one bought answer."""
        self.bought += 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    async def prompter(self, provider: Provider, silence_s: float = blocks.SILENCE_S) -> Prompter:
        """The tokenizer of what it serves, fetched when it is not at hand. Raises ``TokenizerError``, ``MeshError``."""
        digest = Digest(provider.offering.tokenizer_digest)
        known = await asyncio.to_thread(self._prompters.get, digest)
        if known is not None:
            return known
        return await asyncio.to_thread(self._prompters.add, await self._block(provider, digest, silence_s))

    def offers(self, call: ChatCall, sampling: Sampling) -> AsyncGenerator[tuple[Purchase, Order], None]:
        """Checked quotes, one after the other, of the best providers that give one; whoever takes one stops here.

        Whose context or price does not fit is passed over, and so is, within bounds, who is not reached. A provider is
        waited for the shorter if another could be asked. Raises ``ModelNotFound``, ``NoModel``; ``InvalidRequest`` or
        ``ContextLengthExceeded`` where nobody fits, or what the last provider that was reached said, else why the first
        was not, where there was no quote at all; ``SpendDenied`` where this node could answer, too, and
        the payer may not buy.
        """
        return self._found(call, sampling, self._offer)

    async def foreseen(self, call: ChatCall, sampling: Sampling) -> tuple[Provider, Order]:
        """Who would be asked first, and for what, at the price it signed last.

        Nobody is asked for a quote. The prompt is cut as the call will have it cut, so a tokenizer that is not at hand
        is fetched, and whose is of no use is passed over. Raises what :meth:`offers` raises.
        """
        async with aclosing(self._found(call, sampling, self._foresee)) as found:
            return await anext(found)

    async def _found(
        self,
        call: ChatCall,
        sampling: Sampling,
        ask: Callable[[Provider, Inquiry], Awaitable[T | None]],
    ) -> AsyncGenerator[T, None]:
        """What ``ask`` has of one provider after the other; nothing is an error.

        It says ``None`` of a provider that does not fit. Who fails it with ``MeshError`` or ``TokenizerError`` is
        passed over, and was asked; who was not reached was not.
        """
        tokens = sampling.max_tokens or DEFAULT_MAX_TOKENS
        found = filter(call.may_ask, self.providers(call.wanted, tokens))
        most = Trm(self._config.max_trm)
        inquiry = Inquiry(call, sampling, most, found, self._is_connected, self._estranged())
        problem: MeshError | TokenizerError | None = None
        had = False
        while (provider := inquiry.next()) is not None:
            if not inquiry.begun:
                self._call_better(provider, inquiry)
            began = time.monotonic()
            try:
                await self._reach(provider, inquiry.call_patience_s())
            except PeerUnreachable as error:
                inquiry.called_in_vain(time.monotonic() - began)
                problem = problem or error
                self._pass_over(provider, error)
                continue
            try:
                told = await ask(provider, inquiry)
            except (MeshError, TokenizerError) as error:
                inquiry.asked, problem = inquiry.asked + 1, error
                self._pass_over(provider, error)
                continue
            if told is None:
                inquiry.misfits.append(provider)
            else:
                inquiry.asked, had = inquiry.asked + 1, True
                yield told
        if not had:
            known = filter(call.may_ask, self._ranked(call.wanted, tokens, lambda _: True))
            self._dialler.seek(map(_key, known))  # for the next request
            raise problem or inquiry.refusal(self.awaited())

    def unserved(self, model: str | None) -> TiramiError:
        """What to say where nobody sells this; ``None`` is any model."""
        return unserved(model, self._estranged(), self.awaited())

    def _estranged(self) -> int:
        """Connected peers whose clocks are of another hour."""
        return sum(map(_is_of_another_hour, self._mesh.peers.values()))

    def ended(self, bought: Purchase) -> None:
        """What was bought is over, however it ended. Who broke its word comes last for a while."""
        provider = bought.offered.quote.provider
        if bought.kept is None:
            if bought.empty:  # no blame, but who says nothing should not be asked first by everybody
                self._note(provider, broke=True)
            return
        self._opinions.experienced(provider, good=bought.kept)
        self._note(provider, broke=not bought.kept)

    def _pass_over(self, provider: Provider, error: MeshError | TokenizerError) -> None:
        """It gives no quote. Who said why keeps its place; who gave no word, or a false one, comes last for a while."""
        key = provider.peer.signal.node
        _log.info("provider_passed_over", provider=key.hex(), reason=error.message)
        if not isinstance(error, PeerRefused | PeerUnreachable):  # who is not there has its turn in the address book
            self._note(key, broke=True)

    def _note(self, provider: bytes, *, broke: bool) -> None:
        now = self._ledger.now()
        self._broke = {key: at for key, at in self._broke.items() if now - at < LAST_MS and key != provider}
        if broke:
            self._broke[provider] = now

    def _call_better(self, chosen: Provider, inquiry: Inquiry) -> None:
        """Have somebody called who is clearly better than who is asked now: the next request finds it connected."""
        tokens = inquiry.sampling.max_tokens or DEFAULT_MAX_TOKENS
        found = filter(inquiry.call.may_ask, self._ranked(inquiry.call.wanted, tokens, self._callable))
        better = next((one for one in found if inquiry.fits(one) and not self._is_late(one)), None)
        if better is not None and _score(better, tokens) > CLEARLY * _score(chosen, tokens):
            self._dialler.wish(_key(better))

    async def _reach(self, provider: Provider, patience_s: float) -> None:
        """Be connected to it. Raises ``PeerUnreachable``, also for what is known only then."""
        peer = await self._dialler.reach(_key(provider), patience_s)
        if (refusal := self.refusal(peer.key)) is not None:
            raise PeerUnreachable(f"nothing is bought from the provider: {refusal}")

    async def _offer(self, provider: Provider, inquiry: Inquiry) -> tuple[Purchase, Order] | None:
        """``None`` when the prompt, cut by its tokenizer, does not fit. Raises ``MeshError``, ``TokenizerError``."""
        if (cut := await self._cut(provider, inquiry)) is None:
            return None
        prompter, order = cut
        began = time.monotonic()
        bought = await self._quote(provider, order, prompter, inquiry.patience_s())
        self._peers.update_latency(provider.peer.signal.node, (time.monotonic() - began) * 1000)
        return bought, replace(order, offered=bought.offered)

    async def _foresee(self, provider: Provider, inquiry: Inquiry) -> tuple[Provider, Order] | None:
        cut = await self._cut(provider, inquiry)
        return None if cut is None else (provider, cut[1])

    async def _cut(self, provider: Provider, inquiry: Inquiry) -> tuple[Prompter, Order] | None:
        """Its tokenizer, and what is asked of it; ``None`` when the prompt does not fit. Raises what that does."""
        call = inquiry.call
        prompter = await self.prompter(provider, min(inquiry.patience_s(), blocks.SILENCE_S))
        self._goods.learn(Digest(provider.offering.tokenizer_digest), prompter.size)
        if (field := prompter.size.contradicted(provider.offering)) is not None:
            raise BadQuote(f"the model's own metadata says something else than the provider: {field}", param=field)
        prompt = await self._prompt(provider, inquiry, prompter)
        payer = self._paying(call.payer)
        asker = payer if call.here is None else call.payer
        how = inquiry.bounded(provider, self._ledger.gate.headroom(asker.key, asker.permit))
        if not inquiry.fits(provider, how.max_tokens):
            return None
        if call.here is not None:
            self._check_funds(payer, provider.candidate.cost(prompt.count, how.max_tokens))
        order = Order(payer, None, prompt, how, how.max_tokens, call.request_id)
        return prompter, order if call.errand is None else replace(order, purpose=AGENT)

    def _check_funds(self, payer: Payer, most: Trm) -> None:
        """Raises ``SpendDenied`` and leaves no trace: it is no more than a reason to wait for a place here."""
        if (denied := self._ledger.gate.foreseen(payer.key, most)) is not None:
            raise denied

    def _paying(self, payer: Payer) -> Payer:
        """The node pays for its owner."""
        return replace(self._node, permit=payer.permit) if payer.scope == LOCAL else payer

    def _peer(self, key: bytes) -> Peer:
        """Raises ``ConnectionLost``."""
        peer = self._mesh.peers.get(PublicKey(key))
        if peer is None:
            raise ConnectionLost("the provider is not connected any more")
        return peer

    async def _block(self, provider: Provider, digest: Digest, silence_s: float) -> MetadataBlock:
        """From the provider; where it has no time, from others that serve what is cut by the same tokenizer."""
        own, refused = provider.peer.signal.node, None
        for key in islice(chain([own], self._having(digest, own)), TRIES):
            try:
                return await blocks.fetch(self._peer(key), digest, silence_s)
            except PeerRefused as error:
                refused = refused or error
        assert refused is not None, "the provider was asked"
        raise refused

    def _having(self, digest: Digest, but: bytes) -> Iterator[bytes]:
        """Other peers that have this block: they serve a model with it."""
        for key in list(self._mesh.peers):
            known = self._peers.get(key)
            serves = known is not None and any(one.tokenizer_digest == digest for one in known.signal.models)
            if serves and key != but and self.objection(key) is None:
                yield key

    async def _prompt(self, provider: Provider, inquiry: Inquiry, prompter: Prompter) -> Prompt:
        """The prompt as ids. Raises ``RequestError``, ``TokenizerError``."""
        call, digest = inquiry.call, provider.offering.tokenizer_digest
        text = call.prompts[0] if call.prompts else None
        if (prompt := inquiry.prompts.get(digest)) is None:
            if text is None:
                prompt = await prompter.prepare(call.messages, call.tools)
            elif isinstance(text, str):
                prompt = prompter.prepare_text(text)
            else:
                raise InvalidRequest("a prompt of token ids needs the model at hand", param="prompt")
            inquiry.prompts[digest] = prompt
        if len(prompt.tokens) > MAX_PROMPT:
            message = f"peers are asked with at most {MAX_PROMPT} prompt tokens, these are {prompt.count}"
            raise ContextLengthExceeded(message, param="messages")
        return prompt

    async def _quote(self, provider: Provider, order: Order, prompter: Prompter, patience_s: float) -> Purchase:
        offering, peer = provider.offering, self._peer(provider.peer.signal.node)
        wanted = Wanted(
            network=self._ledger.network,
            provider=peer.key,
            payer=order.payer.key,
            model_digest=Digest(offering.model_digest),
            tokenizer_digest=Digest(offering.tokenizer_digest),
            prompt=order.prompt,
            sampling=order.sampling,
            most=provider.candidate.price,
            request_id=order.request_id,
            size=prompter.size,
        )
        try:
            async with asyncio.timeout(patience_s):
                stream = await peer.places.open()
        except TimeoutError as error:
            raise ConnectionLost(f"no place at the provider for {patience_s:g} s") from error
        return await purchase(
            stream,
            wanted,
            TokenizerCheck(prompter.tokenizer),
            os.urandom,
            self._ledger.now(),
            self._ledger.restarts.heard,
            patience_s,
        )


def _is_of_another_hour(peer: Peer) -> bool:
    """Whether neither side would believe what the other dates."""
    return peer.ahead_ms is not None and abs(peer.ahead_ms) > APART_MS


def _key(provider: Provider) -> PublicKey:
    return PublicKey(provider.peer.signal.node)


def _score(provider: Provider, tokens: int) -> Fraction:
    return schedule_score(provider.candidate, provider.candidate.cost(0, tokens))
