"""Schemathesis against nodes that trade: one sells, the other is connected to it and buys; the mesh is in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from tests.api.conftest import Target
from tests.api.test_conformance import CHECKS, ENOUGH, OPERATIONS, conform
from tests.node.nodes import HELLO, Node
from tests.node.sellers import market
from tests.rows.test_signatures import Said, another_quote
from tests.waiting import until
from tirami.api import BY_NAME, Scope
from tirami.api.schemas import AccountRequest, TokenRequest
from tirami.core.keys import SigningKey
from tirami.net import PeerAddress
from tirami.net.session import provider
from tirami.sdk import Tirami

MODEL = str(HELLO["model"])
FIELDS = {"model", "model_id"}
"""Where a model is named: in a path, a query or a body."""
READING = sorted(name for name, operation in BY_NAME.items() if operation.method == "GET")
FEW = 4
"""Examples of what the schema has; a lone node is asked more."""


@dataclass
class Trading:
    buyer: Target
    tenant: Target
    """At the buyer's door, with an account of its own."""
    seller: Target
    key: str
    """The seller's."""


async def reached(_: PeerAddress, __: float) -> float:
    """Everybody is, in memory."""
    return 0.001


def owner(node: Node) -> Target:
    return Target(node.url, Scope.ADMIN, node.parts.admin_token)


@pytest.fixture(scope="module")
def trading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trading]:
    """After they called each other as strangers, and the first purchase."""
    home, unlimited = tmp_path_factory.mktemp("trading"), {"api.rate_per_second": 1_000_000}
    with pytest.MonkeyPatch.context() as patch, start_blocking_portal() as portal:
        opened = market(home, patch, 1, call=reached, **unlimited)
        with portal.wrap_async_context_manager(opened) as found:
            probes = found.buyer.mesh.finding.probes
            portal.call(until, lambda: len(probes.newest()) == 2)
            buyer, seller = owner(found.buyer), owner(found.sellers[0].node)
            with Tirami(buyer.url, token=buyer.token) as admin:
                account = admin.create_account(AccountRequest(label="tenant")).account
                token = admin.issue_token(TokenRequest(scope="inference", node_id=account)).token
            tenant = Target(buyer.url, Scope.INFERENCE, token)
            asked(buyer, "chat_completions", body=HELLO)
            yield Trading(buyer, tenant, seller, found.sellers[0].key.hex())


def names_model(name: str) -> bool:
    operation = BY_NAME[name]
    shapes = [shape.model_fields for shape in (operation.query, operation.body) if shape is not None]
    return any(FIELDS & set(names) for names in (operation.parameters, *shapes))


def of_the_peers_model(case: Any) -> Any:
    """The same question about the model that the peer sells."""
    name = case.operation.definition.raw["operationId"]
    operation = BY_NAME[name]
    if operation.parameters:
        case.path_parameters |= {"model": MODEL}
    elif operation.query is not None:
        case.query |= {"model": MODEL}
    else:
        assert operation.body is not None
        case.body |= {field: MODEL for field in FIELDS & set(operation.body.model_fields)}
    return case


def asked(target: Target, name: str, status: int = 200, **parts: Any) -> Any:
    """The reply, which is the documented one."""
    if "body" in parts:
        parts["media_type"] = "application/json"
    case = OPERATIONS[name].Case(**parts)
    reply = case.call(base_url=target.url, headers=target.headers, timeout=20)
    assert reply.status_code == status, (name, reply.content)
    case.validate_response(reply, checks=[check for check in CHECKS if status < 500 or check is not not_a_server_error])
    return reply.json()


def test_replies_about_peers_and_what_was_bought_of_them(trading: Trading) -> None:
    key = trading.key
    for target, hidden in ((trading.buyer, False), (trading.tenant, True)):
        (peer,) = asked(target, "peers")["peers"]
        assert (peer["node_id"], peer["why_not"], peer["models"]) == (key, None, [MODEL])
        assert (peer["address"] is None, peer["probe"]["by"] is None) == (hidden, hidden)
        (link,) = asked(target, "topology")["links"]
        assert link["node_id"] == key
        (judged,) = asked(target, "peers", query={"model": "another", "limit": 1})["peers"]
        assert judged["why_not"]
        mesh = asked(target, "mesh")
        assert (mesh["peers"], mesh["providers"], mesh["buying"]["consume"]) == (1, 1, "any")
        assert asked(target, "status")["mesh"]["peers"] == 1
        assert [entry["id"] for entry in asked(target, "models")["data"] if entry["state"] == "remote"] == [MODEL]
        assert asked(target, "model", path_parameters={"model": MODEL})["providers"] == 1
        (serving,) = asked(target, "providers", query={"model": MODEL})["providers"]
        assert (serving["node_id"], serving["local"]) == (key, False)
        for mode in ("cost", "quality", "balanced"):
            assert asked(target, "route", query={"model": MODEL, "mode": mode})["provider"] == key
        assert asked(target, "schedule", body={"model_id": MODEL, "max_tokens": 5})["provider"] == key
        quote = asked(target, "quote", body={"model": MODEL, "messages": HELLO["messages"]})
        assert (quote["provider"], quote["remote"]) == (key, True)
        asked(target, "schedule", 400, body={"model_id": MODEL, "max_tokens": 5, "reserve": True})
        asked(target, "route", 404, query={"model": MODEL, "max_trm": "1", "max_tokens": "1000"})
        asked(target, "route", 404, query={"model": "another"})
        asked(target, "schedule", 404, body={"model_id": "another", "max_tokens": 5})
    (row,) = asked(trading.seller, "earnings")["rows"]
    assert (row["hosted"], row["model"], row["requests"] >= 1) == (False, MODEL, True)
    (customer,) = asked(trading.seller, "peers")["peers"]
    assert customer["why_not"] and not customer["models"]
    selling = asked(trading.seller, "mesh")["selling"]
    assert (selling["on"], selling["models"], selling["sold"] >= 1) == (True, [MODEL], True)


def test_an_answer_bought_of_a_peer_is_the_documented_one(trading: Trading) -> None:
    prompt = {"model": MODEL, "max_tokens": 5}
    for target in (trading.buyer, trading.tenant):
        answer = asked(target, "chat_completions", body=HELLO)["x_tirami"]
        assert answer["provider"] == trading.key
        trade = {"id": answer["trade_id"]}
        for name in ("trade", "trade_proof", "trade_receipt", "record"):
            asked(target, name, path_parameters=trade)
        asked(target, "completions", body=prompt | {"prompt": "one two"})
        asked(target, "responses", body={"model": MODEL, "input": "one two"})
        asked(target, "chat_completions", 400, body=HELLO | {"n": 2})


def test_an_invitation_on_a_mesh(trading: Trading) -> None:
    made = asked(trading.buyer, "create_invite", body={"label": "for nobody"})
    asked(trading.buyer, "invites")
    asked(trading.buyer, "revoke_invite", body={"invite": made["invite"]})


def test_a_peer_that_offers_something_else_is_a_documented_error(
    trading: Trading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``bad_quote``: no fault of the request, nor of this node."""
    Said(monkeypatch, provider, another_quote(SigningKey.generate()))
    for name, body in (
        ("chat_completions", HELLO),
        ("completions", {"model": MODEL, "prompt": "one two"}),
        ("responses", {"model": MODEL, "input": "one two"}),
        ("legacy_chat", {"prompt": "one two"}),
        ("legacy_chat_stream", {"prompt": "one two"}),
    ):
        asked(trading.buyer, name, 502, body=body)


@pytest.mark.parametrize("name", [*READING, "quote", "schedule"])
def test_every_reply_of_a_node_with_a_peer_is_the_documented_one(trading: Trading, name: str) -> None:
    """As the schema has it; where a model is named, also the peer's."""
    for target in (trading.buyer, trading.tenant):
        conform(target, name, GenerationMode.POSITIVE, FEW)
        if names_model(name):
            of_peer = OPERATIONS[name].as_strategy(generation_mode=GenerationMode.POSITIVE).map(of_the_peers_model)
            conform(target, name, GenerationMode.POSITIVE, ENOUGH, of_peer)
