"""Backups of a node under a paid, streaming load; it dies and its restored copies go on: nobody is convicted."""

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.ledger.promises import Promises
from tests.processes import NodeProcess
from tests.rows.load import journal_entries
from tests.soak.test_kill import Customer, customers, network_file
from tirami.testing import start_engine

BACKUPS, LOAD_S = 3, 1.0


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    running = start_engine()
    yield running.url
    running.stop()


async def load(node: NodeProcess, people: list[Customer], rng: random.Random, backups: list[Path]) -> None:
    """Customers ask all the time; meanwhile the node is backed up, and then killed."""

    async def customer(person: Customer) -> None:
        person.interrupted = None
        while person.interrupted is None:
            await person.ask(node.url, rng)

    asking = [asyncio.create_task(customer(person)) for person in people]
    await asyncio.sleep(LOAD_S)
    for archive in backups:
        command = [sys.executable, "-m", "tirami.cli", "backup", str(archive), "--unencrypted"]
        done = await asyncio.to_thread(
            subprocess.run, [*command, "--data-dir", str(node.data_dir)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    node.kill()
    for task in asking:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(task, 20)


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_restored_copies_of_a_node_under_load_contradict_nothing(engine: str, tmp_path: Path) -> None:
    rng, home = random.Random(5), tmp_path / "home"
    home.mkdir()
    options = ("--upstream", engine, "--network", str(network_file(home)))
    archives = [tmp_path / f"{number}.tar" for number in range(BACKUPS)]
    env = {"TIRAMI_API_RATE_PER_SECOND": "9999"}
    node = NodeProcess(home, *options, env=env).start()
    people = customers(node)
    await load(node, people, rng, archives)
    homes = [home]
    for archive in archives:
        copy = tmp_path / archive.stem
        command = [sys.executable, "-m", "tirami.cli", "restore", str(archive), "--data-dir", str(copy)]
        subprocess.run(command, capture_output=True, check=True)
        homes.append(copy)
        restored = NodeProcess(copy, "--upstream", engine, "--network", str(copy / "network.json"), env=env).start()
        await load(restored, people, rng, [])
    again = NodeProcess(home, *options, env=env).start()
    await load(again, people, rng, [])
    promises = Promises()
    for place in homes:
        for entry in journal_entries(place):
            promises._take(entry.content)
        with NodeProcess(place, "--upstream", engine, "--network", str(place / "network.json"), env=env) as last:
            with last.admin() as admin:
                assert admin.log_state().sum_of_accounts == 0
    assert promises.count > 100
    assert not promises.verdicts()
