"""``tirami backup`` and ``tirami restore`` around a real node."""

import stat
import tarfile
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.cli.running import Foreground, Shell
from tirami.testing import RunningEngine

NO_MODEL = ("start", "--no-model", "--port", "0")


@pytest.fixture
def passphrase(nowhere: Shell) -> Path:
    file = nowhere.home / "passphrase"
    file.touch(mode=0o600)
    file.write_text("correct horse battery staple\nsecond line\n")
    return file


def test_a_node_is_backed_up_while_it_runs_and_lives_on_elsewhere(
    nowhere: Shell, engine: RunningEngine, passphrase: Path
) -> None:
    archive, secret = nowhere.home / "node.tirami", ("--passphrase-file", str(passphrase))
    with Foreground(nowhere, "start", "--port", "0", "--upstream", engine.url) as running:
        running.until("running")
        created = nowhere.run("agent", "create", "crawler", "--json").json
        made = nowhere.run("backup", str(archive), *secret, "--json")
        assert made.code == 0, made.err
        assert made.json["sealed"] is True
        assert set(made.json["files"]) == {"node.key", "admin.token", "network.json", "journal.db"}
        assert not list((nowhere.home / ".tirami").glob("backup-*")), "copies are gone"
        refused = nowhere.run("restore", str(archive), *secret, "--force", "--json")
        assert refused.json["error"]["code"] == "data_dir_locked"
        again = nowhere.run("backup", str(archive), *secret)
        assert again.code == 1 and "--force" in again.err
        assert running.end() == 0
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert nowhere.run("restore", str(archive), *secret).code == 1, "the directory is not empty"
    checked = nowhere.run("restore", str(archive), *secret, "--check", "--json").json
    assert (checked.get("restored"), checked.get("locked_keys")) == (False, 0), checked
    done = nowhere.run("restore", str(archive), *secret, "--force", "--json").json
    assert (done.get("restored"), done.get("node")) == (True, made.json["node"]), done
    assert (Path(done["replaced"]) / "node.key").exists()
    with Foreground(nowhere, "start", "--port", "0", "--upstream", engine.url, "--json") as running:
        running.until("\n")
        assert [agent["account"] for agent in nowhere.run("agent", "list", "--json").json] == [created["account"]]
        assert nowhere.run("status", "--json").json["node_id"] == done["node"]
        assert running.end() == 0


def test_a_node_that_does_not_run_is_backed_up_too(nowhere: Shell, passphrase: Path) -> None:
    with Foreground(nowhere, *NO_MODEL) as running:
        running.until("running")
        running.end()
    plain = nowhere.run("backup", str(nowhere.home / "plain.tar"), "--unencrypted")
    assert plain.code == 0, plain.err
    assert "guard the file" in plain.out
    with tarfile.open(nowhere.home / "plain.tar") as tar:
        assert tar.getnames()[0] == "manifest.json"
    other = nowhere.home / "other"
    done = nowhere.run("restore", str(nowhere.home / "plain.tar"), "--data-dir", str(other))
    assert done.code == 0, done.err
    assert (other / "journal.db").exists()


def test_what_cannot_be_backed_up_says_why(nowhere: Shell, passphrase: Path) -> None:
    empty = nowhere.run("backup", str(nowhere.home / "x"), "--unencrypted", "--json")
    assert (empty.code, empty.json["error"]["code"]) == (1, "backup")
    assert "no node lives" in empty.err
    unasked = nowhere.run("backup", str(nowhere.home / "x"))
    assert unasked.code == 1 and "--passphrase-file" in unasked.err
    both = nowhere.run("backup", str(nowhere.home / "x"), "--unencrypted", "--passphrase-file", str(passphrase))
    assert both.code == 1 and "exclude" in both.err
    passphrase.chmod(0o644)
    shared = nowhere.run("backup", str(nowhere.home / "x"), "--passphrase-file", str(passphrase), "--json")
    assert shared.json["error"]["code"] == "key_file"
    assert not (nowhere.home / "x").exists()
    assert not (nowhere.home / ".tirami").exists()


def test_what_cannot_be_restored_says_why(nowhere: Shell) -> None:
    (nowhere.home / "x").write_bytes(b"no archive at all" * 100)
    for name in ("x", "missing"):
        ended = nowhere.run("restore", str(nowhere.home / name), "--json")
        assert (ended.code, ended.json["error"]["code"]) == (1, "backup")
        assert "Traceback" not in ended.err


def test_over_tls_the_command_line_trusts_the_nodes_own_certificate(nowhere: Shell, tmp_path: Path) -> None:
    """The certificate is for a name; the URL is an address. Another node's certificate is not trusted."""
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue(tmp_path / "tls", "node.example")
    with Foreground(nowhere, *NO_MODEL, "--tls-cert", str(certificate), "--tls-key", str(key)) as running:
        running.until("running")
        assert "https://127.0.0.1:" in running.out
        url = running.until_announced(nowhere.home / ".tirami")
        assert nowhere.run("status").code == 0
        assert nowhere.run("backup", str(tmp_path / "a.tar"), "--unencrypted").code == 0
        token = (nowhere.home / ".tirami" / "admin.token").read_text()
        elsewhere = Shell(tmp_path / "elsewhere", TIRAMI_API_TOKEN=token)
        assert elsewhere.run("status", "--url", url).code == 1
        assert elsewhere.run("--ca", str(authority.file), "status", "--url", url).code == 1, "no name, no trust"
        running.end()
    certificate, key = authority.issue(tmp_path / "local", "127.0.0.1")
    with Foreground(nowhere, *NO_MODEL, "--tls-cert", str(certificate), "--tls-key", str(key)) as running:
        running.until("running")
        url = running.until_announced(nowhere.home / ".tirami")
        assert elsewhere.run("--ca", str(authority.file), "status", "--url", url).code == 0
        assert elsewhere.run("status", "--url", url, SSL_CERT_FILE=str(authority.file)).code == 0
        assert elsewhere.run("status", "--url", url).code == 1
        running.end()


def test_reachable_from_elsewhere_without_tls_is_said_loudly(nowhere: Shell, tmp_path: Path) -> None:
    refused = nowhere.process(*NO_MODEL, "--bind", "0.0.0.0", "--json")
    assert refused.json["error"]["code"] == "public_bind_refused"
    with Foreground(nowhere, *NO_MODEL) as running:
        running.until("running")
        assert "TLS" not in running.out
        nowhere.run("token", "issue", "--ttl-days", "0")
        running.end()
    for command in ("start", "node"):
        with Foreground(nowhere, command, *NO_MODEL[1:], "--bind", "0.0.0.0") as running:
            running.until("serves" if command == "node" else "running")
            assert "no TLS" in running.out
            assert [warning["code"] for warning in nowhere.run("status", "--json").json["warnings"]] == ["no_tls"]
            assert "WARNING no_tls" in nowhere.run("status").out
            running.end()
            assert "no_tls" in running.err
    certificate, key = Authority(tmp_path / "ca").issue(tmp_path / "tls", "node.example")
    tls = ("--tls-cert", str(certificate), "--tls-key", str(key))
    with Foreground(nowhere, *NO_MODEL, "--bind", "0.0.0.0", *tls) as running:
        running.until("running")
        assert "no TLS" not in running.out
        assert nowhere.run("status", "--json").json["warnings"] == []
        running.end()
