"""Who is let in, where the library itself fails; everything else is tried on real sockets in ``test_iroh``."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from tirami.net.bindings import iroh
from tirami.net.doorman import Doorman


class _Failure(iroh.IrohError):
    """As the library raises it, which alone can make one. A fake."""

    def __init__(self) -> None:
        pass

    def __str__(self) -> str:
        return "gone"


class _Gone:
    """A connection that was given up while it waited: every question about it fails. A fake."""

    async def remote_addr(self) -> Any:
        raise _Failure


class _Endpoint:
    """Hands out what it is given, and is closed then. A fake."""

    def __init__(self, *incoming: object) -> None:
        self._incoming = list(incoming)

    async def accept_next(self) -> object | None:
        return self._incoming.pop(0) if self._incoming else None

    def is_closed(self) -> bool:
        return not self._incoming


async def test_a_connection_that_is_gone_ends_nothing() -> None:
    greeted = asyncio.Event()

    async def remote_addr() -> object:
        return object()

    async def accept() -> Any:
        greeted.set()
        raise _Failure

    later = SimpleNamespace(remote_addr=remote_addr, accept=accept)
    doorman = Doorman(cast(Any, _Endpoint(_Gone(), later)), own=lambda _: cast(Any, None))
    await doorman.end
    assert greeted.is_set()
    assert await doorman.next() is None
