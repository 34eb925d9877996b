"""What a network file may say and a node still starts; and what it may not."""

from pathlib import Path

import msgspec
import pytest

from tirami.core.clock import SystemClock
from tirami.core.config import Config, load_config
from tirami.core.errors import NetworkFileError
from tirami.ledger import UNITY, PriceObserved
from tirami.node.parts import open_parts
from tirami.proto import NetworkFile
from tirami.testing import ManualClock


def configured(home: Path, network: NetworkFile | None = None) -> Config:
    values: dict[str, object] = {"data_dir": str(home)}
    if network is not None:
        path = home.parent / "network.json"
        path.write_bytes(network.to_bytes())
        values["network.file"] = str(path)
    return load_config(None, {}, values)


async def regtest_of(home: Path) -> NetworkFile:
    """The built-in network of a node that has a key and nothing else yet."""
    async with open_parts(configured(home), SystemClock()) as parts:
        network = NetworkFile.regtest(parts.key.public_key)
    for file in home.glob("journal.*"):
        file.unlink()
    return network


async def test_a_network_without_welcome_starts(tmp_path: Path) -> None:
    home = tmp_path / "home"
    network = await regtest_of(home)
    parameters = msgspec.structs.replace(network.parameters, welcome_limit=0)
    for _ in range(2):
        changed = msgspec.structs.replace(network, parameters=parameters)
        async with open_parts(configured(home, changed), SystemClock()) as parts:
            assert parts.ledger.balance(parts.key.public_key).effective == 0
            assert parts.ledger.state.log.size == 0


async def test_an_issuer_without_quota_starts(tmp_path: Path) -> None:
    home = tmp_path / "home"
    network = await regtest_of(home)
    issuer = msgspec.structs.replace(network.issuers[0], daily_lines=0)
    for _ in range(2):
        changed = msgspec.structs.replace(network, issuers=(issuer,))
        async with open_parts(configured(home, changed), SystemClock()) as parts:
            assert parts.ledger.balance(parts.key.public_key).effective == 0
            assert parts.ledger.state.log.size == 0


async def test_an_issuer_has_its_own_line_once(tmp_path: Path) -> None:
    for _ in range(2):
        async with open_parts(configured(tmp_path / "home"), SystemClock()) as parts:
            assert parts.ledger.balance(parts.key.public_key).effective == 1_000
            assert parts.ledger.state.log.size == 1


async def test_a_killed_node_starts_and_stays_killed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with open_parts(configured(home), SystemClock()) as parts:
        await parts.ledger.set_kill(True, "test", "nobody")
    async with open_parts(configured(home), SystemClock()) as parts:
        assert parts.ledger.gate.kill is not None
        assert parts.ledger.gate.kill.active


async def test_a_network_file_that_forbids_what_was_granted_refuses_the_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with open_parts(configured(home), SystemClock()) as parts:
        network, seq = NetworkFile.regtest(parts.key.public_key), parts.ledger.state.records[0].seq
    parameters = msgspec.structs.replace(network.parameters, welcome_limit=999)
    with pytest.raises(NetworkFileError, match=f"journal entry {seq} "):
        async with open_parts(configured(home, msgspec.structs.replace(network, parameters=parameters)), SystemClock()):
            pytest.fail("the node started")
    async with open_parts(configured(home), SystemClock()) as parts:
        assert parts.ledger.state.log.size == 1


async def test_the_price_goes_on_from_where_it_was_before_a_restart(tmp_path: Path) -> None:
    """The average and the time it is of: a node that was down for a half-life has gone half of the way back."""
    config = configured(tmp_path / "home").with_flags({"pricing.half_life_s": 600})
    clock = ManualClock()
    async with open_parts(config, clock) as parts:
        assert parts.load.demand == UNITY
        parts.load.observe(8, 16, 8, parts.ledger.now())
        clock.advance(600)
        parts.load.observe(8, 16, 8, parts.ledger.now())
        assert parts.load.demand == 2_000_000, "half of the way from 1 to 3"
        await parts.ledger.record_facts(PriceObserved(parts.load.demand))
    clock.advance(600)
    async with open_parts(config, clock) as parts:
        assert parts.load.factor == parts.load.demand == 2_000_000
        parts.load.observe(8, 0, 8, parts.ledger.now())
        assert parts.load.demand == 1_500_000, "half of the way from 2 to 1"
