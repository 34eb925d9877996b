"""Nodes named in the DNS: TXT records of one name, each with ``KEY@HOST:PORT`` (RFC 1035, RFC 1464 aside).

The name is the owner's choice, so what stands there is believed as far as his own settings are; a resolver that lies
can still name nobody who cannot prove a key. Imported by name: the library is loaded only where a name is set.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final

import structlog
from dns.asyncresolver import Resolver
from dns.exception import DNSException
from dns.rdtypes.ANY.TXT import TXT

from tirami.core.errors import InvalidField
from tirami.net.address import PeerAddress
from tirami.net.addressbook import Trust

_log = structlog.get_logger()
ANSWER_S: Final = 10.0
SOONEST_S: Final = 60
LATEST_S: Final = 3_600
"""However long the records say that they live, they are read again within an hour, and not within a minute."""
MOST: Final = 64
MAX_RECORD: Final = 512

Found = Callable[[Iterable[PeerAddress], Trust], None]


class DnsSource:
    """Reads the nodes that a domain name lists.

    Args:
        resolver: for tests; else as the machine is set up.
    """

    name = "dns"

    def __init__(self, domain: str, resolver: Resolver | None = None) -> None:
        self._domain = domain
        self._resolver = resolver

    async def run(self, found: Found) -> None:
        """Until cancelled."""
        resolver = self._resolver or Resolver()
        while True:
            pause: float = SOONEST_S
            try:
                answer = await resolver.resolve(self._domain, "TXT", lifetime=ANSWER_S)
            except DNSException as error:
                _log.warning("dns_unanswered", name=self._domain, reason=str(error))
            else:
                found(list(_addresses(answer)), Trust.OWNER)
                pause = min(max(answer.ttl, SOONEST_S), LATEST_S)
            await asyncio.sleep(pause)


def _addresses(records: Iterable[TXT]) -> Iterator[PeerAddress]:
    """What the records name, at most so many; a line that is no address is passed over."""
    for number, record in enumerate(records):
        text = b"".join(record.strings)
        if number >= MOST or len(text) > MAX_RECORD:
            continue
        with suppress(InvalidField, UnicodeDecodeError):
            yield PeerAddress.parse(text.decode("ascii"))
