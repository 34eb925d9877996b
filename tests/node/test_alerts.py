"""What an operator should see to: told by code to everybody, with figures to who may read, and once to the log."""

import asyncio
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.market.conftest import opened_house
from tests.node.conftest import Door, opened_door
from tests.waiting import until
from tirami.core.config import load_config
from tirami.market import WaitingRoom
from tirami.node import upkeep as upkeep_module
from tirami.node.alerts import Alert, alerts, clock_differs
from tirami.node.upkeep import Upkeep
from tirami.testing.clock import ManualClock

Usage = namedtuple("Usage", "total used free")


def codes(tmp_path: Path, **flags: object) -> list[str]:
    return [alert.code for alert in alerts(load_config(None, {}, {"data_dir": tmp_path, **flags}))]


def free(monkeypatch: pytest.MonkeyPatch, mib: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 40, 0, mib << 20))


@pytest.mark.parametrize(("mib", "least", "low"), [(255, 256, True), (256, 256, False), (0, 0, False), (5, 10, True)])
def test_a_disk_that_fills(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mib: int, least: int, low: bool) -> None:
    free(monkeypatch, mib)
    assert codes(tmp_path, **{"journal.low_disk_mib": least}) == (["disk_low"] if low else [])


def test_the_disk_of_the_journal_counts(tmp_path: Path) -> None:
    assert codes(tmp_path, **{"journal.file": str(tmp_path / "gone" / "books.db")}) == ["disk_unknown"]


@pytest.mark.parametrize(
    ("bind", "certificate", "said"),
    [("127.0.0.1", "", False), ("[::1]", "", False), ("0.0.0.0", "", True), ("::", "", True), ("10.0.0.1", "x", False)],
)
def test_reachable_without_tls(tmp_path: Path, bind: str, certificate: str, said: bool) -> None:
    assert codes(tmp_path, **{"api.bind": bind, "api.tls_cert": certificate}) == (["no_tls"] if said else [])


async def test_everybody_learns_the_code_and_a_reader_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened_door(tmp_path) as door:
        status, ready = await door.call("GET", "/readyz")
        assert (status, ready["warnings"]) == (200, [])
        free(monkeypatch, 7)
        status, ready = await door.call("GET", "/readyz")
        assert (status, ready["ready"], ready["warnings"]) == (200, True, ["disk_low"]), "it still works"
        (warning,) = (await door.admin("GET", "/status"))["warnings"]  # type: ignore[misc]
        assert warning == {"code": "disk_low", "message": "7 MiB are free for the journal, fewer than 256"}


async def test_a_clock_that_stood_in_the_future_is_told_until_it_has_caught_up(tmp_path: Path) -> None:
    """Everything that waits for the ledger's time waits as long: nobody would know why."""
    clock = ManualClock()

    async def warned(door: Door) -> list[str]:
        status, ready = await door.call("GET", "/readyz")
        assert status == 200
        return ready["warnings"]  # type: ignore[return-value]

    async with opened_door(tmp_path, clock) as door:
        assert await warned(door) == []
        clock.wall_ms += 30 * 86_400_000
        await door.agent()
        assert await warned(door) == [], "it cannot be known yet"
        clock.wall_ms -= 30 * 86_400_000
        assert await warned(door) == ["clock_ahead"]
        (warning,) = (await door.admin("GET", "/status"))["warnings"]  # type: ignore[misc]
        assert "43200 minutes" in warning["message"]
    async with opened_door(tmp_path, clock) as door:
        assert await warned(door) == ["clock_ahead"], "the journal remembers"
        clock.advance(30 * 86_400 - 60)
        assert await warned(door) == [], "a minute is no matter"


async def test_the_log_says_it_once_and_when_it_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep_module, "LOAD_EVERY_S", 0)
    clock, now = ManualClock(), list[Alert]()
    asked = 0

    def told() -> list[Alert]:
        nonlocal asked
        asked += 1
        return list(now)

    async with opened_house(tmp_path, clock=clock) as house:
        upkeep = Upkeep(house.ledger, house.heads, house.market, WaitingRoom(1, 1, clock), clock, told)
        running = asyncio.create_task(upkeep.run())
        with capture_logs() as logs:
            for standing in ([], [Alert("disk_low", "7 MiB")], [Alert("disk_low", "6 MiB")], []):
                before, now[:] = asked, standing
                clock.advance(60)
                await until(lambda before=before: asked > before)  # type: ignore[misc]
        running.cancel()
        await asyncio.wait([running])
    said = [(entry["event"], entry["log_level"]) for entry in logs if entry["event"].startswith("disk_low")]
    assert said == [("disk_low", "warning"), ("disk_low_over", "info")]


async def test_a_copy_is_for_administrators_and_holds_no_key(door: Door) -> None:
    _, token = await door.agent("economy")
    assert (await door.call("POST", "/v1/tirami/backup"))[0] in (401, 403)
    assert (await door.call("POST", "/v1/tirami/backup", token=token))[0] == 403
    reply = await door.admin("POST", "/v1/tirami/backup")
    directory = door.parts.home.path / str(reply["directory"])
    assert sorted(path.name for path in directory.iterdir()) == reply["files"] == ["journal.db", "network.json"]
    assert door.parts.key.seed not in (directory / "journal.db").read_bytes()
    status, refused = await door.call("POST", "/v1/tirami/backup", token=door.parts.admin_token)
    assert (status, refused["error"]["code"]) == (409, "conflict")  # type: ignore[index]


@pytest.mark.parametrize(
    ("ahead_ms", "told"),
    [
        ((), None),
        ((60_000,), None),
        ((0, 180_000), None),
        ((0, 180_000, 10), None),
        ((180_000,), "3 minutes behind the only peer's"),
        ((180_000, 200_000, 0), "3 minutes behind that of most of 3 peers"),
        ((-180_000, -180_000), "3 minutes ahead of that of most of 2 peers"),
        ((7_200_000, 7_200_000, 0), "trades with none"),
    ],
)
def test_a_clock_that_differs_from_most_peers_is_told(ahead_ms: tuple[int, ...], told: str | None) -> None:
    alerts = clock_differs(ahead_ms)
    assert [alert.code for alert in alerts] == ([] if told is None else ["clock_differs"])
    assert told is None or told in alerts[0].message
