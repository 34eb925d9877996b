"""Keys that convicted themselves, and by what."""

from typing import Annotated

from pydantic import Field

from tirami.api.schemas.base import Query, Reply


class FraudsQuery(Query):
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class FraudEntry(Reply):
    """A key whose own signatures contradict each other; its proof is to be had as a file."""

    id: str
    """SHA-256 of the file."""
    guilty: str
    """The key."""
    at_ms: int
    """When this node wrote it down."""


class FraudsReply(Reply):
    count: int
    """Of all, also where fewer are listed."""
    frauds: list[FraudEntry]
    """The newest first."""
