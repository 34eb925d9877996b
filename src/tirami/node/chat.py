"""Paid answers on this node: who pays, gate, hold, execute, settle. The only way requests for inference are served.

A request may ask for several choices. Each is a session with a trade of its own, but all pass the gate in one decision,
and a prompt is billed once. They run side by side in as many places as are free; a full house serves them in turn.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog

from tirami.core.errors import Conflict, EngineFailed, InvalidRequest, MeshError, NoModel, TiramiError
from tirami.core.keys import PublicKey
from tirami.core.race import first_of
from tirami.core.units import TokenCount, Trm
from tirami.infer import Chunk, Message, ModelCard, Prompt, Sampling, Shaping, Tools
from tirami.ledger import LOCAL, Payer
from tirami.market import InferenceMarket, Meter, Order, Provider
from tirami.node.answer import Answer, ChatStream
from tirami.node.choice import Choice
from tirami.node.engines import EngineRoom, Served
from tirami.proto import MAX_SHAPING

if TYPE_CHECKING:
    from tirami.net.session import Purchase
    from tirami.node.mesh.shop import Shop

T = TypeVar("T")
_log = structlog.get_logger()
Random = Callable[[int], bytes]
Text = str | Sequence[int]
"""A prompt that is no chat: text, or token ids."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What the owner's agent buys, and within which bounds.

    Attributes:
        most: TRM it may cost, at least 1.
        provider: of whom alone; ``None`` for whoever is best.
    """

    most: Trm
    provider: PublicKey | None = None


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A request whose payer is known.

    Attributes:
        model: ``None`` takes any, and so does ``any_name``, whatever is named.
        messages: the chat; empty when there are ``prompts``.
        max_tokens: of each choice; ``None`` takes the default.
        seed: of the first choice, the others count on from it; ``None`` takes a random one. It stands in the quote.
        prompts: instead of a chat, each answered ``choices`` times.
        tools: what the model may or must call.
        logprobs: alternatives to report for each token; ``None`` reports nothing.
    """

    payer: Payer
    model: str | None
    messages: Sequence[Message]
    max_tokens: int | None
    temperature: float
    top_p: float
    top_k: int
    seed: int | None
    request_id: str
    any_name: bool = False
    prompts: Sequence[Text] = ()
    choices: int = 1
    shaping: Shaping = Shaping()
    tools: Tools | None = None
    logprobs: int | None = None
    ticket: bytes | None = None
    """Id of a reservation to use."""
    here: ModelCard | None = None
    """The model of this node that could answer later: peers are asked for that very file, and no shorter an answer."""
    own: bool = False
    """Whether only this node's own engines may answer it, however long they take."""
    errand: Errand | None = None
    """Set for what the owner's agent buys."""

    @property
    def wanted(self) -> str | bytes | None:
        """What peers are asked for: a name, the digest of a file, or anything."""
        return self.model if self.here is None else self.here.digest

    def may_ask(self, provider: Provider) -> bool:
        """Whether it is one that this is to be bought of."""
        only = self.errand.provider if self.errand is not None else None
        return only is None or provider.peer.signal.node == only


@dataclass(frozen=True, slots=True)
class EmbeddingCall:
    """A request for vectors."""

    payer: Payer
    model: str | None
    inputs: Sequence[Text]
    request_id: str
    any_name: bool = False
    dimensions: int | None = None
    """Only the model's own are to be had; an upstream that does not tell its own is asked."""
    ticket: bytes | None = None
    """Id of a reservation to use."""


class Chat:
    """Serves calls on this node's engines through the market."""

    def __init__(self, market: InferenceMarket, engines: EngineRoom, random: Random, meter: Meter) -> None:
        self._market = market
        self._engines = engines
        self._random = random
        self._meter = meter
        self.shop: Shop | None = None
        """Where to buy what cannot be made here, while this node is on a mesh."""

    async def answer(self, call: ChatCall, read: Callable[[Sequence[Chunk]], T]) -> Answer[T]:
        """The whole answer at once, each choice as ``read`` has it (cancel the call to give up).

        Nothing is owed before it is complete, except where it is bought of a peer: that is paid as it comes, and what
        arrived is handed over even if it broke off.

        Raises ``SpendDenied`` (also ``KillSwitchActive`` when the switch was thrown meanwhile), ``RequestError``,
        ``EngineError``, ``QueueFull``, ``StorageUnavailable``.
        """
        async with AsyncExitStack() as stack:
            return await (await self._begin(stack, call, streamed=False)).whole(read)

    async def bought(self, call: ChatCall, read: Callable[[Sequence[Chunk]], T]) -> Answer[T]:
        """The whole answer of a peer, also where this node has the model. Raises what :meth:`answer` does."""
        self._market.check(call.payer)
        if self.shop is None or not self.shop.open:
            raise NoModel("nothing is bought of peers here (mesh.enabled, mesh.consume)")
        async with AsyncExitStack() as stack:
            return await (await self._bought(stack, set(), call, self.shop)).whole(read)

    async def embed(self, call: EmbeddingCall, read: Callable[[Sequence[Chunk]], T]) -> Answer[T]:
        """The vectors at once, as the only choice. Raises what :meth:`answer` does."""
        self._market.check(call.payer, call.ticket)
        async with AsyncExitStack() as stack:
            served = await self._served(stack, call)
            hidden = served.engine.card.hidden
            if hidden and call.dimensions not in (None, hidden):
                raise InvalidRequest(f"vectors of this model have {hidden} dimensions", param="dimensions")
            inputs = [await served.engine.prepare_text(text) for text in call.inputs]
            how = Sampling(max_tokens=0, seed=0, temperature=0.0)
            order = Order(
                call.payer,
                served.engine,
                _joined(inputs),
                how,
                None,
                call.request_id,
                vectors=inputs,
                dimensions=None if hidden else call.dimensions,
                ticket=call.ticket,
            )
            return await (await self._opened(stack, served, [order], [0], streamed=False)).whole(read)

    async def stream(self, call: ChatCall) -> ChatStream:
        """Begin a streamed answer; errors up to the first token are raised here, before any byte is sent."""
        stack = AsyncExitStack()
        try:
            stream = await self._begin(stack, call, streamed=True)
            await stream.choices[0].first()
        except BaseException:
            await stack.aclose()
            raise
        return stream

    async def _begin(self, stack: AsyncExitStack, call: ChatCall, *, streamed: bool) -> ChatStream:
        self._market.check(call.payer, call.ticket)
        if call.ticket is not None and (call.choices > 1 or len(call.prompts) > 1):
            raise InvalidRequest("a ticket is good for one choice", param="n" if call.choices > 1 else "prompt")
        tried: set[PublicKey] = set()
        found = await self.elsewhere(call, partial(self._bought_or_placed, stack, tried))
        if isinstance(found, ChatStream):
            return found
        served = found or await self._served(stack, call)
        engine = served.engine
        if call.prompts:
            prompts = [await engine.prepare_text(text) for text in call.prompts]
        else:
            prompts = [await engine.prepare(call.messages, call.tools, call.shaping.schema)]
        seed = int.from_bytes(self._random(4)) if call.seed is None else call.seed
        orders: list[Order] = []
        answered: list[int] = []
        for number, prompt in enumerate(prompts):
            for choice in range(call.choices):
                how = Sampling(
                    max_tokens=call.max_tokens or 0,
                    seed=(seed + choice) % (1 << 32),
                    temperature=call.temperature,
                    top_p=call.top_p,
                    top_k=call.top_k,
                    shaping=call.shaping,
                    logprobs=call.logprobs,
                )
                billed = choice == 0
                orders.append(
                    Order(
                        call.payer,
                        engine,
                        prompt,
                        how,
                        call.max_tokens,
                        call.request_id,
                        prompt_billed=billed,
                        ticket=call.ticket,
                        again=not orders and call.payer.key in tried,
                    )
                )
                answered.append(number)
        return await self._opened(stack, served, orders, answered, streamed=streamed)

    def shop_for(self, model: str | None, *, any_name: bool = False) -> "Shop | None":
        """Where answers of ``model`` are bought; ``None`` where this node's own engines are to give them."""
        here = self._engines.answers(model, any_name=any_name)
        return self.shop if self.shop is not None and self.shop.open and not here else None

    def crowded(self, model: str | None, *, any_name: bool = False) -> ModelCard | None:
        """The model of this node for which peers are asked before a request waits: all its places are taken."""
        overflows = self.shop is not None and self.shop.overflows
        return self._engines.crowded(model, any_name=any_name) if overflows else None

    async def elsewhere(self, call: ChatCall, buy: "Callable[[ChatCall, Shop], Awaitable[T]]") -> T | None:
        """What ``buy`` has of peers for the call; ``None`` where this node's own engines are to answer.

        Those would only have to be waited for if all places are taken: then no error of ``buy`` is raised.
        Raises ``Conflict`` for a ticket and a model that is not here.
        """
        if call.own:
            return None
        if (shop := self.shop_for(call.model, any_name=call.any_name)) is not None:
            if call.ticket is not None:
                raise Conflict("a ticket is good for the models of this node; a peer would have to answer this")
            return await buy(call, shop)
        here = self.crowded(call.model, any_name=call.any_name)
        if self.shop is None or here is None or call.ticket is not None:
            return None
        try:
            return await buy(replace(call, here=here), self.shop)
        except TiramiError as error:
            _waits(here, error)
            return None

    async def _bought_or_placed(
        self, stack: AsyncExitStack, tried: set[PublicKey], call: ChatCall, shop: "Shop"
    ) -> ChatStream | Served:
        """:meth:`_bought`; or a place here, where this node could answer, too, and that comes before the first piece.

        The purchase is then given up, and nothing is owed for it.
        """
        if (here := call.here) is None:
            return await self._bought(stack, tried, call, shop)

        async def bought() -> ChatStream | Served:
            try:
                return await self._bought(stack, tried, call, shop)
            except TiramiError as error:
                _waits(here, error)
                raise

        async with AsyncExitStack() as place:
            found = await first_of(bought(), self._served(place, call, gentle=True))
            if isinstance(found, Served):
                stack.push_async_exit(place.pop_all())
        return found

    async def _bought(self, stack: AsyncExitStack, tried: set[PublicKey], call: ChatCall, shop: "Shop") -> ChatStream:
        """From a peer: one session, paid as it comes, also where the client gets it at once.

        ``tried`` gets the key of whoever pays when a try is admitted: then the tries that follow are no further spend.
        """
        check_sold(call)
        how = Sampling(
            max_tokens=call.max_tokens or 0,
            seed=int.from_bytes(self._random(4)) if call.seed is None else call.seed,
            temperature=call.temperature,
            top_p=call.top_p,
            top_k=call.top_k,
            shaping=call.shaping,
        )
        failure: TiramiError | None = None
        async with aclosing(shop.offers(call, how)) as offers:
            async for bought, offered in offers:
                order = replace(offered, again=offered.payer.key in tried)
                try:
                    choice = await self._answered(stack, tried, shop, bought, order, or_here=call.here is not None)
                except (EngineFailed, MeshError) as error:  # nothing was delivered, so nothing is owed: the next best
                    failure = error
                else:
                    return ChatStream(bought.card, stack, [choice], None, order.payer.key)
        assert failure is not None, "offers end with an error where there were none"
        raise failure

    async def _answered(
        self,
        stack: AsyncExitStack,
        tried: set[PublicKey],
        shop: "Shop",
        bought: "Purchase",
        order: Order,
        *,
        or_here: bool,
    ) -> Choice:
        """A bought answer whose first chunk is there. Raises ``EngineFailed`` when it does not come; all is undone.

        Where this node could answer, too (``or_here``), an answer without any token is none.
        """
        async with AsyncExitStack() as attempt:
            attempt.callback(shop.ended, bought)
            attempt.push_async_callback(bought.close)
            try:
                (ticket,) = await self._market.begin([order])
            except asyncio.CancelledError:  # it was admitted, and has been given back before it was on disk
                tried.add(order.payer.key)
                raise
            tried.add(order.payer.key)
            attempt.push_async_callback(self._market.cancel, ticket)
            choice = Choice(0, 0, self._market, ticket, streamed=True)
            attempt.enter_context(shop.session())
            await choice.begin(attempt)
            await choice.first()
            if or_here and bought.empty:
                raise EngineFailed("the provider gave no token", retry_after=1)
            stack.push_async_exit(attempt.pop_all())
        return choice

    async def _served(self, stack: AsyncExitStack, call: ChatCall | EmbeddingCall, *, gentle: bool = False) -> Served:
        """An engine with a place at it, kept until ``stack`` is left; ``gentle`` as for :meth:`WaitingRoom.place`."""
        payer, owner = call.payer, call.payer.scope == LOCAL
        used = self._engines.use(call.model, any_name=call.any_name, payer=payer.key, owner=owner)
        served = await stack.enter_async_context(used)
        if call.ticket is not None:
            self._market.reservations.find(call.ticket, payer, served.engine.card.digest)
        place = served.room.place(payer.key, owner=owner, gentle=gentle)
        self._meter.queued(served.engine.card.name, await stack.enter_async_context(place))
        return served

    async def _opened(
        self, stack: AsyncExitStack, served: Served, orders: list[Order], answered: list[int], *, streamed: bool
    ) -> ChatStream:
        """All tickets in one decision; the first choice begins at once."""
        tickets = await self._market.begin(orders)
        for ticket in tickets:
            stack.push_async_callback(self._market.cancel, ticket)
        choices = [
            Choice(index, prompt, self._market, ticket, streamed=streamed)
            for index, (prompt, ticket) in enumerate(zip(answered, tickets, strict=True))
        ]
        await choices[0].begin(stack)
        return ChatStream(served.engine.card, stack, choices, served.room, orders[0].payer.key)


def _waits(here: ModelCard, error: TiramiError) -> None:
    """Say why what is here was not bought."""
    _log.info("overflow_waits", model=here.name, code=error.code, reason=error.message)


def check_sold(call: ChatCall) -> None:
    """Raises ``InvalidRequest`` for what peers are not asked for: no provider is to blame for it."""
    if call.choices > 1 or len(call.prompts) > 1:
        field = "n" if call.choices > 1 else "prompt"
        raise InvalidRequest("peers are asked for one choice of one prompt at a time", param=field)
    if call.logprobs is not None:
        raise InvalidRequest("peers do not sell probabilities", param="logprobs")
    schema = "response_format" if call.tools is None else "tools"
    try:
        call.shaping.check()
    except InvalidRequest as error:
        error.param = schema if error.param == "schema" else error.param
        raise
    if (size := len(call.shaping.canonical())) > MAX_SHAPING:
        message = f"peers are told of an answer's shape in at most {MAX_SHAPING} bytes of JSON, and this has {size}"
        raise InvalidRequest(message, param=schema)


def _joined(inputs: Sequence[Prompt]) -> Prompt:
    """One prompt out of many, for quote and bill."""
    return Prompt(
        tokens=tuple(token for prompt in inputs for token in prompt.tokens),
        count=TokenCount(sum(prompt.count for prompt in inputs)),
        exact=all(prompt.exact for prompt in inputs),
        text="\n".join(prompt.text for prompt in inputs),
        messages=(),
    )
