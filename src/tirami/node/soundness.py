"""What settings must be beyond their type: addresses, keys and URLs that can be such, and what belongs together.

Everything is judged before a node opens anything, by ``tirami config check`` and at the start alike.
"""

from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from tirami.core.config import Config
from tirami.core.errors import ConfigError, InvalidRequest, TiramiError
from tirami.core.keys import parse_node_id
from tirami.infer.batch import MOST_SLOTS
from tirami.net import HostPort, PeerAddress
from tirami.net.address import check_relay
from tirami.net.invites import Invitation


def unsound(config: Config) -> Iterator[ConfigError]:
    """Every setting that cannot work, ``param`` names it."""
    api, mesh = config.api, config.mesh
    for key, parse, parts in (
        ("api.bind", _listening, [api.bind.strip().strip("[]")]),
        ("infer.upstream_url", _http, [config.infer.upstream_url]),
        ("mesh.bind", _socket, [mesh.bind]),
        ("mesh.relay", _relay, [mesh.relay]),
        ("mesh.bootstrap", PeerAddress.parse, mesh.bootstrap.split()),
        ("mesh.dns", _domain, [mesh.dns]),
        ("mesh.nostr", _nostr, mesh.nostr.split()),
        ("mesh.trusted", parse_node_id, mesh.trusted.split(",")),
        ("mesh.denied", parse_node_id, mesh.denied.split(",")),
        ("mesh.operator", parse_node_id, [mesh.operator]),
        ("mesh.invitation", Invitation.parse, [mesh.invitation]),
    ):
        yield from _judged(key, parse, parts)
    for key, value, other in (
        ("api.tls_cert", api.tls_cert, api.tls_key),
        ("api.tls_key", api.tls_key, api.tls_cert),
    ):
        if other and not value:
            yield ConfigError(f"{key} is missing: HTTPS needs a certificate and its key", param=key)
    if config.infer.slots > MOST_SLOTS and not config.infer.upstream_url:
        yield ConfigError(f"infer.slots: a model on this machine has {MOST_SLOTS} at most", param="infer.slots")


def _judged(key: str, parse: Callable[[str], object], parts: Iterable[str]) -> Iterator[ConfigError]:
    """One problem at most a setting; empty parts say nothing."""
    for part in parts:
        try:
            if part.strip():
                parse(part.strip())
        except (TiramiError, ValueError) as error:
            yield ConfigError(f"{key}: {error}", param=key)
            return


def _listening(text: str) -> None:
    try:
        if text.lower() != "localhost":
            ip_address(text)
    except ValueError as error:
        raise InvalidRequest("it must be an IP address of this machine, or localhost") from error


def _socket(text: str) -> None:
    if HostPort.parse(text, lowest_port=0).ip is None:
        raise InvalidRequest("it must be IP:PORT, and this is a name")


def _relay(text: str) -> None:
    if text not in ("off", "n0"):
        check_relay(text)


def _http(text: str) -> None:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise InvalidRequest("it must be a URL: http://HOST[:PORT][/PATH]")


def _nostr(text: str) -> None:
    parts = urlsplit(text)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.port == 0:
        raise InvalidRequest("each must be the URL of a relay: wss://HOST")


def _domain(text: str) -> None:
    if HostPort.parse(f"{text.rstrip('.')}:53").ip is not None:
        raise InvalidRequest("it must be a domain name, and this is an address")
