"""``tirami verify`` knows a fraud proof, says who is guilty of what, and takes no bad one."""

import json
from pathlib import Path

import pytest

from tests.cli.running import Shell
from tests.verify.frauds import GOOD, NO_PROOF, TOTALS
from tirami.core.keys import sha256


@pytest.mark.parametrize("name", GOOD)
def test_a_good_proof(nowhere: Shell, tmp_path: Path, name: str) -> None:
    data, role = GOOD[name]
    path = tmp_path / "fraud.json"
    path.write_bytes(data)
    ended = nowhere.run("verify", str(path), "--json")
    assert (ended.code, ended.err) == (0, "")
    document = json.loads(data)
    assert {key: ended.json[key] for key in ("verified", "guilty", "role", "kind", "evidence_id")} == {
        "verified": True,
        "guilty": document["guilty"],
        "role": role,
        "kind": document["kind"],
        "evidence_id": sha256(data).hex(),
    }


def test_in_plain_words(nowhere: Shell, tmp_path: Path) -> None:
    path = tmp_path / "fraud.json"
    path.write_bytes(TOTALS)
    shown = nowhere.run("verify", str(path))
    assert (shown.code, shown.err) == (0, "")
    for words in (
        "Fraud proved",
        json.loads(TOTALS)["guilty"],
        "a payer",
        "it signed under number 9 that it had settled 10 TRM, after signing 11 TRM",
        "all 3 records",
    ):
        assert words in shown.out


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (NO_PROOF["covered totals"][0], "invalid_proof"),
        (TOTALS + b"\n", "invalid_proof"),
        (TOTALS.replace(b'"signature":"', b'"signature":"00', 1), "invalid_proof"),
        (TOTALS.replace(b'"network":"regtest"', b'"network":"other"'), "invalid_proof"),
        (TOTALS[:-1], "invalid_receipt"),
    ],
)
def test_a_bad_one_ends_with_3(nowhere: Shell, tmp_path: Path, data: bytes, code: str) -> None:
    path = tmp_path / "fraud.json"
    path.write_bytes(data)
    ended = nowhere.run("verify", str(path), "--json")
    assert (ended.code, ended.json["error"]["code"]) == (3, code)
