"""Vectors of TIP-08: the network file."""

import json
from functools import partial
from typing import cast

from tests.proto.samples import AGENT, NETWORK, NODE

from tirami.proto import NetworkFile
from tools.vectors.case import Case, case, code

CAP = 21_000_000_000
SEEDLESS = {"a space": " ", "a tab": "\t", "a delete": "\x7f", "a zero": "\x00", "an umlaut": "ü"}
"""What no seed may hold."""


def _issuer(key: str, daily_lines: int) -> Case:
    return {"key": key, "daily_lines": daily_lines}


def _quota(daily_lines: int, welcome_limit: int) -> Case:
    """One issuer with these lines a day, under this welcome limit."""
    parameters = {"welcome_limit": welcome_limit, "witnesses": 1, "quorum": 1}
    return {"issuers": [_issuer(NODE.public_key.hex(), daily_lines)], "parameters": parameters}


def vectors() -> Case:
    minimal: Case = {"format": "tirami/1/network", "id": "mesh-1"}
    keys = [NODE.public_key.hex(), AGENT.public_key.hex()]
    every = "".join(map(chr, range(0x21, 0x7F)))
    full = minimal | {
        "parameters": {"welcome_limit": 500, "witnesses": 1, "quorum": 1},
        "issuers": [{"key": keys[0], "daily_lines": 7}, {"key": keys[1]}],
        "witnesses": [keys[1]],
        "seeds": [f"{keys[0]}@192.0.2.1:3100"],
    }
    defaults = json.loads(NetworkFile.parse(json.dumps(minimal).encode()).to_bytes())["parameters"]
    changed = {name: {name: value + 1} for name, value in defaults.items()}
    changed["witnesses"] = changed["quorum"] = {"witnesses": 5, "quorum": 3}
    files: list[tuple[str, object]] = [
        ("minimal", minimal),
        ("defaults written out", minimal | {"parameters": defaults}),
        ("full", full),
        ("full, other order", dict(reversed(full.items()))),
        ("an issuer's quota by the network's parameter", full | {"parameters": {"issuer_daily_lines": 3}}),
        *((f"{name} changed", minimal | {"parameters": value}) for name, value in changed.items()),
        ("another id", full | {"id": "mesh-2"}),
        ("no seeds", full | {"seeds": []}),
        ("a seed of one character", full | {"seeds": ["!"]}),
        ("seeds of 256 characters, all that are allowed", full | {"seeds": [every + every[:162], every[::-1]]}),
        ("a quota of all there can be", full | _quota(21_000_000, 1_000)),
        ("lines of all there can be, one a day", full | _quota(1, CAP)),
        ("any number of lines of nothing", full | _quota(2**53 - 1, 0)),
        ("no line a day, however large", full | _quota(0, 2**53 - 1)),
        ("two issuers, each with all there can be", full | {"issuers": [_issuer(key, 42_000_000) for key in keys]}),
    ]
    files[4] = (files[4][0], cast(Case, files[4][1]) | {"witnesses": []})
    small = (1).to_bytes(32, "little").hex()
    bad: list[tuple[str, object]] = [
        ("no JSON", "{"),
        ("a list", "[]"),
        ("a name twice", '{"format":"tirami/1/network","id":"a","id":"b"}'),
        ("no id", {"format": "tirami/1/network"}),
        ("a later format", minimal | {"format": "tirami/2/network"}),
        ("an id with a capital", minimal | {"id": "Mesh"}),
        ("a foreign field", minimal | {"colour": "red"}),
        ("a foreign parameter", minimal | {"parameters": {"colour": 1}}),
        ("a fraction", minimal | {"parameters": {"welcome_limit": 0.5}}),
        ("a negative number", minimal | {"parameters": {"welcome_limit": -1}}),
        ("a number beyond 2^53 - 1", minimal | {"parameters": {"welcome_limit": 2**53}}),
        ("a quorum that is none", minimal | {"parameters": {"witnesses": 3, "quorum": 1}}),
        ("fewer witnesses than w", minimal | {"witnesses": [keys[0]]}),
        ("an issuer twice", minimal | {"issuers": [{"key": keys[0]}, {"key": keys[0]}]}),
        ("a witness twice", minimal | {"witnesses": [keys[0]] * 2 + [keys[1]]}),
        ("a key in capitals", minimal | {"issuers": [{"key": keys[0].upper()}]}),
        ("a key of small order", minimal | {"issuers": [{"key": small}]}),
        ("an empty seed", minimal | {"seeds": [""]}),
        ("a seed of 257 characters", minimal | {"seeds": ["a" * 257]}),
        *((f"a seed with {name}", minimal | {"seeds": [f"a{char}b"]}) for name, char in SEEDLESS.items()),
        ("a seed and a newline", minimal | {"seeds": ["a\n"]}),
        ("a seed that is no text", minimal | {"seeds": [1]}),
        ("a second seed with a space", minimal | {"seeds": ["a", "a b"]}),
        ("a quota of a line too many", minimal | _quota(21_000_001, 1_000)),
        ("a line of a TRM too much", minimal | _quota(1, CAP + 1)),
        ("a quota beyond 64 bits", minimal | _quota(2**53 - 1, 2**53 - 1)),
        ("a second issuer's quota", minimal | {"issuers": [_issuer(keys[0], 1), _issuer(keys[1], 21_000_001)]}),
        (
            "a quota too large by the network's parameter",
            minimal | {"issuers": [{"key": keys[0]}], "parameters": {"issuer_daily_lines": 21_000_001}},
        ),
    ]

    def text(document: object) -> str:
        return document if isinstance(document, str) else json.dumps(document)

    return {
        "regtest": case(
            "regtest of the sample node",
            node=NODE.public_key,
            canonical=NETWORK.to_bytes().decode(),
            hash=NETWORK.hash,
        ),
        "files": [
            case(name, text=text(document), canonical=network.to_bytes().decode(), hash=network.hash)
            for name, document in files
            for network in [NetworkFile.parse(text(document).encode())]
        ],
        "refused": [
            case(name, text=text(document), error=code(partial(NetworkFile.parse, text(document).encode())))
            for name, document in bad
        ],
    }


def example() -> list[str]:
    text = json.dumps(json.loads(NETWORK.to_bytes()), indent=1)
    return ["```json", *text.splitlines(), "```", "", f"Hash: `{NETWORK.hash.hex()}`."]
