"""Nodes named in the DNS, asked of a server on loopback."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import cast

import dns.flags
import dns.message
import dns.rrset
import pytest
from dns.asyncresolver import Resolver

from tirami.core.keys import SigningKey
from tirami.net import PeerAddress
from tirami.net.addressbook import Trust
from tirami.net.dns import MOST, DnsSource

KEY = SigningKey.generate().public_key.hex()


class Zone(asyncio.DatagramProtocol):
    """A name server for one set of TXT records; an unknown name does not exist."""

    def __init__(self, records: list[str]) -> None:
        self.records = records

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        if self.records:
            reply.answer.append(dns.rrset.from_text_list(query.question[0].name, 300, "IN", "TXT", self.records))
        else:
            reply.set_rcode(3)
        self.transport.sendto(reply.to_wire(max_size=65_000), addr)


@asynccontextmanager
async def zone(*records: str) -> AsyncIterator[Resolver]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Zone(list(records)), local_addr=("127.0.0.1", 0))
    resolver = Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], transport.get_extra_info("sockname")[1]
    try:
        yield resolver
    finally:
        transport.close()


async def found_in(*records: str) -> list[PeerAddress]:
    found: asyncio.Queue[list[PeerAddress]] = asyncio.Queue()

    def tell(addresses: Iterable[PeerAddress], trust: Trust) -> None:
        assert trust is Trust.OWNER
        found.put_nowait(list(addresses))

    async with zone(*records) as resolver:
        run = asyncio.create_task(DnsSource("nodes.example", resolver).run(tell))
        try:
            async with asyncio.timeout(20):
                return await found.get()
        finally:
            run.cancel()
            await asyncio.wait([run])


@pytest.mark.row("L0-08")
async def test_records_name_nodes_and_what_is_none_is_passed_over() -> None:
    found = await found_in(
        f'"{KEY}@203.0.113.7:4433"', f'"{KEY}@" "node.example:4433"', '"v=spf1 -all"', '"\\255"', f'"{"x" * 200}"'
    )
    assert {address.direct for address in found} == {("203.0.113.7:4433",), ("node.example:4433",)}, "in any order"


async def test_at_most_so_many() -> None:
    assert len(await found_in(*(f'"{KEY}@203.0.113.7:{port}"' for port in range(1, MOST + 20)))) == MOST


async def test_a_name_that_does_not_exist_ends_nothing() -> None:
    async with zone() as resolver:
        run = asyncio.create_task(DnsSource("nodes.example", resolver).run(lambda *_: None))
        await asyncio.sleep(0.5)
        assert not run.done()
        run.cancel()
        await asyncio.wait([run])
