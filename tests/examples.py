"""How many examples a property is tried with."""

from hypothesis import settings

FEW = 10


def examples(wanted: int) -> int:
    """As many as wanted; a few where thousands of mutants are tried, one after another."""
    return min(wanted, FEW) if settings.get_current_profile_name() == "mutants" else wanted
