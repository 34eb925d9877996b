"""Collects the outcome of every test that names a mission row, for ``make status``."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

ROWS = Path(__file__).resolve().parent.parent / "build" / "rows.json"
_results: dict[str, dict[str, dict[str, str | None]]] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    marks = [(mark.args[0], mark.kwargs.get("part")) for mark in item.iter_markers("row")]
    if marks:
        report.user_properties.append(("rows", marks))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for name, marks in report.user_properties:
        if name != "rows":
            continue
        for row, part in marks:
            tests = _results.setdefault(row, {})
            known = tests.get(report.nodeid, {"outcome": "passed", "part": part})
            if report.outcome != "passed":
                known["outcome"] = report.outcome
            tests[report.nodeid] = known


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput") or not _results:
        return
    ROWS.parent.mkdir(exist_ok=True)
    ROWS.write_text(json.dumps({row: list(tests.values()) for row, tests in sorted(_results.items())}, indent=1) + "\n")
