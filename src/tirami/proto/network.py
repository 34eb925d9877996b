"""The network file: who honours what (PROTOCOL B5). Its hash stands beside every balance."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import msgspec
import rfc8785

from tirami.core.errors import NetworkFileError
from tirami.core.keys import Digest, PublicKey, sha256

Hex32 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules of one network that the code of this node reads."""

    welcome_limit: Count = 1_000
    """Largest welcome line, TRM."""
    welcome_hours: Count = 72


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key that may grant lines, and how many of the largest size a calendar day (UTC)."""

    key: Hex32
    daily_lines: Count = 100


class NetworkFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """One network's admission policy."""

    format: Literal["tirami/1/network"]
    id: Annotated[str, msgspec.Meta(pattern="^[a-z0-9-]{1,64}$")]
    parameters: Parameters = Parameters()
    issuers: tuple[Issuer, ...] = ()
    witnesses: tuple[Hex32, ...] = ()
    seeds: tuple[str, ...] = ()

    @classmethod
    def regtest(cls, node: PublicKey) -> Self:
        """Built in: one node that is issuer and witness of its own network."""
        return cls("tirami/1/network", "regtest", Parameters(), (Issuer(node.hex()),), (node.hex(),), ())

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises ``NetworkFileError`` naming what is wrong."""
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, ValueError) as error:
            raise NetworkFileError(f"not a network file: {error}", param="network.file") from error

    @classmethod
    def load(cls, path: Path) -> Self:
        try:
            return cls.parse(path.read_bytes())
        except OSError as error:
            raise NetworkFileError(f"{path} cannot be read: {error.strerror}", param="network.file") from error

    def to_bytes(self) -> bytes:
        """RFC 8785 form."""
        return rfc8785.dumps(msgspec.to_builtins(self))

    @cached_property
    def hash(self) -> Digest:
        return sha256(self.to_bytes())
