"""``tirami trades`` and ``tirami receipt`` against a running node."""

from tests.cli.running import Foreground, Shell


def test_the_newest_trade_and_its_receipt(shell: Shell) -> None:
    first, second = (shell.run("chat", "hi", "-n", "4", "--json").json["trade_id"] for _ in range(2))
    listed = shell.run("trades", "-n", "2", "--json").json
    assert [trade["id"] for trade in listed] == [second, first]
    table = shell.run("trades", "-n", "2", COLUMNS="160").out
    assert second[:16] in table and "+00:00" in table and "local" in table
    file = shell.home / "receipt.json"
    written = shell.run("receipt", "--out", str(file), "--json")
    assert (written.code, written.json["trade_id"]) == (0, second), written.err
    assert shell.run("verify", str(file), "--json").json["trade_id"] == second
    assert "tirami verify" in shell.run("receipt", first[:20], "--out", str(file)).out
    assert shell.run("verify", str(file), "--json").json["trade_id"] == first
    file.write_text(shell.run("receipt", second).out)
    assert shell.run("verify", str(file), "--json").json["trade_id"] == second


def test_a_trade_that_is_not_there(shell: Shell) -> None:
    shell.run("chat", "hi", "-n", "1")
    for start in ("zz", "00" * 32):
        ended = shell.run("receipt", start, "--json")
        assert (ended.code, ended.json["error"]["code"]) == (1, "trade_not_found")


def test_before_the_first_trade(nowhere: Shell) -> None:
    with Foreground(nowhere, "start", "--no-model", "--port", "0") as started:
        started.until("Press Ctrl-C")
        assert nowhere.run("trades").out == "No trades yet.\n"
        assert nowhere.run("receipt", "--json").json["error"]["code"] == "trade_not_found"
        assert started.end() == 0
