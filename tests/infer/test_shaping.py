"""What is signed of everything that shapes an answer, and how the child is asked for it."""

import json

import pytest

from tirami.core.errors import InvalidRequest
from tirami.core.shaping import MAX_DEPTH, bounded
from tirami.infer import Sampling, Shaping, Tools
from tirami.infer.llama import _encode, completion_body

ASKED = [
    ("stop", ("x",)),
    ("presence_penalty", 0.5),
    ("frequency_penalty", -0.5),
    ("repeat_penalty", 1.1),
    ("min_p", 0.05),
    ("logit_bias", ((7, -100.0),)),
    ("schema", '{"type":"object"}'),
]


def body(**shaping: object) -> dict[str, object]:
    how = Sampling(max_tokens=4, seed=1, shaping=Shaping(**shaping))  # type: ignore[arg-type]
    return dict(json.loads(_encode(completion_body((1,), how, cache_prompt=True))))


def test_an_answer_that_asks_for_nothing_hashes_as_before() -> None:
    assert Shaping().canonical() == b""


@pytest.mark.parametrize(("name", "value"), ASKED)
def test_whatever_is_asked_is_in_the_hash_and_in_the_request(name: str, value: object) -> None:
    shaping = Shaping(**{name: value})  # type: ignore[arg-type]
    assert json.loads(shaping.canonical()) == {name: json.loads(json.dumps(value))}
    assert body(**{name: value}) != body()


def test_canonical_bytes_do_not_depend_on_the_order_of_asking() -> None:
    one = Shaping(stop=("a",), min_p=0.1, schema="{}")
    assert one.canonical() == Shaping(schema="{}", min_p=0.1, stop=("a",)).canonical()
    assert one.canonical() == b'{"min_p":0.1,"schema":"{}","stop":["a"]}'


def test_samplers_are_named_only_when_asked_for() -> None:
    assert body()["samplers"] == ["top_k", "top_p", "temperature"]
    assert body(min_p=0.1, presence_penalty=1.0)["samplers"] == ["penalties", "top_k", "top_p", "min_p", "temperature"]
    assert "n_probs" not in body()


@pytest.mark.parametrize(("name", "value"), ASKED)
def test_what_the_contract_allows_is_within_the_bounds(name: str, value: object) -> None:
    Shaping(**{name: value}).check()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stop", ("a", "b", "c", "d", "e")),
        ("stop", ("",)),
        ("stop", ("x" * 257,)),
        ("presence_penalty", 2.1),
        ("frequency_penalty", float("nan")),
        ("repeat_penalty", 0.0),
        ("repeat_penalty", float("inf")),
        ("min_p", -0.1),
        ("logit_bias", tuple((number, 1.0) for number in range(301))),
        ("logit_bias", ((7, 1.0), (7, 2.0))),
        ("logit_bias", ((8, 1.0), (7, 1.0))),
        ("logit_bias", ((-1, 1.0),)),
        ("logit_bias", ((1, 101.0),)),
        ("schema", "[]"),
        ("schema", "{"),
        ("schema", '{}}, "n_predict": 100000, "x": {'),
        ("schema", '{"const":NaN}'),
        ("schema", '{"pattern":"^(a{1000}){1000}$","pattern":"^a$"}'),
        ("schema", '{"pattern":"^(a{1000}){1000}$"}'),
        ("schema", json.dumps({"enum": ["x" * 70_000]})),
        ("schema", '{"items":' * 60 + "{}" + "}" * 60),
        ("schema", '{"items":' * 100_000 + "{}" + "}" * 100_000),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_comes_over_the_mesh_is_bounded_as_over_http(name: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Shaping(**{name: value}).check()  # type: ignore[arg-type]
    assert raised.value.param == name


def test_a_demanded_call_of_the_deepest_schema_is_within_them() -> None:
    deepest: dict[str, object] = {"type": "string"}
    for _ in range(MAX_DEPTH - 1):
        deepest = {"items": deepest}
    tools = Tools(({"name": "call", "parameters": bounded(deepest)},), ("call",))
    Shaping(schema=tools.constraint()).check()
