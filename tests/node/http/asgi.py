"""One chat request straight into the application, from a client that reads as much as the test lets it."""

import asyncio
import json
from collections.abc import Callable

from starlette.types import ASGIApp, Message

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "say hello now"}]}


class AsgiClient:
    """``run`` is the request. It stops reading for good at the first message ``stops_at`` picks, and says so."""

    def __init__(
        self, app: ASGIApp, token: str, stops_at: Callable[[Message], bool] = lambda _: False, *, stream: bool = True
    ) -> None:
        self._app = app
        self._stops_at = stops_at
        self._unread = [json.dumps({**HELLO, "stream": stream}).encode()]
        self._token = token
        self.status = 0
        self.body = b""
        self.stopped_reading = asyncio.Event()
        self.left = asyncio.Event()

    async def run(self) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": CHAT,
            "raw_path": CHAT.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {self._token}".encode())],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        await self._app(scope, self._receive, self._send)

    def events(self) -> list[object]:
        """What the stream said, the end mark included."""
        lines = [line[6:] for line in self.body.split(b"\n\n") if line]
        return [line.decode() if line == b"[DONE]" else json.loads(line) for line in lines]

    async def _receive(self) -> Message:
        if self._unread:
            return {"type": "http.request", "body": self._unread.pop(), "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._stops_at(message):
            self.stopped_reading.set()
            await asyncio.Event().wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
        self.body += message.get("body", b"")
