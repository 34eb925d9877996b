"""``tirami verify``: needs nothing but the file, and takes nothing but the exact file."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.running import Shell, clean_environment
from tests.processes import NodeProcess
from tirami.core.errors import InvalidReceipt, VerificationError
from tirami.core.keys import PublicKey
from tirami.verify import verify_receipt


@pytest.fixture(scope="module")
def receipts(node: NodeProcess) -> list[bytes]:
    """Receipts of several answers: of the owner and of an agent, at different places of the log."""
    shell = Shell(node.data_dir.parent)
    token = shell.run("agent", "create", "payer", "--json").json["token"]
    paid = [shell.run("chat", "hi", "-n", "5", "--token", token, "--json").json["trade_id"] for _ in range(3)]
    own = shell.run("chat", "hi", "-n", "70", "--json").json["trade_id"]
    with node.admin() as admin:
        return [admin.trade_receipt(trade) for trade in (*paid, own)]


@pytest.fixture
def file(receipts: list[bytes], tmp_path: Path) -> Path:
    path = tmp_path / "receipt.json"
    path.write_bytes(receipts[0])
    return path


def test_a_good_receipt(nowhere: Shell, file: Path) -> None:
    facts = json.loads(file.read_bytes())
    ended = nowhere.run("verify", str(file), "--json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.json["verified"] is True
    assert ended.json["trade_id"] == facts["trade"]["id"]
    assert ended.json["amount_trm"] == facts["trade"]["amount_trm"]
    assert ended.json["trusted_keys"] == "receipt"
    shown = nowhere.run("verify", str(file))
    assert (shown.code, shown.err) == (0, "")
    for text in ("Receipt verified", facts["trade"]["id"], facts["trade"]["payer"], facts["trade"]["provider"]):
        assert text in shown.out, "whole, however narrow the terminal is"
    assert "not whose keys they are" in shown.out


def test_named_keys_must_be_the_signers(nowhere: Shell, file: Path, node: NodeProcess) -> None:
    with node.client() as client:
        signer = client.log_head().node
    ended = nowhere.run("verify", str(file), "--trust", "ab" * 32, "--trust", signer, "--json")
    assert (ended.code, ended.json["trusted_keys"]) == (0, "named")
    assert "among the keys you named" in nowhere.run("verify", str(file), "--trust", f"tirami_{signer}").out
    stranger = nowhere.run("verify", str(file), "--trust", "ab" * 32, "--json")
    assert (stranger.code, stranger.json["error"]["code"]) == (3, "invalid_receipt")
    no_key = nowhere.run("verify", str(file), "--trust", "somebody")
    assert (no_key.code, no_key.out) == (1, "")
    assert "64 hexadecimal digits" in no_key.err


ALONE = """
import sys
def watch(event, arguments):
    if event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname"):
        raise SystemExit(f"network: {event} {arguments}")
    if event == "open" and ".tirami" in str(arguments[0]):
        raise SystemExit(f"opened {arguments[0]}")
sys.addaudithook(watch)
from tirami.cli import main
main()
"""


def test_it_needs_no_home_no_node_and_no_network(file: Path, tmp_path: Path) -> None:
    environment = clean_environment(tmp_path)
    del environment["HOME"]
    command = [sys.executable, "-c", ALONE, "verify", str(file), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd="/")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["verified"] is True


@pytest.mark.parametrize("which", range(4))
def test_every_changed_byte_is_refused(receipts: list[bytes], which: int) -> None:
    """By the function that the command uses."""
    data = receipts[which]
    verify_receipt(data)
    taken = []
    for place in range(len(data)):
        for change in (0x01, 0x20, 0x80):
            changed = bytearray(data)
            changed[place] ^= change
            try:
                verify_receipt(bytes(changed))
            except InvalidReceipt:
                continue
            taken.append((place, change))
    assert not taken


def test_every_missing_and_every_doubled_byte_is_refused(receipts: list[bytes]) -> None:
    data = receipts[0]
    for place in range(len(data)):
        for changed in (data[:place] + data[place + 1 :], data[:place] + data[place : place + 1] + data[place:]):
            if changed != data:
                with pytest.raises(VerificationError):
                    verify_receipt(changed)


def test_parts_of_two_receipts_do_not_mix(receipts: list[bytes]) -> None:
    one, two = (json.loads(data) for data in receipts[:2])
    for name in one:
        if one[name] != two[name]:
            mixed = json.dumps({**one, name: two[name]}, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
            with pytest.raises(InvalidReceipt):
                verify_receipt(mixed.encode())


FORGERIES = {
    "another amount": lambda data: data.replace(b'"amount_trm":', b'"amount_trm":1', 1),
    "a flipped first byte": lambda data: b"[" + data[1:],
    "a flipped last byte": lambda data: data[:-1] + b"]",
    "cut in the middle": lambda data: data[: len(data) // 2],
    "without its last byte": lambda data: data[:-1],
    "a newline at the end": lambda data: data + b"\n",
    "a blank in front": lambda data: b" " + data,
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "a key twice": lambda data: data.replace(b'"format":', b'"format":"tirami/1/receipt","format":', 1),
    "an unknown key": lambda data: b'{"a":1,' + data[1:],
    "other key order": lambda data: json.dumps(dict(reversed(json.loads(data).items()))).encode(),
    "blanks between": lambda data: json.dumps(json.loads(data), sort_keys=True).encode(),
    "capitals": lambda data: data.upper(),
    "nothing": lambda data: b"",
    "no JSON": lambda data: b"\xff\xfe\x00",
    "depth": lambda data: b"[" * 60_000,
    "huge": lambda data: data + b" " * 10_000_000,
    "a number": lambda data: b"1" * 5_000,
}


@pytest.mark.parametrize("what", FORGERIES)
def test_the_command_refuses_a_forgery(nowhere: Shell, file: Path, what: str) -> None:
    good = file.read_bytes()
    file.write_bytes(FORGERIES[what](good))
    assert file.read_bytes() != good
    ended = nowhere.run("verify", str(file))
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith("Error: ")
    assert ended.err.rstrip().endswith("(invalid_receipt)")
    as_json = nowhere.run("verify", str(file), "--json")
    assert (as_json.code, as_json.json["error"]["code"]) == (3, "invalid_receipt")


def test_a_forgery_ends_the_process_with_3(nowhere: Shell, file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"0", b"1", 1))
    ended = nowhere.process("verify", str(file), "--json")
    assert ended.code == 3
    assert ended.json["error"]["code"] == "invalid_receipt"


def test_an_endless_file_is_not_read_to_its_end(nowhere: Shell) -> None:
    began = time.monotonic()
    ended = nowhere.run("verify", "/dev/zero")
    assert ended.code == 3
    assert time.monotonic() - began < 5


def test_a_receipt_may_come_through_a_pipe(nowhere: Shell, receipts: list[bytes], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", f"cat > {pipe}"], stdin=subprocess.PIPE) as writer:
        assert writer.stdin is not None
        writer.stdin.write(receipts[0])
        writer.stdin.close()
        assert nowhere.run("verify", str(pipe)).code == 0


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_no_file_is_wrong_usage(nowhere: Shell, tmp_path: Path, name: str) -> None:
    ended = nowhere.run("verify", str(tmp_path / name))
    assert (ended.code, ended.out) == (2, "")
    assert "FILE" in ended.err


def test_a_time_beyond_any_calendar_is_shown_as_a_number() -> None:
    from tirami.cli.times import when

    assert when(0) == "1970-01-01 00:00:00+00:00"
    assert when(2**53 - 1) == "9007199254740991 ms after 1970, beyond any calendar"
    assert when(2**64 - 1).endswith("beyond any calendar")


def test_trusted_keys_are_compared_whole(receipts: list[bytes], node: NodeProcess) -> None:
    with node.client() as client:
        signer = bytes.fromhex(client.log_head().node)
    assert verify_receipt(receipts[0], frozenset({PublicKey(signer)})).trusted
    with pytest.raises(InvalidReceipt):
        verify_receipt(receipts[0], frozenset())
