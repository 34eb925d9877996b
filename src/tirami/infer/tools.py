"""Tools a model may call: what it is told about them, and the shape a demanded call is held to.

Calls are read in the convention most open models were trained on: ``<tool_call>{"name": …, "arguments": {…}}
</tool_call>``. A chat template that tells a model to call so renders tools itself; for any other they are described in
the first message.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tirami.core.shaping import NAMES, VALUES, enforceable

OPEN, CLOSE = "<tool_call>", "</tool_call>"
INSTRUCTIONS = (
    "You may call functions to answer. Their signatures, one JSON object a line:\n<tools>\n{tools}\n</tools>\n"
    "To call one, answer with its name and arguments as a JSON object between marks:\n"
    '<tool_call>\n{{"name": "<name>", "arguments": {{<arguments>}}}}\n</tool_call>'
)
_MARKED = re.compile(OPEN + r'\s*\{+\s*"(?:name|arguments)"')
Message = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Tools:
    """Functions in OpenAI's shape.

    Attributes:
        functions: each with ``name``, ``description``, ``parameters`` (a JSON schema).
        demanded: the names of which one must be called; empty leaves it to the model.
    """

    functions: tuple[Mapping[str, Any], ...]
    demanded: tuple[str, ...] = ()

    @property
    def specs(self) -> list[dict[str, Any]]:
        return [{"type": "function", "function": dict(function)} for function in self.functions]

    @property
    def names(self) -> set[str]:
        return {function["name"] for function in self.functions}

    def constraint(self) -> str | None:
        """JSON schema of a demanded call; ``None`` when none is demanded.

        Patterns that arguments cannot be held to stay only with functions that are ``strict``, to be refused.
        """
        if not self.demanded:
            return None
        called = [function for function in self.functions if function["name"] in self.demanded]
        shapes = {
            str(number): _arguments(
                function.get("parameters") or {"type": "object"},
                f"#/$defs/{number}",
                strict=bool(function.get("strict")),
            )
            for number, function in enumerate(called)
        }
        calls = [_call(function["name"], f"#/$defs/{number}") for number, function in enumerate(called)]
        return json.dumps({"$defs": shapes, **(calls[0] if len(calls) == 1 else {"anyOf": calls})})

    def described(self, messages: Sequence[Message]) -> list[Message]:
        """``messages`` for a template that knows no tools: descriptions in front, calls and results as text."""
        tools = "\n".join(json.dumps(function, ensure_ascii=False) for function in self.functions)
        system = INSTRUCTIONS.format(tools=tools) if self.functions else ""
        rest = list(messages)
        if rest and rest[0].get("role") == "system":
            system = f"{rest.pop(0).get('content') or ''}\n\n{system}".strip()
        front: list[Message] = [{"role": "system", "content": system}] if system else []
        return [*front, *_merged(_plain(message) for message in rest)]


def names_called(messages: Sequence[Message]) -> set[str]:
    """Names in the calls of earlier answers."""
    return {str(call["name"]) for message in messages for call in _calls(message)}


def marked_calls(text: str) -> int:
    """How often a prompt shows a call as answers are read: in an earlier answer, or to tell the model how."""
    return len(_MARKED.findall(text))


def _calls(message: Message) -> list[dict[str, Any]]:
    calls = message.get("tool_calls")
    return [dict(call["function"]) for call in calls] if isinstance(calls, list) else []


def _plain(message: Message) -> Message:
    role, content = message["role"], str(message.get("content") or "")
    if role == "tool":
        return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}
    calls = [
        f'{OPEN}\n{{"name": {json.dumps(c["name"])}, "arguments": {c["arguments"]}}}\n{CLOSE}' for c in _calls(message)
    ]
    return {"role": role, "content": "\n".join([*([content] if content else []), *calls])}


def _merged(messages: Iterable[Message]) -> list[Message]:
    """Neighbours of one role in one message: some templates insist on taking turns."""
    result: list[Message] = []
    for message in messages:
        if result and result[-1]["role"] == message["role"] == "user":
            message = {"role": "user", "content": f"{result.pop()['content']}\n{message['content']}"}
        result.append(message)
    return result


def _call(name: str, arguments: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": {"$ref": arguments}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _arguments(schema: Any, root: str, *, strict: bool) -> Any:
    """``schema`` as it reads at ``root``: references lead to where it is now, and only what is declared is given.

    JSON schema allows undeclared properties; a small model fills the answer with them.
    """
    if isinstance(schema, list):
        return [_arguments(item, root, strict=strict) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved: dict[str, Any] = {}
    for key, value in schema.items():
        if key in VALUES:
            moved[key] = value
        elif key in NAMES and isinstance(value, dict):
            moved[key] = {name: _arguments(item, root, strict=strict) for name, item in value.items()}
        elif key != "pattern" or strict or not isinstance(value, str) or enforceable(value):
            moved[key] = _arguments(value, root, strict=strict)
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        moved["$ref"] = root + reference[1:]
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        moved.setdefault("additionalProperties", False)
    return moved
