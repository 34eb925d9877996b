"""What is said where."""

import io
import json

import pytest
from rich.console import Console

from tirami.cli.download import DownloadBar
from tirami.cli.terminal import ExitCode, Terminal, fields
from tirami.core.errors import BudgetExceeded, InvalidField, InvalidReceipt


def test_json_is_all_there_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(True)
    terminal.say("for people")
    terminal.show({"猫": ":rocket: [/x]"}, lambda console: console.print("for people"))
    seen = capsys.readouterr()
    assert json.loads(seen.out) == {"猫": ":rocket: [/x]"}
    assert seen.err == ""


def test_text_is_all_there_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(False)
    terminal.say(":rocket: [/x]")
    terminal.note("aside [/x]")
    terminal.show({}, lambda console: fields(console, "title [/x]", {"a": ":rocket:", "long": "[/y]"}))
    seen = capsys.readouterr()
    assert seen.out == ":rocket: [/x]\ntitle [/x]\n  a:     :rocket:\n  long:  [/y]\n"
    assert seen.err == "aside [/x]\n"


def test_errors_have_a_code_and_their_facts(capsys: pytest.CaptureFixture[str]) -> None:
    error = BudgetExceeded("[/x] :rocket: too much", limit=5, window="hour")
    assert Terminal(True).fail(error) is ExitCode.ERROR
    seen = capsys.readouterr()
    assert seen.err == "Error: [/x] :rocket: too much (budget_exceeded)\n"
    assert json.loads(seen.out)["error"] == {
        "code": "budget_exceeded",
        "message": "[/x] :rocket: too much",
        "limit": 5,
        "window": "hour",
    }
    Terminal(True).fail(InvalidField("no such thing", param="mesh.bind"))
    seen = capsys.readouterr()
    assert seen.err == "Error: mesh.bind: no such thing (invalid_field)\n"
    assert json.loads(seen.out)["error"]["param"] == "mesh.bind"
    Terminal(False).fail(InvalidField("mesh.bind is none", param="mesh.bind"))
    assert capsys.readouterr().err == "Error: mesh.bind is none (invalid_field)\n", "it is named once"
    assert Terminal(False).fail(InvalidReceipt("no")) is ExitCode.NOT_VERIFIED
    assert capsys.readouterr().out == ""


def test_a_download_is_a_line_every_tenth_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with DownloadBar(Console(file=out, width=80), "model [/x]") as bar:
        for done in range(0, 1001, 5):
            bar(done, 1000)
        bar(0, 0)
    lines = out.getvalue().splitlines()
    assert len(lines) == 11
    assert lines[5] == "Fetching model [/x]: 500 of 1,000 bytes"


def test_a_download_is_a_bar_on_a_terminal() -> None:
    out = io.StringIO()
    with DownloadBar(Console(file=out, width=80, force_terminal=True), "model") as bar:
        bar(10, 1000)
        bar(1000, 1000)
    assert "model" in out.getvalue()
    bar.finish()
