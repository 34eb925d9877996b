"""Common ground of all schemas: strict types, documented fields."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Hex32 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="32 bytes as 64 lowercase hexadecimal digits")]
AccountId = Annotated[
    str,
    Field(pattern="^(tirami_|forge_)?[0-9a-fA-F]{64}$", description="public key as 64 hexadecimal digits"),
]
Trm = Annotated[int, Field(description="TRM")]
UnixMs = Annotated[int, Field(description="Unix milliseconds")]
MAX_SAFE = 2**53 - 1


class Body(BaseModel):
    """A request body of a Tirami route: strict types, unknown fields ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Query(BaseModel):
    """Query parameters: text is converted, unknown ones ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Reply(BaseModel):
    """A response body."""

    model_config = ConfigDict(frozen=True)
