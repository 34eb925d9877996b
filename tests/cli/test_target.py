"""Which node a command talks to, and whom it shows its tokens."""

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.cli.running import Shell
from tests.processes import NodeProcess


class Stranger(HTTPServer):
    """A server that is no node of ours and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str | None] = []
        super().__init__(("127.0.0.1", 0), _Notes)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Notes(BaseHTTPRequestHandler):
    server: Stranger

    def do_GET(self) -> None:
        self.server.told.append(self.headers.get("authorization"))
        error = {"code": "missing_token", "message": "who are you?"}
        self._answer(json.dumps({"error": error}).encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.do_GET()

    def _answer(self, content: bytes) -> None:
        self.send_response(401)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    server = Stranger()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


EVERYTHING_ADMINISTRATIVE = [
    ("status",),
    ("agent", "create", "x"),
    ("agent", "list"),
    ("agent", "fund", "ab" * 32, "5"),
    ("agent", "disable", "ab" * 32, "--yes"),
    ("token", "issue"),
    ("token", "list"),
    ("token", "revoke", "ab" * 32),
    ("token", "rotate", "ab" * 32),
    ("safety", "show"),
    ("safety", "kill"),
    ("safety", "release"),
    ("safety", "policy", "ab" * 32),
    ("chat", "hello"),
]


@pytest.mark.parametrize("arguments", EVERYTHING_ADMINISTRATIVE, ids=" ".join)
@pytest.mark.parametrize("by_variable", [False, True], ids=["flag", "variable"])
def test_the_admin_token_is_never_sent_to_another_url(
    shell: Shell, stranger: Stranger, arguments: tuple[str, ...], by_variable: bool
) -> None:
    assert (shell.home / ".tirami" / "admin.token").exists()
    if by_variable:
        ended = shell.run(*arguments, TIRAMI_URL=stranger.url)
    else:
        ended = shell.run(*arguments, "--url", stranger.url)
    assert ended.code == 1
    assert stranger.told == [None]
    assert "(missing_token)" in ended.err


def test_the_running_node_gets_the_admin_token_by_any_way_of_naming_it(shell: Shell, node: NodeProcess) -> None:
    for arguments, variables in (
        ((), {}),
        (("--url", node.url), {}),
        (("--url", f"{node.url}/"), {}),
        ((), {"TIRAMI_URL": node.url}),
        ((), {"TIRAMI_URL": "  "}),
    ):
        assert shell.run("agent", "list", *arguments, **variables).code == 0


def test_the_flag_wins_over_the_variable_and_the_variable_over_the_directory(
    shell: Shell, node: NodeProcess, stranger: Stranger
) -> None:
    assert shell.run("status", "--url", node.url, TIRAMI_URL=stranger.url).code == 0
    assert not stranger.told
    assert shell.run("status", TIRAMI_URL=stranger.url).code == 1
    assert len(stranger.told) == 1


def test_a_named_token_goes_where_the_command_goes(shell: Shell, stranger: Stranger) -> None:
    shell.run("status", "--url", stranger.url, "--token", "flag", TIRAMI_API_TOKEN="variable")
    shell.run("status", "--url", stranger.url, TIRAMI_API_TOKEN="variable")
    shell.run("status", "--url", stranger.url, "--token", " ", TIRAMI_API_TOKEN=" variable ")
    shell.run("status", "--url", stranger.url, "--token", "", TIRAMI_API_TOKEN="")
    assert stranger.told == ["Bearer flag", "Bearer variable", "Bearer variable", None]


def test_the_originals_variables_count_behind_ours(shell: Shell, stranger: Stranger, node: NodeProcess) -> None:
    old = {"FORGE_URL": stranger.url, "FORGE_API_TOKEN": "old"}
    shell.run("status", **old)
    shell.run("status", **old, TIRAMI_API_TOKEN="new")
    assert shell.run("status", **old, TIRAMI_URL=node.url, TIRAMI_API_TOKEN="").code == 1, (
        "an old token is no good here"
    )
    assert stranger.told == ["Bearer old", "Bearer new"]


def test_a_blank_token_counts_as_absent(shell: Shell, stranger: Stranger) -> None:
    shell.run("status", "--url", stranger.url, TIRAMI_API_TOKEN=" ")
    assert stranger.told == [None]


def test_a_named_token_wins_over_the_admin_token(shell: Shell) -> None:
    read_only = shell.run("token", "issue", "--scope", "read_only", "--json").json["token"]
    assert shell.run("status", "--token", read_only).code == 0
    for ended in (
        shell.run("agent", "list", "--token", read_only, "--json"),
        shell.run("agent", "list", "--json", TIRAMI_API_TOKEN=read_only),
    ):
        assert (ended.code, ended.json["error"]["code"]) == (1, "insufficient_scope")
    wrong = shell.run("status", "--token", "ab" * 32, "--json")
    assert (wrong.code, wrong.json["error"]["code"]) == (1, "invalid_token")


def test_no_token_is_ever_printed_in_an_error(shell: Shell) -> None:
    ended = shell.run("status", "--token", "very-secret-token")
    assert ended.code == 1
    assert "very-secret" not in ended.out + ended.err


def test_an_announcement_without_its_node_counts_for_nothing(nowhere: Shell, stranger: Stranger) -> None:
    """The process number lives, the port answers, but neither is the node's: it would be sent the admin token."""
    home = nowhere.home / ".tirami"
    home.mkdir(0o700)
    (home / "lock").touch()
    (home / "node.json").write_text(json.dumps({"pid": os.getpid(), "url": stranger.url}))
    (home / "admin.token").write_text("00" * 32)
    (home / "admin.token").chmod(0o600)
    ended = nowhere.run("status")
    assert (ended.code, stranger.told) == (1, [])
    assert "no_node" in ended.err


def test_an_open_admin_token_is_not_used(nowhere: Shell, stranger: Stranger) -> None:
    home = nowhere.home / ".tirami"
    home.mkdir(0o700)
    (home / "node.json").write_text(json.dumps({"pid": os.getpid(), "url": stranger.url}))
    (home / "admin.token").write_text("00" * 32)
    (home / "admin.token").chmod(0o640)
    with (home / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = nowhere.run("status")
    assert ended.code == 1
    assert str(home / "admin.token") in ended.err
    assert not stranger.told


def test_an_answer_that_is_no_answer(nowhere: Shell, tmp_path: Path) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = b"<html>a router's page</html>"
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            return None

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        ended = nowhere.run("status", "--url", f"http://127.0.0.1:{server.server_port}")
        thread.join()
    assert (ended.code, ended.out) == (1, "")
    assert "Error:" in ended.err
