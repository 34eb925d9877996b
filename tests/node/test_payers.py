"""Hosted keys and their passphrase: one that is missing or wrong is noticed before anything is sealed under it."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.node.conftest import Door, opened_door
from tirami.core import keystore
from tirami.core.clock import SystemClock
from tirami.core.config import load_config
from tirami.core.errors import KeystoreError
from tirami.node.backup import back_up, offline_copy, prove

RIGHT, ACCEPT = {"keystore.passphrase": "correct horse"}, {"keystore.accept_locked": True}
ASKED = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2id as light as it goes: its strength is the keystore's test."""
    monkeypatch.setattr(keystore, "ARGON2_KIB", 64)


async def a_node(home: Path, **values: object) -> tuple[str, str]:
    async with opened_door(home, **values) as door:
        return await door.agent()


async def ask(door: Door, token: str) -> tuple[int, object]:
    status, reply = await door.call("POST", "/v1/chat/completions", ASKED, token=token)
    return status, reply.get("error", {}).get("code")  # type: ignore[attr-defined]


@pytest.mark.parametrize("wrong", ["", "correct hose"])
async def test_a_node_does_not_start_without_the_passphrase_of_its_keys(tmp_path: Path, wrong: str) -> None:
    _, token = await a_node(tmp_path, **RIGHT)
    with pytest.raises(KeystoreError, match="missing or wrong") as refused:
        async with opened_door(tmp_path, **{"keystore.passphrase": wrong}):
            pytest.fail("the node started")
    assert refused.value.param == "keystore.passphrase"
    async with opened_door(tmp_path, **RIGHT) as door:
        assert await ask(door, token) == (200, None), "nothing was written meanwhile"


async def test_a_lost_passphrase_costs_the_accounts_under_it_and_nothing_else(tmp_path: Path) -> None:
    lost, token = await a_node(tmp_path, **RIGHT)
    other = {"keystore.passphrase": "another"}
    async with opened_door(tmp_path, **other, **ACCEPT) as door:
        assert (await door.call("GET", "/readyz"))[1]["warnings"] == ["keys_locked"]
        (warning,) = (await door.admin("GET", "/status"))["warnings"]  # type: ignore[misc]
        assert lost[:16] in warning["message"]
        async with door.http.post(
            door.url + "/v1/chat/completions", json=ASKED, headers={"authorization": f"Bearer {token}"}
        ) as reply:
            assert (reply.status, (await reply.json())["error"]["code"]) == (503, "keystore")
            assert reply.headers["x-should-retry"] == "false"
        _, fresh = await door.agent()
        assert await ask(door, fresh) == (200, None)
        _, told = await door.call("GET", "/status", token=fresh)
        assert told["warnings"] == [{"code": "keys_locked", "message": "keys_locked"}], "whose is the owner's business"
    async with opened_door(tmp_path, **other) as door:  # one key opens: it is the passphrase from now on
        assert await ask(door, fresh) == (200, None)
        assert (await door.call("GET", "/readyz"))[1]["warnings"] == ["keys_locked"]
        await door.admin("POST", f"/v1/tirami/accounts/{lost}/disable")
        assert (await door.call("GET", "/readyz"))[1]["warnings"] == []
    async with opened_door(tmp_path, **other) as door:
        assert (await door.call("GET", "/readyz"))[1]["warnings"] == []


async def test_keys_of_many_runs_are_sealed_under_one_salt_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = []
    async with opened_door(tmp_path, **RIGHT) as door:
        for _ in range(3):
            tokens.append((await door.agent())[1])
            door.parts.keystore._salt = None  # as an older version had it: a salt for each run
    derived: list[bytes] = []
    real = keystore.Keystore._derive
    monkeypatch.setattr(keystore.Keystore, "_derive", lambda self, salt: derived.append(salt) or real(self, salt))
    for salts in (3, 1):
        derived.clear()
        async with opened_door(tmp_path, **RIGHT) as door:
            assert [await ask(door, token) for token in tokens] == [(200, None)] * 3
            assert len(derived) == salts
            journal = door.parts.ledger.seq
        async with opened_door(tmp_path, **RIGHT) as door:
            assert door.parts.ledger.seq - journal < 6, "sealed anew once"


async def test_keys_from_before_the_passphrase_are_named_in_the_log(tmp_path: Path) -> None:
    _, token = await a_node(tmp_path)
    with capture_logs() as logs:
        async with opened_door(tmp_path, **RIGHT) as door:
            assert await ask(door, token) == (200, None)
            await door.agent()
    assert [entry["keys"] for entry in logs if entry["event"] == "passphrase_unused"] == [1]
    with capture_logs() as logs:
        async with opened_door(tmp_path, **RIGHT):
            pass
    assert not [entry for entry in logs if entry["event"] == "passphrase_unused"]


async def test_proving_a_backup_tells_which_keys_would_not_open(tmp_path: Path) -> None:
    home, archive, clock = tmp_path / "home", tmp_path / "a.tirami", SystemClock()
    await a_node(home, **RIGHT)
    with offline_copy(load_config(None, {}, {"data_dir": str(home)})) as copies:
        back_up(home, copies, archive, None, clock.now_ms(), overwrite=False)
    for settings, locked in ((RIGHT, 0), ({}, 1), ({"keystore.passphrase": "wrong"}, 1)):
        config = load_config(None, {}, {"data_dir": str(tmp_path / "elsewhere"), **settings})
        assert (await prove(archive, None, config, clock)).locked_keys == locked
