"""Times as people read them: UTC, with the date and the zone."""

from datetime import UTC, datetime


def when(at_ms: int) -> str:
    """Unix milliseconds as UTC, to the second."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(sep=" ", timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms after 1970, beyond any calendar"
