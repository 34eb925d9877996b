"""The hub is asked once and briefly, believed in nothing, and forgotten when it is silent."""

import hashlib
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
def content(hub: Hub) -> None:
    hub.files[PATH] = DATA


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


def test_a_silent_hub_is_given_up_after_one_head_and_never_asked_again(
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


def test_a_download_that_breaks_off_leaves_nothing(hub: Hub, target: Path) -> None:
    hub.cut = 1 << 20
    assert refused(target) == "the download of maker/model-GGUF/model.gguf broke off"
    assert not list(target.parent.glob(".model*"))


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
