"""Nodes found over Nostr relays: signed adverts, written and read (NIP-01, NIP-40; kind 31990 of NIP-89).

A Nostr key is not a node key: it is derived from it, and only says to relays which older advert a newer one replaces.
What counts is the node's own signature inside. Imported by name: the library is loaded only where relays are named.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from random import Random
from typing import Final
from urllib.parse import urlsplit

import nostr_sdk as sdk
import nostr_sdk.nostr_sdk as _generated
import structlog

from tirami.core.errors import ConfigError, InvalidField, VerificationError
from tirami.core.keys import SigningKey, hkdf
from tirami.core.units import UnixMs
from tirami.net import adverts
from tirami.net.address import HostPort, PeerAddress
from tirami.net.addressbook import Trust
from tirami.net.bindings import free_elsewhere

free_elsewhere(_generated)  # made by the same generator as iroh's bindings: what is told there of locks is true here
_log = structlog.get_logger()
KIND: Final = 31_990
"""Addressable: of one author and ``d`` tag a relay keeps the newest."""
READ_S: Final = 30.0
WRITE_S: Final = 30 * 60.0
ANSWER_S: Final = 10.0
MOST: Final = 256
"""Events read at a time."""
MAX_EVENT: Final = 8 * 1024
MAX_RELAYS: Final = 16

Found = Callable[[Iterable[PeerAddress], Trust], None]


class NostrSource:
    """Writes this node's advert to relays and reads others'.

    Args:
        relays: URLs, ``wss://…``; named by this node's owner, and never by anybody else.
        where: this node's addresses as they are known now; some become known later.
        now: wall time.

    Raises ``ConfigError`` for a URL that is none.
    """

    name = "nostr"

    def __init__(
        self,
        relays: Sequence[str],
        where: Callable[[], PeerAddress],
        network: str,
        node: SigningKey,
        now: Callable[[], UnixMs],
        random: Random,
    ) -> None:
        if len(relays) > MAX_RELAYS:
            raise ConfigError(f"mesh.nostr names at most {MAX_RELAYS} relays", param="mesh.nostr")
        try:
            self._relays = [sdk.RelayUrl.parse(url) for url in relays]
        except sdk.NostrSdkError as error:
            raise ConfigError("mesh.nostr holds what is no URL of a relay: wss://HOST", param="mesh.nostr") from error
        self._trust = Trust.NEAR if all(_trust_of(url) is Trust.NEAR for url in relays) else Trust.FAR
        self._where = where
        self._network = network
        self._node = node
        self._keys = sdk.Keys(sdk.SecretKey.from_bytes(hkdf(node.seed, b"tirami/nostr/1")))
        self._now = now
        self._random = random

    async def run(self, found: Found) -> None:
        """Until cancelled; relays that do not answer are tried again. May raise ``NostrSdkError``."""
        limits = sdk.RelayLimits().event_max_size(MAX_EVENT).message_max_size(4 * MAX_EVENT)
        client = sdk.ClientBuilder().relay_limits(limits).verify_subscriptions(True).build()
        try:
            for relay in self._relays:
                await client.add_relay(relay)
            await client.connect(timedelta(seconds=ANSWER_S))
            written, told = -WRITE_S, None
            loop = asyncio.get_running_loop()
            while True:
                own = self._where()
                news = frozenset(own.direct), await _connections(client)  # a relay that was away may have forgotten
                if (news != told or loop.time() - written >= WRITE_S) and await self._write(client, own):
                    written, told = loop.time(), news
                found(await self._read(client), self._trust)
                await asyncio.sleep(READ_S)
        finally:
            with suppress(sdk.NostrSdkError):
                await client.shutdown()

    async def _write(self, client: sdk.Client, own: PeerAddress) -> bool:
        """Whether a relay has it, or there is nothing to write."""
        now = self._now()
        text = adverts.write(own, self._network, self._node, now, self._trust)
        if text is None:
            _log.info("not_advertised", reason="no public address of this node is known")
            return True
        labels = [sdk.Tag.parse(tag) for tag in tags(self._network, now)]
        event = sdk.EventBuilder(sdk.Kind(KIND), text).tags(labels).finalize(self._keys)
        sent = await client.send_event(event, ok_timeout=timedelta(seconds=ANSWER_S))
        if not sent.success:
            reasons = [str(reason)[:200] for reason in sent.failed.values()]
            _log.warning("not_advertised", reason="; ".join(reasons) or "no relay answers")
        return bool(sent.success)

    async def _read(self, client: sdk.Client) -> list[PeerAddress]:
        """Nodes advertised now, in an order nobody chose."""
        since = (self._now() - adverts.LIFETIME_MS) // 1000
        wanted = sdk.Filter().kind(sdk.Kind(KIND)).identifier(identifier(self._network))
        wanted = wanted.since(sdk.Timestamp.from_secs(since)).limit(MOST)
        target, patience = sdk.ReqTarget.auto([wanted]), timedelta(seconds=ANSWER_S)
        events = await client.fetch_events(target, timeout=patience, max_events=MOST)
        nodes = await asyncio.to_thread(self._checked, [event.content() for event in events[:MOST] if _is_sound(event)])
        self._random.shuffle(nodes)
        return nodes

    def _checked(self, contents: Sequence[str]) -> list[PeerAddress]:
        now, nodes = self._now(), []
        for text in contents:
            try:
                nodes.append(adverts.read(text, self._network, now))
            except VerificationError as error:
                _log.debug("advert_ignored", reason=error.message)
        return [address for address in nodes if address.key != self._node.public_key]


def identifier(network: str) -> str:
    """The ``d`` tag of its adverts."""
    return f"tirami/1/{network}"


def tags(network: str, now_ms: UnixMs) -> list[list[str]]:
    """Of an advert that is written now."""
    return [["d", identifier(network)], ["expiration", str((now_ms + adverts.LIFETIME_MS) // 1000)]]


async def _connections(client: sdk.Client) -> int:
    """How many have been made so far, to all relays together."""
    return sum(relay.stats().success() for relay in (await client.relays()).values())


def _is_sound(event: sdk.Event) -> bool:
    return bool(event.kind().as_u16() == KIND and event.verify())


def _trust_of(url: str) -> Trust:
    """A relay on this machine or a private network is read by who is near; one with a name by anybody."""
    host = urlsplit(url).hostname or ""
    with suppress(InvalidField):
        place = HostPort.parse(f"[{host}]:443" if ":" in host else f"{host}:443")
        return Trust.FAR if place.ip is None else Trust.of(str(place))
    return Trust.FAR
