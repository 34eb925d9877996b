"""The OpenAI completions dialect: a prompt as it is, without a chat template."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from tirami.api.schemas.base import Body, Reply, inconsistent
from tirami.api.schemas.chat import ForgeExtension, Usage, XTirami
from tirami.api.schemas.sampling import MAX_CHOICES, SamplingBody, Temperature

Token = Annotated[int, Field(ge=0, lt=10_000_000)]
TokenList = Annotated[list[Token], Field(min_length=1, max_length=1 << 20, fail_fast=True)]
InputText = Annotated[str, Field(min_length=1)]


def inputs(value: Any) -> Any:
    """One text or token list, or several, as a list of them."""
    single = isinstance(value, str) or (isinstance(value, list) and bool(value) and isinstance(value[0], int))
    return [value] if single else value


class CompletionRequest(SamplingBody):
    """``POST /v1/completions``."""

    NEUTRAL: ClassVar[dict[str, tuple[object, ...]]] = {"suffix": (None, ""), "best_of": (None, 1)}
    prompt: Annotated[
        list[InputText | TokenList],
        Field(min_length=1, max_length=MAX_CHOICES, fail_fast=True),
        BeforeValidator(inputs),
    ]
    """Text, token ids, or a list of either; prompts × n ≤ 8."""
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.prompt) * (self.n or 1) > MAX_CHOICES:
            raise inconsistent("prompt", f"prompts times n are at most {MAX_CHOICES}")
        if self.echo and not all(isinstance(prompt, str) for prompt in self.prompt):
            raise inconsistent("echo", "it needs prompts of text")
        if self.echo and self.logprobs is not None:
            raise inconsistent("echo", "it cannot be combined with logprobs: prompts have none here")
        return self


class CompletionLogprobs(Reply):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(Reply):
    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str


class Completion(Reply):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    x_tirami: XTirami
    x_forge: ForgeExtension = None


class LegacyChatRequest(Body):
    """``POST /chat`` and ``/chat/stream`` of the original: a prompt as it is."""

    prompt: InputText
    max_tokens: Annotated[int, Field(ge=1, le=8192)] = 256
    temperature: Temperature = 0.7


class CutOff(Reply):
    """Why an answer ended before its end, and what was paid for the part that came."""

    code: str
    message: str


class LegacyChatReply(Reply):
    text: str
    tokens_generated: int
    cut: CutOff | None = None
    """``null`` for a whole answer; else ``text`` is what came of it, and it is paid for: asking again pays again."""
    x_tirami: XTirami
    x_forge: ForgeExtension = None
