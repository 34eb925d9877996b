"""Model sources on this machine: a hub, a package index, and a catalogue that names both."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infer.hubs import Hub
from tirami.infer import hub as client


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The hub every download goes to; nothing is remembered of hubs before it."""
    with Hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
        for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(client, "_silent", {})
        yield running


class Index:
    """A directory of wheels that is all of pip's world."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def add(self, distribution: str, version: str, members: dict[str, bytes]) -> Path:
        stem = f"{distribution.replace('-', '_')}-{version}"
        path = self.directory / f"{stem}-py3-none-any.whl"
        facts = {
            "METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n",
            "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": "",
        }
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
            for name, text in facts.items():
                archive.writestr(f"{stem}.dist-info/{name}", text)
        return path


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Index:
    directory = tmp_path / "index"
    directory.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    return Index(directory)
