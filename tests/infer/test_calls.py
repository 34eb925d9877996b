"""Tool calls read from text in any pieces."""

import json
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tirami.infer import CallDelta, CallReader, TextDelta
from tirami.infer.calls import Delta

ARGUMENTS = '{"city": "To\\"k}yo", "deep": {"a": [1, {"b": 2}]}}'
CALL = f'<tool_call>\n{{"name": "get_weather", "arguments": {ARGUMENTS}}}\n</tool_call>'


def read(pieces: list[str], *, demanded: bool = False) -> tuple[str, list[tuple[str, str]], int]:
    """Text, calls as (name, arguments), and how many were begun."""
    numbers = count()
    reader = CallReader(lambda: f"call_{next(numbers)}", demanded=demanded)
    deltas: list[Delta] = [delta for piece in pieces for delta in reader.feed(piece)]
    deltas += reader.finish()
    text = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
    calls: dict[int, tuple[str, str]] = {}
    for delta in deltas:
        if isinstance(delta, CallDelta):
            assert (delta.id is None) == (delta.index in calls), "an id comes with the first piece, and only there"
            name, arguments = calls.get(delta.index, (delta.name or "", ""))
            calls[delta.index] = (name, arguments + delta.arguments)
    return text, list(calls.values()), reader.calls


CASES = [
    (CALL, "", [("get_weather", ARGUMENTS)]),
    (f"Let me check that. {CALL}", "Let me check that.", [("get_weather", ARGUMENTS)]),
    (f"{CALL}\n{CALL}", "", [("get_weather", ARGUMENTS)] * 2),
    ("<tool_call>{garbage json here</tool_call>", "<tool_call>{garbage json here</tool_call>", []),
    ("plain words, a < b and <tool", "plain words, a < b and <tool", []),
    ('<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', "", [("f", '{"a":1}')]),
    ('<tool_call>{"name": "f"}</tool_call>', "", [("f", "{}")]),
    ('<tool_call>{"name": "f"', '<tool_call>{"name": "f"', []),
    ('<tool_call>{"name": "f", "arguments": {"a": "cut o', "", [("f", '{"a": "cut o')]),
    ('<tool_call>{"name": 5, "arguments": {}}</tool_call>', '<tool_call>{"name": 5, "arguments": {}}</tool_call>', []),
    ("", "", []),
    ("two  \n lines \n", "two  \n lines \n", []),
    # not closed, or closed too early: what follows is an answer all the same
    ('<tool_call>{"name": "f", "arguments": {}}\nIt is 20 degrees.', "It is 20 degrees.", [("f", "{}")]),
    ('<tool_call>{"name": "f", "arguments": {}\nIt is 20.', "It is 20.", [("f", "{}")]),
    ('<tool_call>{"name": "f", "arguments": {}</tool_call> It is 20.', " It is 20.", [("f", "{}")]),
    ('<tool_call>{"name": "f", "arguments": {}}\n' * 2, "", [("f", "{}")] * 2),
    ('<tool_call>{"name": "f", "arguments": {}}</tool', "", [("f", "{}")]),
    ('<tool_call>{"name": "f", "arguments": {}, "id": "}"}</tool_call>well', "well", [("f", "{}")]),
    ("<tool_call>", "<tool_call>", []),
]
NO_NAMES = [r"get\_weather", "get\nweather", "\\ud800", "\\uDC00x"]
"""As they stand between quotes: an escape JSON does not know, a raw line feed, halves of surrogate pairs."""


@pytest.mark.parametrize(("text", "beside", "calls"), CASES)
def test_whole_or_letter_by_letter_a_call_is_the_same(text: str, beside: str, calls: list[tuple[str, str]]) -> None:
    assert read([text]) == read(list(text)) == (beside, calls, len(calls))


@pytest.mark.parametrize("name", NO_NAMES)
@pytest.mark.parametrize("order", ['"name": "{name}", "arguments": {{}}', '"arguments": {{}}, "name": "{name}"'])
@pytest.mark.parametrize("demanded", [False, True])
def test_a_name_that_cannot_be_told_is_text(name: str, order: str, demanded: bool) -> None:
    text = f"<tool_call>{{{order.format(name=name)}}}</tool_call>"
    for pieces in ([text], list(text)):
        assert read(pieces, demanded=demanded) == (text, [], 0)


def test_arguments_that_cannot_be_told_are_text() -> None:
    text = '<tool_call>{"arguments": {"a": "\\ud800"}, "name": "f"}</tool_call>'
    assert read([text]) == read(list(text)) == (text, [], 0)


@given(st.text(alphabet='{}"\\ud8, \nanmergust:', max_size=40), st.booleans())
def test_whatever_a_call_says_it_can_be_sent(inside: str, demanded: bool) -> None:
    for body in (inside, f'{{"name": "{inside}", "arguments": {{}}}}'):
        said, calls, _ = read(list(f"<tool_call>{body}</tool_call>"), demanded=demanded)
        f"{said}{calls}".encode()


@given(st.lists(st.integers(0, len(CALL) + 20), max_size=6))
def test_wherever_the_pieces_end(cuts: list[int]) -> None:
    text = f"I look it up. {CALL}"
    edges = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    assert read(pieces) == ("I look it up.", [("get_weather", ARGUMENTS)], 1)


@given(st.text(alphabet='<tool_call>{}"\\/ab \n', max_size=60))
def test_whatever_a_model_says_nothing_raises_and_words_stay(text: str) -> None:
    said, calls, begun = read(list(text))
    assert len(calls) == begun
    if "<tool_call>" not in text:
        assert (said, calls) == (text, [])


@pytest.mark.parametrize("marked", [False, True])
def test_a_demanded_call_may_come_bare(marked: bool) -> None:
    bare = json.dumps({"name": "f", "arguments": {"a": 1}})
    text = f"<tool_call>{bare}</tool_call>" if marked else bare
    for pieces in ([text], list(text)):
        assert read(pieces, demanded=True) == ("", [("f", '{"a": 1}')], 1)


def test_a_demanded_call_that_is_none_is_text() -> None:
    assert read(["{}"], demanded=True) == ("{}", [], 0)


def test_a_demanded_call_may_follow_words() -> None:
    for end in ("</tool_call>", ""):
        text = f'Sure. <tool_call>{{"name": "f", "arguments": {{}}}}{end}'
        for pieces in ([text], list(text)):
            assert read(pieces, demanded=True) == ("Sure.", [("f", "{}")], 1)


def test_words_after_a_bare_call_are_text() -> None:
    text = '{"name": "f", "arguments": {}} And that is it.'
    assert read([text], demanded=True) == read(list(text), demanded=True) == ("And that is it.", [("f", "{}")], 1)


@pytest.mark.parametrize("demanded", [False, True])
def test_what_is_held_is_what_has_not_come_out(demanded: bool) -> None:
    reader, told = CallReader(lambda: "1", demanded=demanded), []
    pieces = [("{", 1), ('"name": "f"', 12), (', "arguments": ', 27), ('{"a": 1', 0), ("}}", 0)]
    if not demanded:
        pieces = [
            ("Well", 0),
            ("  ", 2),
            ("<tool", 7),
            ("_call>", 11),
            *((text, held and held + 11) for text, held in pieces),
        ]
        pieces += [("</tool_call>", 0), (" ", 1)]
    for text, held in pieces:
        told += reader.feed(text)
        assert reader.held == held, text
