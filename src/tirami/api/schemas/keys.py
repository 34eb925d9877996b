"""The end of a key: who follows it, or that nobody does."""

from typing import Annotated

from pydantic import Field

from tirami.api.schemas.base import AccountId, Body, Hex32, Query, Reply

Hex64 = Annotated[str, Field(pattern="^[0-9a-f]{128}$", description="64 bytes as 128 lowercase hexadecimal digits")]


class KeyQuery(Query):
    node: AccountId | None = None
    """Whose key; default: this node's."""


class KeyOrder(Reply):
    """What a key ordered about itself; anybody can check it."""

    successor: str | None
    """``null`` revokes."""
    last_incarnation: int
    last_number: int
    """Of the key's last debit."""
    at_ms: int
    body: str
    """The signed bytes."""
    signature: str
    """The key's signature over ``tirami/1/rotation`` and those bytes."""


class KeyReply(Reply):
    network: str
    node_id: str
    ended: bool
    """Rotated or revoked: nothing is taken from it any more, what it signed before stays."""
    acts_now: str | None
    """The key that acts for it now: itself, or the end of its chain; ``null`` when it is revoked, or contested."""
    contested: bool
    """Two orders name different successors and none revokes: somebody else has this key, and nobody follows it."""
    roles: list[str]
    """What the network file names it as: ``issuer``, ``witness``, ``seed``. That is not handed on."""
    orders: list[KeyOrder]


class KeyRotationRequest(Body):
    node_id: AccountId
    """The key that ends, this node's: so that no other node's ends by mistake."""
    successor: Hex32
    consent: Hex64
    """The successor's signature under its consent to follow this key."""
    move: bool = True
    """Give the successor what this key owns first. A credit line cannot be given."""


class KeyRevocationRequest(Body):
    node_id: AccountId
    """The key that ends, this node's: so that no other node's ends by mistake."""


class KeyEndedReply(Reply):
    node_id: str
    successor: str | None
    moved_trm: int
    """What went to the successor."""
    record_id: str | None
    """The transfer that moved it."""
    peers: int
    """Connected peers that were told; the others hear of it from them."""
    order: KeyOrder
