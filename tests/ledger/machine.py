"""A hypothesis state machine over a real ledger: sessions, transfers, kills, restarts, in any order."""

import asyncio
import os
import shutil
import tempfile
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.ledger.crash import copied
from tests.ledger.described import same
from tests.ledger.promises import Promises
from tests.market.scripted import ScriptedEngine
from tirami.core.errors import ApprovalRequired, EngineFailed, SpendDenied, TiramiError
from tirami.core.keys import PublicKey, SigningKey, journal_key, local_user_key
from tirami.core.units import Ppm, Trm, UnixMs
from tirami.infer import Sampling
from tirami.ledger import (
    LOCAL,
    NETWORK,
    AccountCreated,
    Heads,
    Ledger,
    Payer,
    PolicySet,
    State,
    grant_line,
    key_account,
    transfer,
)
from tirami.ledger.breaker import MAX_ERRORS
from tirami.ledger.safety import refusal
from tirami.market import InferenceMarket, Load, MeteredSession, Order, Ticket
from tirami.proto import NetworkFile
from tirami.verify import verify_consistency

HOURLY = 400
APPROVAL_ABOVE = 120
PROMPT_COST = 2
PER_MINUTE = (3, 8, None)


class StillClock:
    """Stands until moved; may be moved backwards."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def now_ms(self) -> UnixMs:
        return UnixMs(self.now)

    def monotonic(self) -> float:
        return self.now / 1000


class LedgerMachine(RuleBasedStateMachine):
    """Invariants I-01…I-05, I-08, I-15…I-17, I-19, I-22 and the verdict of B8 after every step.

    The gate is judged by a second bookkeeping of its own: what was admitted when, which permits were used, which
    sessions failed; a restart must not change its mind about anything.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.home = Path(tempfile.mkdtemp())
        self.clock = StillClock()
        self.node = SigningKey.generate()
        self.engine = ScriptedEngine()
        self.tickets: list[Ticket] = []
        self.running: list[tuple[Ticket, MeteredSession]] = []
        self.spent: dict[bytes, list[tuple[int, int]]] = {}
        self.admitted: dict[bytes, list[int]] = {}
        self.asked: dict[bytes, tuple[bytes, int]] = {}
        self.using: dict[bytes, bytes] = {}
        self.charged: set[bytes] = set()
        self.heads_seen: list[tuple[int, bytes]] = []
        self.promises, self.promises_until = Promises(), 0

    @initialize()
    def start(self) -> None:
        self.loop.run_until_complete(self._start())
        self.agents = [self.loop.run_until_complete(self._hosted(limit)) for limit in PER_MINUTE]
        user = local_user_key(self.node)
        self.payers = [*self.agents, Payer(user.public_key, user, LOCAL)]

    async def _start(self) -> None:
        self.ledger = Ledger.open(
            self.home / "journal.db",
            network=NetworkFile.regtest(self.node.public_key),
            node=self.node,
            local_user=local_user_key(self.node).public_key,
            clock=self.clock,
            journal_key=journal_key(self.node),
        )
        await self.ledger.start(os.urandom)
        self.heads = Heads(self.ledger, self.node)
        load = Load(follow=False, half_life_ms=1, prompt_ppm=Ppm(250_000))
        self.market = InferenceMarket(self.ledger, self.heads, self.node, load, os.urandom)

    async def _hosted(self, per_minute: int | None) -> Payer:
        key = SigningKey.generate()
        policy = PolicySet(key.public_key, 300, HOURLY, 5_000, APPROVAL_ABOVE, per_minute)
        await self.ledger.record_facts(AccountCreated(key.public_key, "a", b""), policy)
        granted = grant_line(self.ledger, self.node, key.public_key)
        assert granted is not None
        await granted
        return Payer(key.public_key, key, NETWORK)

    # --- what may happen ---------------------------------------------------------------------------------------

    @rule(who=st.integers(0, 3), most=st.integers(1, 250), shown=st.integers(0, 5))
    def begin(self, who: int, most: int, shown: int) -> None:
        """Some show a permit, be it theirs, good, used up or neither."""
        permit = list(self.asked)[-shown] if 0 < shown <= len(self.asked) else b""
        self._begin(self.payers[who], most, permit)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), less=st.integers(0, 3))
    def use(self, data: st.DataObject, less: int) -> None:
        """Ask again for what was asked for, showing the request; it may be approved by now."""
        request = data.draw(st.sampled_from(list(self.asked)))
        account, ceiling = self.asked[request]
        payer = next(payer for payer in self.payers if payer.key == account)
        self._begin(payer, ceiling - PROMPT_COST - less, request)

    def _begin(self, payer: Payer, most: int, permit: bytes) -> None:
        async def run() -> Ticket:
            prompt = await self.engine.prepare([{"role": "user", "content": "a b c d e"}])
            order = Order(replace(payer, permit=permit), self.engine, prompt, Sampling(max_tokens=0, seed=1), most, "r")
            return await self.market.begin_inference(order)

        denials = len(self.ledger.gate.denials.latest(payer.key))
        breaker, now = replace(self.ledger.books(payer.key).breaker), self.ledger.now()
        try:
            ticket = self.loop.run_until_complete(run())
        except SpendDenied as denied:
            assert len(self.ledger.gate.denials.latest(payer.key)) == min(denials + 1, 100)
            if isinstance(denied, ApprovalRequired) and denied.data["approval_id"]:
                ceiling = denied.data["ceiling"]
                assert isinstance(ceiling, int)
                self.asked[bytes.fromhex(str(denied.data["approval_id"]))] = (payer.key, ceiling)
            return
        assert breaker.lets_through(now)
        self.tickets.append(ticket)
        self.admitted.setdefault(payer.key, []).append(ticket.acceptance.at_ms)
        if payer.scope == NETWORK and ticket.ceiling > APPROVAL_ABOVE:
            assert permit not in {*self.using.values(), *self.charged}, "a permit is used once"
            assert self.asked[permit][0] == payer.key and ticket.ceiling <= self.asked[permit][1]
            self.using[ticket.hold_id] = permit

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), approved=st.sampled_from([True, True, False]))
    def decide(self, data: st.DataObject, approved: bool) -> None:
        request = data.draw(st.sampled_from(list(self.asked)))
        try:
            fact = self.ledger.state.settings.approvals.decision(request, approved, "machine", self.ledger.now())
        except TiramiError:
            return
        self.loop.run_until_complete(self.ledger.record_facts(fact))

    @rule(who=st.integers(0, 3), times=st.integers(1, 6))
    def fail(self, who: int, times: int) -> None:
        """The engine dies before its first token, for whoever still gets that far."""
        for _ in range(times):
            before = len(self.tickets)
            self._begin(self.payers[who], 1, b"")
            if len(self.tickets) > before:
                self._fail(self.tickets.pop())

    def _fail(self, ticket: Ticket) -> None:
        key = ticket.payer.key
        before = replace(self.ledger.books(key).breaker)

        async def run() -> None:
            async with self.market.execute(ticket, key, streamed=True) as session:
                async for _ in session:
                    pass

        self.engine.fail_after = 0
        try:
            self.loop.run_until_complete(run())
        except SpendDenied:
            return
        except EngineFailed:
            pass
        finally:
            self.engine.fail_after = None
        after = self.ledger.books(key).breaker
        if not before.cause:
            assert after.errors == before.errors + 1
            assert bool(after.cause) == (after.errors == MAX_ERRORS)
        else:
            assert bool(after.cause), "an error never closes a breaker"

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), tokens=st.integers(0, 200), settle=st.booleans())
    def serve(self, data: st.DataObject, tokens: int, settle: bool) -> None:
        ticket = self.tickets.pop(data.draw(st.integers(0, len(self.tickets) - 1)))
        self.engine.length = 200

        async def run() -> MeteredSession:
            async with self.market.execute(ticket, ticket.payer.key, streamed=True) as session:
                async for chunk in session:
                    if chunk.count > tokens:
                        break
                if settle:
                    await session.settle()
            return session

        try:
            session = self.loop.run_until_complete(run())
        except SpendDenied:
            return  # a switch was thrown between ticket and service
        settlement = session.settlement
        if settlement.cost and ticket.hold_id in self.using:
            self.charged.add(self.using[ticket.hold_id])
        if settlement.trade is not None:
            assert settlement.trade.completion_tokens <= tokens + 1
            if ticket.payer.scope == NETWORK:
                self.spent.setdefault(ticket.payer.key, []).append((ticket.acceptance.at_ms, settlement.cost))

    @precondition(lambda self: self.tickets)
    @rule()
    def cancel(self) -> None:
        self.loop.run_until_complete(self.market.cancel(self.tickets.pop()))

    @rule(who=st.integers(0, 2), amount=st.integers(1, 500))
    def give(self, who: int, amount: int) -> None:
        async def run() -> None:
            _, booked = transfer(self.ledger, self.node, self.agents[who].key, Trm(amount))
            await booked

        try:
            self.loop.run_until_complete(run())
        except SpendDenied:
            pass

    @rule(active=st.booleans())
    def kill(self, active: bool) -> None:
        self.loop.run_until_complete(self.ledger.set_kill(active, "test", "machine"))

    @rule(step=st.integers(-3_600_000, 2_000_000))
    def time_passes(self, step: int) -> None:
        self.clock.now += step

    @rule()
    def expire(self) -> None:
        if self.loop.run_until_complete(self.ledger.payables.expire_holds(self.market.live)):
            self.tickets = [t for t in self.tickets if t.hold_id in self.ledger.state.holds.open]

    @rule()
    def publish(self) -> None:
        head = self.loop.run_until_complete(self.heads.current()).head
        self.heads_seen.append((head.size, head.root))

    @rule(crash=st.booleans())
    def restart(self, crash: bool) -> None:
        before = self.ledger.state.book.own_state_hash()
        for ticket in self.tickets:
            self.loop.run_until_complete(self.market.cancel(ticket))
        self.clock.now = self.ledger.now()
        opinions = self.opinions()
        if crash:
            other = Path(tempfile.mkdtemp())
            copied(self.home, other)
            self.loop.run_until_complete(self.ledger.close())
            shutil.rmtree(self.home)
            self.home = other
        else:
            self.loop.run_until_complete(self.ledger.close())
        self.tickets.clear()
        self.loop.run_until_complete(self._start())
        assert self.ledger.state.book.own_state_hash() == before
        assert not self.ledger.state.holds.open
        assert self.opinions() == opinions, "a restart changes the gate's mind about nothing"
        same(self.ledger)

    def opinions(self) -> list[object]:
        """Everything the gate would say now, and how much it leaves."""
        gate, found = self.ledger.gate, list[object]()
        for payer in self.payers:
            books = self.ledger.books(payer.key)
            means, kill = gate.means(payer.key), self.ledger.state.settings.kill
            found += [books.breaker, books.velocity, means.available, means.disabled]
            for amount in (1, APPROVAL_ABOVE, 250, HOURLY + 1):
                denied = refusal(kill, means, books, Trm(amount), self.ledger.now())
                found.append(denied and (denied.code, denied.data))
        return [*deepcopy(found), deepcopy(self.ledger.state.settings.approvals)]

    # --- what must hold ----------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_created(self) -> None:
        if hasattr(self, "ledger"):
            book = self.ledger.state.book
            assert book.imbalance() == 0
            assert book.minted == book.burned == 0
            assert sum(book.balances().values()) == 0

    @invariant()
    def nobody_is_below_its_line(self) -> None:
        for agent in getattr(self, "agents", ()):
            account = key_account(agent.key)
            assert self.ledger.state.book.net(account) >= -self.ledger.state.book.limit(agent.key)

    @invariant()
    def reservations_are_open_tickets(self) -> None:
        if hasattr(self, "ledger"):
            held = sum(hold.opened.ceiling for hold in self.ledger.state.holds.open.values())
            assert held == sum(ticket.ceiling for ticket in self.tickets)

    @invariant()
    def budgets_hold_in_every_window(self) -> None:
        for key, spends in self.spent.items():
            assert PublicKey(key)
            for at, _ in spends:
                window = sum(amount for other, amount in spends if at - 3_600_000 < other <= at)
                assert window <= HOURLY

    @invariant()
    def no_more_spends_a_minute_than_allowed(self) -> None:
        for agent, limit in zip(getattr(self, "agents", ()), PER_MINUTE, strict=False):
            times = self.admitted.get(agent.key, [])
            for at in times[-3:]:
                window = sum(at - 60_000 < other <= at for other in times)
                assert limit is None or window <= limit
            if times:
                assert self.ledger.books(agent.key).velocity.count(times[-1]) == sum(
                    times[-1] - 60_000 < other <= times[-1] for other in times
                ), "denials are not spends"

    @invariant()
    def the_queue_is_bounded(self) -> None:
        if hasattr(self, "ledger"):
            approvals = self.ledger.state.settings.approvals
            assert len(approvals.by_id) <= 100

    @invariant()
    def a_permit_is_free_unless_it_is_in_use_or_was_charged(self) -> None:
        if not hasattr(self, "ledger"):
            return
        approvals = self.ledger.state.settings.approvals
        open_now = {name: permit for name, permit in self.using.items() if name in self.ledger.state.holds.open}
        assert not self.charged & approvals.by_id.keys()
        for permit, approval in approvals.by_id.items():
            assert approval.holds == {name for name, used in open_now.items() if used == permit}
        self.using = open_now

    @invariant()
    def fold_from_zero_is_the_book(self) -> None:
        if hasattr(self, "ledger"):
            state = State(self.ledger.network)
            for record in self.ledger.state.records:
                from tirami.ledger import admit

                admitted = admit(record.envelope, self.ledger.network)
                state.book.add(admitted.record_id, admitted.demand)
            assert state.book.own_state_bytes() == self.ledger.state.book.own_state_bytes()

    @invariant()
    def every_head_is_a_prefix(self) -> None:
        log = getattr(self, "ledger", None) and self.ledger.state.log
        for size, root in self.heads_seen[-3:]:
            assert log is not None
            verify_consistency(size, log.size, root, log.root(), log.consistency(size, log.size))

    @invariant()
    def nobody_can_be_convicted(self) -> None:
        if hasattr(self, "ledger"):
            self.loop.run_until_complete(self.ledger.durable())
            self.promises_until = self.promises.read(self.ledger, self.promises_until)
            assert not self.promises.verdicts()

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            try:
                self.loop.run_until_complete(self.ledger.close())
            except TiramiError:
                pass
        self.loop.close()
        shutil.rmtree(self.home, ignore_errors=True)
