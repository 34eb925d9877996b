"""Settings of the right type that cannot work."""

import pytest

from tirami.core.config import load_config
from tirami.core.errors import ConfigError
from tirami.node import Node
from tirami.node.soundness import unsound

KEY = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
WRONG = [
    ("api.bind", "not-an-address"),
    ("api.bind", "127.0.0.1:3000"),
    ("infer.upstream_url", "localhost:8000"),
    ("infer.upstream_url", "http://[::1"),
    ("mesh.bind", "nonsense"),
    ("mesh.bind", "localhost:0"),
    ("mesh.relay", "nope"),
    ("mesh.bootstrap", "not a key"),
    ("mesh.bootstrap", f"{KEY}@"),
    ("mesh.dns", "127.0.0.1"),
    ("mesh.dns", "no name"),
    ("mesh.nostr", "https://relay.example"),
    ("mesh.trusted", f"{KEY},ab"),
    ("mesh.denied", "zz" * 32),
    ("mesh.operator", "me"),
    ("mesh.invitation", "tirami1.x"),
]
RIGHT = [
    ("api.bind", "0.0.0.0"),
    ("api.bind", "[::]"),
    ("api.bind", "localhost"),
    ("infer.upstream_url", "http://user:secret@127.0.0.1:9/v1"),
    ("mesh.bind", "[::]:4433"),
    ("mesh.relay", "n0"),
    ("mesh.relay", "https://relay.example/"),
    ("mesh.bootstrap", f"{KEY}@node.example:4433 {KEY}@127.0.0.1:1,https://relay.example/"),
    ("mesh.dns", "nodes.example."),
    ("mesh.nostr", "wss://relay.example ws://127.0.0.1:7000"),
    ("mesh.trusted", f"{KEY}, tirami_{KEY}"),
    ("mesh.operator", KEY),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_what_cannot_be_one_is_named(key: str, value: str) -> None:
    (problem,) = unsound(load_config(None, {}, {key: value}))
    assert problem.param == key and problem.message.startswith(f"{key}: ")


@pytest.mark.parametrize(("key", "value"), RIGHT)
def test_what_can_be_one_is_taken(key: str, value: str) -> None:
    assert not list(unsound(load_config(None, {}, {key: value})))


@pytest.mark.parametrize(("given", "missing"), [("api.tls_cert", "api.tls_key"), ("api.tls_key", "api.tls_cert")])
def test_a_certificate_and_its_key_come_together(given: str, missing: str) -> None:
    assert [problem.param for problem in unsound(load_config(None, {}, {given: "/x"}))] == [missing]


def test_a_secret_is_not_repeated() -> None:
    wrong = {"mesh.invitation": "tirami1.hunter2", "infer.upstream_url": "ftp://user:hunter2@host"}
    assert not any("hunter2" in problem.message for problem in unsound(load_config(None, {}, wrong)))


async def test_a_node_is_not_opened_with_them(tmp_path: object) -> None:
    config = load_config(None, {}, {"data_dir": f"{tmp_path}/home", "mesh.enabled": True, "mesh.trusted": "nobody"})
    with pytest.raises(ConfigError) as refused:
        async with Node.open(config):
            raise AssertionError("it started")
    assert refused.value.param == "mesh.trusted"


@pytest.mark.parametrize(("slots", "url", "named"), [(256, "", []), (257, "", ["infer.slots"]), (1024, "http://x", [])])
def test_a_model_here_has_as_many_slots_as_its_engine_can(slots: int, url: str, named: list[str]) -> None:
    config = load_config(None, {}, {"infer.slots": slots, "infer.upstream_url": url})
    assert [problem.param for problem in unsound(config)] == named
