"""The hub is asked once and briefly, believed in nothing, and left alone for a moment when it is silent."""

import hashlib
import logging
import os
import time
from pathlib import Path

import pytest

from tests.infer.hubs import Hub
from tirami.core.errors import ModelDigestMismatch, ModelLoadError
from tirami.core.keys import Digest
from tirami.infer import hub as client
from tirami.infer.download import Download
from tirami.infer.sources import HubFile

FILE = HubFile("maker/model-GGUF", "model.gguf")
PATH = "/maker/model-GGUF/resolve/main/model.gguf"
DATA = os.urandom(3 << 20)


@pytest.fixture(autouse=True)
def content(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.files[PATH] = DATA
    monkeypatch.setattr(client, "RETRY_PAUSE_S", 0.0)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def fetched(target: Path, expected: Digest | None = None) -> bytes:
    with Download(target, len(DATA), expected, None) as download:
        client.fetch(FILE, download)
        download.keep()
    return target.read_bytes()


def refused(target: Path) -> str:
    with pytest.raises(ModelLoadError) as caught:
        fetched(target)
    assert not target.exists()
    return caught.value.message


def test_a_file_costs_one_head_and_one_get(hub: Hub, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", None, raising=False)
    assert fetched(target) == DATA
    assert hub.methods() == ["HEAD", "GET"]


def test_what_is_not_the_digest_the_hub_said_is_refused(hub: Hub, target: Path) -> None:
    hub.etag = "ab" * 32
    with pytest.raises(ModelDigestMismatch) as caught:
        fetched(target)
    assert caught.value.data["expected"] == "ab" * 32
    assert not target.exists()


@pytest.mark.parametrize("etag", ["", "0123456789abcdef0123456789abcdef01234567"])
def test_an_etag_that_is_no_sha256_is_not_taken_for_one(hub: Hub, target: Path, etag: str) -> None:
    hub.etag = etag
    assert fetched(target) == DATA


def test_a_digest_known_before_outweighs_the_hubs(hub: Hub, target: Path) -> None:
    with pytest.raises(ModelDigestMismatch):
        fetched(target, Digest(bytes(32)))
    assert fetched(target, Digest(hashlib.sha256(DATA).digest())) == DATA


def test_a_missing_file_is_not_a_silent_hub(hub: Hub, target: Path) -> None:
    del hub.files[PATH]
    assert refused(target) == "the hub answers 404 for maker/model-GGUF/model.gguf"
    hub.files[PATH] = DATA
    assert fetched(target) == DATA


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_refusal_is_named_and_not_repeated(hub: Hub, target: Path, status: int) -> None:
    hub.status = status
    assert refused(target) == f"the hub answers {status} for maker/model-GGUF/model.gguf"
    assert hub.methods() == ["HEAD"]


def test_a_silent_hub_is_given_up_after_one_head_and_not_asked_for_a_while(
    hub: Hub, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.HEAD_LIMIT_S == 3
    monkeypatch.setattr(client, "HEAD_LIMIT_S", 0.3)
    hub.silent = True
    began = time.monotonic()
    assert refused(target) == "the hub does not answer"
    assert time.monotonic() - began < 3
    assert hub.methods() == ["HEAD"]
    hub.silent = False
    assert refused(target) == "the hub does not answer"
    assert hub.methods() == ["HEAD"]
    monkeypatch.setattr(client, "SILENT_S", 0.0)
    assert fetched(target) == DATA


def test_nobody_at_the_address_is_remembered(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    assert refused(target) == "the hub does not answer"
    assert time.monotonic() - began < 3
    assert set(client._silent) == {"http://127.0.0.1:9"}


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_a_switched_off_hub_is_not_asked(hub: Hub, target: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert "switched off" in refused(target)
    assert hub.asked == []


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path.name.startswith(".model"))


def test_a_body_that_breaks_off_is_gone_on_with_after_one_head(hub: Hub, target: Path) -> None:
    hub.cuts = [1 << 20, 1000]
    assert fetched(target) == DATA
    assert hub.methods() == ["HEAD", "GET", "GET", "GET"]
    assert [request.range for request in hub.asked[1:]] == [None, f"bytes={1 << 20}-", f"bytes={(1 << 20) + 1000}-"]
    etag = hashlib.sha256(DATA).hexdigest()
    assert [request.if_range for request in hub.asked[1:]] == [None, f'"{etag}"', f'"{etag}"']
    assert left(target) == []


def test_a_hub_that_brings_nothing_new_is_given_up_and_what_came_is_kept(hub: Hub, target: Path) -> None:
    hub.cuts, hub.cut = [1 << 20], 0
    assert refused(target).endswith("broke off; the next try goes on after 1,048,576 bytes")
    assert hub.methods() == ["HEAD", *["GET"] * (1 + client.TRIES - 1)]
    assert left(target) == [".model.gguf.part", ".model.gguf.part.json"]


def test_the_next_process_goes_on_where_this_one_ended(hub: Hub, target: Path) -> None:
    hub.cuts, hub.cut = [1 << 20], 0
    refused(target)
    hub.cut = None
    hub.asked.clear()
    assert fetched(target) == DATA
    assert [(request.method, request.range) for request in hub.asked] == [("HEAD", None), ("GET", f"bytes={1 << 20}-")]
    assert left(target) == []


def test_a_whole_body_that_was_never_put_in_place_is_not_fetched_again(hub: Hub, target: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        with Download(target, len(DATA), None, None) as download:
            client.fetch(FILE, download)
            raise KeyboardInterrupt
    hub.asked.clear()
    assert fetched(target) == DATA
    assert hub.methods() == ["HEAD"]


def test_another_version_starts_over(hub: Hub, target: Path) -> None:
    hub.cuts, hub.cut = [1 << 20], 0
    refused(target)
    hub.files[PATH] = other = os.urandom(2 << 20)
    hub.cut = None
    hub.asked.clear()
    with Download(target, len(other), None, None) as download:
        client.fetch(FILE, download)
        download.keep()
    assert target.read_bytes() == other
    assert [request.range for request in hub.asked] == [None, None]


def test_a_version_that_changes_between_two_pieces_is_refused_and_nothing_of_it_kept(hub: Hub, target: Path) -> None:
    hub.cuts = [1 << 20]

    def changed(done: int, size: int) -> None:
        hub.files[PATH] = DATA[:-1] + b"x"

    with pytest.raises(ModelDigestMismatch):
        with Download(target, len(DATA), None, changed) as download:
            client.fetch(FILE, download)
            download.keep()
    assert [request.range for request in hub.asked] == [None, None, f"bytes={1 << 20}-"]
    assert left(target) == []
    assert not target.exists()


def test_a_hub_that_gives_no_pieces_starts_over_and_is_not_joined_wrongly(hub: Hub, target: Path) -> None:
    hub.ranges, hub.cuts = False, [1 << 20]
    assert fetched(target) == DATA
    assert [request.range for request in hub.asked] == [None, None, f"bytes={1 << 20}-"]


def test_a_hub_without_pieces_that_always_breaks_is_given_up(hub: Hub, target: Path) -> None:
    hub.ranges, hub.cut = False, 1 << 20
    assert "broke off" in refused(target)
    assert len(hub.asked) <= 2 + client.TRIES


def test_bytes_damaged_on_the_disk_are_fetched_again(hub: Hub, target: Path) -> None:
    hub.cuts, hub.cut = [1 << 20], 0
    refused(target)
    partial = target.with_name(".model.gguf.part")
    partial.write_bytes(b"damage" + partial.read_bytes()[6:])
    hub.cut = None
    hub.asked.clear()
    assert fetched(target) == DATA
    assert [request.range for request in hub.asked] == [None, None]


@pytest.mark.parametrize("note", [b"", b"{}", b"\xff", b'{"version": 1}'])
def test_a_note_nobody_understands_is_none(hub: Hub, target: Path, note: bytes) -> None:
    hub.cuts, hub.cut = [1 << 20], 0
    refused(target)
    target.with_name(".model.gguf.part.json").write_bytes(note)
    hub.cut = None
    assert fetched(target) == DATA


def test_a_silent_hub_does_not_cost_what_came_before(hub: Hub, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.cuts, hub.cut = [1 << 20], 0
    refused(target)
    monkeypatch.setattr(client, "HEAD_LIMIT_S", 0.2)
    hub.silent = True
    assert refused(target) == "the hub does not answer"
    assert left(target) == [".model.gguf.part", ".model.gguf.part.json"]


def test_more_than_the_hub_said_is_not_written(hub: Hub, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelLoadError, match="longer than the"):
        with Download(target, 5, None, None) as download:
            download.sized(5)
            download.write(b"123456")
    assert left(target) == []


def test_a_disk_too_small_is_said_before_the_body(hub: Hub, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert refused(target) == "model.gguf needs 3 MiB of disk, 1 are free"
    assert hub.methods() == ["HEAD"]


def test_the_token_is_in_no_log_and_no_error(
    hub: Hub, target: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    caplog.set_level(logging.DEBUG)
    hub.cuts, hub.cut = [1 << 20], 0
    assert "hf_canary" not in refused(target)
    assert any(request.authorization == "Bearer hf_canary" for request in hub.asked)
    assert "hf_canary" not in caplog.text
    assert all(b"hf_canary" not in (target.parent / name).read_bytes() for name in left(target))


def test_a_user_who_forbids_it_sends_no_token(hub: Hub, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    assert fetched(target) == DATA
    assert [request.authorization for request in hub.asked] == [None, None]


def test_the_token_goes_to_the_hub_and_not_where_it_points(
    hub: Hub, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    with Hub(files={PATH: DATA}) as store:
        hub.elsewhere = lambda path: f"http://localhost:{store.port}{path}"
        assert fetched(target) == DATA
        assert [request.authorization for request in hub.asked] == ["Bearer hf_canary"] * 2
        assert [request.authorization for request in store.asked] == [None]
