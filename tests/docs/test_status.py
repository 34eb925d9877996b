"""What ``make status`` says of a promise: only tests that ran and passed make it kept."""

import pytest
from tools.status import verdict


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        (["passed", "passed"], "passed"),
        (["passed", "skipped"], "partial"),
        (["skipped", "skipped"], "missing"),
        (["passed", "skipped", "failed"], "failed"),
        ([], "missing"),
    ],
)
def test_a_test_that_was_skipped_proves_nothing(outcomes: list[str], said: str) -> None:
    assert verdict([{"outcome": outcome, "part": None} for outcome in outcomes]) == said


def test_a_part_of_a_promise_is_not_all_of_it() -> None:
    assert verdict([{"outcome": "passed", "part": "one model"}, {"outcome": "passed", "part": None}]) == "partial"
