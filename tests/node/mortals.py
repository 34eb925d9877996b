"""Two whole nodes that can die at any step of the event loop, or at any commit of their journals, and come back.

What they come back with is what their files held just then. Journal and signatures are written inside the loop, so that
its steps can be counted and files are whole between them. Whatever a node does after its death reaches nobody.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ledger.crash import copied
from tests.ledger.disk import without_threads
from tests.ledger.promised import judged
from tests.market.scripted import CARD, ScriptedEngine
from tests.net.session.conftest import Words
from tests.node.nodes import config, count_in_numbers, network_file
from tests.node.trades import paid_between
from tirami.core.errors import TiramiError
from tirami.core.keys import SigningKey
from tirami.infer import FinishReason
from tirami.ledger import Evidence, grant_line
from tirami.market import Settlement
from tirami.net.frames import FrameWriter
from tirami.net.session import consumer, provider
from tirami.net.session.terms import window
from tirami.node.chat import ChatCall
from tirami.node.mesh import MeshService, opened_mesh
from tirami.node.parts import Parts, open_parts
from tirami.proto import Accept, Acceptance, Cited, Message, Payment, Piece, Trade, amount_due, cited_in, decode
from tirami.testing import Link, MemoryNetwork, VirtualClock, VirtualTimeLoop

PROMPT = 3
MEET_S = 120
GONE_S = 30
"""After which whoever hears nothing of a node has given it up."""
RICH = 10**7


class SteppedLoop(VirtualTimeLoop):
    """Calls :attr:`strike` between two steps, after so many."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.strike_at: int | None = None
        self.strike: Callable[[], None] = lambda: None

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]
        self.steps += 1
        if self.strike_at is not None and self.steps >= self.strike_at:  # also after no step: drawn once in 150 times
            self.strike_at = None
            self.strike()


def run_stepped(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=SteppedLoop) as runner:
        runner.run(main)


@dataclass
class Session:
    """One bought answer, as both sides lived it."""

    sent: int = 0
    """Tokens the seller has handed out."""
    got: int = 0
    """Tokens that reached the buyer's client."""


class Wire:
    """What left either node while it lived."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.promises: list[Cited] = []
        """All that the buyer has signed and sent."""
        self.sessions: dict[tuple[int, int], Session] = {}
        """By incarnation and number."""
        self.now = Session()
        self.dead: set[str] = set()
        monkeypatch.setattr(consumer, "FrameWriter", self._tapped("buyer"))
        monkeypatch.setattr(provider, "FrameWriter", self._tapped("seller"))

    def _tapped(self, name: str) -> type[FrameWriter]:
        wire = self

        class Tapped(FrameWriter):
            async def write(self, message: Message) -> None:
                if name not in wire.dead:
                    wire._said(message)
                await super().write(message)

        return Tapped

    def _said(self, message: Message) -> None:
        match message:
            case Accept():
                body = message.acceptance.body
                accepted = decode(Acceptance, body)
                self.now = self.sessions[accepted.incarnation, accepted.number] = Session()
                self.promises.append(Cited("acceptance", body, message.acceptance.signature))
            case Payment():
                self.promises.append(Cited("trade", message.trade.body, message.trade.signature))
            case Piece():
                self.now.sent = message.count


class Mortal:
    """The node of one key, in one life after the other."""

    def __init__(
        self, name: str, home: Path, network: Path, memory: MemoryNetwork, machine: int = 0, **flags: object
    ) -> None:
        self.name = name
        self.home = home
        self._network = network
        self._memory = memory
        self._machine = machine
        self._flags = flags
        self.lives = 0

    async def rise(self) -> None:
        self._life = AsyncExitStack()
        opened = open_parts(config(self.home, self._network, **self._flags), VirtualClock())
        self.parts: Parts = await self._life.enter_async_context(opened)
        without_threads(self.parts.ledger)
        endpoint = self._memory.endpoint(self.parts.key.public_key, machine=self._machine)
        self.mesh: MeshService = await self._life.enter_async_context(opened_mesh(self.parts, endpoint))
        self.mesh.desk._canon = lambda _: Words()  # the scripted engine has no tokenizer
        self.lives += 1

    def copy(self, name: str) -> Path:
        """Its files as they lie there."""
        return copied(self.home, self.home.with_name(f"{self.name}-{name}"))

    def twin(self, home: Path) -> "Mortal":
        """Another machine with a copy of its files as they are now, key and all."""
        return Mortal(self.name, copied(self.home, home), self._network, self._memory, self._machine + 1, **self._flags)

    def on_commit(self, tell: Callable[[], None], *, before: bool) -> None:
        """Called for every commit of its journal in this life, right before or right after it."""
        journal = self.parts.ledger._journal
        write = journal._write

        def writes(rows: list[Any]) -> None:
            if before:
                tell()
            write(rows)
            if not before:
                tell()

        journal._write = writes  # type: ignore[method-assign]

    def die(self) -> None:
        """Between two steps, or at a commit: what its files hold now is all that is left of it."""
        self._left = self.copy(str(self.lives))

    async def bury(self) -> None:
        """Let go of what is still running, without a word: the dead settle nothing."""
        await self.mesh.mesh._endpoint.close()
        await self.end()
        shutil.rmtree(self.home)
        self.home = self._left

    async def end(self) -> None:
        """Stop in order."""
        await self._life.aclose()

    @property
    def incarnation(self) -> int:
        return self.parts.ledger.state.holds.incarnation

    @property
    def promises(self) -> int:
        """Sessions that are not over."""
        state = self.parts.ledger.state
        return len(state.holds.open) + len(state.claims.open)

    @property
    def state(self) -> bytes:
        return self.parts.ledger.state.book.own_state_hash()


class Pair:
    """A seller of scripted answers and a buyer."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, link: Link) -> None:
        self.loop = asyncio.get_running_loop()
        assert isinstance(self.loop, SteppedLoop)
        rich = {"welcome_limit": RICH, "unwitnessed_daily_limit": RICH, "welcome_hours": RICH}
        file, _ = network_file(home, ("seller", "buyer"), **rich)
        count_in_numbers(monkeypatch)
        self.wire = Wire(monkeypatch)
        self.memory = MemoryNetwork(seed=1, link=link)
        self.seller = Mortal("seller", home / "seller", file, self.memory)
        self.buyer = Mortal("buyer", home / "buyer", file, self.memory, **{"mesh.consume": "any"})
        self.engine = ScriptedEngine()

    @property
    def nodes(self) -> tuple[Mortal, Mortal]:
        return self.seller, self.buyer

    async def rise(self, *who: Mortal) -> None:
        for node in who or self.nodes:
            await node.rise()
            if node is self.seller:
                node.parts.engines.serve(self.engine)
            self.wire.dead.discard(node.name)
        self.buyer.mesh.mesh.keep(self.seller.mesh.mesh.address())

    async def meet(self, *, equal: bool = True) -> None:
        """Until both see each other and the buyer what there is to buy, and have told each other everything."""
        async with asyncio.timeout(MEET_S):
            while not (list(self.buyer.mesh.shop.providers(CARD.name, 1)) and self.seller.mesh.mesh.peers):
                await asyncio.sleep(0.01)
        if equal:
            await self.equal()

    async def buy(self, most: int = 24, leave_at: int | None = None) -> Settlement | None:
        """Have a client of the buyer ask for an answer; it may go before the end."""
        messages = [{"role": "user", "content": "one two three"}]
        payer = self.buyer.parts.payers.node
        call = ChatCall(payer, CARD.name, messages, most, 0.0, 1.0, 0, 1, "r")
        async with await self.buyer.parts.chat.stream(call) as stream:
            async for chunk in stream:
                if self.buyer.name not in self.wire.dead:
                    self.wire.now.got = chunk.count
                await asyncio.sleep(0)  # on its way
                if leave_at is not None and chunk.count >= leave_at:
                    return None
            choice = stream.choices[0]
            choice.deliver()
            return await choice.settle()

    async def bought(self, most: int = 24) -> None:
        """A whole answer, if need be at the second try: of two connections at once one has just ended."""
        async with asyncio.timeout(MEET_S):
            while True:
                try:
                    settlement = await self.buy(most)
                    assert settlement is not None and settlement.reason is FinishReason.LENGTH, settlement
                    return
                except TiramiError:
                    await asyncio.sleep(1)

    async def earns(self, amount: int) -> None:
        """The buyer comes to own so much, from somebody with a line."""
        patron, ledger = SigningKey.generate(), self.seller.parts.ledger
        granted = grant_line(ledger, self.seller.parts.key, patron.public_key)
        assert granted is not None
        await granted
        await ledger.book_record(paid_between(ledger, patron, self.buyer.parts.key, amount))[1]
        await self.equal()

    async def equal(self) -> None:
        """Until nothing is promised any more and both books say the same."""
        async with asyncio.timeout(MEET_S):
            while self.seller.state != self.buyer.state or any(node.promises for node in self.nodes):
                await asyncio.sleep(0.05)

    # --- death ---------------------------------------------------------------------------------------------------

    async def struck(self, work: Coroutine[Any, Any, object], step: int, victims: tuple[Mortal, ...]) -> bool:
        """Run ``work`` and let ``victims`` die after so many steps; whether it was still running then."""
        assert isinstance(self.loop, SteppedLoop)
        self._begin(work, victims)
        self.loop.strike, self.loop.strike_at = self._strike, self.loop.steps + step
        return await self._stricken

    async def struck_at_commit(
        self, work: Coroutine[Any, Any, object], commit: int, victim: Mortal, *, before: bool
    ) -> bool:
        """Run ``work`` and let ``victim`` die with this commit of its journal, counted from 1.

        Args:
            before: the commit does not come about; else it is the last thing that does.
        """
        self._begin(work, (victim,))
        left = commit

        def strike() -> None:
            nonlocal left
            left -= 1
            if not left:
                self._strike()

        victim.on_commit(strike, before=before)
        return await self._stricken

    def _begin(self, work: Coroutine[Any, Any, object], victims: tuple[Mortal, ...]) -> None:
        self._stricken: asyncio.Future[bool] = self.loop.create_future()
        self._running, self._victims = asyncio.create_task(work), victims

    def _strike(self) -> None:
        for victim in self._victims:
            victim.die()
            self.wire.dead.add(victim.name)
        self.memory.partition([[self.seller.parts.key.public_key], [self.buyer.parts.key.public_key]])
        self._stricken.set_result(not self._running.done())

    async def back(self, victims: tuple[Mortal, ...], *, silent: bool) -> None:
        """The dead are buried and rise; the other one learns of it by silence, or because the link breaks at once."""
        keys = self.seller.parts.key.public_key, self.buyer.parts.key.public_key
        if silent:
            await asyncio.sleep(GONE_S)
        else:
            self.memory.drop(*keys)
        if self.buyer in victims:
            self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        for victim in victims:
            await victim.bury()
        self.memory.drop(*keys)
        self.memory.heal()
        await self.rise(*victims)

    # --- what must hold ---------------------------------------------------------------------------------------------

    def check(self, *, forgotten: bool = False) -> None:
        """Once both have met and are quiet.

        Args:
            forgotten: whether somebody was put back from an old copy, and may have had to begin a new incarnation.
        """
        for node in self.nodes:
            ledger = node.parts.ledger
            book, holds = ledger.state.book, ledger.state.holds
            assert book.imbalance() == 0 and sum(book.balances().values()) == 0
            assert not node.promises
            assert all(books.held == 0 for books in holds.all_books())
            assert not ledger.state.settings.convicted
            assert forgotten or node.incarnation == 0
        paid = sum(self.paid().values())
        for node in self.nodes:
            net = [node.parts.ledger.balance(one.parts.key.public_key).net for one in self.nodes]
            assert net == [paid, -paid], "one bill a session, the highest that was signed by both"
        self.nobody_is_guilty()

    def paid(self) -> dict[tuple[int, int], int]:
        """By the buyer, TRM by incarnation and number of the session."""
        paid: dict[tuple[int, int], int] = {}
        for stored in self.seller.parts.ledger.state.records:
            trade = stored.body
            if isinstance(trade, Trade) and trade.payer == self.buyer.parts.key.public_key:
                session = trade.incarnation, trade.session
                paid[session] = max(paid.get(session, 0), trade.amount)
        return paid

    def nobody_is_guilty(self) -> None:
        """By the oracle of PROTOCOL, and by the index: of all the buyer ever sent, and of all that either booked."""
        evidence = Evidence(self.buyer.parts.ledger.network.id)
        records = [piece for one in self.seller.parts.ledger.state.records for piece in cited_in(one.envelope)]
        trades = [piece for piece in records if piece.kind == "trade"]
        own = [one for one in trades if decode(Trade, one.body).payer == self.buyer.parts.key.public_key]
        assert judged(self.wire.promises + own) is None
        for piece in self.wire.promises + records:
            assert evidence.see(piece) is None

    def lost(self) -> int:
        """The most the seller lost with one session, TRM, beyond the price of the prompt; the buyer never any (B11)."""
        price, paid = self.seller.parts.load.price(CARD.active_parameters), self.paid()
        assert paid.keys() <= self.wire.sessions.keys()

        def worth(tokens: int) -> int:
            return amount_due(price.prompt, price.completion, PROMPT, tokens) if tokens else 0

        k = window(self.seller.parts.ledger.network.parameters, price.completion)
        prompt = amount_due(price.prompt, 0, PROMPT, 1)
        most = 0
        for debit, session in self.wire.sessions.items():
            due = paid.get(debit, 0)
            assert due <= worth(session.got), "the buyer pays for nothing it has not received"
            loss = worth(session.sent) - due
            assert loss <= prompt + k, f"{session}, {due} TRM paid: more is lost than the prompt and K"
            most = max(most, loss - prompt)
        return most


@asynccontextmanager
async def pair(home: Path, monkeypatch: pytest.MonkeyPatch, link: Link | None = None) -> AsyncIterator[Pair]:
    made = Pair(home, monkeypatch, link or Link())
    await made.rise()
    await made.meet()
    try:
        yield made
    finally:
        for node in made.nodes:
            await node.end()
