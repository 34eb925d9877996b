"""``tirami demo``: every step is asserted, and a step that fails fails the demo."""

from collections.abc import Iterator

import pytest

from tests.cli.paced_engine import paced_engine
from tests.cli.running import Shell
from tirami.cli.demo.report import DemoFailed, Report, expect
from tirami.cli.demo.steps import STEPS


@pytest.fixture(scope="module")
def paced() -> Iterator[str]:
    with paced_engine(5) as url:
        yield url


@pytest.mark.row("DEMO-01")
@pytest.mark.row("DEMO-05")
def test_the_demo_passes_on_the_testing_engine(nowhere: Shell, paced: str) -> None:
    users = nowhere.home / "users"
    ended = nowhere.process("demo", "--upstream", paced, "--json", TIRAMI_DATA_DIR=str(users), TIRAMI_API_PORT="1")
    assert (ended.code, ended.err) == (0, "")
    assert ended.json["passed"] is True
    assert [step["passed"] for step in ended.json["steps"]] == [True] * len(STEPS)
    assert {"DEMO-02", "DEMO-06", "DEMO-07", "DEMO-10", "API-03", "L1-01"} <= {s["row"] for s in ended.json["steps"]}
    assert sum(step["seconds"] for step in ended.json["steps"]) < 30
    assert not users.exists(), "the demo leaves the user's own node alone"
    assert not (nowhere.home / ".tirami").exists()


def test_an_engine_that_is_not_there_fails_the_demo(nowhere: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tirami.cli.demo.steps.START_SECONDS", 0.5)
    ended = nowhere.run("demo", "--upstream", "http://127.0.0.1:1/v1", "--json")
    assert ended.code == 1
    assert ended.json["passed"] is False
    assert [step["passed"] for step in ended.json["steps"]] == [False]
    assert "does not hold: the model loads" in ended.err


def test_an_engine_that_is_not_there_for_people(nowhere: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tirami.cli.demo.steps.START_SECONDS", 0.5)
    ended = nowhere.run("demo", "--upstream", "http://127.0.0.1:1/v1")
    assert ended.code == 1
    assert "✗ DEMO-02" in ended.out
    assert "0 of 1 steps" in ended.out


@pytest.mark.row("DEMO-05")
def test_the_report_counts_only_what_passed() -> None:
    report = Report(None)
    with report.step("A", "good") as step:
        step.detail = "fine"
    assert report.to_json()["passed"] is True
    with pytest.raises(DemoFailed, match="does not hold: b"), report.step("B", "bad"):
        expect(False, "b", seen=1)
    assert report.to_json()["passed"] is False
    assert [step.passed for step in report.steps] == [True, False]


def test_an_error_of_a_client_fails_the_step_as_well() -> None:
    report = Report(None)
    with pytest.raises(DemoFailed, match="ZeroDivisionError"), report.step("B", "bad"):
        raise ZeroDivisionError("x")
    assert not report.steps[0].passed


def test_a_report_without_steps_has_not_passed() -> None:
    assert Report(None).to_json()["passed"] is False
