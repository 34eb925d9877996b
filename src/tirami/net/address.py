"""Where a peer may be found: its key, and perhaps ways to it.

::

    address = key [ "@" way *( "," way ) ]
    way     = host ":" port            a direct one: 203.0.113.7:4433, [2001:db8::7]:4433, node.example:4433
            | relay-url                https://relay.example/ ; at most one

The key alone decides who a peer is; the ways are hints, and whoever answers there must prove to hold the key.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Self
from urllib.parse import urlsplit

from tirami.core.errors import InvalidField, InvalidRequest
from tirami.core.keys import PublicKey, is_acceptable_point, parse_node_id

MAX_WAYS = 16
"""More ways than this are no help to anybody who dials."""
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_URL = re.compile(r"https?://[!#-+\--;=?-\[\]_a-z~]+\Z", re.IGNORECASE)
"""No blanks, no comma (it separates ways), nothing a URL cannot hold."""


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """A peer's key and the ways to it.

    Attributes:
        key: who it is (RFC 8032 public key; one that proves nothing is refused).
        direct: ``host:port`` each, tried together; IPv6 in brackets, names in lower case.
        relay: URL of the relay at which the peer waits, if it has one.

    Raises ``InvalidField`` (``param`` is ``address``) for anything that cannot be dialled.
    """

    key: PublicKey
    direct: tuple[str, ...] = ()
    relay: str | None = None

    def __post_init__(self) -> None:
        if not is_acceptable_point(self.key):
            raise _invalid("the key of a peer is 32 bytes of an Ed25519 key that can prove something")
        if len(self.direct) > MAX_WAYS:
            raise _invalid(f"a peer has at most {MAX_WAYS} direct addresses")
        object.__setattr__(self, "direct", tuple(str(HostPort.parse(text)) for text in self.direct))
        if self.relay is not None:
            check_relay(self.relay)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the grammar above; the inverse of ``str``."""
        key, at, ways = text.strip().partition("@")
        try:
            peer = parse_node_id(key)
        except InvalidRequest as error:
            raise _invalid(f"{_shown(key)} is no key: {error.message}") from error
        if at and not ways:
            raise _invalid("nothing follows the @: a way is HOST:PORT or the URL of a relay")
        every = ways.split(",") if at else []
        relays = [way for way in every if "://" in way]
        if len(relays) > 1:
            raise _invalid("a peer has at most one relay")
        direct = tuple(way for way in every if "://" not in way)
        return cls(peer, direct, relays[0] if relays else None)

    def __str__(self) -> str:
        ways = ",".join(self.direct if self.relay is None else (*self.direct, self.relay))
        return f"{self.key.hex()}@{ways}" if ways else self.key.hex()


@dataclass(frozen=True, slots=True)
class HostPort:
    """One end of a UDP path: an IP address or a name, and a port."""

    host: str
    """Without brackets, in its shortest form."""
    port: int
    ip: IPv4Address | IPv6Address | None
    """``None`` for a name."""

    @classmethod
    def parse(cls, text: str, *, lowest_port: int = 1) -> Self:
        """``lowest_port`` is 0 for a socket of one's own: any free port. Raises ``InvalidField``."""
        host, colon, digits = text.rpartition(":")
        if not colon or not host:
            raise _invalid(f"{_shown(text)} is not HOST:PORT")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and lowest_port <= int(digits) <= 65535):
            raise _invalid(f"{_shown(digits)} is no port: {lowest_port} … 65535")
        ip = _ip(host)
        return cls(str(ip) if ip else _name(host), int(digits), ip)

    def __str__(self) -> str:
        host = f"[{self.host}]" if isinstance(self.ip, IPv6Address) else self.host
        return f"{host}:{self.port}"


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        if host.startswith("[") and host.endswith("]"):
            address = IPv6Address(host[1:-1])
            if address.scope_id is not None:
                raise _invalid(f"{_shown(host)} names an interface, which means something on one machine only")
            return address
        last = host.rpartition(".")[2]
        return IPv4Address(host) if last.isascii() and last.isdigit() else None
    except AddressValueError as error:
        raise _invalid(f"{_shown(host)} is no IP address") from error


def _name(host: str) -> str:
    """A host name (RFC 1123, underscores allowed), in lower case."""
    if ":" in host:
        raise _invalid(f"{_shown(host)} is no host: an IPv6 address stands in brackets")
    name = host.lower()
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise _invalid(f"{_shown(host)} is no name of a host")
    return name


def check_relay(url: str) -> None:
    """Raises ``InvalidField`` for what cannot be the URL of a relay."""
    try:
        parts = urlsplit(url)
        valid = bool(_URL.match(url) and parts.hostname and (parts.port is None or parts.port > 0))
    except ValueError:  # a bracket that does not close, a port that is no number
        valid = False
    if not valid or parts.username is not None or parts.query or parts.fragment or len(url) > 256:
        raise _invalid(f"{_shown(url)} is no relay: its URL is https://HOST[:PORT][/PATH]")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:79]}…")


def _invalid(message: str) -> InvalidField:
    return InvalidField(message, param="address")
