"""Who is chosen, and why: signals and observations among nodes that trade over a network in memory (spec 02 §7)."""

import asyncio
import json
from pathlib import Path
from random import Random

import pytest

from tests.market.scripted import CARD
from tests.node.sellers import Market, Seller, market
from tests.waiting import until
from tirami.core.keys import SigningKey
from tirami.core.units import MICRO
from tirami.market import PeerRegistry, Reputation
from tirami.net.hello import Identity
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.net.signals import Signals
from tirami.proto import (
    Message,
    NetworkFile,
    Observation,
    ObservationSeen,
    Offering,
    Signal,
    SignalSeen,
    SignedBody,
    decode,
    encode,
    sign,
    verify,
)
from tirami.testing import MemoryNetwork, VirtualClock, run_virtually

NETWORK = NetworkFile.regtest(SigningKey.generate().public_key)


# --- what a provider tells ---------------------------------------------------------------------------------------


@pytest.mark.row("L1-10")
async def test_capacity_is_what_the_engine_was_measured_to_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has asked yet: the engine was tried. Free is what its free places make in a minute; its balance is not."""
    async with market(tmp_path, monkeypatch, count=1) as found:
        (seller,) = found.sellers
        known = found.buyer.mesh.peers.get(seller.key)
        assert known is not None
        speed = seller.node.parts.meter.speed("scripted")
        assert speed is not None and speed > 0
        assert known.signal.free_tokens == int(known.signal.slots * speed * 60)
        assert known.signal.slots == 4, "mesh.slots"
        assert known.signal.demand_ppm == MICRO, "load moves no price here"
        told = known.signal.free_tokens
        seller.node.parts.meter._speeds["scripted"] = speed / 10
        await until(lambda: found.buyer.mesh.peers.get(seller.key).signal.free_tokens < told / 5)  # type: ignore[union-attr]


@pytest.mark.row("L1-10")
async def test_the_price_follows_the_load_and_is_kept_as_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with market(tmp_path, monkeypatch, count=1) as found:
        (seller,) = found.sellers
        load = seller.node.parts.load
        load._follow = True

        def told() -> Signal:
            known = found.buyer.mesh.peers.get(seller.key)
            assert known is not None
            return known.signal

        load.demand = 2 * MICRO  # type: ignore[assignment]
        began = asyncio.get_running_loop().time()
        await until(lambda: told().demand_ppm == 2 * MICRO)
        took = asyncio.get_running_loop().time() - began
        assert took < 2, "one hop away"
        assert told().models[0].price_out == load.price(CARD.active_parameters).completion
        load.demand = 2 * MICRO + 5_000  # type: ignore[assignment]
        status, reply = await found.ask()
        assert status == 200, reply
        assert reply["x_tirami"]["price_out_utrm"] == told().models[0].price_out  # type: ignore[index]


def offer(node: SigningKey) -> Signal:
    zero = bytes(32)
    model = Offering("m", zero, zero, 2048, 10**9, 10**9, 10, 100, "none", 250_000, 1_000_000)
    return Signal(NETWORK.id, node.public_key, MICRO, 60_000, 4, 0, (), (model,), 1, 0)


class Line:
    """Three nodes in a line; the first sells. What the last two hear is kept."""

    def __init__(self) -> None:
        self.keys = [SigningKey.generate() for _ in range(3)]
        self.heard: list[list[SignalSeen]] = [[], [], []]
        self.offer: Signal | None = offer(self.keys[0])

    async def run(self, seconds: float) -> list[PeerRegistry]:
        clock, memory = VirtualClock(), MemoryNetwork(seed=3)
        meshes, registries, works = [], [], []
        for number, key in enumerate(self.keys):
            mesh = Mesh(memory.endpoint(key.public_key), Identity(NETWORK, "test"), clock, random=Random(number))
            registry = PeerRegistry(lambda _: 500_000)  # type: ignore[arg-type,return-value]

            def own(number: int = number) -> Signal | None:
                return self.offer if number == 0 else None

            signals = Signals(mesh, registry, key, own, clock.now_ms, clock)
            self._overhear(mesh, number)
            meshes.append(mesh)
            registries.append(registry)
            works.append(signals.run())
        async with meshes[0].running(), meshes[1].running(), meshes[2].running():
            tasks = [asyncio.create_task(work) for work in works]
            meshes[1].keep(meshes[0].address())
            meshes[2].keep(meshes[1].address())
            await asyncio.sleep(seconds)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return registries

    def _overhear(self, mesh: Mesh, number: int) -> None:
        heard = mesh._on_message[SignalSeen]

        async def overheard(peer: Peer, message: Message) -> None:
            assert isinstance(message, SignalSeen)
            self.heard[number].append(message)
            await heard(peer, message)

        mesh.on_message(SignalSeen, overheard)


@pytest.mark.row("L1-14")
@pytest.mark.row("L1-10")
def test_a_signal_keeps_its_origins_signature_over_two_hops() -> None:
    line = Line()
    registries = run_virtually(line.run(10))
    (message,) = line.heard[2]
    signal = decode(Signal, message.signal.body)
    assert signal.node == line.keys[0].public_key
    assert verify(signal, line.keys[0].public_key, message.signal.signature)  # type: ignore[arg-type]
    assert registries[2].get(signal.node) is not None
    assert not line.heard[0], "nobody is told its own"


@pytest.mark.row("L1-14")
def test_when_nothing_changes_it_says_so_every_half_minute_at_most() -> None:
    line = Line()
    run_virtually(line.run(600))
    assert 600 / 30 - 1 <= len(line.heard[1]) <= 600 / 30 + 1


@pytest.mark.row("L1-14")
def test_a_change_is_told_at_once_and_an_end_too() -> None:
    async def main() -> list[float]:
        line = Line()
        running = asyncio.create_task(line.run(40))
        await asyncio.sleep(10)
        loop, took = asyncio.get_running_loop(), []
        dearer = offer(line.keys[0])
        for change in (Signal(*[*_fields(dearer)[:2], 2 * MICRO, *_fields(dearer)[3:]]), None):
            before, line.offer, began = len(line.heard[2]), change, loop.time()
            while len(line.heard[2]) == before:
                await asyncio.sleep(0.05)
            took.append(loop.time() - began)
        assert not decode(Signal, line.heard[2][-1].signal.body).models
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return took

    assert all(seconds < 2 for seconds in run_virtually(main()))


def _fields(signal: Signal) -> list[object]:
    return [getattr(signal, name) for name in signal.__struct_fields__]


# --- what others say of it -----------------------------------------------------------------------------------------


def word(observer: SigningKey, subject: bytes, score: float, sessions: int, at_ms: int) -> ObservationSeen:
    said = Observation("testnet", observer.public_key, subject, round(score * MICRO), sessions, 1, at_ms)
    return ObservationSeen(SignedBody(encode(said), sign(said, observer)))


async def bought(found: Market, times: int) -> Seller:
    seller = found.ranked()[0]
    for _ in range(times):
        status, reply = await found.ask()
        assert status == 200, reply
    await until(lambda: seller.node.mesh.reputation.weight(found.buyer.parts.key.public_key, seller.key) == times)
    return seller


@pytest.mark.row("L1-17")
@pytest.mark.row("L1-19")
async def test_what_one_customer_experienced_reaches_a_node_that_never_bought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single honest customer: its provider keeps its score, and gains by it, everywhere."""
    async with market(tmp_path, monkeypatch, count=2) as found:
        seller = found.ranked()[0]
        third = next(other for other in found.sellers if other is not seller)
        assert third.node.mesh.reputation.of(seller.key) == MICRO // 2
        third.node.mesh.mesh.keep(found.buyer.mesh.mesh.address())
        await bought(found, 12)
        customer = found.buyer.parts.key.public_key
        await until(lambda: third.node.mesh.reputation.weight(customer, seller.key) == 12)
        await until(lambda: third.node.mesh.reputation.of(seller.key) > 0.9 * MICRO)
        assert found.buyer.mesh.reputation.of(seller.key) > 0.9 * MICRO
        assert found.ranked()[0] is seller


@pytest.mark.row("L1-17")
async def test_one_liar_who_declares_a_billion_moves_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with market(tmp_path, monkeypatch, count=2) as found:
        seller = await bought(found, 8)
        await asyncio.sleep(0)
        liar = next(other for other in found.sellers if other is not seller)
        buyer = found.buyer.mesh
        before = buyer.reputation.of(seller.key)
        now = found.buyer.parts.ledger.now()
        for number in range(50):
            message = word(liar.node.parts.key, seller.key, 0.0, 10**9, now + number)
            for peer in liar.node.mesh.mesh.peers.values():
                peer.send(message)
        for number in range(50):  # made up on the spot
            message = word(SigningKey.generate(), seller.key, 0.0, 10**9, now + number)
            for peer in liar.node.mesh.mesh.peers.values():
                peer.send(message)
        await asyncio.sleep(0.5)
        assert buyer.reputation.of(seller.key) == before
        assert seller.key in buyer.mesh.peers, "nor is anybody disconnected for it"


@pytest.mark.row("L1-17")
async def test_a_word_nobody_signed_ends_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with market(tmp_path, monkeypatch, count=2) as found:
        seller = await bought(found, 1)
        forger = next(other for other in found.sellers if other is not seller)
        forger.node.mesh.mesh.keep(seller.node.mesh.mesh.address())
        await until(lambda: seller.key in forger.node.mesh.mesh.peers)
        customer = found.buyer.parts.key
        now = found.buyer.parts.ledger.now()
        said = Observation("testnet", customer.public_key, forger.key, 0, 1, 1, now)
        forged = Observation("testnet", customer.public_key, seller.key, 0, 1, 1, now)
        for observation in (said, forged):  # of the first nothing is known: it is not even looked at
            before = seller.node.mesh.reputation.of(seller.key)
            body = SignedBody(encode(observation), sign(observation, forger.node.parts.key))
            peer = forger.node.mesh.mesh.peers[seller.key]
            peer.send(ObservationSeen(body))
            if observation is forged:
                await asyncio.wait_for(peer.connection.closed(), 10)
            assert seller.node.mesh.reputation.of(seller.key) == before


@pytest.mark.row("L1-17")
@pytest.mark.row("L1-19")
async def test_who_breaks_off_answers_is_asked_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with market(tmp_path, monkeypatch, count=2) as found:
        first, second = found.ranked()
        first.engine.fail_after = 3
        await found.ask()
        reputation = found.buyer.mesh.reputation
        await until(lambda: reputation.of(first.key) < MICRO // 2)
        await found.ask()
        await until(lambda: reputation.of(second.key) > MICRO // 2)
        monkeypatch.setattr("tirami.node.mesh.shop.LAST_MS", 0)
        assert found.ranked() == [second, first]


@pytest.mark.row("L1-19")
def test_a_provider_with_a_single_honest_customer_keeps_its_score() -> None:
    from tests.market.test_reputation import SUBJECT, customer, key, observation

    reputation = Reputation(key(0))
    for _ in range(100):
        reputation.experienced(SUBJECT, good=True)
    before = reputation.of(SUBJECT)
    for trades in range(1, 40):
        customer(reputation, key(1), trades)
        reputation.take(observation(key(1), 0.95, at_ms=1_700_000_000_000 + trades), 1_700_000_000_100)
        assert reputation.of(SUBJECT) >= 0.9 * before


# --- who is chosen ----------------------------------------------------------------------------------------------


@pytest.mark.row("L1-11")
def test_the_choice_is_the_vectors() -> None:
    from fractions import Fraction

    from tirami.core.keys import PublicKey
    from tirami.core.units import MicroTrm, Ppm, Trm
    from tirami.ledger import Price
    from tirami.market import Candidate, best, schedule_score

    file = Path(__file__).parents[2] / "docs/protocol/vectors/tip-14.json"
    for entry in json.loads(file.read_text())["choice"]:
        candidates = [
            Candidate(
                PublicKey(bytes.fromhex(one["provider"])),
                Price(MicroTrm(one["price_in_utrm"]), MicroTrm(one["price_out_utrm"])),
                MicroTrm(one["list_price_utrm"]),
                Ppm(one["reputation_ppm"]),
                one["latency_ms"],
                None if one["available_trm"] is None else Trm(one["available_trm"]),
            )
            for one in entry["candidates"]
        ]

        def score(candidate: Candidate, entry: dict[str, int] = entry) -> Fraction:
            return schedule_score(candidate, candidate.cost(entry["prompt_tokens"], entry["completion_tokens"]))

        for one, candidate in zip(entry["candidates"], candidates, strict=True):
            assert score(candidate) == Fraction(*one["score"])
        for order in (candidates, candidates[::-1]):
            chosen = best(order, score)
            assert (chosen.provider.hex() if chosen else None) == entry["chosen"]
