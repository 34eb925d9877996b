"""The stand-in relay: real endpoints wait at it, and meet by their keys alone."""

import asyncio

import pytest

from tirami.core.errors import PeerUnreachable
from tirami.core.keys import SigningKey
from tirami.net import PeerAddress
from tirami.net.iroh import IrohEndpoint
from tirami.testing.relay import Relay


async def waiting(relay: Relay) -> IrohEndpoint:
    endpoint = await IrohEndpoint.bind(SigningKey.generate(), relay=relay.url)
    async with asyncio.timeout(10):
        while endpoint.key not in relay.keys:
            await asyncio.sleep(0.02)
    return endpoint


async def test_a_key_and_a_relay_are_enough_to_be_reached() -> None:
    async with Relay() as relay:
        caller, called = await waiting(relay), await waiting(relay)
        connection = await caller.connect(PeerAddress(called.key, (), relay.url), 10)
        assert connection.peer == called.key
        accepted = await called.accept()
        assert accepted is not None and accepted.peer == caller.key
        assert relay.datagrams[caller.key, called.key] and relay.datagrams[called.key, caller.key]
        assert called.address().relay == relay.url
        await caller.close()
        await called.close()


async def test_who_does_not_wait_there_is_not_reached() -> None:
    async with Relay() as relay:
        caller, nobody = await waiting(relay), SigningKey.generate()
        with pytest.raises(PeerUnreachable):
            await caller.connect(PeerAddress(nobody.public_key, (), relay.url), 2)
        await caller.close()
