"""The OpenAI chat dialect as far as this version speaks it, and our extension."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tirami.api.schemas.base import MAX_SAFE, Reply

IGNORED = frozenset({"user", "metadata", "store", "service_tier", "parallel_tool_calls", "reasoning_effort"})
"""Accepted without effect."""
NEUTRAL: dict[str, tuple[object, ...]] = {
    "n": (None, 1),
    "stop": (None, []),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "response_format": (None, {"type": "text"}),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "logit_bias": (None, {}),
}
"""Parameters this version does not serve yet, with the values that ask for nothing."""


class TextPart(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)
    include_usage: bool = False


class ChatCompletionRequest(BaseModel):
    """``POST /v1/chat/completions``. Unknown parameters are refused, not ignored."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1024)]
    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_SAFE)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_SAFE)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_what_asks_for_nothing(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            key: item
            for key, item in value.items()
            if key not in IGNORED and not (key in NEUTRAL and item in NEUTRAL[key])
        }

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


class Usage(Reply):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class XTirami(Reply):
    """Cost and proof of an answer. ``effective_balance`` is the payer's, never somebody else's."""

    trm_cost: int
    effective_balance: int
    provider_effective_balance: int | None = None
    """Only for the owner, who is both sides of a local trade."""
    trade_id: str | None
    """``null`` when nothing was delivered or owed."""
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


class AssistantMessage(Reply):
    role: Literal["assistant"] = "assistant"
    content: str


class Choice(Reply):
    index: int = 0
    message: AssistantMessage
    finish_reason: str


class ChatCompletion(Reply):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    x_tirami: XTirami
    x_forge: Annotated[XForge | None, Field(exclude_if=lambda forge: forge is None)] = None
