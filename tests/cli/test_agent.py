"""``tirami agent`` against a running node."""

import re

import pytest

from tests.cli.running import Shell
from tirami.ledger.safety import Policy


def created(shell: Shell, *options: str) -> dict[str, object]:
    ended = shell.run("agent", "create", "crawler", *options, "--json")
    assert (ended.code, ended.err) == (0, "")
    made: dict[str, object] = ended.json
    return made


def test_a_new_agent_can_spend_its_welcome_line_with_its_own_token(shell: Shell) -> None:
    made = created(shell)
    assert made["label"] == "crawler"
    assert made["effective_balance"] == 1000
    assert made["disabled"] is False
    assert int(str(made["line_until_ms"])) - int(str(made["created_ms"])) == pytest.approx(72 * 3_600_000, abs=60_000)
    assert int(str(made["token_expires_at_ms"])) > int(str(made["created_ms"])) + 6 * 86_400_000
    shown = shell.run("safety", "show", "--token", str(made["token"]), "--json").json
    assert shown["node_id"] == made["account"]
    answer = shell.run("chat", "hi", "-n", "4", "--token", str(made["token"]), "--json").json
    assert answer["effective_balance"] == 1000 - answer["trm_cost"]


def test_what_a_person_sees(shell: Shell) -> None:
    ended = shell.run("agent", "create", "seen by a person")
    assert ended.code == 0
    for title in ("Account:", "Label:", "Balance:", "Token:", "Token expires:"):
        assert title in ended.out
    assert "seen by a person" in ended.out
    assert re.search(r"1000 TRM, until \d{4}-\d\d-\d\d \d\d:\d\d\n", ended.out)
    assert "(shown once)" in ended.out


def test_budgets_and_lifetime_are_what_was_said(shell: Shell) -> None:
    options = ("--budget-hourly", "500", "--budget-request", "0", "--ttl-days", "0")
    made = created(shell, *options)
    policy = shell.run("safety", "show", "--account", str(made["account"]), "--json").json["policy"]
    assert policy.items() >= {"max_cu_per_request": 0, "max_cu_per_hour": 500, "max_cu_lifetime": 1_000_000}.items()
    assert made["token_expires_at_ms"] == 0
    refused = shell.run("chat", "hi", "--token", str(made["token"]), "--json")
    assert (refused.code, refused.json["error"]["code"]) == (1, "budget_exceeded")


def test_the_list_names_every_account(shell: Shell) -> None:
    made = created(shell)
    listed = shell.run("agent", "list", "--json").json
    mine = [entry for entry in listed if entry["account"] == made["account"]]
    assert len(mine) == 1
    assert "token" not in mine[0]
    table = shell.run("agent", "list").out
    assert str(made["account"])[:16] in table
    assert "Can spend" in table


def test_an_empty_list_says_how_to_begin(shell: Shell) -> None:
    from io import StringIO

    from rich.console import Console

    from tirami.cli.agent import _table

    console = Console(file=StringIO())
    _table(console, [])
    assert "tirami agent create" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("label", ["[/x]", "[bold]loud[/bold]", ":rocket:", "猫 🌱", "back\\", "", "x" * 128])
def test_a_label_is_shown_as_it_is(shell: Shell, label: str) -> None:
    made = shell.run("agent", "create", "--json", "--", label).json
    assert made["label"] == label
    assert label in shell.run("agent", "create", "--", label).out
    for command in ("agent", "token"):
        listed = shell.run(command, "list", COLUMNS="300")
        assert listed.code == 0
        assert label in listed.out


def test_a_credit_line_cannot_be_given_away(shell: Shell) -> None:
    ended = shell.run("agent", "fund", str(created(shell)["account"]), "3999", "--json")
    assert (ended.code, ended.json["error"]["code"]) == (1, "insufficient_funds")


def test_what_the_node_earned_can_be_given(shell: Shell) -> None:
    payer, receiver = created(shell), created(shell)
    earned = shell.run("chat", "hi", "-n", "9", "--token", str(payer["token"]), "--json").json["trm_cost"]
    assert earned >= 9
    ended = shell.run("agent", "fund", str(receiver["account"])[:20], "5", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert (ended.json["amount"], ended.json["to"]) == (5, receiver["account"])
    assert ended.json["effective_balance"] == 1005
    ended = shell.run("agent", "fund", str(receiver["account"]), "1")
    assert (ended.code, ended.err) == (0, "")
    assert "It can spend:" in ended.out
    assert "1006 TRM" in ended.out


def test_a_disabled_agent_spends_nothing_more(shell: Shell) -> None:
    made = created(shell)
    unsure = shell.run("agent", "disable", str(made["account"])[:20], "--json")
    assert (unsure.code, unsure.json["error"]["param"]) == (1, "yes")
    ended = shell.run("agent", "disable", str(made["account"])[:20], "--yes", "--json")
    assert (ended.code, ended.json["disabled"]) == (0, True)
    refused = shell.run("chat", "hi", "--token", str(made["token"]), "--json")
    assert (refused.code, refused.json["error"]["code"]) == (1, "account_disabled")
    assert "disabled" in shell.run("agent", "disable", str(made["account"]), "--yes").out


def test_an_agent_is_disabled_by_a_label_that_only_it_has(shell: Shell) -> None:
    made = shell.run("agent", "create", "only one", "--json").json
    assert shell.run("agent", "disable", "only one", "--yes", "--json").json["account"] == made["account"]
    for _ in range(2):
        shell.run("agent", "create", "two of them")
    ended = shell.run("agent", "disable", "two of them", "--yes", "--json")
    assert (ended.code, ended.json["error"]["code"]) == (1, "account_not_found")


@pytest.mark.parametrize("start", ["", " ", "zz", "../kill", "ab?cd", "%2e%2e"])
@pytest.mark.parametrize("command", [("agent", "disable"), ("agent", "fund"), ("safety", "policy")], ids=" ".join)
def test_an_id_that_names_nobody_changes_nothing(shell: Shell, command: tuple[str, ...], start: str) -> None:
    before = shell.run("agent", "list", "--json").json
    amount = ("5",) if command[1] == "fund" else ()
    ended = shell.run(*command, start, *amount, "--json")
    assert (ended.code, ended.json["error"]["code"]) == (1, "account_not_found")
    assert shell.run("agent", "list", "--json").json == before


def test_the_help_tells_the_limits_that_hold_unless_set(shell: Shell) -> None:
    told = " ".join(shell.run("agent", "create", "--help", COLUMNS="200").out.split())
    limits = Policy()
    for limit in (limits.per_request, limits.per_hour, limits.lifetime):
        assert f"[default {limit}]" in told
    assert f"above {limits.approval_above} TRM" in told and f"{limits.per_minute} spends a minute" in told


# --- the node's own agent --------------------------------------------------------------------------------------------


def test_the_nodes_own_agent_is_shown_at_length_and_in_a_line(shell: Shell) -> None:
    shown = shell.run("agent", "status")
    assert (shown.code, shown.err) == (0, "")
    assert "Spent today:" in shown.out and "by itself" in shown.out
    state = shell.run("agent", "status", "--json").json
    line = shell.run("agent", "summary")
    assert line.out.strip() == state["summary"] == shell.run("agent", "summary", "--json").json["summary"]
    assert line.out.startswith(f"wallet {state['wallet']}")


def test_a_task_is_done_and_its_cost_is_told(shell: Shell) -> None:
    done = shell.run("agent", "task", "say something", "-n", "3")
    assert (done.code, done.err) == (0, "")
    assert re.search(r"→ 3 tokens, \d+ TRM, done here", done.out)
    told = shell.run("agent", "task", "say something", "-n", "3", "--size", "local", "--json").json
    assert (told["status"], told["tokens"], told["cost_trm"] > 0) == ("run_local", 3, True)
    asked = shell.run("agent", "task", "a [bold]novel", "--size", "remote", "--estimate", "999")
    assert asked.code == 0 and "Not done (ask_user)" in asked.out and "999 TRM" in asked.out
    wrong = shell.run("agent", "task", "x", "--size", "huge", "--json")
    assert (wrong.code, wrong.json["error"]["code"]) == (1, "invalid_field")


def test_lines_are_tasks_that_stand_alone(shell: Shell) -> None:
    ended = shell.run("agent", "chat", "-n", "2", "--json", stdin="one\n\ntwo\n")
    assert ended.code == 0, ended.err
    assert [told["tokens"] for told in ended.json] == [2, 2]


def test_what_the_agent_may_do_is_set_and_kept(shell: Shell) -> None:
    before = shell.run("agent", "preferences", "--json").json
    after = shell.run("agent", "preferences", "--daily", "40", "--no-auto-spend", "--min-reputation", "0.5", "--json")
    assert (after.code, after.json["daily_spend_limit_trm"], after.json["auto_spend_enabled"]) == (0, 40, False)
    assert after.json["per_task_budget_trm"] == before["per_task_budget_trm"]
    wrong = shell.run("agent", "preferences", "--per-task", "41", "--json")
    assert (wrong.code, wrong.json["error"]["param"]) == (1, "per_task_budget_trm")
    assert "40" in shell.run("agent", "preferences", "--auto-spend").out
    shell.run("agent", "preferences", "--daily", str(before["daily_spend_limit_trm"]), "--min-reputation", "0.3")
    assert shell.run("agent", "preferences", "--json").json == before
