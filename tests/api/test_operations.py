"""The table of operations is complete and is what the router serves, no more and no less."""

from collections import Counter

from starlette.routing import Route

from tests.node.conftest import Door, door
from tirami.api import BY_NAME, OPERATIONS, Dialect, Scope
from tirami.api.legacy import legacy_path
from tirami.node.http import build_app

__all__ = ["door"]
NOT_AN_OPERATION = {("GET", "/openapi.json")}


async def test_the_router_serves_exactly_the_table(door: Door) -> None:
    routes = build_app(door.parts)._app.routes  # type: ignore[attr-defined]
    served = Counter(
        (method, route.path.replace(":path}", "}"))
        for route in routes
        if isinstance(route, Route)
        for method in (route.methods or ())
    )
    declared = {(operation.method, operation.path) for operation in OPERATIONS} | NOT_AN_OPERATION
    declared |= {(operation.method, old) for operation in OPERATIONS if (old := legacy_path(operation.path))}
    assert {pair for pair in served if pair[0] != "HEAD"} == declared
    assert {path for method, path in served if method == "HEAD"} <= {
        path for method, path in declared if method == "GET"
    }
    assert set(served.values()) == {1}
    assert len(routes) == len(declared)


def test_names_and_routes_are_unique() -> None:
    assert len(BY_NAME) == len(OPERATIONS) == len({(operation.method, operation.path) for operation in OPERATIONS})


def test_whatever_changes_money_or_rights_needs_an_administrator() -> None:
    changing = {operation.name for operation in OPERATIONS if operation.method != "GET"}
    paid = {"chat_completions", "completions", "embeddings", "responses", "legacy_chat", "legacy_chat_stream"}
    paid |= {"agent_task"}  # the node's money, as a chat of the owner's that a peer answers
    assert {operation.name for operation in OPERATIONS if operation.scope is Scope.ADMIN} >= changing - paid - {
        "quote",  # holds nothing
        "schedule",  # reserves only for a caller that could spend it on a chat anyway
    }
    assert all(BY_NAME[name].scope is Scope.INFERENCE for name in paid | {"quote"})
    assert BY_NAME["tokens"].scope is BY_NAME["accounts"].scope is Scope.ADMIN


def test_only_health_and_what_everybody_should_read_is_public() -> None:
    public = {o.name for o in OPERATIONS if o.scope is Scope.PUBLIC}
    assert public == {"health", "healthz", "readyz", "manifest", "legal"}


def test_the_dialect_follows_the_path() -> None:
    for operation in OPERATIONS:
        ours = operation.path.startswith("/v1/tirami/") or not operation.path.startswith("/v1/")
        assert operation.dialect is (Dialect.TIRAMI if ours else Dialect.OPENAI), operation.name


def test_parameters_come_from_the_path() -> None:
    assert BY_NAME["trade_receipt"].parameters == ("id",)
    assert BY_NAME["model"].parameters == ("model",)
    assert BY_NAME["status"].parameters == ()


def test_every_summary_is_one_sentence() -> None:
    for operation in OPERATIONS:
        assert operation.summary.endswith("."), operation.name
        assert len(operation.summary) < 100
