"""What every request for an answer may say about how it is drawn."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from tirami.api.schemas.base import MAX_SAFE, OpenAiBody, OpenAiPart
from tirami.core.shaping import (
    MAX_BIAS,
    MAX_BIASES,
    MAX_PENALTY,
    MAX_STOP,
    MAX_STOPS,
    MAX_TOKEN_DIGITS,
    MAX_TOP_K,
)

MAX_CHOICES = 8
StopText = Annotated[str, Field(min_length=1, max_length=MAX_STOP)]
Penalty = Annotated[float, Field(ge=-MAX_PENALTY, le=MAX_PENALTY, allow_inf_nan=False)]
Bias = Annotated[float, Field(ge=-MAX_BIAS, le=MAX_BIAS, allow_inf_nan=False)]
TokenId = Annotated[str, Field(pattern=f"^[0-9]{{1,{MAX_TOKEN_DIGITS}}}$")]
Tokens = Annotated[int, Field(ge=1, le=MAX_SAFE)]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
TopP = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""0 leaves the likeliest token."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class StreamOptions(OpenAiPart):
    include_usage: bool = False


class SamplingBody(OpenAiBody):
    """The parameters of a draw; ``min_p``, ``top_k`` and ``repeat_penalty`` are llama.cpp's."""

    model: str | None = None
    max_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: Annotated[int, Field(ge=0, le=MAX_TOP_K)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    """The engine draws with 32 bits: of any other number its remainder modulo 2^32 counts."""
    stop: Annotated[list[StopText], BeforeValidator(_listed), Field(max_length=MAX_STOPS)] | None = None
    """A text or a list of them."""
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=MAX_PENALTY, allow_inf_nan=False)] | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Field(max_length=MAX_BIASES)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage
