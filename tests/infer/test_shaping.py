"""What is signed of everything that shapes an answer, and how the child is asked for it."""

import json

import pytest

from tirami.infer import Sampling, Shaping
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
