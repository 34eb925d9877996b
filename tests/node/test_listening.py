"""The UDP port of the mesh over restarts."""

import gc
import socket
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.waiting import until
from tirami.core.config import MeshConfig
from tirami.core.keys import SigningKey
from tirami.node.mesh.listening import FILE, listening

KEY = SigningKey.from_seed(b"\x05" * 32)
ANY = MeshConfig(bind="127.0.0.1:0")


async def port(home: Path, config: MeshConfig = ANY) -> int:
    endpoint = await listening(KEY, config, home)
    found = endpoint.port
    assert f"127.0.0.1:{found}" in endpoint.address().direct
    await endpoint.close()
    del endpoint  # the library gives the socket back with the last of what holds it
    await until(lambda: gc.collect() >= 0 and is_free(found))
    return found


def is_free(number: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            return False
        return True


async def test_it_is_the_one_of_the_first_start(tmp_path: Path) -> None:
    first = await port(tmp_path)
    assert (tmp_path / FILE).read_text() == str(first)
    assert [await port(tmp_path) for _ in range(2)] == [first, first]


async def test_a_taken_one_is_said_and_taken_again_when_it_is_free(tmp_path: Path) -> None:
    first = await port(tmp_path)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other, capture_logs() as logs:
        other.bind(("127.0.0.1", first))
        assert await port(tmp_path) != first
    assert [(entry["event"], entry["port"]) for entry in logs] == [("mesh_port_taken", first)]
    assert await port(tmp_path) == first


async def test_a_port_that_the_settings_name_is_taken_and_not_noted(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    free = await port(elsewhere)
    assert await port(tmp_path, MeshConfig(bind=f"127.0.0.1:{free}")) == free
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("noted", ["", "nonsense", "70000", "-1", "0", "\xff"])
async def test_a_note_that_is_none_is_passed_over(tmp_path: Path, noted: str) -> None:
    (tmp_path / FILE).write_text(noted, "latin-1")
    assert await port(tmp_path) > 0


async def test_a_port_that_cannot_be_noted_is_said_and_no_reason_not_to_start(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with capture_logs() as logs:
        assert await port(tmp_path) > 0
    assert [(entry["event"], entry["file"]) for entry in logs] == [("mesh_port_not_noted", str(tmp_path / FILE))]
