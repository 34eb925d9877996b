"""Copies of the journal for the operator's backup."""

from tirami.api.schemas.base import Reply


class BackupReply(Reply):
    """Copies for whoever makes the archive on this machine: a directory under the data directory, and its files."""

    directory: str
    files: list[str]
    bytes: int
    journal_position: int
    """Entries the journal had when the copy began; it holds at least these."""
