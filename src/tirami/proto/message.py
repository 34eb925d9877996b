"""What every message between two nodes is, and what its fields are made of (TIP-10).

A message is a MessagePack array in declaration order. Each class has a ``TYPE``, which stands in the frame, and a
``LIMIT``, the most bytes its body may have: the receiver refuses a longer one before it reads it. Fields that a later
version adds stand at the end and are ignored by those who do not know them. Nothing here is signed by itself; what is
signed travels as the canonical body of a record beside its signature.
"""

from typing import Annotated, ClassVar, Literal

import msgspec

from tirami.proto.codec import Bytes64
from tirami.proto.envelope import Body

KIB = 1024
U16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
Token = U32
Text = Annotated[str, msgspec.Meta(max_length=1024)]
MAX_LABEL = 64
Label = Annotated[str, msgspec.Meta(max_length=MAX_LABEL)]
VERSION = 1
"""Version of this protocol; ``VERSION`` … ``VERSION`` is what this build speaks."""


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Base of everything said between nodes: fields in order of declaration, later versions only append.

    Attributes:
        TYPE: number on the wire, 1 … 65535, never reused.
        LIMIT: greatest body, bytes.
    """

    TYPE: ClassVar[int] = 0
    LIMIT: ClassVar[int] = 4 * KIB


class SignedBody(msgspec.Struct, frozen=True, array_like=True):
    """A record's canonical body with one signature over ``tag ‖ body``."""

    body: Body
    signature: Bytes64


class Shown(msgspec.Struct, frozen=True, array_like=True):
    """Something its reader signed once: whoever lost its counter or its log believes nothing but that (B9)."""

    kind: Literal["acceptance", "trade", "transfer", "grant", "head"]
    body: Body
    signature: Bytes64
