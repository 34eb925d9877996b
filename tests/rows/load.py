"""Many requests at once against a real node, and what its journal says afterwards."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tirami.core.keyfile import load_or_create_node_key
from tirami.core.keys import journal_key
from tirami.ledger import Entry, Journal

CHAT = "/v1/chat/completions"
LARGE_LINE = 100_000_000


@dataclass
class Answer:
    """What a client saw of one request. ``began`` and ``ended`` are monotonic times."""

    status: int
    code: str | None = None
    finish: str | None = None
    trade: str | None = None
    cost: int = 0
    pieces: int = 0
    began: float = 0.0
    ended: float = 0.0


@dataclass
class Crowd:
    """A client with as many connections as it likes."""

    url: str
    http: aiohttp.ClientSession
    answers: list[Answer] = field(default_factory=list)

    async def ask(self, token: str, prompt: str, most: int, *, stream: bool = False) -> Answer:
        body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": most, "stream": stream}
        return await self.post(CHAT, body, token)

    async def post(self, path: str, body: dict[str, object], token: str | None = None) -> Answer:
        """Anything; without a token as the owner of the machine."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        began = time.monotonic()
        async with self.http.post(self.url + path, json=body, headers=headers) as reply:
            if reply.status != 200:
                error = json.loads(await reply.read())["error"]
                answer = Answer(reply.status, code=error["code"])
            elif body.get("stream"):
                answer = await self._streamed(reply)
            else:
                answer = _told(json.loads(await reply.read()))
        answer.began, answer.ended = began, time.monotonic()
        self.answers.append(answer)
        return answer

    async def status(self) -> dict[str, Any]:
        async with self.http.get(f"{self.url}/status") as reply:
            return dict(json.loads(await reply.read()))

    async def _streamed(self, reply: aiohttp.ClientResponse) -> Answer:
        answer = Answer(200)
        async for line in reply.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            for choice in event.get("choices", ()):
                answer.pieces += bool(choice["delta"].get("content"))
                answer.finish = choice["finish_reason"] or answer.finish
            if "x_tirami" in event:
                answer.trade, answer.cost = event["x_tirami"]["trade_id"], event["x_tirami"]["trm_cost"]
        return answer


def _told(whole: dict[str, Any]) -> Answer:
    (choice, *_), paid = whole.get("choices") or [{}], whole.get("x_tirami") or {}
    return Answer(200, None, choice.get("finish_reason"), paid.get("trade_id"), paid.get("trm_cost", 0))


@asynccontextmanager
async def crowd(url: str) -> AsyncIterator[Crowd]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        yield Crowd(url, http)


def network_file(home: Path, limit: int = LARGE_LINE, daily_lines: int = 100) -> Path:
    """A network whose issuer, the node of ``home``, grants large lines."""
    home.mkdir(parents=True, exist_ok=True)
    node = load_or_create_node_key(home / "node.key")[0].public_key.hex()
    path = home / "network.json"
    document = {
        "format": "tirami/1/network",
        "id": "rows",
        "parameters": {"welcome_limit": limit, "witnesses": 1, "quorum": 1},
        "issuers": [{"key": node, "daily_lines": daily_lines}],
        "witnesses": [node],
    }
    path.write_text(json.dumps(document))
    return path


def journal_entries(home: Path) -> list[Entry]:
    """Every entry of a stopped node's journal, each re-hashed."""
    journal = Journal.open(home / "journal.db", journal_key(load_or_create_node_key(home / "node.key")[0]))
    try:
        return list(journal.replay())
    finally:
        journal.abandon()
