"""The state machine, short in every run and long in the soak."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.examples import examples
from tests.ledger.machine import LedgerMachine
from tirami.ledger import snapshots

CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@pytest.fixture(autouse=True)
def _snapshots_and_segments_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that restarts meet every mixture of sealed, unsealed and already folded entries."""
    monkeypatch.setattr(snapshots, "EVERY", 12)
    monkeypatch.setattr("tirami.ledger.journal.SEGMENT_BYTES", 3_000)


def check(runs: int, steps: int) -> None:
    limits = settings(
        max_examples=examples(runs), stateful_step_count=steps, deadline=None, suppress_health_check=CHECKS
    )
    run_state_machine_as_test(LedgerMachine, settings=limits)


def test_the_book_keeps_its_invariants() -> None:
    check(runs=25, steps=30)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_the_book_keeps_its_invariants_for_long() -> None:
    check(runs=300, steps=80)
