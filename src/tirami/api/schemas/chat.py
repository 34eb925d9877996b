"""The OpenAI chat dialect, and our extension of every answer."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tirami.api.schemas.base import OpenAiPart, Reply, inconsistent
from tirami.api.schemas.jsonschema import JsonSchema
from tirami.api.schemas.parts import Content, text_of
from tirami.api.schemas.sampling import SamplingBody, Tokens
from tirami.api.schemas.tools import MAX_TOOLS, ToolCall, ToolCallReply, ToolChoice, ToolSpec, check_tools


class ChatMessage(OpenAiPart):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOLS)] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.role == "tool" and self.tool_call_id is None:
            raise inconsistent("tool_call_id", "a message of role tool needs it")
        if self.tool_calls and self.role != "assistant":
            raise inconsistent("tool_calls", "only a message of role assistant has them")
        return self

    @property
    def plain(self) -> str:
        return text_of(self.content)


class NamedSchema(OpenAiPart):
    name: Annotated[str, Field(max_length=64)] = "answer"
    description: str | None = None
    schema_: Annotated[JsonSchema | None, Field(alias="schema")] = None
    strict: bool | None = None
    """Answers are held to the schema either way."""


class ResponseFormat(OpenAiPart):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.type == "json_schema" and (self.json_schema is None or self.json_schema.schema_ is None):
            raise inconsistent("json_schema.schema", "response_format of type json_schema needs it")
        return self


class ChatCompletionRequest(SamplingBody):
    """``POST /v1/chat/completions``. Unknown parameters are refused, not ignored."""

    NEUTRAL: ClassVar[dict[str, tuple[object, ...]]] = {
        "audio": (None,),
        "function_call": (None, "none", "auto"),
        "functions": (None, []),
        "modalities": (None, ["text"]),
        "prediction": (None,),
        "verbosity": (None, "medium"),
        "web_search_options": (None,),
    }
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1024)]
    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[ToolSpec], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_tools(self.tools, self.tool_choice)
        if self.top_logprobs and not self.logprobs:
            raise inconsistent("top_logprobs", "it needs logprobs")
        if self.offers_tools and self.response_format is not None and self.response_format.type != "text":
            raise inconsistent("response_format", "it cannot be combined with tools; set tool_choice to none")
        if self.offers_tools and self.logprobs:
            raise inconsistent("logprobs", "they cannot be combined with tools; set tool_choice to none")
        return self

    @property
    def offers_tools(self) -> bool:
        return bool(self.tools) and self.tool_choice != "none"

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def limit_name(self) -> str:
        """The field :attr:`most_tokens` is from."""
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"


class CompletionTokensDetails(Reply):
    reasoning_tokens: int


class Usage(Reply):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: Annotated[
        CompletionTokensDetails | None, Field(exclude_if=lambda details: details is None)
    ] = None
    """Where the model reasoned apart from its answer: how many of the completion tokens that took, as far as known."""


class XTirami(Reply):
    """Cost and proof of an answer. ``effective_balance`` is the payer's, never somebody else's."""

    trm_cost: int
    """Of all choices, signed for: ``owed_trm`` of it has no signature of its provider yet, and no trade."""
    owed_trm: int = 0
    provider: str
    """Who served it: this node, or the peer it was bought of."""
    payer: str
    """The account that paid. What the owner has bought of a peer is paid by the node: local funds do not leave it."""
    effective_balance: int
    """Of ``payer``."""
    provider_effective_balance: int | None = None
    """Only for the owner's own use, where it is both sides of a local trade."""
    trade_id: str | None
    """The first choice's; ``null`` when nothing was delivered or owed."""
    trade_ids: tuple[str, ...] = ()
    """One a choice that was billed."""
    request_id: str
    network: str
    network_hash: str
    price_in_utrm: int
    price_out_utrm: int
    flop: int
    ttft_ms: float | None
    wall_ms: float
    peak_memory_bytes: int
    """Of the engine process; 0 where it is not ours to see."""
    counted_by: str
    ids_complete: bool


class XForge(Reply):
    """The original's name for the cost of an answer; only under ``compat = forge``."""

    cu_cost: int
    effective_balance: int


ForgeExtension = Annotated[XForge | None, Field(exclude_if=lambda forge: forge is None)]


class AssistantMessage(Reply):
    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: Annotated[str | None, Field(exclude_if=lambda reasoning: reasoning is None)] = None
    """What the model thought before it answered, where an upstream tells the two apart; billed like the answer."""
    tool_calls: Annotated[list[ToolCallReply] | None, Field(exclude_if=lambda calls: calls is None)] = None


class AlternativeToken(Reply):
    token: str
    logprob: float
    bytes: list[int] | None


class TokenProbability(AlternativeToken):
    top_logprobs: list[AlternativeToken]


class ChoiceLogprobs(Reply):
    """Tokens that make one character together arrive as one piece, and only the last of them is listed."""

    content: list[TokenProbability] | None
    refusal: None = None


class Choice(Reply):
    index: int = 0
    message: AssistantMessage
    logprobs: ChoiceLogprobs | None = None
    finish_reason: str


class ChatCompletion(Reply):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    x_tirami: XTirami
    x_forge: ForgeExtension = None
