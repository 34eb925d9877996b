"""Two nodes of one network on one machine, over multicast on loopback."""

import asyncio
import time
from collections.abc import Iterable

import pytest
from zeroconf.asyncio import AsyncServiceInfo

from tirami.core.errors import TiramiError
from tirami.core.keys import SigningKey
from tirami.net import PeerAddress
from tirami.net.addressbook import Trust
from tirami.net.lan import SERVICE, LanSource, _address

KEY = SigningKey.generate().public_key


class Looker:
    """One node's side of it."""

    def __init__(self, port: int, network: str = "testnet") -> None:
        self.address = PeerAddress(SigningKey.generate().public_key, (f"127.0.0.1:{port}",))
        self.source = LanSource(self.address, network, loopback=True)
        self.found: dict[PeerAddress, float] = {}
        self.began = time.monotonic()

    def tell(self, addresses: Iterable[PeerAddress], trust: Trust) -> None:
        assert trust is Trust.NEAR
        for address in addresses:
            self.found.setdefault(address, time.monotonic() - self.began)

    async def run(self) -> None:
        self.began = time.monotonic()
        await self.source.run(self.tell)


async def test_two_nodes_of_a_network_find_each_other_and_pass_over_a_third() -> None:
    first, second, other = Looker(4401), Looker(4402), Looker(4403, "othernet")
    tasks = [asyncio.create_task(looker.run()) for looker in (first, other)]
    await asyncio.sleep(1)
    tasks.append(asyncio.create_task(second.run()))
    try:
        async with asyncio.timeout(20):
            while second.address not in first.found or first.address not in second.found:
                await asyncio.sleep(0.05)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    print(f"mDNS on loopback: the newcomer found the other after {second.found[first.address]:.2f} s")
    assert set(first.found) == {second.address} and set(second.found) == {first.address} and not other.found


def record(port: int = 4433, **properties: str) -> AsyncServiceInfo:
    return AsyncServiceInfo(SERVICE, f"x.{SERVICE}", port=port, parsed_addresses=["192.168.1.7"], properties=properties)


def test_what_a_record_says() -> None:
    good = record(key=KEY.hex(), network="testnet")
    assert _address(good, "testnet") == PeerAddress(KEY, ("192.168.1.7:4433",))
    assert _address(good, "othernet") is None


@pytest.mark.parametrize(
    "bad",
    [
        record(network="testnet"),
        record(network="testnet", key="00" * 32),
        record(port=0, key=KEY.hex(), network="testnet"),
    ],
)
def test_records_that_are_none(bad: AsyncServiceInfo) -> None:
    with pytest.raises(TiramiError):
        _address(bad, "testnet")
