"""A disk that is full: selling stops, reading works, nothing is lost, and it goes on when there is room again."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import NodeProcess
from tests.rows.conftest import make_agent
from tests.rows.test_l1 import wait_until
from tests.rows.test_saf import chat
from tirami.api.schemas import KillRequest
from tirami.core.errors import KillSwitchActive, StorageUnavailable
from tirami.testing import EngineProcess


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]).returncode:
        pytest.skip("mounting a file system needs root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Take all the room that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    return filler


def test_a_full_disk_stops_selling_and_nothing_else(small_disk: Path, tmp_path: Path) -> None:
    env = {"TIRAMI_LOG_FILE": str(tmp_path / "node.log"), "TIRAMI_PRICING_PROMPT_PPM": "0"}
    with EngineProcess() as engine, NodeProcess(small_disk / "home", "--upstream", engine.url, env=env) as node:
        agent = make_agent(node)
        trade = agent.client.chat_completions(chat("before", 9)).x_tirami.trade_id
        head, before = agent.client.log_head(), agent.client.balance()
        filler = fill(small_disk)
        refused = 0
        for stream in (False, True) * 4:
            try:
                if stream:
                    list(agent.client.stream_chat(chat("meanwhile", 50)))
                else:
                    agent.client.chat_completions(chat("meanwhile", 50))
            except StorageUnavailable:
                refused += 1
        assert refused >= 7, "what still fitted into the pages at hand may have been sold"
        after = agent.client.balance()
        assert after.reserved == 0
        assert before.consumed <= after.consumed <= before.consumed + 50
        assert agent.client.trades().trades[-1].id == trade
        assert agent.client.log_head().size >= head.size
        assert agent.client.status().storage_writable is False
        with node.admin() as admin:
            with pytest.raises(StorageUnavailable):
                admin.kill(KillRequest(activate=True, reason="disk", operator="test"))
            with pytest.raises(KillSwitchActive):
                agent.client.chat_completions(chat("killed in memory", 5))
            filler.unlink()
            admin.kill(KillRequest(activate=False))
        paid = agent.client.chat_completions(chat("after", 7)).x_tirami
        assert paid.trm_cost == 7
        with node.admin() as admin:
            assert admin.log_state().sum_of_accounts == 0
        node.kill()
        node.start()
        assert node.client(agent.token).balance().consumed == after.consumed + 7
        agent.client.close()


def test_an_idle_node_notices_that_there_is_room_again(small_disk: Path, tmp_path: Path) -> None:
    env = {"TIRAMI_LOG_FILE": str(tmp_path / "node.log")}
    with EngineProcess() as engine, NodeProcess(small_disk / "home", "--upstream", engine.url, env=env) as node:
        agent = make_agent(node)
        filler = fill(small_disk)
        deadline = time.monotonic() + 10
        while agent.client.status().storage_writable and time.monotonic() < deadline:
            with pytest.raises(StorageUnavailable):
                agent.client.chat_completions(chat("x", 50))
        filler.unlink()
        agent.client.chat_completions(chat("x", 5))
        wait_until(lambda: agent.client.status().storage_writable)
        agent.client.close()
