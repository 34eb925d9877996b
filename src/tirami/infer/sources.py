"""Where a model file can come from: a kind, a locator, a size and a digest.

The digest belongs to the source, not to the alias: the same alias is another file on the hub than on the
package index, and what is served, priced and signed is the file.
"""

from dataclasses import dataclass
from enum import StrEnum

from tirami.core.keys import Digest


class SourceKind(StrEnum):
    """How a model file was found."""

    FILE = "file"
    """Named by its path."""
    CACHE = "cache"
    HUB = "hub"
    WHEEL = "wheel"


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository on the model hub."""

    repository: str
    file: str

    def __str__(self) -> str:
        return f"{self.repository}/{self.file}"


@dataclass(frozen=True, slots=True)
class WheelFile:
    """A file inside a wheel of the Python package index; wheels are read, never installed or imported."""

    distribution: str
    version: str
    member: str

    @property
    def requirement(self) -> str:
        return f"{self.distribution}=={self.version}"


@dataclass(frozen=True, slots=True)
class Source:
    """One way to get one file.

    Attributes:
        locator: a file of the hub, or the pieces in wheels that joined make the file.
        file_name: its name in the cache.
        size: bytes; from the catalogue's rounded megabytes where the digest is unknown.
        sha256: hex digest, ``None`` to take the hub's own at the first download and hold on to it.
    """

    locator: HubFile | tuple[WheelFile, ...]
    file_name: str
    size: int
    sha256: str | None

    @property
    def kind(self) -> SourceKind:
        return SourceKind.HUB if isinstance(self.locator, HubFile) else SourceKind.WHEEL

    @property
    def digest(self) -> Digest | None:
        return None if self.sha256 is None else Digest(bytes.fromhex(self.sha256))

    def __str__(self) -> str:
        if isinstance(self.locator, HubFile):
            return f"hub:{self.locator}"
        return "wheel:" + "+".join(piece.requirement for piece in self.locator)
