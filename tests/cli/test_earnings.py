"""``tirami earnings``: every row, or summed up, for people and for programs."""

from tests.cli.running import Shell


def test_it_is_summed_up_for_programs_too(shell: Shell) -> None:
    paid = []
    for label in ("one", "two"):
        agent = shell.run("agent", "create", label, "--json").json
        costs = (shell.run("chat", "hi", "-n", "3", "--token", agent["token"], "--json").json for _ in range(2))
        paid.append((agent["account"], sum(answer["trm_cost"] for answer in costs)))
    every = shell.run("earnings", "--json").json
    by_peer = shell.run("earnings", "--by", "peer", "--json").json
    sums = {row["payer"]: row for row in by_peer["rows"]}
    for account, cost in paid:
        assert (sums[account]["trm"], sums[account]["requests"], sums[account]["hosted"]) == (cost, 2, True)
    assert "day" not in by_peer["rows"][0] and "day" in every["rows"][0]
    for by in ("day", "peer", "model"):
        reply = shell.run("earnings", "--by", by, "--json").json
        assert sum(row["trm"] for row in reply["rows"]) == every["trm"] == reply["trm"]
    (day,) = shell.run("earnings", "--by", "day", "--json").json["rows"]
    assert set(day) == {"day", "requests", "prompt_tokens", "completion_tokens", "trm"}
