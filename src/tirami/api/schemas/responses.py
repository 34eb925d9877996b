"""The OpenAI responses dialect: text, functions, schemas. Nothing is kept, so nothing can be continued by its id."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tirami.api.schemas.base import OpenAiBody, OpenAiPart, Reply, inconsistent
from tirami.api.schemas.chat import ForgeExtension, XTirami
from tirami.api.schemas.jsonschema import JsonSchema
from tirami.api.schemas.parts import Content
from tirami.api.schemas.sampling import Temperature, Tokens, TopP
from tirami.api.schemas.tools import MAX_TOOLS, Description, FunctionName, FunctionSpec, check_functions

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]


class ResponseTextFormat(OpenAiPart):
    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, Field(max_length=64)] = "answer"
    schema_: Annotated[JsonSchema | None, Field(alias="schema")] = None
    strict: bool | None = None
    description: Description | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.type == "json_schema" and self.schema_ is None:
            raise inconsistent("schema", "text.format of type json_schema needs it")
        return self


class ResponseText(OpenAiPart):
    format: ResponseTextFormat | None = None


class ResponseItem(OpenAiPart):
    """A message, a call of an earlier answer, or what a called function returned."""

    type: Literal["message", "function_call", "function_call_output"] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Content = None
    call_id: str | None = None
    name: FunctionName | None = None
    arguments: str | None = None
    output: Content = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        needed = {
            "message": ("role", "content"),
            "function_call": ("call_id", "name", "arguments"),
            "function_call_output": ("call_id", "output"),
        }
        for name in needed[self.type]:
            if getattr(self, name) is None:
                raise inconsistent(name, f"an item of type {self.type} needs it")
        return self


class ResponseTool(FunctionSpec):
    type: Literal["function"]


class NamedResponseTool(OpenAiPart):
    type: Literal["function"]
    name: str


class ResponseRequest(OpenAiBody):
    """``POST /v1/responses``."""

    IGNORED: ClassVar[frozenset[str]] = (OpenAiBody.IGNORED - {"metadata", "parallel_tool_calls"}) | {
        "reasoning",
        "prompt_cache_retention",
    }
    NEUTRAL: ClassVar[dict[str, tuple[object, ...]]] = {
        "background": (None, False),
        "conversation": (None,),
        "include": (None, []),
        "max_tool_calls": (None,),
        "previous_response_id": (None,),
        "prompt": (None,),
        "stream_options": (None,),
        "top_logprobs": (None, 0),
        "truncation": (None, "disabled"),
    }
    input: Annotated[str, Field(min_length=1)] | Annotated[list[ResponseItem], Field(min_length=1, max_length=1024)]
    model: str | None = None
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    text: ResponseText | None = None
    tools: Annotated[list[ResponseTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedResponseTool | None = None
    stream: bool | None = None
    parallel_tool_calls: bool | None = None
    """Repeated in the response, without effect."""
    metadata: Metadata | None = None
    """Repeated in the response; nothing of it is kept."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named = self.tool_choice.name if isinstance(self.tool_choice, NamedResponseTool) else None
        check_functions(self.tools or (), named, required=self.tool_choice == "required")
        shape = self.text.format if self.text else None
        if self.offers_tools and shape is not None and shape.type != "text":
            raise inconsistent("text.format", "it cannot be combined with tools; set tool_choice to none")
        return self

    @property
    def offers_tools(self) -> bool:
        return bool(self.tools) and self.tool_choice != "none"


class OutputText(Reply):
    type: Literal["output_text"] = "output_text"
    text: str
    annotations: tuple[str, ...] = ()


class OutputMessage(Reply):
    type: Literal["message"] = "message"
    id: str
    role: Literal["assistant"] = "assistant"
    status: str
    content: list[OutputText]


class OutputCall(Reply):
    type: Literal["function_call"] = "function_call"
    id: str
    call_id: str
    name: str
    arguments: str
    status: str


class CachedTokens(Reply):
    cached_tokens: int = 0
    cache_write_tokens: int = 0


class ReasoningTokens(Reply):
    reasoning_tokens: int = 0


class ResponseUsage(Reply):
    input_tokens: int
    input_tokens_details: CachedTokens = CachedTokens()
    output_tokens: int
    output_tokens_details: ReasoningTokens = ReasoningTokens()
    total_tokens: int


class IncompleteDetails(Reply):
    reason: str


class ResponseError(Reply):
    code: str
    message: str


class ResponseReply(Reply):
    """An answer. ``store`` is false: it cannot be fetched again."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    model: str
    output: list[OutputMessage | OutputCall]
    parallel_tool_calls: bool
    previous_response_id: None = None
    store: bool = False
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None = None
    metadata: dict[str, str] | None
    x_tirami: Annotated[XTirami | None, Field(exclude_if=lambda ours: ours is None)] = None
    x_forge: ForgeExtension = None
