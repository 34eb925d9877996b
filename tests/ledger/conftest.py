"""The market's house, for tests of the ledger under a market."""

from tests.market.conftest import house

__all__ = ["house"]
