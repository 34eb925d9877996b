"""Settlement statements and anchors. The statement itself is :class:`tirami.proto.StatementFile`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tirami.api.legacy import one_name
from tirami.api.schemas.base import MAX_SAFE, AccountId, Query, Reply
from tirami.api.schemas.economy import HeadEntry

Time = Annotated[int, Field(ge=0, le=MAX_SAFE)]
MOST_TRADES = 100_000
"""Trades of one statement."""


class SettlementQuery(Query):
    """The window is over the time of booking: ``since`` ≤ booked < ``until``, Unix milliseconds."""

    hours: Annotated[int, Field(ge=1, le=876_000)] = 24
    """Length of the window where ``since`` is absent."""
    since: Time | None = None
    until: Time | None = None
    """Absent: now."""
    node: AccountId | None = None
    """Only trades of this key. Default: the account the caller's token is bound to, else everybody's."""
    format: Literal["json", "csv"] = "json"
    reference_price_per_trm: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)] | None = None
    """Adds ``estimated_payout_value``, in the unit of this price."""
    limit: Annotated[int, Field(ge=1, le=MOST_TRADES)] = MOST_TRADES
    cursor: Time | None = None
    """``next_cursor`` of the statement before."""

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, values: Any) -> Any:
        return one_name("settlement", values)


def _lower(value: object) -> object:
    name = value.lower() if isinstance(value, str) else value
    return "mainnet" if name == "bitcoin" else name


class AnchorQuery(Query):
    network: Annotated[Literal["mainnet", "testnet", "signet", "regtest"], BeforeValidator(_lower)] = "testnet"
    """In any case; ``bitcoin`` is ``mainnet``."""


class AnchorReply(Reply):
    """Bytes for an OP_RETURN output; nothing is broadcast. The root is that of ``head``."""

    merkle_root_hex: str
    script_hex: str
    payload_hex: str
    network: str
    payload_len: int
    head: HeadEntry
