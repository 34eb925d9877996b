"""An error comes out of an envelope as the class that went in."""

import json

import pytest

from tests.core.test_errors import tree
from tirami.core.errors import Conflict, InvalidRequest, ModelNotFound, RateLimited, TiramiError
from tirami.sdk import error_from

GROUPS = {"RequestError", "LimitError", "NotFound"}
"""Classes that share their code with one below them, or with what a route that is none answers."""


@pytest.mark.parametrize("name", sorted(tree().keys() - GROUPS))
def test_every_class_comes_back(name: str) -> None:
    cls = tree()[name]
    back = error_from(cls.status, json.dumps(cls("why", param="field", depth=3).envelope("req-1")).encode(), "7")
    assert type(back) is cls
    assert (back.message, back.param, back.retry_after, back.data) == ("why", "field", 7, {"depth": 3})


@pytest.mark.parametrize(
    ("status", "code", "cls"),
    [(429, "rate_limited", RateLimited), (400, "invalid_request", InvalidRequest), (409, "409", Conflict),
     (404, "model_not_found", ModelNotFound), (418, "teapot", TiramiError)],
)  # fmt: skip
def test_by_code_and_in_the_originals_dialect_by_status(status: int, code: str, cls: type[TiramiError]) -> None:
    assert type(error_from(status, json.dumps({"error": {"message": "why", "code": code}}).encode())) is cls
