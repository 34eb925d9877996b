"""Common ground of all schemas: strict types, documented fields."""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Hex32 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="32 bytes as 64 lowercase hexadecimal digits")]
AccountId = Annotated[
    str,
    Field(pattern="^(tirami_|forge_)?[0-9a-fA-F]{64}$", description="public key as 64 hexadecimal digits"),
]
Trm = Annotated[int, Field(description="TRM")]
UnixMs = Annotated[int, Field(description="Unix milliseconds")]
MAX_SAFE = 2**53 - 1
INCONSISTENT = "inconsistent"
"""Type of a problem of several fields together; ``field`` in its context names the one that is to change."""


def inconsistent(field: str, reason: str) -> PydanticCustomError:
    """What a validator of a whole body raises: pydantic alone would say that the body is wrong, not which field.

    Args:
        field: dotted, below whatever is validated.
        reason: for people.
    """
    return PydanticCustomError(INCONSISTENT, "{reason}", {"reason": reason, "field": field})


class Schema(BaseModel):
    """What all of them are: frozen, and built when they are first used, for a command uses two of some two hundred."""

    model_config = ConfigDict(frozen=True, defer_build=True)


class Body(Schema):
    """A request body of a Tirami route: strict types, unknown fields ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")


class OpenAiBody(Schema):
    """A request body in the OpenAI dialect: strict types, unknown fields refused.

    ``IGNORED`` is accepted without effect; ``NEUTRAL`` are parameters not served, with the values that ask for nothing.
    """

    model_config = ConfigDict(strict=True, extra="forbid")
    IGNORED: ClassVar[frozenset[str]] = frozenset(
        {
            "user",
            "safety_identifier",
            "prompt_cache_key",
            "metadata",
            "store",
            "service_tier",
            "parallel_tool_calls",
            "reasoning_effort",
        }
    )
    NEUTRAL: ClassVar[dict[str, tuple[object, ...]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _drop_what_asks_for_nothing(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            key: item
            for key, item in value.items()
            if key not in cls.IGNORED and not (key in cls.NEUTRAL and item in cls.NEUTRAL[key])
        }


class OpenAiPart(Schema):
    """A part of such a body; what other servers extend it with is ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", serialize_by_alias=True)


class Query(Schema):
    """Query parameters: text is converted, unknown ones ignored."""

    model_config = ConfigDict(extra="ignore")


class Reply(Schema):
    """A response body."""
