"""Beyond the page: tokens, health, overload."""

import asyncio
from pathlib import Path

import httpx2
import pytest

from tests.processes import NodeProcess
from tests.rows.conftest import make_agent
from tests.rows.load import crowd
from tests.rows.test_saf import chat
from tirami.api.schemas import RevokeRequest, RotateRequest, TokenRequest
from tirami.core.errors import AccessError, NoModel
from tirami.testing import RunningEngine

SCOPES = ("read_only", "inference", "economy", "admin")


@pytest.mark.row("BEY-10")
def test_tokens_have_scopes_are_kept_by_hash_and_outlive_a_restart(engine: RunningEngine, tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "home", "--upstream", engine.url) as node:
        agent = make_agent(node)
        with node.admin() as admin:
            raw = {scope: admin.issue_token(TokenRequest(scope=scope)).token for scope in SCOPES}
        for _ in range(2):
            for scope, token in raw.items():
                with node.client(token) as client:
                    client.status()
                    for call, least in ((lambda c: c.chat_completions(chat("x", 1)), 1), (lambda c: c.accounts(), 3)):
                        if SCOPES.index(scope) >= least:
                            call(client)
                        else:
                            with pytest.raises(AccessError):
                                call(client)
            node.kill()
            node.start()
        files = b"".join(path.read_bytes() for path in node.data_dir.iterdir() if path.is_file())
        assert all(token.encode() not in files for token in (*raw.values(), agent.token))
        with node.admin() as admin:
            by_scope = {entry.scope: entry.token_hash_hex for entry in admin.tokens().tokens if entry.node_id is None}
            admin.revoke_token(RevokeRequest(token_hash_hex=by_scope["economy"]))
            successor = admin.rotate_token(RotateRequest(token_hash_hex=by_scope["inference"], grace_secs=0)).token
        for dead in (raw["economy"], raw["inference"]):
            with node.client(dead) as client, pytest.raises(AccessError):
                client.status()
        with node.client(successor) as client:
            client.chat_completions(chat("x", 1))
        agent.client.close()


@pytest.mark.row("BEY-13")
def test_health_says_alive_ready_says_able_to_serve(node: NodeProcess, tmp_path: Path) -> None:
    assert httpx2.get(node.url + "/healthz", trust_env=False).text == "ok"
    ready = httpx2.get(node.url + "/readyz", trust_env=False)
    assert (ready.status_code, ready.json()["ready"], ready.json()["slots_busy"]) == (200, True, 0)
    with NodeProcess(tmp_path / "home", "--no-model") as bare:
        assert httpx2.get(bare.url + "/healthz", trust_env=False).status_code == 200
        ready = httpx2.get(bare.url + "/readyz", trust_env=False)
        assert (ready.status_code, ready.json()["components"]["engine"]) == (503, False)
        reply = httpx2.post(
            bare.url + "/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}]}, trust_env=False
        )
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, NoModel.code)
        assert int(reply.headers["retry-after"]) > 0
        assert reply.headers["x-tirami-request-id"] == reply.json()["error"]["request_id"]


@pytest.mark.row("BEY-13")
async def test_beyond_slots_and_queue_a_caller_is_told_when_to_come_back(engine: RunningEngine, tmp_path: Path) -> None:
    env = {"TIRAMI_INFER_SLOTS": "2", "TIRAMI_INFER_QUEUE": "3"}
    with NodeProcess(tmp_path / "home", "--upstream", engine.url, env=env) as node:
        agent = make_agent(node)
        async with crowd(node.url) as people:
            asks = (people.ask(agent.token, "[[delay_ms=60]] x", 20) for _ in range(12))
            await asyncio.gather(*asks)
            codes = sorted((answer.status, answer.code) for answer in people.answers)
            assert codes == [(200, None)] * 5 + [(429, "queue_full")] * 7
            full = [asyncio.create_task(people.ask(agent.token, "[[delay_ms=60]] x", 20)) for _ in range(5)]
            async with asyncio.timeout(30):
                while (await people.status())["engine"]["waiting"] < 3:
                    await asyncio.sleep(0.01)
            body = {"messages": [{"role": "user", "content": "x"}]}
            headers = {"authorization": f"Bearer {agent.token}"}
            async with people.http.post(node.url + "/v1/chat/completions", json=body, headers=headers) as reply:
                assert reply.status == 429
                assert int(reply.headers["retry-after"]) >= 1
            await asyncio.gather(*full)
        assert agent.client.balance().reserved == 0
        agent.client.close()
