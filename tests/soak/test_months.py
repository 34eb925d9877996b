"""A day of a node's life in minutes: everything its users and its operator do, restarts included, hour after hour.

The clock of the node runs ahead; hours, budgets, token lives and upkeep pass at that pace. Nothing else is changed.
"""

import asyncio
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from tests.processes import NodeProcess
from tests.rows.load import network_file
from tirami.api.schemas import (
    AccountRequest,
    BalanceQuery,
    ChatCompletionRequest,
    ConsistencyQuery,
    KillRequest,
    PolicyRequest,
    RotateRequest,
    SafetyQuery,
    TokenRequest,
    TradeEntry,
    TradesQuery,
    TransferRequest,
)
from tirami.core.errors import BudgetExceeded, InsufficientFunds, InvalidToken, KillSwitchActive, TiramiError
from tirami.core.keys import PublicKey
from tirami.sdk import AsyncTirami, Tirami
from tirami.testing import start_engine
from tirami.verify import verify_consistency, verify_receipt

HOUR_MS = 3_600_000
HOURLY = 400
"""TRM the poorest agent may spend an hour."""
PER_RECORD = 2_000
"""Bytes of memory a record may cost for good: what is flat is everything else."""
SLACK = 12_000_000


@dataclass
class Person:
    """Somebody who asks: the owner has neither account nor token. ``old`` are tokens that must be dead by now."""

    account: str | None
    token: str | None
    old: list[str] = field(default_factory=list)


@dataclass
class Day:
    """The node, its people, and what they have seen of it."""

    node: NodeProcess
    people: list[Person]
    rng: random.Random
    seen: Counter[str] = field(default_factory=Counter)
    paid: dict[str, int] = field(default_factory=dict)
    """trade id → TRM, of answers that arrived whole."""
    head: tuple[int, bytes] | None = None
    memory: list[tuple[int, int]] = field(default_factory=list)
    """(records, resident bytes) at the end of each hour."""


# --- what people do ----------------------------------------------------------------------------------------------


async def ask(day: Day, person: Person) -> None:
    """One question: whole, streamed, or streamed and abandoned."""
    rng = day.rng
    body = {
        "messages": [{"role": "user", "content": f"[[delay_ms=2]] question {rng.random()}"}],
        "max_tokens": rng.randint(5, 90),
        "stream": rng.random() < 0.6,
    }
    request = ChatCompletionRequest.model_validate(body)
    try:
        async with AsyncTirami(day.node.url, token=person.token) as client:
            if not request.stream:
                told = (await client.chat_completions(request)).x_tirami.model_dump()
            else:
                patience = rng.randint(1, 40) if rng.random() < 0.3 else None
                told = await _streamed(client, request, patience)
            if told is None:
                day.seen["left"] += 1
            elif told["trade_id"]:
                day.seen["answered"] += 1
                day.paid[told["trade_id"]] = told["trm_cost"]
    except TiramiError as error:
        day.seen[error.code] += 1
    except (httpx2.TransportError, json.JSONDecodeError):
        day.seen["cut"] += 1


async def _streamed(
    client: AsyncTirami, request: ChatCompletionRequest, patience: int | None
) -> dict[str, object] | None:
    """The bill of a stream; ``None`` for who left after ``patience`` chunks or was cut off."""
    async with aclosing(client.stream_chat(request)) as chunks:  # type: ignore[type-var]
        count = 0
        async for chunk in chunks:
            if "x_tirami" in chunk:
                return dict(chunk["x_tirami"])
            count += 1
            if count == patience:
                return None
    return None


async def live(day: Day, person: Person, until: float) -> None:
    while time.monotonic() < until:
        await ask(day, person)
        await asyncio.sleep(day.rng.uniform(0, 0.15))


async def operate(day: Day, seconds: float) -> None:
    """What an operator does each hour: a kill and its release, a new token for somebody, a gift."""
    token = (day.node.data_dir / "admin.token").read_text().strip()
    async with AsyncTirami(day.node.url, token=token) as admin:
        await asyncio.sleep(seconds * 0.3)
        await admin.kill(KillRequest(activate=True, reason="soak"))
        await asyncio.sleep(min(0.5, seconds / 20))
        await admin.kill(KillRequest(activate=False))
        person = day.rng.choice([person for person in day.people if person.account])
        assert person.token is not None
        listed = (await admin.tokens()).tokens
        (current,) = [entry for entry in listed if entry.node_id == person.account and entry.label != "brief"][-1:]
        fresh = await admin.rotate_token(RotateRequest(token_hash_hex=current.token_hash_hex, grace_secs=60))
        person.old.append(person.token)
        person.token = fresh.token
        brief = await admin.issue_token(
            TokenRequest(scope="read_only", node_id=person.account, ttl_secs=60, label="brief")
        )
        person.old.append(brief.token)
        try:
            await admin.transfer(TransferRequest(to=person.account or "", amount=1))
            day.seen["given"] += 1
        except InsufficientFunds:
            day.seen["nothing to give"] += 1


async def hour(day: Day, seconds: float, ending: str | None) -> None:
    """Load for that long; then, while it goes on, the node is stopped, killed, or left alone."""
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for person in day.people:
            group.create_task(live(day, person, until))
        await operate(day, seconds * 0.9)
        await asyncio.sleep(max(0.0, until - seconds * 0.05 - time.monotonic()))
        day.memory.append((len(day.paid), await asyncio.to_thread(resident, day.node)))
        if ending == "kill":
            day.node.kill()
        elif ending == "stop":
            assert await asyncio.to_thread(day.node.stop) == 0
    if ending is not None:
        await asyncio.to_thread(day.node.start)


def resident(node: NodeProcess) -> int:
    """Bytes in memory after the garbage has been collected."""
    node.process.send_signal(signal.SIGUSR1)
    time.sleep(1)
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


# --- what must hold ----------------------------------------------------------------------------------------------


def check(day: Day) -> None:
    """Sums, holds, history, receipts, tokens."""
    with day.node.admin() as admin:
        wait_idle(admin)
        assert admin.network().sum_of_accounts == 0
        assert admin.log_state().sum_of_accounts == 0
        assert all(entry.reserved == 0 for entry in admin.accounts().accounts), "a hold is left"
        assert not admin.safety(SafetyQuery()).kill_switch_active
        check_history(day, admin)
        for trade in day.rng.sample(sorted(day.paid), min(8, len(day.paid))):
            booked = admin.trade(trade)
            assert booked.applied and booked.trm_amount == day.paid[trade]
            receipt = verify_receipt(admin.trade_receipt(trade), frozenset({PublicKey(bytes.fromhex(booked.provider))}))
            assert receipt.trade.amount == day.paid[trade]
    for person in day.people:
        for token in person.old:
            with day.node.client(token) as late, pytest.raises(InvalidToken):
                late.balance()
        person.old.clear()


def wait_idle(admin: Tirami) -> None:
    deadline = time.monotonic() + 10
    while admin.status().engine.busy or any(entry.reserved for entry in admin.accounts().accounts):
        assert time.monotonic() < deadline, "an answer is still open"
        time.sleep(0.02)


def check_history(day: Day, admin: Tirami) -> None:
    """The log only grows: the newest head contains the one seen an hour ago."""
    now = admin.log_head()
    if day.head is not None and day.head[0]:
        size, root = day.head
        proof = admin.log_consistency(ConsistencyQuery(first=size, second=now.size)).proof
        verify_consistency(size, now.size, root, bytes.fromhex(now.root), [bytes.fromhex(part) for part in proof])
    day.head = now.size, bytes.fromhex(now.root)


def all_trades(admin: Tirami, account: str | None = None) -> list[TradeEntry]:
    found: list[TradeEntry] = []
    cursor = None
    while True:
        page = admin.trades(TradesQuery(node=account, limit=100, cursor=cursor))
        found += page.trades
        cursor = page.next_cursor
        if cursor is None:
            return found


def check_day(day: Day) -> int:
    """Everything that was paid is booked once; the poorest never spent more than it may in any hour."""
    poorest = day.people[-1].account
    with day.node.admin() as admin:
        booked = {trade.id: trade.trm_amount for trade in all_trades(admin)}
        assert {trade: booked.get(trade) for trade in day.paid} == day.paid
        for person in day.people:
            if person.account:
                trades = all_trades(admin, person.account)
                balance = admin.balance(BalanceQuery(node=person.account))
                assert balance.consumed == sum(trade.trm_amount for trade in trades if trade.consumer == person.account)
        spent = sorted((trade.timestamp, trade.trm_amount) for trade in all_trades(admin, poorest))
    for start, _ in spent:
        assert sum(amount for at, amount in spent if start <= at < start + HOUR_MS) <= HOURLY + 90, "one was under way"
    return len(booked)


def check_memory(day: Day, first: int, last: int) -> None:
    """``first`` and ``last`` are hours; both processes had lived through as much."""
    (before, small), (after, large) = day.memory[first - 1], day.memory[last - 1]
    bound = SLACK + (after - before) * PER_RECORD
    assert large - small <= bound, f"hour {first}: {small}, hour {last}: {large}, {after - before} answers between"


# --- the day -----------------------------------------------------------------------------------------------------


def people_of(node: NodeProcess) -> list[Person]:
    """The owner twice, three agents, and one that may spend little."""
    people = [Person(None, None), Person(None, None)]
    with node.admin() as admin:
        for name in ("one", "two", "three", "poor"):
            account = admin.create_account(AccountRequest(label=name)).account
            hourly = HOURLY if name == "poor" else None
            admin.set_policy(PolicyRequest(node_id=account, max_cu_per_hour=hourly, max_cu_lifetime=None))
            token = admin.issue_token(TokenRequest(scope="inference", node_id=account, ttl_secs=None)).token
            people.append(Person(account, token))
    return people


def spend_a_day(home: Path, hours: int, seconds: float, alone: range) -> tuple[Day, int, int]:
    """Hours of that many real seconds each; in the hours of ``alone`` the node is not restarted.

    Returns the day, its trades, and the bytes of the journal afterwards.
    """
    engine = start_engine()
    env = {"FAST_FACTOR": str(3600 / seconds), "FAST_SINCE": str(time.time()), "TIRAMI_API_RATE_PER_SECOND": "9999"}
    options = ("--upstream", engine.url, "--network", str(network_file(home)), "--log-level", "error")
    try:
        with NodeProcess(home, *options, env=env, program="tests.soak.fast_node") as node:
            day = Day(node, people_of(node), random.Random(24))
            for number in range(1, hours + 1):
                ending = None if number in alone else "kill" if number % 2 else "stop"
                asyncio.run(hour(day, seconds, ending))
                check(day)
            trades = check_day(day)
            assert node.stop() == 0
    finally:
        engine.stop()
    return day, trades, sum(path.stat().st_size for path in home.glob("journal.db*"))


def figure(day: Day, trades: int, size: int) -> str:
    seen = ", ".join(f"{count} {what}" for what, count in day.seen.most_common())
    memory = f"{min(rss for _, rss in day.memory) / 1e6:.0f}–{max(rss for _, rss in day.memory) / 1e6:.0f} MB"
    return f"{size / trades:.0f} journal bytes a trade, {trades} trades, memory {memory}; {seen}"


def check_all_happened(day: Day) -> None:
    """A load that was never refused, left or cut off would prove little."""
    for what in ("answered", "left", "cut", BudgetExceeded.code, KillSwitchActive.code, "given"):
        assert day.seen[what], what


@pytest.mark.timeout(180)
def test_three_hours(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    day, trades, size = spend_a_day(tmp_path / "home", 3, 6, range(0))
    record_property("figure", figure(day, trades, size))


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_day(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    day, trades, size = spend_a_day(tmp_path / "home", 24, 28, range(13, 18))
    line = figure(day, trades, size)
    print(line)
    record_property("figure", line)
    check_all_happened(day)
    check_memory(day, 6, 24)
    check_memory(day, 13, 18)
