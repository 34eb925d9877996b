"""What a model is told about tools, and the shape a demanded call is held to."""

import json
from typing import Any

from tirami.infer import Tools
from tirami.infer.tools import names_called

WEATHER: dict[str, Any] = {
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
TIME: dict[str, Any] = {
    "name": "time",
    "parameters": {"$ref": "#/$defs/Where", "$defs": {"Where": {"items": [{"$ref": "#/$defs/Where"}]}}},
}
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}


def resolve(root: dict[str, Any], reference: str) -> object:
    found: Any = root
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def test_nothing_is_demanded_unless_it_is() -> None:
    assert Tools((WEATHER, TIME)).constraint() is None


def test_a_demanded_call_names_one_of_the_tools() -> None:
    both = json.loads(Tools((WEATHER, TIME, {"name": "none"}), ("weather", "none")).constraint() or "")
    assert [call["properties"]["name"]["const"] for call in both["anyOf"]] == ["weather", "none"]
    assert resolve(both, both["anyOf"][0]["properties"]["arguments"]["$ref"]) == {
        **WEATHER["parameters"],
        "additionalProperties": False,
    }
    assert resolve(both, both["anyOf"][1]["properties"]["arguments"]["$ref"]) == {"type": "object"}


def test_references_inside_a_tool_lead_to_where_it_stands_now() -> None:
    one = json.loads(Tools((WEATHER, TIME), ("time",)).constraint() or "")
    arguments = resolve(one, one["properties"]["arguments"]["$ref"])
    assert isinstance(arguments, dict)
    where = resolve(one, arguments["$ref"])
    assert isinstance(where, dict)
    assert resolve(one, where["items"][0]["$ref"]) == where


def test_a_pattern_that_a_demanded_call_cannot_be_held_to_is_left_out() -> None:
    strings = {"zip": {"pattern": r"\d{5}"}, "state": {"pattern": "^[A-Z]{2}$"}, "pattern": {"const": {"pattern": "a"}}}
    function = {"name": "f", "parameters": {"type": "object", "properties": strings}}
    demanded = json.loads(Tools((function,), ("f",)).constraint() or "")
    assert demanded["$defs"]["0"]["properties"] == {**strings, "zip": {}}
    strict = json.loads(Tools(({**function, "strict": True},), ("f",)).constraint() or "")
    assert strict["$defs"]["0"]["properties"] == strings, "which is refused then"


def test_a_template_without_tools_is_told_in_the_first_message() -> None:
    talk: list[dict[str, object]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "content": "sunny"},
        {"role": "user", "content": "Thanks."},
    ]
    told = Tools((WEATHER,)).described(talk)
    assert [message["role"] for message in told] == ["system", "user", "assistant", "user"]
    assert str(told[0]["content"]).startswith("Be brief.\n\n")
    assert json.dumps(WEATHER) in str(told[0]["content"])
    assert told[2]["content"] == '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    assert told[3]["content"] == "<tool_response>\nsunny\n</tool_response>\nThanks."
    assert names_called(talk) == {"weather"}
    assert Tools(()).described(talk[1:2]) == talk[1:2]
