"""A running node: parts, engine, HTTP and upkeep, started in order and closed in reverse."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import structlog

from tirami.core.clock import Clock, SystemClock
from tirami.core.config import Config, is_public
from tirami.core.errors import PublicBindRefused
from tirami.core.keys import PublicKey
from tirami.node.engines import Progress
from tirami.node.http import HttpServer, Tls, build_app
from tirami.node.parts import Parts, open_parts
from tirami.node.soundness import unsound
from tirami.node.upkeep import Upkeep

if TYPE_CHECKING:
    from tirami.node.mesh import MeshService

_log = structlog.get_logger()


class Node:
    """A running node; :meth:`open` is the only way to one."""

    def __init__(self, parts: Parts, server: HttpServer | None, mesh: "MeshService | None" = None) -> None:
        self.parts = parts
        self.mesh = mesh
        self._server = server

    @property
    def url(self) -> str | None:
        """Where the API answers; ``None`` for a private node without HTTP."""
        return self._server.url if self._server is not None else None

    @classmethod
    @asynccontextmanager
    async def open(
        cls, config: Config, *, clock: Clock | None = None, progress: Progress | None = None, serve: bool = True
    ) -> AsyncIterator["Node"]:
        """Start a node and stop it on leaving: streams end, holds settle, the journal closes.

        Args:
            progress: called with (bytes done, bytes in all) while a model is fetched.
            serve: whether to answer HTTP.

        Raises:
            StartError: the reason the node does not start. A model that cannot be had is none.
        """
        for problem in unsound(config):
            raise problem
        async with open_parts(config, clock or SystemClock()) as parts, AsyncExitStack() as stack:
            upkeep = Upkeep(
                parts.ledger,
                parts.heads,
                parts.market,
                parts.engines.room,
                parts.clock,
                parts.alerts,
                lambda: parts.membership.claims(),
            )
            watching = asyncio.create_task(upkeep.run(), name="upkeep")
            stack.push_async_callback(_ended, watching)
            stack.push_async_callback(parts.engines.close)
            server = await stack.enter_async_context(_served(parts)) if serve else None
            stack.push_async_callback(parts.market.stop)
            stack.push_async_callback(parts.engines.stop)
            await parts.engines.start(progress)
            if parts.agent is not None:
                ticking = asyncio.create_task(parts.agent.run(), name="agent")
                stack.push_async_callback(_ended, ticking)
            mesh = await stack.enter_async_context(_meshed(parts)) if parts.config.mesh.enabled else None
            node = cls(parts, server, mesh)
            _log.info("node_started", node=parts.key.public_key.hex(), url=node.url, network=parts.ledger.network.id)
            yield node
            _log.info("node_stopping")

    @property
    def identity(self) -> PublicKey:
        return self.parts.key.public_key

    @property
    def model_name(self) -> str | None:
        engine = self.parts.engines.engine
        return engine.card.name if engine else None

    @property
    def model_problem(self) -> str | None:
        return self.parts.engines.problem

    async def run_until(self, stop: asyncio.Event) -> None:
        """Until ``stop`` is set. Raises what ended the HTTP server or the journal's writer.

        A node that nobody can reach, or that can book nothing any more, is to be started again.
        """
        stopped = asyncio.create_task(stop.wait(), name="stop")
        ends = [asyncio.create_task(self.parts.ledger.ended(), name="journal-watch")]
        if self._server is not None:
            ends.append(asyncio.create_task(self._server.ended(), name="http-watch"))
        try:
            done, _ = await asyncio.wait((stopped, *ends), return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                await done.pop()
        finally:
            for task in (stopped, *ends):
                task.cancel()
            await asyncio.gather(stopped, *ends, return_exceptions=True)


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@asynccontextmanager
async def _served(parts: Parts) -> AsyncIterator[HttpServer]:
    """The API, announced in the data directory with how its certificate is checked."""
    _check_bind(parts)
    tls = Tls.of(parts.config.api)
    trust = {} if tls is None else {"ca": str(tls.certificate), "server_name": tls.server_name}
    async with HttpServer(build_app(parts), parts.config.api.bind, parts.config.api.port, tls) as server:
        parts.home.announce(server.url, trust)
        yield server


@asynccontextmanager
async def _meshed(parts: Parts) -> "AsyncIterator[MeshService]":
    """On the mesh. The libraries are loaded now: a node without one does without their memory."""
    from tirami.net.iroh import stranger
    from tirami.node.mesh import opened_mesh
    from tirami.node.mesh.listening import listening
    from tirami.node.mesh.sources import sources

    config = parts.config.mesh
    endpoint = await listening(parts.key, config, parts.home.path)
    async with opened_mesh(parts, endpoint, sources(parts, endpoint), stranger(config.bind)) as mesh:
        _log.info("mesh_joined", address=str(mesh.mesh.address()))
        yield mesh


def _check_bind(parts: Parts) -> None:
    """A node that had tokens serves again when they have expired: who issues the next one needs it running."""
    if not is_public(parts.config.api):
        return
    now, bind, tokens = parts.ledger.now(), parts.config.api.bind, parts.ledger.state.settings.tokens.values()
    if not tokens:
        raise PublicBindRefused(
            f"binding to {bind} needs a token first. Start once without --bind, run `tirami token issue"
            f" --scope inference --ttl-days 0`, stop, and start again with --bind {bind}",
            param="api.bind",
        )
    if all(token.expired(now) for token in tokens):
        _log.warning("tokens_expired", bind=bind, hint="tirami token issue --scope inference --ttl-days 0")
