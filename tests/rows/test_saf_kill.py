"""The kill, kind by kind: nothing of what it stops is signed or booked, whichever way it is asked for.

``killed`` says of every kind what the kill does to it. Loans, stakes, votes and the bridge are no kinds yet: each will
come as a record, entries, operations or messages of its own, and these tests fail until it stands in those tables.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.market.scripted import CARD, ScriptedEngine
from tests.net.session.conftest import Words
from tests.node.nodes import Node, count_in_numbers, network_file, node
from tests.node.test_guests import post
from tests.rows.killed import (
    ASKED,
    BOOKED,
    HEARD,
    SIGN_FOR_OTHERS,
    SIGNED,
    SIGNERS,
    STOPPED,
    kinds_of_entries,
    kinds_of_records,
    may_sign,
    promised,
)
from tests.rows.test_saf import callers
from tests.waiting import until
from tirami.api import BY_NAME, OPERATIONS
from tirami.api.openapi import openapi
from tirami.core.errors import ConnectionLost, PeerRefused
from tirami.core.keys import PublicKey, Signature, SigningKey, sha256
from tirami.core.units import TokenCount
from tirami.infer import Prompt, Sampling
from tirami.ledger import Entry, PolicySet, grant_line
from tirami.market import Order
from tirami.net.invites import Invitation, show
from tirami.net.session import Purchase, Wanted, purchase
from tirami.proto import MESSAGES, Envelope, Successor
from tirami.testing import MemoryNetwork

# --- nothing is forgotten ----------------------------------------------------------------------------------------


@pytest.mark.row("SAF-01", part="every kind there is; loans, stakes, votes and the bridge are none yet")
def test_of_every_kind_it_is_said_whether_the_kill_stops_it() -> None:
    assert set(SIGNED) == kinds_of_records()
    assert set(BOOKED) == kinds_of_entries()
    assert set(HEARD) == set(MESSAGES)
    assert set(ASKED) == {operation.name for operation in OPERATIONS if operation.method != "GET"}


def test_whoever_signs_is_known_and_signs_what_the_tables_name() -> None:
    assert set(callers("sign", "signed")) == set(SIGNERS) | SIGN_FOR_OTHERS
    assert set(SIGNERS.values()) == set(SIGNED)


# --- every operation ---------------------------------------------------------------------------------------------


@dataclass
class Witness:
    """Sees what a node signs with its own keys, and what it books, from now on."""

    at: Node
    own: set[bytes]
    since: int
    signed: list[tuple[PublicKey, bytes]] = field(default_factory=list)

    def entries(self) -> list[Entry]:
        ledger = self.at.parts.ledger
        return [ledger._journal.entry(seq) for seq in range(self.since + 1, ledger.seq + 1)]

    async def check(self) -> None:
        """Nothing of it is what the kill stops."""
        assert await self.at.parts.ledger.durable()
        assert promised(self.entries(), self.own) == []
        assert [message[:32] for key, message in self.signed if key in self.own and not may_sign(message, key)] == []


def witness(at: Node, monkeypatch: pytest.MonkeyPatch) -> Witness:
    ledger, payers = at.parts.ledger, at.parts.payers
    own = {bytes(payers.owner.key), bytes(payers.node.key), *ledger.state.settings.accounts}
    seen = Witness(at, own, ledger.seq)
    sign = SigningKey.sign

    def spied(self: SigningKey, message: bytes) -> Signature:
        seen.signed.append((self.public_key, message))
        return sign(self, message)

    monkeypatch.setattr(SigningKey, "sign", spied)
    return seen


@dataclass
class Pair:
    """``a`` is to be killed: an issuer that sells ``scripted``, and has earned; ``b``, another, sells ``elsewhere``."""

    a: Node
    b: Node
    http: aiohttp.ClientSession
    engine: ScriptedEngine
    third: Callable[[], AbstractAsyncContextManager[Node]]
    """One more node, whose key has no line yet."""
    account: str = ""
    token: str = ""

    async def ask(self, name: str, body: object = None, query: str = "", token: str | None = "", **path: str) -> Any:
        """Status and error of one operation of ``a``, as its owner unless another token, or ``None``, is given."""
        operation = BY_NAME[name]
        token = self.a.parts.admin_token if token == "" else token
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        url = self.a.url + operation.path.format(**{"model": "scripted", **path}) + query
        async with self.http.request(operation.method, url, json=body, headers=headers) as reply:
            told = await reply.read()
            whole = await reply.json(content_type=None) if told.startswith(b"{") else {}
            return reply.status, whole


@asynccontextmanager
async def pair(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    file, _ = network_file(home, ("a", "b", "c"), ("a", "b"))
    count_in_numbers(monkeypatch)
    memory = MemoryNetwork(seed=1)
    async with node(home / "b", file, memory) as b:
        engine = ScriptedEngine(20)
        engine.card = replace(CARD, name="elsewhere", digest=sha256(b"elsewhere"))
        b.parts.engines.serve(engine)
        flags = {"mesh.consume": "any", "mesh.bootstrap": str(b.mesh.mesh.address()), "api.rate_per_second": 9999}
        async with node(home / "a", file, memory, **flags) as a, aiohttp.ClientSession() as http:
            own = ScriptedEngine(20)
            a.parts.engines.serve(own)
            await until(lambda: list(a.mesh.shop.providers("elsewhere", 20)))
            found = Pair(a, b, http, own, lambda: node(home / "c", file, memory))
            found.account = str((await found.ask("create_account", {"label": "x"}))[1]["account"])
            given = {"scope": "inference", "node_id": found.account}
            found.token = str((await found.ask("issue_token", given))[1]["token"])
            chat = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 10}
            assert (await found.ask("chat_completions", chat, token=found.token))[0] == 200
            assert a.parts.ledger.balance(a.parts.key.public_key).net > 0
            yield found


def rotation(at: Node, *, move: bool) -> dict[str, object]:
    own = at.parts.key.public_key
    agreed = Successor.agreeing(at.parts.ledger.network.id, own, SigningKey.generate())
    named = {"node_id": own.hex(), "successor": agreed.key.hex(), "consent": agreed.consent.hex()}
    return {**named, "move": move}


def spends(at: Pair) -> list[tuple[str, object, str | None]]:
    """Every way to ask for what the kill stops: operation, body, token."""
    messages = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
    owner = at.a.parts.admin_token
    answers = [
        ("chat_completions", messages),
        ("chat_completions", {**messages, "stream": True}),
        ("chat_completions", {**messages, "model": "elsewhere"}),
        ("chat_completions", {**messages, "model": "elsewhere", "stream": True}),
        ("chat_completions", {**messages, "n": 2}),
        ("completions", {"prompt": "x"}),
        ("completions", {"prompt": "x", "stream": True}),
        ("embeddings", {"input": ["x", "y"]}),
        ("responses", {"input": "x"}),
        ("responses", {"input": "x", "stream": True}),
        ("legacy_chat", {"prompt": "x"}),
        ("legacy_chat_stream", {"prompt": "x"}),
        ("schedule", {"model_id": "scripted", "max_tokens": 5, "reserve": True}),
    ]
    asked = [(name, body, token) for name, body in answers for token in (at.token, owner, None)]
    return [
        *asked,
        *(
            ("agent_task", {"prompt": "x", "size": size}, token)
            for size in ("local", "remote")
            for token in (owner, None)
        ),
        ("transfer", {"to": at.account, "amount": 1}, owner),
        ("create_account", {"label": "new"}, owner),
        ("rotate_key", rotation(at.a, move=True), owner),
    ]


async def approval(at: Pair, most: int) -> str:
    """The id of a request that waits."""
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": most}
    status, reply = await at.ask("chat_completions", body, token=at.token)
    assert (status, reply["error"]["code"]) == (403, "approval_required"), reply
    return str(reply["error"]["approval_id"])


@pytest.mark.row("SAF-01", part="every operation; loans, stakes, votes and the bridge are none yet")
async def test_whatever_is_asked_of_a_killed_node_nothing_is_signed_or_booked_that_the_kill_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(tmp_path, monkeypatch) as both:
        a, ledger = both.a, both.a.parts.ledger
        await both.ask("set_policy", {"node_id": both.account, "human_approval_threshold": 50})
        yes, no = await approval(both, 60), await approval(both, 70)
        _, spare = await both.ask("issue_token", {"scope": "read_only", "node_id": both.account})
        spare_hash = sha256(spare["token"].encode()).hex()
        invite = Invitation.parse((await both.ask("create_invite", {}))[1]["token"])
        theirs = (await post(both.b, "invites"))[1]["token"]
        _, trades = await both.ask("trades")
        trade, fraud = trades["trades"][0]["id"], "0" * 64

        assert (await both.ask("kill", {"activate": True, "reason": "test"}))[0] == 200
        seen, book, holds = witness(a, monkeypatch), ledger.state.book.own_state_hash(), dict(ledger.state.holds.open)

        for name, body, token in spends(both):
            status, reply = await both.ask(name, body, token=token)
            assert (status, reply["error"]["code"]) == (423, "kill_switch_active"), (name, body, token)
        assert {name for name, _, _ in spends(both)} == {name for name, why in ASKED.items() if why is STOPPED}
        for name in {name for name, _, _ in spends(both)}:
            assert "423" in declared(name), f"{name} does not say that it may be refused"

        others: dict[str, tuple[object, dict[str, str]]] = {
            "quote": ({"messages": [{"role": "user", "content": "x"}]}, {}),
            "change_model": ({"model": "scripted", "action": "load"}, {}),
            "remove_model": (None, {"query": "?model=none"}),
            "backup": (None, {}),
            "set_selling": ({"paused": False}, {}),
            "set_policy": ({"node_id": both.account}, {}),
            "set_agent_preferences": ({"auto_spend_enabled": False}, {}),
            "approve": ({}, {"id": yes}),
            "deny": ({}, {"id": no}),
            "issue_token": ({"scope": "inference", "node_id": both.account}, {}),
            "rotate_token": ({"token_hash_hex": spare_hash}, {}),
            "revoke_token": ({"token_hash_hex": spare_hash}, {}),
            "create_invite": ({}, {}),
            "revoke_invite": ({"invite": invite.invite.hex()}, {}),
            "join": ({"token": theirs}, {}),
            "disable_account": (None, {"id": both.account}),
            "kill": ({"activate": True}, {}),
            "rotate_key": (rotation(a, move=False), {}),
            "revoke_key": ({"node_id": a.parts.key.public_key.hex()}, {}),
        }
        queries = {"log_consistency": "?first=1&second=1", "route": "?model=scripted", "key": ""}
        for operation in OPERATIONS:
            if operation.method == "GET":
                id_ = fraud if operation.name == "fraud" else trade
                others.setdefault(operation.name, (None, {"id": id_, "query": queries.get(operation.name, "")}))
        assert set(others) == set(BY_NAME) - {name for name in ASKED if ASKED[name] is STOPPED} | {"rotate_key"}
        for name in sorted(others, key=lambda name: name in ("rotate_key", "revoke_key")):
            body, more = others[name]
            status, reply = await both.ask(name, body, **more)
            assert status < 400 or name in ("remove_model", "change_model", "fraud"), (name, status, reply)
        await asyncio.sleep(0.1)
        assert (ledger.state.book.own_state_hash(), ledger.state.holds.open) == (book, holds)
        await seen.check()
        kinds = {type(entry.content) for entry in seen.entries()}
        assert len(kinds) > 8, "the witness sees what is booked"
        assert seen.signed, "and what is signed"


# --- every peer --------------------------------------------------------------------------------------------------


@pytest.mark.row("SAF-01", part="what peers ask; loans, stakes, votes and the bridge are none yet")
async def test_peers_get_no_promise_of_a_killed_node_and_what_they_signed_is_booked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What "gossip credit" of the row means stands with ``MIRRORS``: the book goes on, and buys nobody anything."""
    async with pair(tmp_path, monkeypatch) as both, both.third() as newcomer:
        a, b, ledger = both.a, both.b, both.a.parts.ledger
        invitation = Invitation.parse((await both.ask("create_invite", {}))[1]["token"])
        new, guest = newcomer.mesh.mesh.key, await newcomer.mesh.mesh.connect(a.mesh.mesh.address())
        sold = await under_way(both)

        assert (await both.ask("kill", {"activate": True, "reason": "test"}))[0] == 200
        seen = witness(a, monkeypatch)
        with pytest.raises(PeerRefused) as refused:
            await show(guest, invitation, new)
        assert refused.value.data["refused"] == "kill_switch_active"
        with pytest.raises(PeerRefused) as refused:
            await asked_of(both)
        assert refused.value.data["refused"] == "kill_switch_active"
        await sold
        await until(lambda: not a.mesh.provider.running)

        assert not ledger.state.book.limit(new)
        granted = grant_line(b.parts.ledger, b.parts.key, new)
        assert granted is not None
        await granted
        await until(lambda: ledger.state.book.limit(new) == ledger.network.parameters.welcome_limit)
        await until(lambda: ledger.state.book.state_hash() == b.parts.ledger.state.book.state_hash())
        heard = {entry.content.kind for entry in seen.entries() if isinstance(entry.content, Envelope)}
        assert heard == {"grant", "trade"}, "of others, and what was vouched for before"
        await seen.check()


async def asked_of(both: Pair, most: int = 200) -> Purchase:
    """``b`` asks ``a`` for an answer, whatever ``a`` tells of itself."""
    a, b = both.a, both.b
    stream = await b.mesh.mesh.peers[a.mesh.mesh.key].connection.open()
    wanted = Wanted(
        network=b.parts.ledger.network,
        provider=a.mesh.mesh.key,
        payer=b.mesh.mesh.key,
        model_digest=CARD.digest,
        tokenizer_digest=CARD.tokenizer_digest,
        prompt=Prompt((0, 1, 2), TokenCount(3), True, "", ()),
        sampling=Sampling(max_tokens=most, seed=7, temperature=0.5),
        most=a.parts.load.price(CARD.active_parameters),
        request_id="req-1",
    )
    return await purchase(stream, wanted, Words(), os.urandom, b.parts.ledger.now())


async def under_way(both: Pair) -> "asyncio.Task[None]":
    """An answer that ``a`` sells to ``b``, at its hundredth token; the task ends when its reader has its end."""
    b, engine = both.b, both.engine
    engine.length, engine.stall_after = 200, 100
    bought = await asked_of(both)
    order = Order(
        b.parts.payers.node, None, bought._wanted.prompt, bought._wanted.sampling, 200, "req-1", offered=bought.offered
    )
    ticket = await b.parts.market.begin_inference(order)

    async def read() -> None:
        try:
            async with b.parts.market.execute(ticket, ticket.payer.key, streamed=True) as session:
                async for _ in session:
                    pass
        finally:
            await bought.close()

    reading = asyncio.create_task(read())
    await engine.stalled.wait()
    await until(lambda: any(claim.vouched for claim in both.a.parts.ledger.state.claims.open.values()))
    return reading


def declared(name: str) -> set[str]:
    """Statuses that the description of the API gives an operation."""
    operation = BY_NAME[name]
    return set(openapi("0")["paths"][operation.path][operation.method.lower()]["responses"])


# --- a race on the mesh ------------------------------------------------------------------------------------------

CLIENTS, BEFORE = 4, 40
REFUSALS = ("model_not_found", "peer_refused", "queue_full")
"""Where all places of its one seller are taken."""


@pytest.mark.row("SAF-01", part="a race on the mesh; loans, stakes, votes and the bridge are none yet")
async def test_of_purchases_sales_and_invitations_that_race_the_kill_nothing_is_promised_after_its_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(tmp_path, monkeypatch) as both, both.third() as newcomer:
        a, asked, killed, over = both.a, 0, asyncio.Event(), asyncio.Event()
        served: list[bool] = []
        """Of each purchase, whether it was begun after the reply and served all the same."""
        for at in (a, both.b):
            await at.parts.ledger.record_facts(PolicySet(at.mesh.mesh.key, None, None, None, None, None))
        guest = await newcomer.mesh.mesh.connect(a.mesh.mesh.address())
        tokens = [(await both.ask("create_invite", {}))[1]["token"] for _ in range(2)]
        bought = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5, "model": "elsewhere"}

        async def buy() -> None:
            nonlocal asked
            while not over.is_set():
                late = killed.is_set()
                status, reply = await both.ask("chat_completions", bought, token=None)
                asked += 1
                served.append(late and status == 200)
                assert status in (200, 423) or reply["error"]["code"] in REFUSALS, reply

        async def sell() -> None:
            while not over.is_set():
                with suppress(PeerRefused, ConnectionLost):  # who opens streams faster than they end has some reset
                    await (await asked_of(both, 5)).close()

        async def come() -> None:
            while asked < BEFORE:
                await asyncio.sleep(0.002)
            for token in tokens:
                with suppress(PeerRefused):
                    await show(guest, Invitation.parse(token), newcomer.mesh.mesh.key)

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(buy())
            group.create_task(sell())
            group.create_task(come())
            while asked < BEFORE:
                await asyncio.sleep(0.002)
            assert (await both.ask("kill", {"activate": True, "reason": "race"}))[0] == 200
            seen, so_far = witness(a, monkeypatch), asked
            killed.set()
            while asked < so_far + 5 * CLIENTS:
                await asyncio.sleep(0.002)
            over.set()
        await until(lambda: not a.parts.ledger.state.holds.open and not a.mesh.provider.running)
        assert a.parts.ledger.state.trades_of(a.mesh.mesh.key) > 1, "some were bought before"
        assert not any(served)
        await seen.check()
