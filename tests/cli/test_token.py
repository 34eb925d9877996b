"""``tirami token`` against a running node."""

import pytest

from tests.cli.running import Shell


def issued(shell: Shell, *options: str) -> dict[str, str]:
    ended = shell.run("token", "issue", *options, "--json")
    assert (ended.code, ended.err) == (0, "")
    made: dict[str, str] = ended.json
    return made


def works(shell: Shell, token: str) -> bool:
    ended = shell.run("status", "--token", token, "--json")
    assert ended.code == 0 or ended.json["error"]["code"] == "invalid_token"
    return ended.code == 0


@pytest.mark.parametrize("scope", ["read_only", "inference", "economy", "admin"])
def test_a_token_may_what_its_scope_says(shell: Shell, scope: str) -> None:
    made = issued(shell, "--scope", scope, "--label", "by scope")
    assert (made["scope"], made["label"], made["node_id"]) == (scope, "by scope", None)
    assert works(shell, made["token"])
    assert shell.run("token", "list", "--token", made["token"]).code == (0 if scope == "admin" else 1)


def test_an_unknown_scope_is_refused(shell: Shell) -> None:
    ended = shell.run("token", "issue", "--scope", "root", "--json")
    assert (ended.code, ended.json["error"]["code"]) == (1, "invalid_field")


def test_what_a_person_sees(shell: Shell) -> None:
    ended = shell.run("token", "issue", "--label", "for people")
    assert (ended.code, ended.err) == (0, "")
    digest = ended.out.split("Hash:")[1].strip()
    assert "(shown once)" in ended.out
    for title in ("Token:", "Scope:", "Expires:", "Hash:"):
        assert title in ended.out
    listed = shell.run("token", "list", COLUMNS="160")
    assert "for people" in listed.out
    ends = ended.out.split("Expires:")[1].splitlines()[0].strip()
    assert ends.endswith("+00:00") and ends in listed.out
    assert "never" in shell.run("token", "issue", "--ttl-days", "0").out
    assert "inference" in listed.out
    assert f"{digest[:16]} " in listed.out


def test_a_token_for_an_agent_spends_as_that_agent(shell: Shell) -> None:
    account = shell.run("agent", "create", "x", "--json").json["account"]
    made = issued(shell, "--account", account[:24])
    assert made["node_id"] == account
    assert shell.run("safety", "show", "--token", made["token"], "--json").json["node_id"] == account


def test_the_list_holds_hashes_and_no_tokens(shell: Shell) -> None:
    made = issued(shell)
    ended = shell.run("token", "list", "--json")
    assert made["token_hash_hex"] in [entry["token_hash_hex"] for entry in ended.json]
    assert made["token"] not in ended.out


def test_a_revoked_token_is_void_at_once(shell: Shell) -> None:
    made = issued(shell)
    start = made["token_hash_hex"][:16]
    ended = shell.run("token", "revoke", start, "--json")
    assert (ended.code, ended.json["revoked"]) == (0, True)
    assert not works(shell, made["token"])
    again = shell.run("token", "revoke", made["token_hash_hex"])
    assert (again.code, again.out) == (1, "")
    assert "(token_not_found)" in again.err
    gone = shell.run("token", "revoke", start, "--json")
    assert (gone.code, gone.json["error"]["code"]) == (1, "token_not_found")
    assert shell.run("token", "revoke", issued(shell)["token_hash_hex"]).out.strip() == "revoked"


def test_a_rotated_token_has_the_same_rights_and_the_old_one_ends_with_its_grace(shell: Shell) -> None:
    old = issued(shell, "--scope", "read_only", "--label", "laptop", "--ttl-days", "30")
    ended = shell.run("token", "rotate", old["token_hash_hex"][:16], "--grace-secs", "0", "--json")
    assert (ended.code, ended.json["scope"]) == (0, "read_only")
    assert ended.json["label"] == "laptop"
    assert ended.json["expires_at_ms"] - ended.json["created_at_ms"] == 30 * 86_400_000
    assert works(shell, ended.json["token"])
    assert not works(shell, old["token"])
    with_grace = shell.run("token", "rotate", ended.json["token_hash_hex"])
    assert (with_grace.code, with_grace.err) == (0, "")
    assert "(shown once)" in with_grace.out
    assert works(shell, ended.json["token"])


@pytest.mark.parametrize("start", ["", "zz", "00" * 32])
def test_a_token_nobody_knows_cannot_be_rotated(shell: Shell, start: str) -> None:
    ended = shell.run("token", "rotate", start, "--json")
    assert (ended.code, ended.json["error"]["code"]) == (1, "token_not_found")


def test_the_help_says_whose_money_a_token_without_an_account_spends(shell: Shell) -> None:
    told = " ".join(shell.run("token", "issue", "--help", COLUMNS="200").out.split())
    assert "Without --account the token acts as the node's owner" in told
    assert "purchases on the mesh at the node's cost" in told
