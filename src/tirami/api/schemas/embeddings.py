"""The OpenAI embeddings dialect."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tirami.api.schemas.base import OpenAiBody, Reply
from tirami.api.schemas.chat import ForgeExtension, XTirami
from tirami.api.schemas.completions import InputText, TokenList, inputs

MAX_INPUTS = 2048


class EmbeddingRequest(OpenAiBody):
    """``POST /v1/embeddings``. Billed by the tokens read."""

    input: Annotated[
        list[InputText | TokenList],
        Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True),
        BeforeValidator(inputs),
    ]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Only the model's own."""


class EmbeddingEntry(Reply):
    index: int
    object: Literal["embedding"] = "embedding"
    embedding: list[float] | str


class EmbeddingUsage(Reply):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Reply):
    object: Literal["list"] = "list"
    data: list[EmbeddingEntry]
    model: str
    usage: EmbeddingUsage
    x_tirami: XTirami
    x_forge: ForgeExtension = None
