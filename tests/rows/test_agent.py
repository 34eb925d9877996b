"""The owner's agent from outside: a buyer and a seller as processes, over QUIC, with the real small model.

The buyer has a model of its own too, behind an upstream; what it buys is the seller's.
"""

import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.rows.mesh import eventually
from tests.rows.rogues import cheat_next, knows, reserved
from tests.rows.test_saf import chat
from tirami.api.schemas import (
    AgentPreferencesRequest,
    AgentStatus,
    AgentTaskReply,
    AgentTaskRequest,
    BalanceQuery,
    ChatCompletionRequest,
    SafetyQuery,
    TradesQuery,
)
from tirami.cli.demo.pair import HONEST, Member
from tirami.cli.demo.process import clean_environment
from tirami.core.errors import AgentDisabled, BadQuote, KillSwitchActive, TiramiError
from tirami.testing import RunningEngine
from tirami.verify import verify_receipt

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]
MODEL = "smollm2:135m"
MOST = 12
ESTIMATE = 30
"""TRM; what MOST tokens and a short prompt cost at most: the price is 1 TRM a token, and a quarter for one read."""
DAILY = 100
KILLS = 6
DAY_S = 86_400
ROGUE = ("tirami.testing.rogue", "honest")


@pytest.fixture(autouse=True)
def same_day() -> None:
    """What a task adds to a day's tally is compared: not while a day ends, UTC."""
    if (left := DAY_S - time.time() % DAY_S) < 120:
        time.sleep(left + 1)


@dataclass
class Stage:
    seller: Member
    buyer: Member
    tasks: list[AgentTaskReply] = field(default_factory=list)

    @property
    def both(self) -> tuple[Member, Member]:
        return self.seller, self.buyer

    @contextmanager
    def lives(self, *programs: tuple[str, ...], **changed: str) -> Iterator[None]:
        """Both run as these programs, and have met."""
        with ThreadPoolExecutor(2) as threads:
            try:
                for member, program in zip(self.both, programs, strict=True):
                    member.program = program
                list(threads.map(Member.start, self.both))
                self.meet()
                yield
            finally:
                list(threads.map(Member.stop, self.both))

    def meet(self) -> None:
        eventually(lambda: knows(self.buyer, self.seller), 120)

    def task(self, **given: object) -> AgentTaskReply:
        reply = self.buyer.client.agent_task(asked(**given))
        self.tasks.append(reply)
        return reply

    def remote(self, **given: object) -> AgentTaskReply:
        return self.task(**{"size": "remote", "estimated_trm": ESTIMATE, "model": MODEL} | given)

    def status(self) -> AgentStatus:
        return self.buyer.client.agent_status()

    def prefer(self, **preferences: object) -> None:
        wanted = {"daily_spend_limit_trm": DAILY, "per_task_budget_trm": ESTIMATE} | preferences
        self.buyer.client.set_agent_preferences(AgentPreferencesRequest.model_validate(wanted))

    def at_rest(self) -> None:
        """Nothing is promised any more, and both books say the same."""
        eventually(lambda: not (reserved(self.buyer) or self.seller.client.mesh().selling.running))
        eventually(lambda: len({member.book.state_hash for member in self.both}) == 1)


def asked(**given: object) -> AgentTaskRequest:
    return AgentTaskRequest.model_validate({"prompt": "Say something.", "max_tokens": MOST} | given)


def stage_of(scratch: Path, engine: RunningEngine) -> Stage:
    """A network that funds both; nobody runs yet."""
    file, environment = scratch / "network.json", clean_environment(scratch)
    shared = {"NETWORK_FILE": str(file), "PRICING_FOLLOW_LOAD": "false", "API_RATE_PER_SECOND": "9999"}
    seller = Member(scratch / "seller", {**shared, "INFER_MODEL": MODEL, "INFER_THREADS": "1"}, environment)
    own = {"INFER_UPSTREAM_URL": engine.url, "INFER_MODELS_DIR": str(scratch / "none"), "AGENT_TICK_INTERVAL_S": "1"}
    buying = {"MESH_CONSUME": "any", "MESH_BOOTSTRAP": seller.address}
    buyer = Member(scratch / "buyer", {**shared, **own, **buying}, environment)
    keys = [member.key.hex() for member in (seller, buyer)]
    parameters = {"witnesses": 1, "quorum": 1, "welcome_limit": 10**6, "unwitnessed_daily_limit": 10**7}
    document = {"format": "tirami/1/network", "id": "errands", "parameters": parameters, "witnesses": keys}
    file.write_text(json.dumps(document | {"issuers": [{"key": key} for key in keys]}))
    return Stage(seller, buyer)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, engine: RunningEngine) -> Iterator[Stage]:
    """With a seller that lies when it is told to."""
    made = stage_of(tmp_path_factory.mktemp("errands"), engine)
    with made.lives(ROGUE, HONEST):
        yield made


@pytest.fixture
def fresh(stage: Stage) -> Stage:
    """As much left of the day as a day has, whatever was spent before."""
    stage.prefer(daily_spend_limit_trm=(stage.status().spent_today_trm or 0) + DAILY)
    return stage


# --- status, task, preferences ---------------------------------------------------------------------------------------


@pytest.mark.row("BEY-02")
def test_status_shows_wallet_day_limits_and_a_loop_that_turns(fresh: Stage) -> None:
    before = fresh.status()
    assert (before.configured, before.wallet, before.wallet_source) == (True, fresh.buyer.key.hex(), "machine_node")
    assert before.day_started_at_ms is not None and 0 <= time.time() * 1000 - before.day_started_at_ms < 1000 * DAY_S
    assert before.day_started_at_ms % (1000 * DAY_S) == 0
    assert before.preferences is not None and before.preferences.per_task_budget_trm == ESTIMATE
    eventually(lambda: fresh.status().loop.ticks > before.loop.ticks)
    ticked = fresh.status().loop
    assert ticked.last_action in ("idle", "start_earning") and ticked.last_tick_ms
    assert (fresh.buyer.key.hex() in before.summary) and "auto-earn on" in before.summary
    line = tirami(fresh.buyer, "agent", "summary")
    assert line.startswith("wallet ")
    assert "auto-spend on" in line and "Per task" in tirami(fresh.buyer, "agent", "status")


@pytest.mark.row("BEY-02")
def test_a_task_runs_here_or_at_a_peer_and_says_what_it_cost(fresh: Stage) -> None:
    before = fresh.status().spent_today_trm or 0
    here = fresh.task()
    assert (here.status, here.provider, bool(here.output), here.tokens) == ("run_local", None, True, MOST)
    assert fresh.status().spent_today_trm == before, "own use is nobody's income"
    there = fresh.remote(peer={"node_id": fresh.seller.key.hex()})
    assert (there.status, there.provider) == ("run_remote", fresh.seller.key.hex())
    assert there.output and there.tokens and there.cost_trm and there.cost_trm <= ESTIMATE
    assert there.trade_ids == (there.trade_id,) and there.x_tirami and there.x_tirami.trm_cost == there.cost_trm
    receipt = verify_receipt(fresh.buyer.client.trade_receipt(str(there.trade_id)))
    assert (receipt.amount, receipt.trade.payer.hex()) == (there.cost_trm, fresh.buyer.key.hex())
    told = fresh.status()
    assert (told.spent_today_trm, told.reserved_today_trm) == (before + there.cost_trm, 0)
    done = json.loads(tirami(fresh.buyer, "agent", "task", "Say hello.", "-n", "3", "--size", "local", "--json"))
    assert (done["status"], done["tokens"]) == ("run_local", 3)


@pytest.mark.row("BEY-02")
def test_the_seller_sees_what_it_earned_today(fresh: Stage) -> None:
    before = fresh.seller.client.agent_status()
    paid = fresh.remote().cost_trm
    assert paid
    eventually(lambda: fresh.seller.client.agent_status().earned_today_trm == (before.earned_today_trm or 0) + paid)


@pytest.mark.row("BEY-02")
@pytest.mark.parametrize(
    ("given", "preferences", "word"),
    [
        ({"estimated_trm": 999}, {}, "per-task"),
        ({"max_tokens": 300, "estimated_trm": None, "size": None}, {}, "this task may cost at most 3"),
        ({}, {"auto_spend_enabled": False}, "auto_spend_enabled"),
        ({"model": "nobody:has"}, {}, "nobody is known"),
        ({"size": "hybrid"}, {}, "name a peer"),
        ({"peer": {"node_id": "ab" * 32}}, {}, "nobody is known"),
    ],
)
def test_the_owner_is_asked_about_the_rest(
    fresh: Stage, given: dict[str, object], preferences: dict[str, object], word: str
) -> None:
    before = fresh.buyer.balance
    daily = (fresh.status().spent_today_trm or 0) + DAILY
    fresh.prefer(daily_spend_limit_trm=daily, **preferences)
    reply = fresh.remote(**given)
    fresh.prefer(daily_spend_limit_trm=daily, auto_spend_enabled=True)
    assert reply.status == "ask_user" and word in str(reply.reason), reply
    assert reply.estimated_cost_trm and reply.output is None
    assert fresh.buyer.balance == before and not reserved(fresh.buyer)


@pytest.mark.row("BEY-02")
def test_preferences_are_kept_and_what_is_wrong_leaves_them(fresh: Stage) -> None:
    before = fresh.status().preferences
    wrong: list[tuple[dict[str, object], str]] = [
        ({"min_peer_reputation": 2.0}, "min_peer_reputation"),
        ({"per_task_budget_trm": 10**6}, "per_task_budget_trm"),
        ({"auto_stake_fraction": 0.5}, "auto_stake_fraction"),
        ({"content_filter": "strict"}, "content_filter"),
    ]
    for changed, named in wrong:
        body = {"auto_earn_enabled": False, **changed}
        url = f"{fresh.buyer.url}/v1/tirami/agent/preferences"
        refused = httpx2.post(url, json=body, headers=bearer(fresh.buyer), trust_env=False)
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, named)
        assert fresh.status().preferences == before
    fresh.buyer.kill()
    fresh.buyer.start()
    assert fresh.status().preferences == before, "they outlive a kill -9"
    fresh.meet()


@pytest.mark.row("BEY-02")
def test_a_node_without_an_agent_says_so(tmp_path: Path, engine: RunningEngine) -> None:
    alone = stage_of(tmp_path, engine).buyer
    try:
        alone.start(AGENT_ENABLED="false")
        status = alone.client.agent_status()
        assert (status.configured, status.wallet, status.loop.ticks) == (False, None, 0)
        with pytest.raises(AgentDisabled):
            alone.client.agent_task(asked())
    finally:
        alone.stop()


# --- what the original gave away -------------------------------------------------------------------------------------


@pytest.mark.row("BEY-02")
def test_no_bearer_is_sent_anywhere_and_no_address_of_a_caller_is_called(fresh: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.1)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}"
        node = {"node_id": fresh.seller.key.hex(), "url": url}
        assert fresh.remote(peer=node).status == "run_remote"
        stranger = fresh.remote(peer={"node_id": "cd" * 32, "url": url})
        assert stranger.status == "ask_user", "its key is not known, so it is not there, whatever its address"
        with pytest.raises(TimeoutError):
            trap.accept()
    body = asked(size="remote").model_dump(exclude_none=True) | {"peer": {**node, "api_token": "secret"}}
    refused = httpx2.post(
        f"{fresh.buyer.url}/v1/tirami/agent/task", json=body, headers=bearer(fresh.buyer), trust_env=False
    )
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "peer.api_token")
    token = bearer(fresh.buyer)["authorization"].split()[1].encode()
    files = b"".join(path.read_bytes() for path in fresh.seller.home.rglob("*") if path.is_file())
    assert token not in files


@pytest.mark.row("BEY-02")
@pytest.mark.parametrize(("cheat", "named"), [("price", "price_out"), ("longer", "max_tokens")])
def test_a_lying_peer_gets_nothing(fresh: Stage, cheat: str, named: str) -> None:
    before, spent = fresh.buyer.balance, fresh.status().spent_today_trm
    cheat_next(fresh.seller, cheat)
    with pytest.raises(BadQuote) as caught:
        fresh.remote()
    assert caught.value.param == named
    cheat_next(fresh.seller, "honest")
    fresh.at_rest()
    told = fresh.status()
    assert (fresh.buyer.balance, told.spent_today_trm, told.reserved_today_trm) == (before, spent, 0)


@pytest.mark.row("BEY-02")
def test_tasks_side_by_side_do_not_pass_the_days_limit(fresh: Stage) -> None:
    spent = fresh.status().spent_today_trm or 0
    fresh.prefer(daily_spend_limit_trm=spent + 2 * ESTIMATE)
    with ThreadPoolExecutor(8) as clients:
        replies = list(clients.map(lambda _: fresh.remote(), range(8)))
    statuses = [reply.status for reply in replies]
    assert 2 <= statuses.count("run_remote") < 8 and set(statuses) == {"run_remote", "ask_user"}
    assert all("daily limit" in str(reply.reason) for reply in replies if reply.status == "ask_user")
    paid = sum(reply.cost_trm or 0 for reply in replies)
    assert (fresh.status().spent_today_trm or 0) - spent == paid <= 2 * ESTIMATE


@pytest.mark.row("BEY-02")
def test_the_first_task_of_the_next_day_is_not_refused(tmp_path: Path, engine: RunningEngine) -> None:
    tomorrow = ("tirami.testing.ahead", str(DAY_S), *HONEST)
    found = stage_of(tmp_path, engine)
    with found.lives(HONEST, HONEST):
        found.prefer(daily_spend_limit_trm=ESTIMATE)
        assert found.remote().status == "run_remote"
        assert "daily limit" in str(found.remote().reason)
    with found.lives(tomorrow, tomorrow):
        assert found.status().spent_today_trm == 0
        assert found.remote().status == "run_remote"


# --- the same money as everybody's -----------------------------------------------------------------------------------

USES = ("agent here", "agent there", "agent asks", "agent denied", "chat here", "chat there", "left")


def use(found: Stage, how: str, most: int) -> None:
    """One request of a kind; whatever it is answered."""
    with suppress(TiramiError):
        match how:
            case "agent here":
                found.task(max_tokens=most)
            case "agent there":
                found.remote(max_tokens=most)
            case "agent asks":
                assert found.remote(max_tokens=most, estimated_trm=1).status == "ask_user"
            case "agent denied":
                assert found.remote(estimated_trm=DAILY).status == "ask_user"
            case "chat here" | "chat there":
                body = chat("Say something.", most).model_dump(exclude_unset=True)
                named = {"model": MODEL} if how == "chat there" else {}
                found.buyer.client.chat_completions(ChatCompletionRequest.model_validate(body | named))
            case "left":
                url, body = f"{found.buyer.url}/v1/tirami/agent/task", asked(size="remote", estimated_trm=ESTIMATE)
                with suppress(httpx2.TimeoutException):
                    content, long = body.model_dump(exclude_none=True), {"max_tokens": 24, "model": MODEL}
                    httpx2.post(url, json=content | long, headers=bearer(found.buyer), timeout=0.3, trust_env=False)


def paid_by_receipts(member: Member, payer: str) -> tuple[int, dict[str, int]]:
    """What this book says the payer has, and TRM by trade that it paid; both signatures of each are verified."""
    page = member.client.trades(TradesQuery(limit=100, scope="network", node=payer))
    assert page.next_cursor is None, "all of them"
    trades = [trade for trade in page.trades if trade.consumer == payer]
    receipts = {trade.id: verify_receipt(member.client.trade_receipt(trade.id)) for trade in trades}
    assert all(receipt.trade.payer.hex() == payer for receipt in receipts.values())
    net = member.client.balance(BalanceQuery(node=payer)).net_balance
    return net, {trade: receipt.amount for trade, receipt in receipts.items()}


@pytest.mark.row("GEN-02")
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(USES), st.integers(1, 20)), min_size=1, max_size=5))
def test_whatever_the_agent_is_asked_every_change_of_a_balance_is_a_record_of_both(
    fresh: Stage, uses: list[tuple[str, int]]
) -> None:
    fresh.prefer(daily_spend_limit_trm=(fresh.status().spent_today_trm or 0) + 5 * ESTIMATE)
    for how, most in uses:
        use(fresh, how, most)
    fresh.at_rest()
    payer = fresh.buyer.key.hex()
    (net, paid), (shown, earned) = paid_by_receipts(fresh.buyer, payer), paid_by_receipts(fresh.seller, payer)
    assert net == shown == -sum(paid.values()) and paid == earned
    by_trade = {trade: task.cost_trm for task in fresh.tasks if task.provider for trade in task.trade_ids or ()}
    assert by_trade.items() <= paid.items(), "what the agent was billed is what is booked"


@pytest.mark.row("L1-09")
def test_killed_at_any_point_of_its_tasks_nothing_stays_reserved_and_no_day_is_passed(
    tmp_path: Path, engine: RunningEngine, record_property: Callable[[str, object], None]
) -> None:
    found, chance = stage_of(tmp_path, engine), random.Random(9)
    told: list[AgentTaskReply] = []
    under_way = 0

    def ask(size: str) -> None:
        with suppress(TiramiError, httpx2.TransportError):
            told.append(found.buyer.client.agent_task(asked(size=size, estimated_trm=ESTIMATE, **named[size])))

    def begun(tasks: list[Future[None]]) -> bool:
        """Something is being bought, or it is too late for that."""
        buying = found.buyer.client.safety(node_of(found.buyer)).open_sessions
        return buying > 0 or all(task.done() for task in tasks)

    named: dict[str, dict[str, object]] = {"local": {}, "remote": {"model": MODEL, "prompt": "Tell a story."}}
    with found.lives(HONEST, HONEST):
        found.prefer()
        found.remote()  # its tokenizer is at hand
        for _ in range(KILLS):
            found.prefer(daily_spend_limit_trm=(found.status().spent_today_trm or 0) + DAILY)
            limit = found.status().preferences
            with ThreadPoolExecutor(6) as clients:
                eventually(partial(begun, [clients.submit(ask, size) for size in ("remote", "local") * 3]))
                time.sleep(chance.uniform(0.0, 1.0))
                under_way += bool(reserved(found.buyer))
                found.buyer.kill()
            found.buyer.start()
            assert reserved(found.buyer) == 0, "the start has ended what the kill left open"
            after = found.status()
            assert limit is not None and after.reserved_today_trm == 0
            assert (after.spent_today_trm or 0) <= limit.daily_spend_limit_trm
            assert found.buyer.book.sum_of_accounts == 0
            found.meet()
        found.at_rest()
        payer = found.buyer.key.hex()
        (net, paid), (shown, earned) = paid_by_receipts(found.buyer, payer), paid_by_receipts(found.seller, payer)
        assert net == shown == -sum(paid.values()) and paid == earned
        assert sum(paid.values()) == found.status().spent_today_trm, "the tally is what was booked"
        done = sum(reply.status.startswith("run_") for reply in told)
        assert under_way, "some were killed in the middle of something"
        ended = f"{done} tasks told before them, {sum(paid.values())} TRM paid in {len(paid)} trades"
        record_property("figure", f"{KILLS} kills, {under_way} with sessions open; {ended}")


@pytest.mark.row("SAF-07", part="the agent; mind optimiser and bank come later")
def test_under_the_kill_switch_the_agent_does_nothing(fresh: Stage) -> None:
    before, spent = fresh.buyer.balance, fresh.status().spent_today_trm
    tirami(fresh.buyer, "safety", "kill", "--reason", "drill")
    try:
        for given in ({"size": "local"}, {"size": "remote"}, {"size": "remote", "estimated_trm": 999}):
            with pytest.raises(KillSwitchActive):
                fresh.task(**{"model": MODEL} | given if given["size"] == "remote" else given)
        ticks = fresh.status().loop.ticks
        eventually(lambda: fresh.status().loop.ticks > ticks)
        assert reserved(fresh.buyer) == 0
    finally:
        tirami(fresh.buyer, "safety", "release")
    assert (fresh.buyer.balance, fresh.status().spent_today_trm) == (before, spent)
    assert fresh.remote().status == "run_remote"


@pytest.mark.row("SAF-07", part="the agent; mind optimiser and bank come later")
def test_a_task_under_way_ends_when_the_switch_is_thrown_and_is_paid_as_far_as_it_came(fresh: Stage) -> None:
    spent = fresh.status().spent_today_trm or 0
    daily = spent + 600
    fresh.prefer(daily_spend_limit_trm=daily, per_task_budget_trm=500)
    replies: list[AgentTaskReply] = []
    body = {"prompt": "Tell me a long story.", "max_tokens": 400, "estimated_trm": 450}
    asking = threading.Thread(target=lambda: replies.append(fresh.remote(**body)))
    asking.start()
    try:
        eventually(lambda: fresh.buyer.client.safety(node_of(fresh.buyer)).open_sessions)
        assert (fresh.status().reserved_today_trm or 0) >= 400
        tirami(fresh.buyer, "safety", "kill")
        asking.join(30)
        assert not asking.is_alive()
    finally:
        tirami(fresh.buyer, "safety", "release")
    fresh.at_rest()
    told = fresh.status()
    assert told.reserved_today_trm == 0 and (told.spent_today_trm or 0) <= spent + 450
    if replies:  # whoever had something signed for is told as far as it came
        assert replies[0].finish_reason in ("killed", "stop")
        assert replies[0].cost_trm == (told.spent_today_trm or 0) - spent


# --- how it is asked -------------------------------------------------------------------------------------------------


def node_of(member: Member) -> SafetyQuery:
    return SafetyQuery(node=member.key.hex())


def bearer(member: Member) -> dict[str, str]:
    return {"authorization": f"Bearer {(member.home / 'admin.token').read_text().strip()}"}


def tirami(member: Member, *arguments: str) -> str:
    command = [sys.executable, "-m", "tirami.cli", *arguments, "--data-dir", str(member.home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
