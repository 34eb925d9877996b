"""A model that is here and at which every place is taken: it is bought where it can be, else waited for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.market.scripted import CARD, ScriptedEngine
from tests.node.nodes import CHAT, HELLO
from tests.node.sellers import Market, market
from tests.waiting import until
from tirami.core.keys import PublicKey, sha256
from tirami.infer import ModelCard

T = "/v1/tirami"
ON: dict[str, object] = {"mesh.overflow": True, "infer.slots": 1, "infer.queue": 1}
PROMPT_AND_20 = 21
"""TRM: three prompt tokens at a quarter, and 20."""
ASKED = {"model": "scripted", "messages": HELLO["messages"], "max_tokens": 20}


@dataclass
class House:
    """A buyer that has the seller's model, too, with one place at it and one in its queue."""

    found: Market
    engine: ScriptedEngine

    def __post_init__(self) -> None:
        self.buyer, self.seller = self.found.buyer, self.found.sellers[0]
        self.keys = {node.parts.key.public_key.hex(): node for node in (self.buyer, self.seller.node)}
        self._asking: list[asyncio.Task[tuple[int, Any]]] = []

    async def call(self, method: str, path: str, body: object = None, token: str = "", **headers: str) -> Any:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {"authorization": f"Bearer {token}"} if token else {}
        url = self.buyer.url + path
        async with self.found.http.request(method, url, json=body, headers=sent) as reply:
            return reply.status, await reply.json(content_type=None)

    async def ask(self, token: str = "", path: str = CHAT, **changed: object) -> tuple[int, Any]:
        status, reply = await self.call("POST", path, HELLO | changed, token)
        return status, reply

    async def agent(self) -> tuple[str, str]:
        """A hosted account and a token for it."""
        return await self.found.agent()

    async def crowd(self) -> None:
        """The place here is taken until :meth:`clear`."""
        self.engine.stall_after = 0
        self._asking.append(asyncio.create_task(self.ask()))
        await until(lambda: self.engine.waiting == 1)

    async def clear(self) -> None:
        self.engine.stall_after = None
        self.engine.resume.set()
        for status, _ in await asyncio.gather(*self._asking):
            assert status in (200, 423)

    def served_by(self, reply: Any) -> object:
        return self.keys[reply["x_tirami"]["provider"]]

    async def waits(self, token: str = "", **changed: object) -> Any:
        """What is asked now and bought of nobody waits for the place here, and is answered here."""
        with capture_logs() as logs:
            asked = asyncio.create_task(self.ask(token, **changed))
            if self.buyer.mesh.shop.overflows:
                await until(lambda: any(line["event"] == "overflow_waits" for line in logs))
            await until(lambda: self.buyer.parts.engines.room.waiting == 1)
            await self.clear()
            status, reply = await asked
        assert status == 200, reply
        assert self.served_by(reply) is self.buyer
        assert not self.buyer.parts.ledger.state.holds.open
        assert (self.seller.node.net, self.seller.engine.running) == (0, 0)
        return reply


@asynccontextmanager
async def house(
    home: Path, monkeypatch: pytest.MonkeyPatch, sells: ModelCard = CARD, **flags: object
) -> AsyncIterator[House]:
    async with market(home, monkeypatch, 1, [sells], **(ON | flags)) as found:
        engine = ScriptedEngine(20)
        found.buyer.parts.engines.serve(engine)
        made = House(found, engine)
        try:
            yield made
        finally:
            await made.clear()


@pytest.mark.parametrize("stream", [False, True])
async def test_what_would_wait_is_bought_at_the_peers_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    async with house(tmp_path, monkeypatch) as made:
        await made.crowd()
        async with made.found.http.post(made.buyer.url + CHAT, json=HELLO | {"stream": stream}) as reply:
            text = await reply.text()
            assert reply.status == 200 and made.seller.key.hex() in text, text
        await until(lambda: made.seller.node.net == -made.buyer.net == PROMPT_AND_20)
        books = [node.parts.ledger.state.book for node in (made.buyer, made.seller.node)]
        await until(lambda: books[0].state_hash() == books[1].state_hash())
        assert made.engine.opened == made.seller.engine.opened == 1


async def test_a_free_place_here_goes_before_every_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, monkeypatch) as made:
        status, reply = await made.ask()
        assert status == 200 and made.served_by(reply) is made.buyer
        assert (made.buyer.net, made.seller.engine.opened) == (0, 0)


async def test_a_hosted_account_pays_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, monkeypatch) as made:
        account, token = await made.agent()
        await made.crowd()
        status, reply = await made.ask(token)
        assert status == 200 and made.served_by(reply) is made.seller.node, reply
        assert (reply["x_tirami"]["payer"], reply["x_tirami"]["trm_cost"]) == (account, PROMPT_AND_20)
        assert made.buyer.net == 0


@pytest.mark.parametrize(
    "flags",
    [{"mesh.overflow": False}, {"mesh.consume": "trusted"}, {"mesh.max_trm": 20}],
    ids=["not asked for", "no consent", "too dear"],
)
async def test_what_may_not_be_bought_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: dict[str, object]
) -> None:
    consume = flags.pop("mesh.consume", None)
    async with house(tmp_path, monkeypatch, **flags) as made:
        if consume:  # a market needs a seller that is seen
            consent = made.buyer.mesh.shop._consent
            monkeypatch.setattr(consent, "_config", replace(consent._config, consume=consume))
        await made.crowd()
        await made.waits()
        assert made.seller.engine.opened == 0


@pytest.mark.parametrize(
    "sells",
    [replace(CARD, digest=sha256(b"another file of this name")), replace(CARD, context_length=22)],
    ids=["another file", "too small a context"],
)
async def test_what_no_peer_sells_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sells: ModelCard) -> None:
    async with house(tmp_path, monkeypatch, sells) as made:
        await made.crowd()
        await made.waits()
        assert made.seller.engine.opened == 0


@pytest.mark.parametrize("asked", [{"n": 2}, {"logprobs": True}])
async def test_what_peers_are_not_asked_for_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, object]
) -> None:
    async with house(tmp_path, monkeypatch) as made:
        await made.crowd()
        await made.waits(**asked)
        assert made.seller.engine.opened == 0


async def test_a_ticket_waits_for_what_it_was_made_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, monkeypatch) as made:
        _, token = await made.agent()
        await made.crowd()
        wanted = {"model_id": "scripted", "max_tokens": 20, "prompt_tokens": 3, "reserve": True}
        _, kept = await made.call("POST", f"{T}/schedule", wanted, token)
        assert kept["local"]
        ticket = kept["ticket"]["id"]
        asked = asyncio.create_task(made.call("POST", CHAT, HELLO, token, x_tirami_ticket=ticket))
        await until(lambda: made.buyer.parts.engines.room.waiting == 1)
        await made.clear()
        status, reply = await asked
        assert status == 200 and made.served_by(reply) is made.buyer


@pytest.mark.parametrize("who", ["owner", "agent"])
async def test_what_the_gate_would_deny_waits_and_nobody_is_asked_to_approve_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """21 TRM at the peer, 20 here: the owner's node may not spend them, the account needs an approval for them."""
    async with house(tmp_path, monkeypatch, **{"pricing.prompt_ppm": 0}) as made:
        parts, token = made.buyer.parts, ""
        policy = {"node_id": parts.key.public_key.hex(), "max_trm_per_request": 20}
        if who == "agent":
            account, token = await made.agent()
            policy = {"node_id": account, "human_approval_threshold": 20}
        assert (await made.call("POST", f"{T}/policy", policy, parts.admin_token))[0] == 200
        await made.crowd()
        await made.waits(token)
        assert made.seller.engine.opened == 0
        ledger = parts.ledger
        assert not ledger.gate.denials.latest() and not ledger.state.settings.approvals.live(ledger.now())


async def test_a_peer_that_fails_before_its_first_token_is_not_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, monkeypatch) as made:
        made.seller.engine.fail_after = 0
        _, token = await made.agent()
        await made.crowd()
        reply = await made.waits(token)
        assert made.seller.engine.opened == 1
        assert reply["x_tirami"]["trm_cost"] == PROMPT_AND_20, "one bill"


@pytest.mark.parametrize("who", ["owner", "agent"])
async def test_a_place_here_goes_before_a_peer_that_only_says_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    async with house(tmp_path, monkeypatch) as made:
        account, token = await made.agent()
        token = token if who == "agent" else ""
        await made.crowd()
        made.seller.engine.stall_after = 0
        asked = asyncio.create_task(made.ask(token))
        await made.seller.engine.stalled.wait()
        await asyncio.sleep(2)  # it says that it works, and no first token comes
        assert not asked.done() and len(made.buyer.parts.ledger.state.holds.open) == 2
        await made.clear()
        async with asyncio.timeout(10):
            status, reply = await asked
        assert status == 200 and made.served_by(reply) is made.buyer, reply
        ledger = made.buyer.parts.ledger
        await until(lambda: not made.seller.engine.running)
        assert not ledger.state.holds.open and made.seller.node.net == 0
        assert not made.seller.node.parts.ledger.state.claims.open, "nothing is owed for it"
        if who == "agent":
            books = ledger.books(PublicKey(bytes.fromhex(account)))
            assert (books.settled, books.velocity.count(ledger.now())) == (PROMPT_AND_20, 1), "one bill, one spend"


async def test_a_place_that_comes_while_the_promise_is_written_is_of_the_same_spend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, monkeypatch) as made:
        account, token = await made.agent()
        await made.crowd()
        ledger, asking = made.buyer.parts.ledger, asyncio.Event()
        open_holds = ledger.payables.open_holds

        def slowly(*values: Any) -> Awaitable[None]:
            written = open_holds(*values)

            async def on_a_slow_disk() -> None:
                asking.set()
                await asyncio.sleep(0.5)
                await written

            return on_a_slow_disk()

        monkeypatch.setattr(ledger.payables, "open_holds", slowly)
        asked = asyncio.create_task(made.ask(token))
        await asking.wait()
        await made.clear()
        status, reply = await asked
        assert status == 200 and made.served_by(reply) is made.buyer, reply
        books = ledger.books(PublicKey(bytes.fromhex(account)))
        assert (books.settled, books.velocity.count(ledger.now())) == (PROMPT_AND_20, 1), "one bill, one spend"


async def test_a_first_piece_goes_before_a_place_that_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, monkeypatch) as made:
        await made.crowd()
        made.seller.engine.stall_after = 1
        asked = asyncio.create_task(made.ask())
        await made.seller.engine.stalled.wait()
        room = made.buyer.parts.engines.room
        await until(lambda: room.waiting == 0)
        await made.clear()
        await until(lambda: room.running == 0)
        made.seller.engine.resume.set()
        status, reply = await asked
        assert status == 200 and made.served_by(reply) is made.seller.node, reply
        assert made.engine.opened == 1


async def test_who_leaves_while_both_are_waited_for_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, monkeypatch) as made:
        await made.crowd()
        made.seller.engine.stall_after = 0
        asked = asyncio.create_task(made.ask())
        await made.seller.engine.stalled.wait()
        assert made.buyer.parts.engines.room.waiting == 1
        asked.cancel()
        await until(lambda: not made.seller.engine.running and not made.buyer.parts.engines.room.waiting)
        await until(lambda: len(made.buyer.parts.ledger.state.holds.open) == 1)
        assert made.buyer.parts.engines.room.running == 1, "the crowd's"


async def test_a_full_queue_turns_away_only_what_is_not_sold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, monkeypatch) as made:
        await made.crowd()
        waiting = asyncio.create_task(made.ask(n=2))
        await until(lambda: made.buyer.parts.engines.room.full)
        status, reply = await made.ask()
        assert status == 200 and made.served_by(reply) is made.seller.node
        assert (await made.ask(n=2))[0] == 429
        await made.clear()
        assert (await waiting)[0] == 200


@pytest.mark.parametrize("meanwhile", [False, True])
async def test_nothing_is_bought_once_the_kill_switch_is_thrown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: bool
) -> None:
    async with house(tmp_path, monkeypatch) as made:
        await made.crowd()
        made.seller.engine.stall_after = 0
        ledger = made.buyer.parts.ledger
        if not meanwhile:
            await ledger.set_kill(True, "test", "nobody")
        asked = asyncio.create_task(made.ask())
        if meanwhile:
            await made.seller.engine.stalled.wait()
            await ledger.set_kill(True, "test", "nobody")
        status, reply = await asked
        assert (status, reply["error"]["code"]) == (423, "kill_switch_active")
        assert made.buyer.net == 0 and not ledger.state.holds.open


@pytest.mark.parametrize("who", ["owner", "agent"])
async def test_an_answer_without_a_length_is_no_shorter_than_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """Bought of a peer, context and ``mesh.max_trm`` would shorten it: then it waits."""
    async with house(tmp_path, monkeypatch, **{"mesh.max_trm": 100}) as made:
        made.engine.length = made.seller.engine.length = 200
        token = "" if who == "owner" else (await made.agent())[1]
        await made.crowd()
        reply = await made.waits(token, max_tokens=None)
        assert reply["usage"]["completion_tokens"] == 200


async def test_an_agents_own_limits_shorten_its_answer_as_they_do_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, monkeypatch) as made:
        made.seller.engine.length = 1_000
        _, token = await made.agent()
        await made.crowd()
        status, reply = await made.ask(token, max_tokens=None)
        assert status == 200 and made.served_by(reply) is made.seller.node, reply
        assert reply["usage"]["completion_tokens"] == 499, "500 TRM need no approval"


async def test_who_would_serve_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, monkeypatch) as made:
        own, other = made.buyer.parts.key.public_key.hex(), made.seller.key.hex()

        async def told() -> tuple[str, str, str]:
            asked = {"model_id": "scripted", "max_tokens": 20}
            _, route = await made.call("GET", f"{T}/route?model=scripted&mode=quality&max_tokens=20")
            _, scheduled = await made.call("POST", f"{T}/schedule", asked)
            _, quoted = await made.call("POST", f"{T}/quote", ASKED)
            return route["provider"], scheduled["provider"], quoted["provider"]

        assert await told() == (own, own, own)
        await made.crowd()
        assert await told() == (other, other, other)
        only = {"model_id": "scripted", "max_tokens": 20, "consumer": other}
        assert (await made.call("POST", f"{T}/schedule", only))[1]["provider"] == own, "it would wait here"
        made.found.buyer.mesh.shop._consent._denied |= {made.seller.key}
        assert await told() == (own, own, own)
