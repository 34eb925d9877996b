"""What ``make bench`` writes can be judged: where, when and of what it was measured, without idle digits."""

import pytest
from bench.__main__ import digits, document
from bench.machine import Machine
from bench.result import measured, skipped

MACHINE = Machine("Abacus", 2, 7.75, "Linux 6.1", "3.11.2", "2026-01-02", "0123456789ab", "1.2.3")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0, "0"), (1, "1.00"), (0.45, "0.450"), (0.98456, "0.985"), (9.996, "10.00"), (76.5625, "76.6"),
        (395.498, "395"), (1969.14, "1970"), (123_456.0, "123000"), (0.0289, "0.0289"), (-2.5, "-2.50"),
    ],
)  # fmt: skip
def test_three_significant_digits_and_no_exponent(value: float, told: str) -> None:
    assert digits(value) == told


def test_the_document_names_the_machine_and_has_a_dash_where_there_is_no_goal() -> None:
    results = [
        measured("quick", [1.23456], "ms", most=5.0),
        measured("slow", [7.0], "ms", most=5.0),
        measured("told", [1969.14], "B"),
        skipped("other", "no network"),
    ]
    text = document(results, MACHINE)
    for fact in ("Abacus", "2 cores", "7.8 GiB", "Linux 6.1", "3.11.2", "2026-01-02", "0123456789ab", "LiteLLM: 1.2.3"):
        assert fact in text
    assert text.index("Abacus") < text.index("| figure |")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows == [
        "| quick | 1.23 | ms | ≤ 5.0 | yes | 1 | 0% |",
        "| slow | 7.00 | ms | ≤ 5.0 | no | 1 | 0% |",
        "| told | 1970 | B | – | – | 1 | 0% |",
        "| other (not measured: no network) | 0 |  | – | no | 0 | 0% |",
    ]


def test_this_machine_is_described() -> None:
    here = Machine.this("2026-01-02")
    assert here.cores > 0 and here.kernel and here.litellm[0].isdigit()
    assert here.commit
