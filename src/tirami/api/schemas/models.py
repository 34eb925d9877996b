"""Models as OpenAI's clients list them, with their prices."""

from typing import Literal

from tirami.api.schemas.base import Reply


class ModelEntry(Reply):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "tirami"
    digest: str
    context_length: int
    parameters: int
    active_parameters: int
    quantization: str
    price_in_utrm: int
    price_out_utrm: int
    """µTRM a token now."""


class ModelList(Reply):
    object: Literal["list"] = "list"
    data: list[ModelEntry]
