"""``kill -9`` at random points of a paid, streaming load: what a client saw settled is in the book, once."""

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from tests.processes import NodeProcess
from tirami.api.schemas import (
    AccountRequest,
    ChatCompletionRequest,
    ConsistencyQuery,
    PolicyRequest,
    TokenRequest,
    TradesQuery,
)
from tirami.core.errors import TiramiError
from tirami.core.keyfile import load_or_create_node_key
from tirami.sdk import AsyncTirami, Tirami
from tirami.testing import start_engine
from tirami.verify import verify_consistency

WINDOW = 64
CLIENTS = 4


@dataclass
class Customer:
    """One agent that asks one thing after another, and what it saw."""

    account: str
    token: str
    acknowledged: dict[str, int] = field(default_factory=dict)
    """trade id → tokens, of answers whose last chunk arrived."""
    interrupted: int | None = None
    """Tokens received of the answer that was cut off, if one was."""

    async def ask(self, url: str, rng: random.Random) -> None:
        most = rng.randint(10, 260)
        prompt = f"[[delay_ms=1]] question {rng.random()}"
        body = ChatCompletionRequest.model_validate(
            {"messages": [{"role": "user", "content": prompt}], "max_tokens": most, "seed": 1}
        )
        received = 0
        try:
            async with AsyncTirami(url, token=self.token) as client:
                async for chunk in client.stream_chat(body):
                    choice = chunk["choices"][0] if chunk["choices"] else {"delta": {}}
                    received += bool(choice["delta"].get("content"))
                    trade = chunk.get("x_tirami", {}).get("trade_id")
                    if trade is not None:
                        self.acknowledged[trade] = received
                        return
        except (httpx2.TransportError, TiramiError, json.JSONDecodeError):
            pass
        self.interrupted = received


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    running = start_engine()
    yield running.url
    running.stop()


def network_file(home: Path) -> Path:
    """A regtest whose lines are large enough for a long load."""
    key, _ = load_or_create_node_key(home / "node.key")
    node = key.public_key.hex()
    path = home / "network.json"
    path.write_text(
        json.dumps(
            {
                "format": "tirami/1/network",
                "id": "soak",
                "parameters": {"welcome_limit": 10_000_000, "witnesses": 1, "quorum": 1},
                "issuers": [{"key": node, "daily_lines": 100}],
                "witnesses": [node],
            }
        )
    )
    return path


def customers(node: NodeProcess) -> list[Customer]:
    result = []
    with node.admin() as admin:
        for i in range(CLIENTS):
            account = admin.create_account(AccountRequest(label=f"agent {i}")).account
            admin.set_policy(
                PolicyRequest(
                    node_id=account,
                    max_cu_per_request=None,
                    max_cu_per_hour=None,
                    max_cu_lifetime=None,
                    human_approval_threshold=None,
                    max_spends_per_minute=None,
                )
            )
            token = admin.issue_token(TokenRequest(scope="inference", node_id=account, ttl_secs=None)).token
            result.append(Customer(account, token))
    return result


async def load_until_killed(node: NodeProcess, people: list[Customer], rng: random.Random) -> tuple[int, str] | None:
    """Run the load for a random while, then kill the node. Returns the head served last."""
    head: tuple[int, str] | None = None

    async def customer(person: Customer) -> None:
        while person.interrupted is None:
            await person.ask(node.url, rng)

    async def auditor() -> None:
        nonlocal head
        async with AsyncTirami(node.url) as client:
            while True:
                served = await client.log_head()
                head = served.size, served.root
                await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(customer(person)) for person in people]
    watch = asyncio.create_task(auditor())
    await asyncio.sleep(rng.uniform(0.05, 0.8))
    node.kill()
    watch.cancel()
    await asyncio.gather(*tasks, watch, return_exceptions=True)
    return head


def trades_of(client: Tirami, account: str) -> dict[str, int]:
    found: dict[str, int] = {}
    cursor = None
    while True:
        page = client.trades(TradesQuery(node=account, limit=100, cursor=cursor))
        for trade in page.trades:
            assert trade.id not in found
            assert trade.applied
            found[trade.id] = trade.tokens_processed
        cursor = page.next_cursor
        if cursor is None:
            return found


def check_books(node: NodeProcess, people: list[Customer], booked_before: dict[str, set[str]]) -> None:
    with node.admin() as admin:
        assert admin.network().sum_of_accounts == 0
        for entry in admin.accounts().accounts:
            assert entry.reserved == 0, "no hold is open after a restart"
        for person in people:
            booked = trades_of(admin, person.account)
            for trade, tokens in person.acknowledged.items():
                assert booked[trade] == tokens
            cut_off = set(booked) - set(person.acknowledged) - booked_before[person.account]
            assert len(cut_off) <= 1
            received = person.interrupted or 0
            charged = sum(booked[trade] for trade in cut_off)
            assert received - WINDOW <= charged <= received, (received, charged)
            booked_before[person.account] |= cut_off
            person.interrupted = None


def check_history(node: NodeProcess, head: tuple[int, str] | None) -> None:
    if head is None:
        return
    with node.client() as client:
        now = client.log_head()
        proof = client.log_consistency(ConsistencyQuery(first=head[0], second=now.size))
        verify_consistency(
            head[0], now.size, bytes.fromhex(head[1]), bytes.fromhex(now.root), [bytes.fromhex(p) for p in proof.proof]
        )


def run(tmp_path: Path, engine: str, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    home = tmp_path / "home"
    home.mkdir()
    node = NodeProcess(home, "--upstream", engine, "--network", str(network_file(home)), "--log-level", "warning")
    with node:
        people = customers(node)
        booked_before: dict[str, set[str]] = {person.account: set() for person in people}
        cut = 0
        for _ in range(rounds):
            head = asyncio.run(load_until_killed(node, people, rng))
            cut += sum(1 for person in people if person.interrupted)
            node.start()
            check_books(node, people, booked_before)
            check_history(node, head)
        print(f"{rounds} kills, {cut} answers cut off, {sum(len(p.acknowledged) for p in people)} settled")


@pytest.mark.timeout(300)
def test_kill_at_twenty_points(tmp_path: Path, engine: str) -> None:
    run(tmp_path, engine, rounds=20, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(2400)
def test_kill_at_two_hundred_points(tmp_path: Path, engine: str) -> None:
    run(tmp_path, engine, rounds=200, seed=2)


def test_a_second_node_on_the_same_directory_is_refused(tmp_path: Path, engine: str) -> None:
    with NodeProcess(tmp_path / "home", "--upstream", engine) as node:
        command = [sys.executable, "-m", "tirami.cli", "start", "--data-dir", str(node.data_dir), "--port", "0"]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert second.returncode == 1
        assert str(node.process.pid) in second.stderr
        assert node.stop() == 0
