"""A node over HTTP with the scripted engine of the market's tests in place of a model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.market.scripted import ScriptedEngine
from tirami.core.clock import Clock, SystemClock
from tirami.core.config import load_config
from tirami.node.http import HttpServer, build_app
from tirami.node.parts import Parts, open_parts

pytest.register_assert_rewrite("tests.node.mortals")


@dataclass
class Door:
    """A client at the node's door."""

    parts: Parts
    url: str
    engine: ScriptedEngine
    http: aiohttp.ClientSession
    server: HttpServer

    @property
    def connections(self) -> set[Any]:
        """Those the server has open."""
        assert self.server._server is not None
        return self.server._server.server_state.connections

    async def call(
        self, method: str, path: str, body: object = None, *, token: str | None = None, **headers: str
    ) -> tuple[int, dict[str, object]]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        async with self.http.request(method, self.url + path, json=body, headers=sent) as reply:
            return reply.status, await reply.json(content_type=None)

    async def admin(self, method: str, path: str, body: object = None) -> dict[str, object]:
        status, reply = await self.call(method, path, body, token=self.parts.admin_token)
        assert status == 200, reply
        return reply

    async def agent(self, scope: str = "inference") -> tuple[str, str]:
        """A hosted account and a token for it."""
        account = str((await self.admin("POST", "/v1/tirami/accounts", {"label": "agent"}))["account"])
        issued = await self.admin("POST", "/v1/tirami/tokens/issue", {"scope": scope, "node_id": account})
        return account, str(issued["token"])


@asynccontextmanager
async def opened_door(data_dir: Path, clock: Clock | None = None, **values: object) -> AsyncIterator[Door]:
    flags = {"pricing.prompt_ppm": 0, "pricing.follow_load": False, "api.rate_per_second": 1_000_000} | values
    config = load_config(None, {}, {"data_dir": str(data_dir), "infer.models_dir": str(data_dir / "models"), **flags})
    async with open_parts(config, clock or SystemClock()) as parts:
        engine = ScriptedEngine()
        parts.engines.serve(engine)
        async with HttpServer(build_app(parts), "127.0.0.1", 0) as server, aiohttp.ClientSession() as http:
            yield Door(parts, server.url, engine, http, server)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with opened_door(tmp_path / "home") as result:
        yield result
