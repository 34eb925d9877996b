"""What a provider says of its models, held against what this node knows: which file a name is, how large a model."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.market.scripted import CARD
from tests.node import nodes
from tests.node.sellers import market
from tests.waiting import until
from tirami.core.errors import ModelLoadError
from tirami.core.keys import Digest
from tirami.core.units import MicroTrm
from tirami.infer import CATALOGUE, ModelSize
from tirami.ledger import Price
from tirami.node.mesh.desk import EngineDesk
from tirami.node.mesh.goods import Goods
from tirami.proto import Offering

SIZE = ModelSize(CARD.layers, CARD.hidden, frozenset({(CARD.parameters, CARD.active_parameters)}))
QWEN = "qwen2.5:7b"


def offering(name: str, digest: bytes = bytes(32), parameters: int = 10**9) -> Offering:
    return Offering(name, digest, CARD.tokenizer_digest, 4096, parameters, parameters, 10, 100, "none", 1, 1)


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_name_of_the_catalogue_stands_for_its_file(tmp_path: Path) -> None:
    goods = Goods(tmp_path / "pins.json")
    digest = CATALOGUE["gemma3:270m"][0].digest
    assert digest is not None
    assert goods.fault(offering("gemma3:270m", digest)) is None
    assert goods.fault(offering("gemma3:270m")) == "its gemma3:270m is not the file that name stands for"
    assert goods.fault(offering("somebody's own", digest)) is None


def test_a_name_whose_file_was_never_seen_here_may_be_any(tmp_path: Path) -> None:
    """Until this node downloads it: then its digest is pinned, and the name means that file."""
    pins, own = tmp_path / "pins.json", b"\7" * 32
    goods = Goods(pins)
    assert goods.fault(offering(QWEN)) is None
    pins.write_text(json.dumps({str(CATALOGUE[QWEN][0]): own.hex()}))
    assert goods.fault(offering(QWEN, own)) is None
    assert goods.fault(offering(QWEN)) == f"its {QWEN} is not the file that name stands for"
    pins.write_text("no pins")
    os.utime(pins, ns=(1, 1))
    with pytest.raises(ModelLoadError):
        goods.fault(offering(QWEN))


def test_the_file_of_pins_is_not_read_for_every_offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor for one whose name is not pinned: there are thousands of offers, and the event loop waits."""
    pins, read, reads = tmp_path / "pins.json", Path.read_bytes, []
    pins.write_text("{}")

    def counted(path: Path) -> bytes:
        reads.append(path)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    goods = Goods(pins)
    for _ in range(100):
        assert goods.fault(offering(QWEN)) is goods.fault(offering("somebody's own")) is None
    assert reads == [pins]


async def test_another_file_under_a_known_name_is_not_bought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with market(tmp_path, monkeypatch, 2, [CARD, replace(CARD, digest=Digest(b"\7" * 32))]) as found:
        honest, other = found.sellers
        source = CATALOGUE[QWEN][0]
        monkeypatch.setattr("tirami.infer.models.CATALOGUE", {"scripted": (source,)})
        found.buyer.parts.engines.loader.pins.write_text(json.dumps({str(source): CARD.digest.hex()}))
        assert found.ranked() == [honest]
        for shown in ("peers", "providers"):
            async with found.http.get(f"{found.buyer.url}/v1/tirami/{shown}?model=scripted") as reply:
                why = {one["node_id"]: one["why_not"] for one in (await reply.json())[shown]}
            assert why == {honest.key.hex(): None, other.key.hex(): "its scripted is not the file that name stands for"}
        async with found.http.get(f"{found.buyer.url}/v1/tirami/route?model=scripted") as reply:
            assert (await reply.json())["provider"] == honest.key.hex()


# --- sizes ----------------------------------------------------------------------------------------------------------


def test_of_sizes_the_last_read_are_remembered(tmp_path: Path) -> None:
    goods = Goods(tmp_path / "pins.json")
    assert goods.fault(offering("m", parameters=10**11)) is None, "nothing is known of it yet"
    goods.learn(CARD.tokenizer_digest, SIZE)
    assert goods.fault(offering("m")) is None
    assert goods.fault(offering("m", parameters=10**11)) == "its m is not of the size it says: parameters"
    for number in range(256):
        goods.learn(Digest(number.to_bytes(32)), SIZE)
    assert goods.fault(offering("m", parameters=10**11)) is None


async def test_who_says_its_model_is_a_hundred_times_as_large_is_asked_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the price of a small one it would come first: a large model so cheap is a bargain."""
    price = Price(MicroTrm(1_000_000), MicroTrm(1_000_000))
    monkeypatch.setattr(EngineDesk, "_price", lambda *_: price)
    monkeypatch.setattr(nodes.Numbers, "size", SIZE)
    giant = replace(CARD, parameters=10**11, active_parameters=10**11)
    async with market(tmp_path, monkeypatch, 2, [giant, CARD]) as found:
        liar, honest = found.sellers
        assert found.ranked() == [liar, honest]
        status, reply = await found.ask()
        assert status == 200, reply
        assert (liar.engine.opened, honest.engine.opened) == (0, 1)
        assert found.ranked() == [honest], "it is not even asked again"
        await until(lambda: honest.node.net == -found.buyer.net)
