"""Collects the outcome of every test that names a mission row, for ``make status``; two tests at a time share cores."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("mutants", deadline=None, derandomize=True, database=None)
"""Few examples, always the same: thousands of mutants are tried (``make mutants``)."""

ROWS = Path(__file__).resolve().parent.parent / "build" / "rows.json"
_results: dict[str, dict[str, dict[str, str | None]]] = {}
_figures: dict[str, str] = {}


def pytest_configure() -> None:
    """Beside another test an engine has one thread: several wait for each other and take ten times as long.

    Tests marked ``alone`` run on what a node has by itself.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("TIRAMI_INFER_THREADS", "1")
        signal.signal(signal.SIGINT, signal.default_int_handler)  # else what a test starts is deaf to Ctrl-C, too


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    marks = [(mark.args[0], mark.kwargs.get("part")) for mark in item.iter_markers("row")]
    if marks:
        report.user_properties.append(("rows", marks))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for name, marks in report.user_properties:
        if name == "figure":
            _figures[report.nodeid] = str(marks)
        if name != "rows":
            continue
        for row, part in marks:
            tests = _results.setdefault(row, {})
            known = tests.get(report.nodeid, {"outcome": "passed", "part": part})
            if report.outcome != "passed":
                known["outcome"] = report.outcome
            if report.nodeid in _figures:
                known["figure"] = _figures[report.nodeid]
            tests[report.nodeid] = known


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput") or not _results:
        return
    ROWS.parent.mkdir(exist_ok=True)
    known: dict[str, dict[str, dict[str, str | None]]] = {}
    if _is_partial(session.config) and ROWS.exists():
        known = json.loads(ROWS.read_text())
    for row, tests in _results.items():
        known[row] = {**known.get(row, {}), **tests}
    ROWS.write_text(json.dumps(dict(sorted(known.items())), indent=1, ensure_ascii=False) + "\n")


def _is_partial(config: pytest.Config) -> bool:
    """Whether only some tests were asked for: then what an earlier run said of the others stands."""
    everything = config.args_source is not pytest.Config.ArgsSource.ARGS
    return not everything or bool(config.option.keyword or config.option.markexpr)
