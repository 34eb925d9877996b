"""Usage by day."""

from typing import Annotated

from pydantic import Field

from tirami.api.schemas.base import AccountId, Query, Reply


class UsageQuery(Query):
    node: AccountId | None = None
    """Whose usage; needs the right to see it. Default: the caller's own."""
    days: Annotated[int, Field(ge=1, le=400)] = 30
    """How many days back, today included."""


class UsageEntry(Reply):
    requests: int
    prompt_tokens: int
    completion_tokens: int
    trm: int
    flop: int


class UsageDay(Reply):
    day: str
    """Of booking, UTC, as YYYY-MM-DD."""
    spent: UsageEntry
    earned: UsageEntry
    """Own use (local trades) earns nothing."""


class UsageReply(Reply):
    node_id: str
    network: str
    spent: UsageEntry
    """Sum over the days below."""
    earned: UsageEntry
    days: list[UsageDay]
    """Days with use, oldest first."""
