"""Endpoints over every transport: whatever test takes ``net`` runs once over each."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from tirami.core.keys import SigningKey
from tirami.net import Connection, Endpoint
from tirami.net.iroh import IrohEndpoint
from tirami.testing import MemoryNetwork


@dataclass
class Net:
    """Binds endpoints of one transport and closes them after the test."""

    bind: Callable[[SigningKey], Awaitable[Endpoint]]
    bound: list[Endpoint]

    async def endpoint(self, key: SigningKey | None = None) -> Endpoint:
        self.bound.append(await self.bind(key or SigningKey.generate()))
        return self.bound[-1]

    async def pair(self) -> tuple[Connection, Connection]:
        """A connection: the side that dialled, the side that was called."""
        a, b = await self.endpoint(), await self.endpoint()
        dialled = await a.connect(b.address(), 5)
        answered = await b.accept()
        assert answered is not None
        return dialled, answered


@pytest.fixture(params=["memory", "iroh"])
async def net(request: pytest.FixtureRequest) -> AsyncIterator[Net]:
    memory = MemoryNetwork()

    async def in_memory(key: SigningKey) -> Endpoint:
        return memory.endpoint(key.public_key)

    async def over_quic(key: SigningKey) -> Endpoint:
        return await IrohEndpoint.bind(key)

    bound: list[Endpoint] = []
    yield Net(in_memory if request.param == "memory" else over_quic, bound)
    for endpoint in bound:
        await endpoint.close()
