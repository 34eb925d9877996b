"""TLS handshakes under the same bound as connections: uvicorn hears of a connection only when its handshake is over."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Collection

import structlog

from tirami.node.http import connection

HANDSHAKE_S = 10.0
"""Seconds a handshake may take."""
PAUSE_S = 0.5
"""Seconds until the next try where no connection can be accepted: no file is left, or its client has gone again."""
_log = structlog.get_logger()


class Handshakes:
    """Accepts connections and hands them over encrypted.

    Args:
        serve: makes the protocol of one connection.
        connections: those handed over that are still open.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        serve: Callable[[], asyncio.Protocol],
        connections: Collection[object],
    ) -> None:
        self._listener = listener
        self._context = context
        self._serve = serve
        self._connections = connections
        self._running = 0

    async def run(self) -> None:
        """Until cancelled. A connection beyond the limit is closed: nothing can be said before the handshake."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    accepted, _ = await loop.sock_accept(self._listener)
                except OSError as error:
                    _log.warning("connection_not_accepted", reason=error.strerror)
                    await asyncio.sleep(PAUSE_S)
                    continue
                if self._running + len(self._connections) >= connection.MAX_CONNECTIONS:
                    accepted.close()
                    continue
                self._running += 1
                tasks.create_task(self._shake(accepted), name="tls handshake")

    async def _shake(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                self._serve, accepted, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_S
            )
        except OSError as error:  # also what TLS objects to
            _log.debug("tls_handshake_failed", reason=str(error))
        except Exception:
            _log.exception("tls_handshake_failed")
        finally:
            self._running -= 1
