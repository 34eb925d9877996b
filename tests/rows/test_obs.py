"""Logs."""

import asyncio
import json
from pathlib import Path

import httpx2
import pytest

from tests.processes import NodeProcess
from tests.rows.conftest import Agent, make_agent
from tests.rows.load import crowd, journal_entries
from tirami.ledger import HoldCaptured, HoldOpened
from tirami.testing import RunningEngine

CANARY = "xylophone-7f3a-zebra"


def lines(node: NodeProcess) -> list[dict[str, object]]:
    """Every line of the log: all of them are JSON objects."""
    return [json.loads(line) for line in node.log().splitlines()]


@pytest.mark.row("OBS-07")
def test_one_id_runs_through_http_engine_and_journal(engine: RunningEngine, tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "home", "--upstream", engine.url, "--json") as node:
        agent = make_agent(node)
        for stream in (False, True):
            name = f"trace-{stream}"
            reply = httpx2.post(
                node.url + "/v1/chat/completions",
                json={"messages": [{"role": "user", "content": "hello"}], "max_tokens": 70, "stream": stream},
                headers={"authorization": f"Bearer {agent.token}", "x-tirami-request-id": name},
                trust_env=False,
            )
            assert reply.headers["x-tirami-request-id"] == name
        refused = httpx2.post(
            node.url + "/v1/chat/completions", json={}, headers={"x-tirami-request-id": "bad"}, trust_env=False
        )
        assert refused.json()["error"]["request_id"] == "bad"
        agent.client.close()
        assert node.stop() == 0
    contents = [entry.content for entry in journal_entries(node.data_dir)]
    holds = {content.request_id: content.id for content in contents if isinstance(content, HoldOpened)}
    captured = {content.id: content for content in contents if isinstance(content, HoldCaptured)}
    for name in ("trace-False", "trace-True"):
        told = [line for line in lines(node) if line.get("request_id") == name]
        assert [line["event"] for line in told] == ["generated", "settled", "request"]
        assert told[1]["hold"] == holds[name].hex()
        assert told[1]["trade"] == captured[holds[name]].record_id.hex()
        assert (told[0]["completion_tokens"], told[1]["delivered"]) == (70, 70)
    assert [line["status"] for line in lines(node) if line.get("request_id") == "bad"] == [400]


@pytest.mark.row("OBS-07")
async def test_no_word_of_a_prompt_or_answer_and_no_token_is_in_any_file(engine: RunningEngine, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with NodeProcess(home, "--upstream", engine.url, "--log-level", "debug", "--json") as node:
        agent = make_agent(node)
        prompts = [f"{CANARY} {directive}" for directive in ("", "[[error=500]]", "[[error=400]]", "[[break_after=5]]")]
        async with crowd(node.url) as people:
            asks = [
                people.ask(agent.token, prompt, 30, stream=stream) for prompt in prompts for stream in (True, False)
            ]
            await asyncio.gather(*asks, return_exceptions=True)
            await people.ask(agent.token, CANARY, 5_000)
            await people.ask("wrong-" + CANARY, CANARY, 5)
            body = f'{{"messages": [{{"role": "user", "content": "{CANARY}'.encode()
            async with people.http.post(node.url + "/v1/chat/completions", data=body) as reply:
                assert CANARY not in await reply.text()
            nonsense = {"messages": [{"role": CANARY, "content": 5}], CANARY: CANARY}
            async with people.http.post(node.url + "/v1/chat/completions", json=nonsense) as reply:
                await reply.read()
        admin = (home / "admin.token").read_text().strip()
        found = files_with(home, [CANARY, "lorem ipsum", agent.token, admin])
        assert found == {("admin.token", admin)}
        node.kill()
        assert files_with(home, [CANARY, agent.token]) == set()
        agent.client.close()


def files_with(home: Path, words: list[str]) -> set[tuple[str, str]]:
    return {
        (path.name, word)
        for path in home.rglob("*")
        if path.is_file()
        for word in words
        if word.encode() in path.read_bytes()
    }


@pytest.mark.row("OBS-07")
def test_a_failed_answer_leaves_its_line_too(node: NodeProcess, agent: Agent) -> None:
    reply = httpx2.post(
        node.url + "/v1/chat/completions",
        json={"messages": [{"role": "user", "content": "[[error=500]] x"}]},
        headers={"authorization": f"Bearer {agent.token}", "x-tirami-request-id": "failed-1"},
        trust_env=False,
    )
    assert reply.status_code == 503
    told = [json.loads(line) for line in node.log().splitlines() if '"failed-1"' in line]
    assert [(line["event"], line["status"]) for line in told] == [("request", 503)]
    assert agent.client.balance().reserved == 0
