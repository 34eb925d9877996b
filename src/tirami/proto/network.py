"""The network file: who honours what (PROTOCOL B5). Its hash stands beside every balance."""

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import msgspec
import rfc8785

from tirami.core.errors import NetworkFileError
from tirami.core.keys import Digest, PublicKey, is_acceptable_point, sha256
from tirami.core.units import MICRO
from tirami.proto.codec import NAME_PATTERN

MAX_FILE = 1 << 20
PARAM = "network.file"

Hex32 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
Seed = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,256}\Z")]
CAP = 21_000_000_000
"""TRM there can ever be; no issuer's quota of one day may exceed it (B5)."""


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The rules that may differ between networks. Each counts towards the file's hash, default or not."""

    witnesses: Positive = 3
    """w: how many witnesses a key has, the nearest to its hash (B6)."""
    quorum: Positive = 2
    """q = ⌊w/2⌋ + 1 of them make a statement (B6)."""
    unwitnessed_daily_limit: Count = 1_000
    """U: TRM between one payer and one provider in 24 hours that need no witness (B6)."""
    voucher_tokens: Positive = 64
    """K: most tokens that run ahead of the vouchers (B11)."""
    stranger_tokens: Positive = 16
    """K of strangers, where that is less."""
    voucher_trm: Positive = 10
    """K of strangers in TRM, where that is less still; never below one token (B11)."""
    welcome_limit: Count = 1_000
    """Largest welcome line, TRM (B4)."""
    welcome_hours: Count = 72
    """Hours until a welcome line is due."""
    issuer_daily_lines: Count = 100
    """Quota, in welcome lines a calendar day (UTC), of an issuer that names none of its own (B5)."""
    yield_ceiling_ppm: Annotated[int, msgspec.Meta(ge=0, le=MICRO)] = 1_000
    """Most yield a year, in millionths of the cap."""
    acceptance_minutes: Count = 15
    """How long a witness counts an unshown acceptance at its ceiling (B6)."""


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key that may grant lines, and how many of the largest size a calendar day (UTC)."""

    key: Hex32
    daily_lines: Count = 100


class NetworkFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """One network's admission policy.

    Attributes:
        format: ``tirami/1/network``.
        id: 1 … 64 of ``a-z 0-9 -``; stands in every record.
        issuers, witnesses: keys, each once.
        seeds: ``PUBLIC_KEY@HOST:PORT`` of nodes to ask first.
    """

    format: Literal["tirami/1/network"]
    id: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
    parameters: Parameters = Parameters()
    issuers: tuple[Issuer, ...] = ()
    witnesses: tuple[Hex32, ...] = ()
    seeds: tuple[Seed, ...] = ()

    @classmethod
    def regtest(cls, node: PublicKey) -> Self:
        """Built in: one node that is the only issuer and witness of its own network."""
        return cls.of("regtest", [node])

    @classmethod
    def of(cls, name: str, keys: Iterable[PublicKey]) -> Self:
        """A network whose issuers and witnesses are these; not yet checked as :meth:`parse` does."""
        parameters, named = Parameters(witnesses=1, quorum=1), [key.hex() for key in keys]
        issuers = tuple(Issuer(key, parameters.issuer_daily_lines) for key in named)
        return cls("tirami/1/network", name, parameters, issuers, tuple(named), ())

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From JSON of any layout. Raises ``NetworkFileError`` naming the field that is wrong."""
        if len(data) > MAX_FILE:
            raise NetworkFileError(f"a network file has at most {MAX_FILE} bytes", param=PARAM)
        try:
            document = json.loads(data.decode("utf-8"), object_pairs_hook=_without_duplicates)
            _name_quotas(document)
            network = msgspec.convert(document, type=cls)
        except (ValueError, RecursionError) as error:  # msgspec.ValidationError is a ValueError
            raise NetworkFileError(f"not a network file: {error}", param=PARAM) from error
        _check(network)
        return network

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises ``NetworkFileError``, also when ``path`` cannot be read."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE + 1)
        except OSError as error:
            raise NetworkFileError(f"{path} cannot be read: {error.strerror}", param=PARAM) from error
        return cls.parse(data)

    def to_bytes(self) -> bytes:
        """RFC 8785 form with every default written out."""
        return rfc8785.dumps(msgspec.to_builtins(self))

    @cached_property
    def hash(self) -> Digest:
        """SHA-256 of :meth:`to_bytes`: equal for files that say the same."""
        return sha256(self.to_bytes())


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """JSON leaves open which of two equal names counts; a policy may not."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return result


def _name_quotas(document: object) -> None:
    """Write the network's quota into issuers that name none; shapes are judged afterwards."""
    match document:
        case {"parameters": {"issuer_daily_lines": int(quota)}, "issuers": [*issuers]}:
            for issuer in issuers:
                if isinstance(issuer, dict):
                    issuer.setdefault("daily_lines", quota)


def _check(network: NetworkFile) -> None:
    """What the types cannot say."""
    issuers = [issuer.key for issuer in network.issuers]
    parameters = network.parameters
    keys = [*issuers, *network.witnesses]
    for good, problem in (
        (len(set(issuers)) == len(issuers), "issuers: a key stands twice"),
        (len(set(network.witnesses)) == len(network.witnesses), "witnesses: a key stands twice"),
        (
            all(is_acceptable_point(bytes.fromhex(key)) for key in keys),
            "issuers, witnesses: not an Ed25519 key",
        ),
        (
            parameters.quorum == parameters.witnesses // 2 + 1,
            "parameters.quorum: must be ⌊witnesses ÷ 2⌋ + 1",
        ),
        (
            not network.witnesses or len(network.witnesses) >= parameters.witnesses,
            "witnesses: fewer than parameters.witnesses",
        ),
        (
            all(issuer.daily_lines * parameters.welcome_limit <= CAP for issuer in network.issuers),
            f"issuers: a quota of one day exceeds the cap of {CAP} TRM",
        ),
    ):
        if not good:
            raise NetworkFileError(f"not a network file: {problem}", param=PARAM)
