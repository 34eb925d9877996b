"""The network file: strict, and every word of it counts."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.proto.samples import AGENT, NODE
from tirami.core.errors import NetworkFileError
from tirami.proto import Issuer, NetworkFile, Parameters

KEYS = [NODE.public_key.hex(), AGENT.public_key.hex()]
MINIMAL: dict[str, Any] = {"format": "tirami/1/network", "id": "mesh-1"}
FULL: dict[str, Any] = MINIMAL | {
    "parameters": {"welcome_limit": 500, "witnesses": 1, "quorum": 1},
    "issuers": [{"key": KEYS[0], "daily_lines": 7}, {"key": KEYS[1]}],
    "witnesses": [KEYS[1]],
    "seeds": [f"{KEYS[0]}@192.0.2.1:3100"],
}


def parse(document: object) -> NetworkFile:
    return NetworkFile.parse(json.dumps(document).encode())


def test_defaults_are_written_out_and_hashed() -> None:
    network = parse(MINIMAL)
    assert network.parameters == Parameters(
        witnesses=3,
        quorum=2,
        unwitnessed_daily_limit=1_000,
        voucher_tokens=64,
        stranger_tokens=16,
        voucher_trm=10,
        welcome_limit=1_000,
        welcome_hours=72,
        issuer_daily_lines=100,
        yield_ceiling_ppm=1_000,
        acceptance_minutes=15,
    )
    document = json.loads(network.to_bytes())
    assert document["parameters"]["voucher_tokens"] == 64
    assert network.to_bytes() == json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    assert network.hash == hashlib.sha256(network.to_bytes()).digest()


def test_layout_and_order_do_not_matter_content_does() -> None:
    network = parse(FULL)
    shuffled = dict(reversed(FULL.items()))
    assert NetworkFile.parse(json.dumps(shuffled, indent=3).encode()).hash == network.hash
    assert NetworkFile.parse(network.to_bytes()) == network
    assert parse(FULL | {"parameters": {}, "witnesses": []}).hash != network.hash


@pytest.mark.parametrize("name", Parameters.__struct_fields__)
def test_changing_any_parameter_changes_the_hash(name: str) -> None:
    before = parse(MINIMAL)
    value = getattr(before.parameters, name) + (2 if name == "witnesses" else 1)
    parameters = {name: value}
    if name in ("witnesses", "quorum"):
        parameters = {"witnesses": 5, "quorum": 3}
    after = parse(MINIMAL | {"parameters": parameters})
    assert after.hash != before.hash
    assert getattr(after.parameters, name) != getattr(before.parameters, name)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "mesh-2"},
        {"issuers": [{"key": KEYS[0], "daily_lines": 8}]},
        {"issuers": [{"key": KEYS[1], "daily_lines": 7}]},
        {"witnesses": [KEYS[0]]},
        {"seeds": []},
    ],
    ids=str,
)
def test_changing_anything_else_changes_the_hash(change: dict[str, object]) -> None:
    assert parse(FULL | change).hash != parse(FULL).hash


def test_an_issuer_without_a_quota_has_that_of_the_network() -> None:
    assert parse(FULL).issuers == (Issuer(KEYS[0], 7), Issuer(KEYS[1], 100))
    document = FULL | {"parameters": {"issuer_daily_lines": 3}, "witnesses": []}
    assert [issuer.daily_lines for issuer in parse(document).issuers] == [7, 3]


def test_regtest_is_its_own_issuer_and_witness() -> None:
    network = NetworkFile.regtest(NODE.public_key)
    assert (network.id, network.issuers, network.witnesses) == ("regtest", (Issuer(KEYS[0], 100),), (KEYS[0],))
    assert (network.parameters.witnesses, network.parameters.quorum) == (1, 1)
    assert NetworkFile.parse(network.to_bytes()) == network
    assert NetworkFile.regtest(AGENT.public_key).hash != network.hash


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": "tirami/2/network"}, "format"),
        ({"id": "Mesh"}, "id"),
        ({"id": ""}, "id"),
        ({"id": "mesh\n"}, "id"),
        ({"id": "m" * 65}, "id"),
        ({"id": 7}, "id"),
        ({"colour": "red"}, "colour"),
        ({"parameters": {"welcome_limit": -1}}, "parameters.welcome_limit"),
        ({"parameters": {"welcome_limit": 1.0}}, "parameters.welcome_limit"),
        ({"parameters": {"welcome_limit": True}}, "parameters.welcome_limit"),
        ({"parameters": {"welcome_limit": "1"}}, "parameters.welcome_limit"),
        ({"parameters": {"welcome_limit": 2**53}}, "parameters.welcome_limit"),
        ({"parameters": {"voucher_tokens": 0}}, "parameters.voucher_tokens"),
        ({"parameters": {"stranger_tokens": 0}}, "parameters.stranger_tokens"),
        ({"parameters": {"yield_ceiling_ppm": 1_000_001}}, "parameters.yield_ceiling_ppm"),
        ({"parameters": {"quorum": 1}}, "parameters.quorum"),
        ({"parameters": {"speed": 1}}, "speed"),
        ({"parameters": []}, "parameters"),
        ({"parameters": {"issuer_daily_lines": "x"}, "issuers": [7]}, "parameters"),
        ({"issuers": [{"daily_lines": 7}]}, "key"),
        ({"issuers": [{"key": KEYS[0].upper()}]}, "issuers"),
        ({"issuers": [{"key": KEYS[0] + "\n"}]}, "issuers"),
        ({"issuers": [{"key": KEYS[0][:-2]}]}, "issuers"),
        ({"issuers": [{"key": KEYS[0]}, {"key": KEYS[0], "daily_lines": 1}]}, "issuers"),
        ({"issuers": [{"key": "00" * 32}]}, "issuers"),
        ({"issuers": {}}, "issuers"),
        ({"witnesses": [KEYS[0], KEYS[0], KEYS[1]]}, "witnesses"),
        ({"witnesses": [KEYS[0]], "parameters": {}}, "witnesses"),
        ({"witnesses": ["ec" + "ff" * 30 + "7f"]}, "witnesses"),
        ({"seeds": [""]}, "seeds"),
        ({"seeds": ["x" * 257]}, "seeds"),
        ({"seeds": "x"}, "seeds"),
    ],
    ids=str,
)
def test_refused_naming_the_field(change: dict[str, object], named: str) -> None:
    with pytest.raises(NetworkFileError) as caught:
        parse(FULL | change)
    assert named in caught.value.message
    assert caught.value.param == "network.file"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b"7",
        b"NaN",
        b'{"format":"tirami/1/network"}',
        b"[" * 50_000,
        b" " * (1 << 21),
    ],
    ids=range(10),
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(NetworkFileError):
        NetworkFile.parse(data)


def test_a_name_said_twice_is_refused() -> None:
    text = '{"format":"tirami/1/network","id":"a","parameters":{"welcome_limit":1,"welcome_limit":2}}'
    with pytest.raises(NetworkFileError, match="twice"):
        NetworkFile.parse(text.encode())


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    path.write_text(json.dumps(FULL))
    assert NetworkFile.load(path) == parse(FULL)
    for missing in (tmp_path / "nowhere.json", tmp_path):
        with pytest.raises(NetworkFileError, match=str(missing)):
            NetworkFile.load(missing)
