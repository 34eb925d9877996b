"""Functions a model may call, and the calls it makes."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from tirami.api.schemas.base import OpenAiPart, Reply, inconsistent
from tirami.api.schemas.jsonschema import OfferedSchema
from tirami.core.shaping import bounded

MAX_TOOLS = 128
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
Description = Annotated[str, Field(max_length=16_384)]


class FunctionSpec(OpenAiPart):
    name: FunctionName
    description: Description | None = None
    parameters: OfferedSchema | None = None
    strict: bool | None = None
    """Of a demanded call: a pattern that arguments cannot be held to is refused, and otherwise left out."""


class ToolSpec(OpenAiPart):
    type: Literal["function"]
    function: FunctionSpec


class NamedFunction(OpenAiPart):
    name: str


class NamedTool(OpenAiPart):
    type: Literal["function"]
    function: NamedFunction


ToolChoice = Literal["none", "auto", "required"] | NamedTool


def check_tools(tools: list[ToolSpec] | None, choice: ToolChoice | None) -> None:
    """As :func:`check_functions`, of a chat."""
    named = choice.function.name if isinstance(choice, NamedTool) else None
    check_functions([tool.function for tool in tools or ()], named, required=choice == "required")


def check_functions(functions: Sequence[FunctionSpec], named: str | None, *, required: bool) -> None:
    """Raises for two of the same name, for a choice that is none of them, and for what a strict one cannot keep."""
    names = [function.name for function in functions]
    if len(set(names)) != len(names):
        raise inconsistent("tools", "two have the same name")
    if named is not None and named not in names:
        raise inconsistent("tool_choice", f"there is no tool {named[:64]!r}")
    if required and not names:
        raise inconsistent("tool_choice", "required needs tools")
    for function in functions:
        if function.strict and (required or function.name == named):
            try:
                bounded(function.parameters or {})
            except ValueError as error:
                raise inconsistent("tools", f"{function.name} is strict, and {error}") from None


class CalledFunction(OpenAiPart):
    name: FunctionName
    arguments: str
    """JSON text."""


class ToolCall(OpenAiPart):
    """A call in an earlier answer."""

    id: Annotated[str, Field(max_length=256)]
    type: Literal["function"] = "function"
    function: CalledFunction


class FunctionReply(Reply):
    name: str
    arguments: str


class ToolCallReply(Reply):
    id: str
    type: Literal["function"] = "function"
    function: FunctionReply
