"""Functions a model may call, and the calls it makes."""

from typing import Annotated, Literal

from pydantic import Field

from tirami.api.schemas.base import OpenAiPart, Reply, inconsistent
from tirami.api.schemas.jsonschema import JsonSchema

MAX_TOOLS = 128
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
Description = Annotated[str, Field(max_length=16_384)]


class FunctionSpec(OpenAiPart):
    name: FunctionName
    description: Description | None = None
    parameters: JsonSchema | None = None
    strict: bool | None = None


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
    """Raises for two of the same name, and for a choice that is none of them."""
    names = [tool.function.name for tool in tools or ()]
    if len(set(names)) != len(names):
        raise inconsistent("tools", "two have the same name")
    if isinstance(choice, NamedTool) and choice.function.name not in names:
        raise inconsistent("tool_choice", f"there is no tool {choice.function.name[:64]!r}")
    if choice == "required" and not names:
        raise inconsistent("tool_choice", "required needs tools")


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
