"""The metadata block of a GGUF file: all bytes before the weights. It is the tokenizer a payer counts with.

PROTOCOL B10: its SHA-256 is the ``tokenizer_digest`` of a model card, and any peer may bring it. That a block has the
right digest says that it belongs to the card, not that either means well: whatever is read here may be hostile. It is
bounded in size and in the number of tensors it lists, and refused as a whole or used as a whole.
"""

import contextlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from tirami.core.errors import ModelLoadError, TokenizerError
from tirami.core.keys import Digest, sha256
from tirami.infer.gguf import Header

MAX_BLOCK_BYTES: Final = 64 << 20
"""Blocks of known models have 1.8 to 11 MB."""
MAX_TEMPLATE_CHARACTERS: Final = 256 << 10
"""The longest chat template in use has some 20 000."""


@dataclass(frozen=True, slots=True)
class MetadataBlock:
    """A block that parses.

    Attributes:
        data: the bytes, as the digest covers them.
        digest: their SHA-256.
        header: what they say.
    """

    data: bytes = field(repr=False)
    digest: Digest
    header: Header = field(repr=False)

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """Of a model at hand. Blocking. Raises ``ModelLoadError``, and ``TokenizerError`` for a block too large."""
        header = Header.read(path)
        if header.data_offset > MAX_BLOCK_BYTES:
            raise TokenizerError(f"the metadata of {path.name} has more than {MAX_BLOCK_BYTES} bytes")
        data = header.bytes_at(0, header.data_offset)
        return cls.of_bytes(data, sha256(data))

    @classmethod
    def of_bytes(cls, data: bytes, expected: Digest) -> Self:
        """Of bytes from anywhere. Raises ``TokenizerError`` when they are too many, not those expected or no block."""
        if len(data) > MAX_BLOCK_BYTES:
            raise TokenizerError(f"a metadata block has more than {MAX_BLOCK_BYTES} bytes")
        if (actual := sha256(data)) != expected:
            raise TokenizerError(
                f"this is not the metadata block asked for: its SHA-256 is {actual.hex()}, not {expected.hex()}",
                expected=expected.hex(),
                actual=actual.hex(),
            )
        try:
            return cls(data, expected, Header.of_block(data, f"the metadata block {expected.hex()[:16]}"))
        except ModelLoadError as error:
            raise TokenizerError(error.message) from None

    @property
    def context_length(self) -> int:
        """Tokens the model was trained for; 0 when it does not say."""
        return self.header.number("context_length")

    @property
    def template(self) -> str:
        """The chat template; empty for a model without one. Raises ``TokenizerError`` when it is too long."""
        template = self.header.text("tokenizer.chat_template")
        if len(template) > MAX_TEMPLATE_CHARACTERS:
            raise TokenizerError(f"the model's chat template has more than {MAX_TEMPLATE_CHARACTERS} characters")
        return template


class BlockCache:
    """Blocks on disk under their digests; the oldest go when there are too many.

    Args:
        directory: made when first written to; one that cannot be written only costs fetching again.
        kept: how many blocks stay.
    """

    def __init__(self, directory: Path, kept: int = 32) -> None:
        self._directory = directory
        self._kept = kept

    def load(self, digest: Digest) -> MetadataBlock | None:
        """The block of ``digest`` if it is here and sound; a damaged one is none. Blocking: 10 ms."""
        try:
            with self._place(digest).open("rb") as file:
                data = file.read(MAX_BLOCK_BYTES + 1)
            return MetadataBlock.of_bytes(data, digest)
        except (OSError, TokenizerError):
            return None

    def store(self, block: MetadataBlock) -> None:
        """Keep ``block``. Blocking."""
        place = self._place(block.digest)
        fresh = place.with_suffix(f".{secrets.token_hex(4)}")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(block.data)
            fresh.replace(place)
            self._forget()
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink()

    def _forget(self) -> None:
        blocks = sorted(self._directory.glob("*.block"), key=lambda path: path.stat().st_mtime_ns)
        for path in blocks[: -self._kept]:
            os.unlink(path)

    def _place(self, digest: Digest) -> Path:
        return self._directory / f"{digest.hex()}.block"
