"""One bit flipped anywhere in a killed node's files: the start refuses and names the entry, or nothing changed."""

import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.ledger.crash import copied
from tests.ledger.machine import StillClock
from tests.market.conftest import House
from tests.market.scripted import ScriptedEngine
from tests.market.test_inference import serve
from tirami.core.errors import StartError
from tirami.core.keys import SigningKey, journal_key, local_user_key
from tirami.core.units import Ppm
from tirami.ledger import Heads, Ledger
from tirami.market import InferenceMarket, Load
from tirami.proto import NetworkFile

VICTIMS = ("journal.db", "journal.db-wal", "journal.snapshot", "journal.tip")


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the entries under seals, a snapshot in their middle."""
    monkeypatch.setattr("tirami.ledger.journal.SEGMENT_BYTES", 20_000)


def opened(path: Path, node: SigningKey) -> Ledger:
    return Ledger.open(
        path / "journal.db",
        network=NetworkFile.regtest(node.public_key),
        node=node,
        local_user=local_user_key(node).public_key,
        clock=StillClock(),
        journal_key=journal_key(node),
    )


async def killed_home(home: Path, node: SigningKey, trades: int) -> Path:
    """A copy of a working node's files at one moment, as ``kill -9`` leaves them."""
    for round_ in range(2):  # the first close moves entries into the database, the second round leaves a log
        ledger = opened(home, node)
        await ledger.start(os.urandom)
        heads = Heads(ledger, node)
        market = InferenceMarket(ledger, heads, node, Load(follow=False, half_life_ms=1, prompt_ppm=Ppm(0)), os.urandom)
        house = House(ledger, heads, market, ScriptedEngine(2), node, None)  # type: ignore[arg-type]
        house.agent = await house.hosted()
        for _ in range(trades):
            await serve(house)
            await heads.current()
        if round_:
            copied(home, home.parent / "killed")
        await ledger.close()
    return home.parent / "killed"


def fingerprint(path: Path, node: SigningKey) -> bytes:
    ledger = opened(path, node)
    try:
        return ledger.state.book.own_state_bytes() + ledger.state.log.root() + repr(ledger.state.settings).encode()
    finally:
        ledger._journal.abandon()


def sealed_entries(path: Path) -> int:
    database = sqlite3.connect(path / "journal.db")
    try:
        return int(database.execute("SELECT coalesce(max(last), 0) FROM segments").fetchone()[0])
    finally:
        database.close()


async def flip(tmp_path: Path, count: int) -> None:
    node = SigningKey.generate()
    home = tmp_path / "home"
    home.mkdir()
    killed = await killed_home(home, node, 25)
    clean = tmp_path / "clean"
    shutil.copytree(killed, clean)
    expected = fingerprint(clean, node)
    sizes = [(victim, (killed / victim).stat().st_size) for victim in VICTIMS]
    assert sealed_entries(clean) > 50
    rng, refused = random.Random(3), 0
    for _ in range(count):
        victim, size = rng.choices(sizes, weights=[size for _, size in sizes])[0]
        trial = tmp_path / "trial"
        shutil.copytree(killed, trial)
        data = bytearray((trial / victim).read_bytes())
        data[rng.randrange(size)] ^= 1 << rng.randrange(8)
        (trial / victim).write_bytes(data)
        try:
            assert fingerprint(trial, node) == expected
        except StartError as error:
            assert "entry" in error.data or "schema" in error.data
            refused += 1
        shutil.rmtree(trial)
    print(f"{refused} of {count} flips refused, the others changed nothing")
    assert refused > count // 4


async def test_fifty_flips(tmp_path: Path) -> None:
    await flip(tmp_path, 50)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_five_hundred_flips(tmp_path: Path) -> None:
    await flip(tmp_path, 500)
