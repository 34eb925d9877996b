"""``tirami chat``: with a running node, with a private one, once and as a conversation."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Foreground, Shell
from tests.processes import NodeProcess
from tirami.testing import RunningEngine


def values(text: str) -> list[Any]:
    """JSON values one after another."""
    found, decoder, text = [], json.JSONDecoder(), text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:].lstrip()
    return found


@pytest.mark.row("CLI-05")
def test_one_question(shell: Shell) -> None:
    ended = shell.run("chat", "What is gravity?", "-n", "6")
    assert ended.code == 0
    assert len(ended.out.split()) == 6
    assert ended.out.endswith("\n")
    assert "TRM · 6 tokens in" in ended.err


@pytest.mark.row("CLI-05")
def test_one_question_as_json(shell: Shell, node: NodeProcess) -> None:
    ended = shell.run("chat", "What is gravity?", "-n", "6", "--json")
    assert (ended.code, ended.err) == (0, "")
    answer = ended.json
    assert set(answer) == {
        "text",
        "model",
        "seconds",
        "trm_cost",
        "effective_balance",
        "trade_id",
        "prompt_tokens",
        "completion_tokens",
        "finish_reason",
    }
    assert (answer["model"], answer["completion_tokens"]) == ("tirami-testing", 6)
    assert (answer["prompt_tokens"], answer["finish_reason"]) == (3, "length")
    with node.client() as client:
        assert client.trade(answer["trade_id"]).trm_amount == answer["trm_cost"]


@pytest.mark.row("CLI-05")
def test_the_answer_is_printed_while_it_comes(shell: Shell, tmp_path: Path) -> None:
    here = Shell(tmp_path, TIRAMI_DATA_DIR=str(shell.home / ".tirami"))
    with Foreground(here, "chat", "[[delay_ms=40]] go on", "-n", "60") as chatting:
        chatting.until(" ")
        early = len(chatting.out.split())
        assert chatting.process.poll() is None
        assert chatting.process.wait(30) == 0
        assert early < 30
        assert len(chatting.out.split()) == 60


def test_the_system_prompt_and_the_temperature_are_sent(shell: Shell) -> None:
    ended = shell.run("chat", "hi", "--system", "one two three", "-t", "0", "-n", "3", "--json")
    assert ended.json["prompt_tokens"] == 4


def test_another_model_than_the_one_served_is_refused(shell: Shell) -> None:
    ended = shell.run("chat", "hi", "-m", "gpt-9", "--json")
    assert (ended.code, ended.json["error"]["code"]) == (1, "model_not_found")


def test_an_engine_that_fails_is_an_error_and_costs_nothing(shell: Shell) -> None:
    before = shell.run("chat", "hi", "-n", "1", "--json").json["effective_balance"]
    ended = shell.run("chat", "[[error=500]] hi", "--json")
    assert (ended.code, ended.json["error"]["code"]) == (1, "engine_failed")
    after = shell.run("chat", "hi", "-n", "1", "--json").json
    assert after["effective_balance"] == before - after["trm_cost"]


def test_text_reaches_the_terminal_unchanged(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tirami.cli.chat.RemoteNode.ask", lambda self, question: iter(["[bold]", ":rocket:", " [/x] \\[y] 猫"])
    )
    from tirami.cli.conversation import Bill

    monkeypatch.setattr("tirami.cli.chat.RemoteNode.bill", Bill(0, 0, None, 0, 0, "stop"), raising=False)
    monkeypatch.setattr("tirami.cli.chat.RemoteNode.__init__", lambda self, client, model: None)
    monkeypatch.setattr("tirami.cli.chat.RemoteNode.model", "x", raising=False)
    assert shell.run("chat", "hi").out == "[bold]:rocket: [/x] \\[y] 猫\n"


@pytest.mark.row("CLI-05")
@pytest.mark.parametrize("ending", ["quit\n", "exit\n", "quit", ""])
def test_a_conversation_remembers_and_ends(shell: Shell, ending: str) -> None:
    ended = shell.run("chat", "-n", "3", "--json", stdin=f"first question\n\n   \nsecond question\n{ending}")
    assert ended.code == 0
    first, second = values(ended.out)
    assert first["prompt_tokens"] == 2
    assert second["prompt_tokens"] == 2 + 3 + 2, "the question before and its answer come along"
    assert "quit or Ctrl-D ends" in ended.err


def test_a_conversation_for_people(shell: Shell) -> None:
    ended = shell.run("chat", "-n", "3", stdin="hello\nquit\n")
    assert ended.code == 0
    assert ended.out.startswith("> ")
    assert "tirami-testing" in ended.err
    assert "TRM · 3 tokens" in ended.err


def test_a_refused_question_does_not_end_a_conversation(shell: Shell) -> None:
    ended = shell.run("chat", "-n", "3", "--json", stdin="[[error=500]]\nhello\n")
    refused, answered = values(ended.out)
    assert ended.code == 0
    assert refused["error"]["code"] == "engine_failed"
    assert answered["prompt_tokens"] == 1, "what was not answered is not remembered"


@pytest.mark.row("CLI-05")
def test_without_a_node_a_private_one_answers_and_keeps_the_book(nowhere: Shell, engine: RunningEngine) -> None:
    environment = {"TIRAMI_INFER_UPSTREAM_URL": engine.url}
    first = nowhere.process("chat", "hi there", "-m", "", "-n", "5", "--json", **environment)
    assert (first.code, first.err) == (0, "")
    assert first.json["effective_balance"] == -first.json["trm_cost"] < 0
    second = nowhere.process("chat", "-m", "", "-n", "5", "--json", stdin="hi there\nagain\n", **environment)
    assert second.code == 0
    balances = [value["effective_balance"] for value in values(second.out)]
    assert 0 > first.json["effective_balance"] > balances[0] > balances[1]
    home = nowhere.home / ".tirami"
    assert not (home / "node.json").exists(), "it has no port"
    assert (home / "node.key").stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700
    assert engine.busy() == 0


def test_a_private_node_without_a_model_says_so(nowhere: Shell) -> None:
    ended = nowhere.process("chat", "hi", "-m", "", "--json")
    assert ended.code == 1
    assert "no model" in ended.json["error"]["message"]
    assert "Traceback" not in ended.err


def test_bytes_that_are_no_text_are_refused(shell: Shell) -> None:
    ended = shell.run("chat", "\udcff", "--json")
    assert (ended.code, ended.json["error"]["code"]) == (1, "invalid_field")


def test_a_private_node_keeps_off_the_mesh(nowhere: Shell, engine: RunningEngine) -> None:
    home = nowhere.home / ".tirami"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(f'[mesh]\nenabled = true\n[infer]\nmodel = ""\nupstream_url = "{engine.url}"\n')
    ended = nowhere.process("chat", "hi", "-n", "2", "--json")
    assert ended.code == 0, ended.err
    log = (home / "node.log").read_text()
    assert "node_started" in log and "mesh_joined" not in log
    assert not (home / "mesh.port").exists()
