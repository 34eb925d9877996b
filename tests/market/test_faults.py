"""Begin, execute, settle with something going wrong at every single step: nothing leaks, nothing is billed too much."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest

from tests.ledger.disk import Disk, without_threads
from tests.market.conftest import House, opened_house
from tests.market.scripted import ScriptedEngine, ScriptedGeneration
from tests.market.test_inference import order
from tirami.core.errors import EngineFailed, SpendDenied, StorageUnavailable
from tirami.core.keys import PublicKey, Signature, SigningKey
from tirami.infer import Prompt, Sampling
from tirami.ledger import Payer, countersigner, key_account
from tirami.market import Interrupted

LENGTH = 6
WINDOW = 2
WEALTH = 1_000_000
BOTH = pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])


class FragileEngine(ScriptedEngine):
    """Takes a step of the event loop to open, for each token and to close; raises where ``breaks`` says."""

    def __init__(self) -> None:
        super().__init__(LENGTH)
        self.breaks: str | int | None = None
        self.error: Exception = EngineFailed("scripted")

    def _at(self, place: str) -> None:
        if self.breaks == place:
            raise self.error

    @asynccontextmanager
    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncIterator[ScriptedGeneration]:
        self._at("open")
        await asyncio.sleep(0)
        self._at("opened")
        async with super().generate(prompt, sampling) as generation:
            try:
                yield generation
            finally:
                await asyncio.sleep(0)
                self._at("close")


@dataclass
class Customer:
    """Buys an answer; ``got`` is how many tokens reached it, ``failure`` what ended it."""

    house: House
    payer: Payer
    streamed: bool
    got: int = 0
    failure: BaseException | None = field(default=None)

    async def buy(self) -> None:
        market, wanted = self.house.market, await order(self.house, self.payer, LENGTH)
        ticket = await market.begin_inference(wanted)
        async with market.execute(ticket, ticket.payer.key, streamed=self.streamed) as session:
            async for chunk in session:
                await asyncio.sleep(0)  # on its way
                if self.streamed:
                    self.got = chunk.count
            if self.streamed or session.interrupted is None:
                session.deliver()
            settling = session.settle()
            if not self.streamed and session.interrupted is None:
                self.got = LENGTH
            try:
                settlement = await settling
            except Exception:
                self.got = self.got if self.streamed else 0  # gets an error instead
                raise
            if settlement.denied is not None and not self.streamed:
                self.got = 0

    async def try_to_buy(self) -> None:
        try:
            await self.buy()
        except Exception as error:
            self.failure = error


class Bench:
    """A house whose event loop can be counted, with the bookkeeping of what its agent was billed."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.engine = FragileEngine()
        house.engine = self.engine
        without_threads(house.ledger)
        self._billed = 0

    def customer(self, streamed: bool, payer: Payer | None = None) -> Customer:
        return Customer(self.house, payer or self.house.agent, streamed)

    async def billed(self, *, expired: int = 0) -> int:
        """What was billed since the last call, once everything that must hold has been checked."""
        house, key = self.house, self.house.agent.key
        assert not house.market.live
        assert self.engine.running == 0
        assert await house.ledger.payables.expire_holds(house.market.live) == expired
        assert not house.ledger.state.holds.open
        books, book = house.ledger.books(key), house.ledger.state.book
        assert books.held == 0
        assert books.settled == book.spent(key_account(key))
        assert book.imbalance() == 0
        before, self._billed = self._billed, books.settled
        return self._billed - before


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened_house(tmp_path, voucher_tokens=WINDOW, welcome_limit=WEALTH) as house:
        node, result = house.node, Bench(house)
        yield result
        assert len(asyncio.all_tasks()) == 2, "this test and the journal's writer; no session's work is left"
        digest = house.ledger.state.book.own_state_hash()
    async with opened_house(tmp_path, node=node, voucher_tokens=WINDOW, welcome_limit=WEALTH) as again:
        assert again.ledger.state.book.own_state_hash() == digest, "what was booked is what was written"
        assert not again.ledger.state.holds.open


async def steps(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


# --- cancellation ----------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("insists", [False, True], ids=["once", "and at every step from there"])
async def test_cancelled_after_any_step(bench: Bench, streamed: bool, insists: bool) -> None:
    outcomes = set()
    for step in count():
        customer = bench.customer(streamed)
        buying = asyncio.create_task(customer.buy())
        await steps(step)
        finished = buying.done()
        buying.cancel()
        while insists and not buying.done():
            await asyncio.sleep(0)
            buying.cancel()
        with suppress(asyncio.CancelledError):
            await buying
        assert finished or buying.cancelled()
        assert await bench.billed() == customer.got, f"cancelled after step {step}"
        outcomes.add(customer.got)
        if finished:
            break
    assert step > 20
    assert outcomes == (set(range(LENGTH + 1)) if streamed else {0, LENGTH})


@BOTH
async def test_killed_after_any_step(bench: Bench, streamed: bool) -> None:
    """The switch freezes signing: what was vouched for is billed, at most a window less than what was delivered."""
    for step in count():
        customer = bench.customer(streamed)
        buying = asyncio.create_task(customer.try_to_buy())
        await steps(step)
        finished = buying.done()
        await bench.house.ledger.set_kill(True, "test", "nobody")
        await buying
        billed = await bench.billed()
        allowed = range(max(0, customer.got - WINDOW), customer.got + 1) if streamed else (0, customer.got)
        assert billed in allowed, f"killed after step {step}"
        assert customer.failure is None or isinstance(customer.failure, SpendDenied | Interrupted)
        await bench.house.ledger.set_kill(False, "", "nobody")
        if finished:
            break
    assert step > 20


@BOTH
async def test_stopped_after_any_step(bench: Bench, streamed: bool) -> None:
    for step in count():
        customer = bench.customer(streamed)
        buying = asyncio.create_task(customer.try_to_buy())
        await steps(step)
        finished = buying.done()
        await bench.house.market.stop()
        await buying
        assert await bench.billed() == customer.got, f"stopped after step {step}"
        assert customer.failure is None or isinstance(customer.failure, EngineFailed | Interrupted)
        bench.house.market._stopping = False
        if finished:
            break
    assert step > 20


# --- faults ----------------------------------------------------------------------------------------------------------


@BOTH
async def test_the_disk_refuses_any_group(bench: Bench, monkeypatch: pytest.MonkeyPatch, streamed: bool) -> None:
    """Whatever the disk lost is not billed; the hold it left behind is ended by the next round of upkeep."""
    disk = Disk(bench.house.ledger, monkeypatch)
    for group in count(1):
        customer = bench.customer(streamed)
        disk.refuse = disk.groups + group
        await customer.try_to_buy()
        refused, disk.refuse = disk.groups >= disk.refuse, None
        assert refused == isinstance(customer.failure, StorageUnavailable)
        left = len(bench.house.ledger.state.holds.open)
        billed = await bench.billed(expired=left)
        assert billed <= customer.got
        assert left == 0 or refused
        if not refused:
            assert billed == LENGTH
            break
    assert group >= 3


@BOTH
@pytest.mark.parametrize("error", [EngineFailed("scripted"), RuntimeError("bug")], ids=["engine", "bug"])
@pytest.mark.parametrize("place", ["open", "opened", "close", *range(LENGTH)])
async def test_the_engine_breaks_anywhere(bench: Bench, streamed: bool, place: str | int, error: Exception) -> None:
    bench.engine.error, bench.engine.breaks = error, place
    if isinstance(place, int):
        bench.engine.fail_after = place
    customer = bench.customer(streamed)
    await customer.try_to_buy()
    assert customer.failure is not None
    assert await bench.billed() == customer.got
    before_it_broke = place if isinstance(place, int) and streamed else 0
    assert customer.got == (LENGTH if place == "close" else before_it_broke)


@BOTH
async def test_the_signature_thread_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch, streamed: bool) -> None:
    customer = bench.customer(streamed)
    with monkeypatch.context() as broken:
        broken.setattr(countersigner, "countersigned", lambda *_: (_ for _ in ()).throw(RuntimeError("no memory")))
        await customer.try_to_buy()
    assert isinstance(customer.failure, RuntimeError)
    assert customer.got == (LENGTH if streamed else 0)
    billed = await bench.billed(expired=1)
    assert customer.got - WINDOW <= billed <= customer.got


@dataclass
class Hand:
    """A signer whose ``breaks``-th signature fails."""

    key: SigningKey
    breaks: int
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def public_key(self) -> PublicKey:
        return self.key.public_key

    def sign(self, message: bytes) -> Signature:
        if next(self.numbers) == self.breaks:
            raise RuntimeError("the key is out of reach")
        return self.key.sign(message)


@BOTH
async def test_any_signature_of_the_payer_fails(bench: Bench, streamed: bool) -> None:
    agent = bench.house.agent
    assert isinstance(agent.signer, SigningKey)
    for number in count():
        customer = bench.customer(streamed, replace(agent, signer=Hand(agent.signer, number)))
        await customer.try_to_buy()
        left = len(bench.house.ledger.state.holds.open)
        billed = await bench.billed(expired=left)
        assert customer.got - WINDOW <= billed <= customer.got or not streamed
        if customer.failure is None:
            assert billed == LENGTH
            break
        assert isinstance(customer.failure, RuntimeError)
    assert number >= 2
