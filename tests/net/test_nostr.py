"""Adverts over a Nostr relay of this process, on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from datetime import timedelta
from random import Random

import nostr_sdk as sdk
import pytest

from tests.waiting import until
from tirami.core.clock import SystemClock
from tirami.core.errors import ConfigError
from tirami.core.keys import SigningKey
from tirami.net import PeerAddress, adverts, nostr
from tirami.net.addressbook import Trust
from tirami.net.nostr import KIND, NostrSource, _trust_of

CLOCK = SystemClock()


@pytest.fixture
async def relay() -> AsyncIterator[str]:
    running = sdk.LocalRelayBuilder().addr("127.0.0.1").build()
    await running.run()
    yield str(await running.url())
    running.shutdown()


class Looker:
    """One node's side of it."""

    def __init__(self, relay: str, port: int, network: str = "testnet") -> None:
        node = SigningKey.generate()
        self.address = PeerAddress(node.public_key, (f"127.0.0.1:{port}",))
        self.source = NostrSource([relay], lambda: self.address, network, node, CLOCK.now_ms, Random(1))
        self.found: set[PeerAddress] = set()

    def tell(self, addresses: Iterable[PeerAddress], trust: Trust) -> None:
        assert trust is Trust.NEAR, "the relay is on this machine"
        self.found |= set(addresses)


async def publish(relay: str, content: str, identifier: str = "tirami/1/testnet") -> None:
    client = sdk.ClientBuilder().build()
    await client.add_relay(sdk.RelayUrl.parse(relay))
    await client.connect(timedelta(seconds=5))
    event = sdk.EventBuilder(sdk.Kind(KIND), content).tags([sdk.Tag.parse(["d", identifier])])
    sent = await client.send_event(event.finalize(sdk.Keys.generate()))
    assert sent.success
    await client.shutdown()


@pytest.mark.row("L0-08")
async def test_nodes_find_each_other_over_a_relay_and_believe_no_forger(relay: str) -> None:
    first, second, other = Looker(relay, 4401), Looker(relay, 4402), Looker(relay, 4403, "othernet")
    victim, forger = SigningKey.generate(), SigningKey.generate()
    forged = adverts.write(
        PeerAddress(victim.public_key, ("127.0.0.1:6",)), "testnet", forger, CLOCK.now_ms(), Trust.NEAR
    )
    assert forged is not None
    for content in (forged, "nonsense", json.dumps({"advert": "", "signature": ""})):
        await publish(relay, content)
    runs = [asyncio.create_task(looker.source.run(looker.tell)) for looker in (first, other)]
    try:
        await asyncio.sleep(1)
        runs.append(asyncio.create_task(second.source.run(second.tell)))
        async with asyncio.timeout(60):
            while first.address not in second.found:
                await asyncio.sleep(0.05)
            while second.address not in first.found:
                await asyncio.sleep(0.05)
    finally:
        for run in runs:
            run.cancel()
        await asyncio.wait(runs)
    assert (first.found, second.found, other.found) == ({second.address}, {first.address}, set())


async def test_an_address_that_is_known_later_is_advertised_then(relay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nostr, "READ_S", 0.1)
    first, second = Looker(relay, 4401), Looker(relay, 4402)
    known, first.address = first.address, replace(first.address, direct=())
    runs = [asyncio.create_task(looker.source.run(looker.tell)) for looker in (first, second)]
    try:
        await until(lambda: second.address in first.found)
        assert not second.found
        first.address = known
        await until(lambda: known in second.found)
    finally:
        for run in runs:
            run.cancel()
        await asyncio.wait(runs)


async def test_a_relay_that_is_not_there_is_tried_again() -> None:
    looker = Looker("ws://127.0.0.1:9", 4401)
    run = asyncio.create_task(looker.source.run(looker.tell))
    done, _ = await asyncio.wait([run], timeout=3)
    assert not done and not looker.found
    run.cancel()
    await asyncio.wait([run])


def test_a_url_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError) as error:
        Looker("nonsense", 1)
    assert error.value.param == "mesh.nostr"


@pytest.mark.parametrize(
    ("url", "trust"),
    [
        ("ws://127.0.0.1:7777", Trust.NEAR),
        ("ws://[::1]:7777", Trust.NEAR),
        ("wss://8.8.8.8", Trust.FAR),
        ("wss://relay.example", Trust.FAR),
    ],
)
def test_a_relay_with_a_name_is_read_by_anybody(url: str, trust: Trust) -> None:
    assert _trust_of(url) is trust
