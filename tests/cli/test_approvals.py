"""``tirami approvals`` against a running node."""

import pytest

from tests.cli.running import Shell
from tests.processes import NodeProcess
from tirami.api.schemas import ChatCompletionRequest
from tirami.core.errors import ApprovalRequired


def asked(shell: Shell, node: NodeProcess, label: str) -> tuple[str, str]:
    """An agent whose spend waits: its token and the id of the request."""
    made = shell.run("agent", "create", label, "--json").json
    ended = shell.run("safety", "policy", made["account"], "--approval-above", "5", "--per-minute", "none", "--json")
    assert ended.json["policy"].items() >= {"human_approval_threshold": 5, "max_spends_per_minute": None}.items()
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 50}
    with node.client(made["token"]) as client, pytest.raises(ApprovalRequired) as required:
        client.chat_completions(ChatCompletionRequest.model_validate(body))
    return made["account"], str(required.value.data["approval_id"])


def test_a_person_decides(shell: Shell, node: NodeProcess) -> None:
    account, request = asked(shell, node, "odd [/label]")
    shown = shell.run("approvals", "list", COLUMNS="160")
    assert (shown.code, shown.err) == (0, "")
    assert request[:16] in shown.out and "odd [/label]" in shown.out and "pending" in shown.out
    ended = shell.run("approvals", "approve", request[:12], "--json").json
    assert (ended["id"], ended["status"], ended["operator"]) == (request, "approved", "owner: tester"), "USER says who"
    again = shell.run("approvals", "deny", request, "--json")
    assert (again.code, again.json["error"]["code"]) == (1, "conflict")
    _, other = asked(shell, node, "other")
    assert "denied" in shell.run("approvals", "deny", other, COLUMNS="160").out
    safety = shell.run("safety", "show", "--account", account, COLUMNS="160").out
    assert "Approval above:" in safety and "5 TRM" in safety
    assert "approval_required" in safety, "the denial is shown"
    assert "closed, 0 errors in a row" in safety


def test_what_is_not_there_cannot_be_decided(shell: Shell) -> None:
    for id_ in ("ff", "f" * 64):
        ended = shell.run("approvals", "approve", id_, "--json")
        assert (ended.code, ended.json["error"]["code"]) == (1, "approval_not_found")


def test_deciding_needs_an_administrator(shell: Shell, node: NodeProcess) -> None:
    stranger = ("--data-dir", str(shell.home / "empty"), "--url", node.url, "--json")
    ended = shell.run("approvals", "list", *stranger)
    assert (ended.code, ended.json["error"]["code"]) == (1, "insufficient_scope")
