"""Whoever signs what contradicts itself is bought from no more, and anybody can carry the proof away."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.net.test_watch import gift
from tests.node.sellers import Market, market
from tests.waiting import until
from tirami.core.keys import SigningKey, sha256
from tirami.ledger import FraudProven
from tirami.verify import verify_fraud


async def tirami(*words: str) -> tuple[int, str]:
    """A command, while the node in this process goes on."""
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tirami.cli", *words, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await running.communicate()
    assert running.returncode is not None
    return running.returncode, out.decode()


async def listed(found: Market) -> dict[str, object]:
    async with found.http.get(f"{found.buyer.url}/v1/tirami/frauds") as reply:
        assert reply.status == 200
        return await reply.json()  # type: ignore[no-any-return]


async def test_a_double_spend_seen_on_the_mesh_is_a_file_that_convicts_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        assert await listed(found) == {"count": 0, "frauds": []}
        cheat, network = SigningKey.generate(), found.buyer.parts.ledger.network.id
        for node in (found.buyer, found.sellers[0].node):
            await node.parts.ledger.book_record(gift(network, cheat, 5))[1]
        convicted = found.buyer.parts.ledger.state.settings.convicted
        await until(lambda: cheat.public_key in convicted)
        told = await listed(found)
        (entry,) = told["frauds"]  # type: ignore[misc]
        assert told["count"] == 1 and entry["guilty"] == cheat.public_key.hex()
        async with found.http.get(f"{found.buyer.url}/v1/tirami/frauds/{entry['id']}") as reply:
            proof = await reply.read()
            assert (reply.status, reply.content_type) == (200, "application/json")
        assert sha256(proof).hex() == entry["id"]
        assert verify_fraud(proof).guilty == cheat.public_key
        for missing in ("00" * 32, "none"):
            async with found.http.get(f"{found.buyer.url}/v1/tirami/frauds/{missing}") as reply:
                assert (reply.status, (await reply.json())["error"]["code"]) == (404, "fraud_not_found")

        url, file = ("--url", found.buyer.url), tmp_path / "fraud.json"
        assert entry["id"] in (await tirami("mesh", "frauds", *url))[1]
        code, shown = await tirami("mesh", "frauds", entry["id"], "--out", str(file), "--json", *url)
        assert (code, json.loads(shown)["guilty"]) == (0, cheat.public_key.hex())
        assert file.read_bytes() == proof
    code, shown = await tirami("verify", str(file), "--json")
    assert code == 0
    verdict = json.loads(shown)
    assert (verdict["guilty"], verdict["role"]) == (cheat.public_key.hex(), "payer")


async def test_a_convicted_provider_is_not_bought_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown and what is done are one decision."""
    async with market(tmp_path, monkeypatch) as found:
        first, second = found.ranked()
        await found.buyer.parts.ledger.record_facts(FraudProven(first.key, b"a proof"))
        assert found.ranked() == [second]
        async with found.http.get(f"{found.buyer.url}/v1/tirami/peers") as reply:
            peers = {peer["node_id"]: peer["why_not"] for peer in (await reply.json())["peers"]}
        assert peers == {first.key.hex(): "it has signed what contradicts itself", second.key.hex(): None}
        status, reply = await found.ask()  # type: ignore[assignment]
        assert status == 200, reply
        assert (first.engine.opened, second.engine.opened) == (0, 1)
