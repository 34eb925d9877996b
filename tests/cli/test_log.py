"""``tirami log``: an auditor believes nothing that is not signed and proved."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import pytest

from tests.cli.running import Foreground, Shell
from tests.processes import NodeProcess
from tirami.testing import RunningEngine


@pytest.fixture
def booked(shell: Shell) -> Shell:
    """A shell whose node has booked something."""
    shell.run("chat", "hi", "-n", "3")
    return shell


@pytest.fixture
def saved(booked: Shell, tmp_path: Path) -> Path:
    path = tmp_path / "head.json"
    assert booked.run("log", "head", "--save", str(path)).code == 0
    return path


def test_the_head_is_shown_and_kept(booked: Shell, saved: Path, node: NodeProcess) -> None:
    with node.client() as client:
        key = client.log_head().node
    ended = booked.run("log", "head")
    assert (ended.code, ended.err) == (0, "")
    assert f"{key}, its signature checked" in ended.out
    kept, shown = json.loads(saved.read_text()), booked.run("log", "head", "--json").json
    assert kept["node"] == shown["node"] == key
    assert booked.run("log", "head", "--node", key).code == 0
    assert booked.run("log", "head", "--node", "ab" * 32).code == 3


def test_the_log_has_only_grown(booked: Shell, saved: Path) -> None:
    for _ in range(2):
        ended = booked.run("log", "consistency", str(saved))
        assert (ended.code, ended.err) == (0, "")
        assert "only grown" in ended.out
        booked.run("chat", "hi", "-n", "3")
    told = booked.run("log", "consistency", str(saved), "--json").json
    assert told["consistent"] is True
    assert told["to_size"] >= told["from_size"] + 2


def test_receipts_of_the_newest_trades_are_checked(booked: Shell) -> None:
    ended = booked.run("log", "verify", "-n", "3")
    assert (ended.code, ended.err) == (0, "")
    assert "receipts verified" in ended.out
    told = booked.run("log", "verify", "--json").json
    assert told["verified"] >= 1
    assert told["amount_trm"] > 0
    assert booked.run("log", "verify", "--node", "ab" * 32).code == 3


def test_an_audit_keeps_to_the_rate_limit_of_the_node(engine: RunningEngine, tmp_path: Path) -> None:
    """One receipt a request, and this node allows one request a second: the audit takes longer and does not fail."""
    home, shell = tmp_path / ".tirami", Shell(tmp_path)
    hello = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    with NodeProcess(home, "--upstream", engine.url) as node:
        for _ in range(4):
            httpx2.post(node.url + "/v1/chat/completions", json=hello, trust_env=False).raise_for_status()
    with NodeProcess(home, "--upstream", engine.url, env={"TIRAMI_API_RATE_PER_SECOND": "1"}):
        ended = shell.run("log", "verify", "-n", "4", "--json")
    assert (ended.code, ended.json.get("verified")) == (0, 4), ended.out


def test_the_newest_trades_come_last(booked: Shell) -> None:
    booked.run("chat", "hi", "-n", "4")
    rows = booked.run("log", "tail", "-n", "2", "--json").json
    assert [row["leaf_index"] for row in rows] == sorted(row["leaf_index"] for row in rows)
    assert rows[-1]["tokens_processed"] == 4
    lines = booked.run("log", "tail", "-n", "2").out.splitlines()
    assert len(lines) == 2
    assert "1 + 4 tokens" in lines[-1]


def test_following_shows_what_is_booked_once(booked: Shell, tmp_path: Path) -> None:
    elsewhere = Shell(tmp_path, **booked.environment)
    with Foreground(elsewhere, "log", "tail", "-n", "1", "--follow", HOME=str(booked.home)) as following:
        following.until("tokens")
        booked.run("chat", "hi", "-n", "17")
        following.until("1 + 17 tokens")
        booked.run("chat", "hi", "-n", "19")
        following.until("1 + 19 tokens")
        assert following.out.count("1 + 17 tokens") == 1


def test_records_of_every_kind_are_listed_and_checked(booked: Shell) -> None:
    booked.run("agent", "fund", booked.run("agent", "create", "paid", "--json").json["account"], "1")
    ended = booked.run("log", "records")
    assert (ended.code, ended.err) == (0, "")
    told = booked.run("log", "records", "--json").json
    assert {row["kind"] for row in told["records"]} >= {"trade", "grant"}
    assert len(ended.out.splitlines()) == len(told["records"])
    grants = booked.run("log", "records", "--kind", "grant", "-n", "1", "--json").json
    assert [row["kind"] for row in grants["records"]] == ["grant"]
    older = booked.run("log", "records", "--before", str(grants["records"][0]["leaf_index"]), "--json").json
    assert all(row["leaf_index"] < grants["records"][0]["leaf_index"] for row in older["records"])
    assert booked.run("log", "records", "--node", "ab" * 32).code == 3


LIES: dict[str, Any] = {
    "another amount": {"trm_amount": 10**9},
    "another payee": {"payee": "ab" * 32},
    "another time": {"timestamp": 1},
    "another id": {"id": "ab" * 32},
    "another kind": {"kind": "transfer"},
    "another leaf": {"leaf_index": 10**6},
    "no proof": {"proof": None},
    "no bytes": {"body": None},
    "no hexadecimal digits": {"signatures": ["zz"]},
}


@pytest.mark.parametrize("how", LIES)
def test_a_node_that_lists_a_record_otherwise_than_it_was_signed_is_caught(booked: Shell, liar: Any, how: str) -> None:
    def lie(page: dict[str, Any]) -> dict[str, Any]:
        return {**page, "records": [{**row, **LIES[how]} for row in page["records"]]}

    liar.path_of, liar.change = "/v1/tirami/records?", staticmethod(lie)
    ended = booked.run("log", "records", "--kind", "trade", "--url", liar.url, "--json")
    assert (ended.code, ended.json["error"]["code"] in {"invalid_proof", "non_canonical"}) == (3, True), ended.out


CHANGED: dict[str, Any] = {
    "another size in the body": lambda head: {**head, "body": head["body"].replace(head["root"], "00" * 32)},
    "no signature": lambda head: {**head, "signature": ""},
    "another signature": lambda head: {**head, "signature": "00" * 64},
    "no hexadecimal digits": lambda head: {**head, "body": "zz"},
    "a cut body": lambda head: {**head, "body": head["body"][:-2]},
}


@pytest.mark.parametrize("how", CHANGED)
def test_a_head_that_was_tampered_with_is_refused(booked: Shell, saved: Path, how: str) -> None:
    saved.write_text(json.dumps(CHANGED[how](json.loads(saved.read_text()))))
    ended = booked.run("log", "consistency", str(saved), "--json")
    assert ended.code == 3, ended.out


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"body": 5}', "\x00"])
def test_a_file_that_is_no_head_is_an_error(booked: Shell, tmp_path: Path, content: str) -> None:
    path = tmp_path / "head.json"
    path.write_text(content)
    ended = booked.run("log", "consistency", str(path))
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("Error: ")


def test_another_nodes_log_is_no_growth(saved: Path, engine: RunningEngine, tmp_path: Path) -> None:
    home = tmp_path / "other" / ".tirami"
    with NodeProcess(home, "--upstream", engine.url):
        ended = Shell(home.parent).run("log", "consistency", str(saved))
    assert (ended.code, ended.out) == (3, "")
    assert "two nodes" in ended.err


@pytest.fixture
def liar(node: NodeProcess) -> Iterator[Any]:
    """A proxy before the node that changes replies of one path."""

    class Liar(BaseHTTPRequestHandler):
        path_of: str = ""
        change: Any = None

        def do_GET(self) -> None:
            answer = httpx2.get(node.url + self.path, trust_env=False)
            body = answer.content
            if self.path.startswith(self.path_of):
                body = json.dumps(type(self).change(json.loads(body))).encode()
            self.send_response(answer.status_code)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Liar)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    Liar.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    yield Liar
    server.shutdown()
    thread.join()
    server.server_close()


def dearer(page: dict[str, Any]) -> dict[str, Any]:
    page["trades"][0]["trm_amount"] += 1
    return page


def test_a_node_that_lists_a_trade_otherwise_than_it_signed_is_caught(booked: Shell, liar: Any) -> None:
    liar.path_of, liar.change = "/v1/tirami/trades?", staticmethod(dearer)
    ended = booked.run("log", "verify", "--url", liar.url, "--json")
    assert (ended.code, ended.json["error"]["code"]) == (3, "invalid_proof")


def test_a_node_that_shows_an_older_head_is_caught(booked: Shell, saved: Path, liar: Any, tmp_path: Path) -> None:
    old, newer = json.loads(saved.read_text()), tmp_path / "newer.json"
    booked.run("chat", "hi", "-n", "3")
    booked.run("log", "head", "--save", str(newer))
    liar.path_of, liar.change = "/v1/tirami/log/head", staticmethod(lambda _: old)
    ended = booked.run("log", "consistency", str(newer), "--url", liar.url)
    assert ended.code == 3
    assert "shrunk" in ended.err


def test_a_proof_that_does_not_fit_is_refused(booked: Shell, saved: Path, liar: Any) -> None:
    booked.run("chat", "hi", "-n", "3")
    liar.path_of = "/v1/tirami/log/consistency"
    liar.change = staticmethod(lambda reply: {**reply, "proof": ["00" * 32 for _ in reply["proof"]] or ["00" * 32]})
    assert booked.run("log", "consistency", str(saved), "--url", liar.url).code == 3
