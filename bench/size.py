"""A journal of many trades, made and opened in processes of their own.

``python -m bench.size make HOME TRADES``, ``python -m bench.size open HOME``.

Every trade goes the ledger's own way: a hold behind the gate, a voucher, the record and its capture, four entries, in
groups that are waited for. What is left out: the engine, HTTP and most of the Ed25519 work. Bodies, totals, hashes and
the chain are real; each party signs once, and its trades carry that signature again, because four million signatures
would take a quarter of an hour and nothing measured here looks at them.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from tests.market.conftest import UNLIMITED

from bench.memory import peak_mb, rss_mb
from tirami.core.keyfile import load_or_create_node_key
from tirami.core.keys import Digest, SigningKey, journal_key, local_user_key, sha256
from tirami.core.units import Trm, UnixMs
from tirami.ledger import AccountCreated, HoldCaptured, HoldOpened, Ledger, PolicySet, grant_line
from tirami.ledger.admission import read
from tirami.ledger.snapshot import taken
from tirami.proto import Acceptance, Envelope, NetworkFile, Quote, Signed, Trade, encode, leaf
from tirami.testing.clock import ManualClock
from tirami.verify import leaf_hash, verify_inclusion

AGENTS, GROUP = 50, 500
LINE = 100_000_000
PACE_MS = 1_000
"""One trade a second, a million in twelve days: 3 600 of them are in the windows of the last hour."""


def network_of(node: SigningKey) -> NetworkFile:
    regtest = NetworkFile.regtest(node.public_key)
    parameters = msgspec.structs.replace(regtest.parameters, welcome_limit=LINE, welcome_hours=24 * 365)
    return msgspec.structs.replace(regtest, parameters=parameters)


def opened(home: Path, clock: ManualClock) -> tuple[Ledger, SigningKey]:
    home.mkdir(parents=True, exist_ok=True)
    node, _ = load_or_create_node_key(home / "node.key")
    ledger = Ledger.open(
        home / "journal.db",
        network=network_of(node),
        node=node,
        local_user=local_user_key(node).public_key,
        clock=clock,
        journal_key=journal_key(node),
    )
    return ledger, node


class Desk:
    """Sells to one agent of the node."""

    def __init__(self, ledger: Ledger, node: SigningKey, agent: SigningKey) -> None:
        self._ledger = ledger
        self._node = node.public_key
        self._agent = agent.public_key
        self._signature = agent.sign(b"bench")
        self._countersignature = node.sign(b"bench")

    def sell(self, serial: int) -> Any:
        """One trade, booked; the awaitable of its last group."""
        ledger, identity = self._ledger, sha256(b"hold", serial.to_bytes(8))[:16]
        tokens = 20 + serial % 21
        quote = encode(self._quote(serial))
        acceptance = self._acceptance(sha256(Quote.TAG, quote), Trm(64))
        accepted = encode(acceptance)
        hold = HoldOpened(
            id=identity,
            account=self._agent,
            scope=0,
            incarnation=acceptance.incarnation,
            number=acceptance.number,
            ceiling=acceptance.ceiling,
            purpose="inference",
            expires_ms=ledger.now() + 600_000,
            request_id=f"chatcmpl-{identity.hex()}",
            acceptance=accepted,
            acceptance_signature=self._signature,
            quote=quote,
            quote_signature=self._countersignature,
        )
        ledger.payables.open_holds(self._agent, Trm(64), [lambda: hold])
        body = encode(self._trade(acceptance, sha256(Acceptance.TAG, accepted), tokens))
        voucher = Trm(tokens), Signed(body, sha256(Trade.TAG, body), self._signature)
        ledger.payables.vouch(identity, lambda: voucher)
        signatures = self._signature, self._countersignature
        admitted = read(Envelope("trade", body, signatures, (accepted, self._signature)), ledger.network)
        captured = HoldCaptured(identity, admitted.record_id, tokens)
        return ledger.append([admitted.envelope, captured], admitted)

    def _quote(self, serial: int) -> Quote:
        return Quote(
            network="regtest",
            scope=0,
            provider=self._node,
            payer=self._agent,
            nonce=serial.to_bytes(16),
            model_digest=bytes(32),
            tokenizer_digest=bytes(32),
            prompt_tokens=100,
            prompt_hash=sha256(serial.to_bytes(8)),
            max_tokens=64,
            seed=serial,
            temperature_ppm=1_000_000,
            top_p_ppm=1_000_000,
            top_k=40,
            price_in=0,
            price_out=1_000_000,
            lifetime_ms=30_000,
            log_size=self._ledger.state.log.size,
            log_root=bytes(32),
            at_ms=self._ledger.now(),
        )

    def _acceptance(self, quote_hash: Digest, ceiling: Trm) -> Acceptance:
        holds, books = self._ledger.state.holds, self._ledger.books(self._agent)
        return Acceptance(
            network="regtest",
            scope=0,
            payer=self._agent,
            provider=self._node,
            incarnation=holds.incarnation,
            number=holds.next_number(self._agent),
            settled=books.settled,
            open=books.open_list(),
            quote_hash=quote_hash,
            ceiling=ceiling,
            at_ms=self._ledger.now(),
        )

    def _trade(self, acceptance: Acceptance, acceptance_hash: Digest, tokens: int) -> Trade:
        return Trade(
            network="regtest",
            scope=0,
            provider=self._node,
            payer=self._agent,
            incarnation=acceptance.incarnation,
            session=acceptance.number,
            quote_hash=acceptance.quote_hash,
            acceptance_hash=acceptance_hash,
            model_digest=bytes(32),
            tokenizer_digest=bytes(32),
            price_in=0,
            price_out=1_000_000,
            prompt_tokens=100,
            completion_tokens=tokens,
            amount=tokens,
            flop=tokens * 10**9,
            running_hash=sha256(acceptance_hash),
            at_ms=self._ledger.now(),
        )


async def make(home: Path, trades: int) -> dict[str, float]:
    clock = ManualClock()
    ledger, node = opened(home, clock)
    await ledger.start(os.urandom)
    desks = []
    for _ in range(AGENTS):
        key = SigningKey.generate()
        await ledger.record_facts(AccountCreated(key.public_key, "agent", b""), PolicySet(key.public_key, *UNLIMITED))
        granted = grant_line(ledger, node, key.public_key)
        assert granted is not None
        await granted
        desks.append(Desk(ledger, node, key))
    began, written = time.perf_counter(), None
    for serial in range(trades):
        clock.wall_ms = UnixMs(clock.wall_ms + PACE_MS)
        last = desks[serial % AGENTS].sell(serial)
        if serial % GROUP == GROUP - 1:  # one group is written while the next is made
            if written is not None:
                await written
            written = last
    await last
    made = time.perf_counter() - began
    began = time.perf_counter()
    await ledger.close()
    return {"make_s": made, "stop_s": time.perf_counter() - began, "bytes": _size(home), "peak_mb": peak_mb()}


def _size(home: Path) -> int:
    return sum(file.stat().st_size for file in home.glob("journal.db*"))


def reopen(home: Path) -> dict[str, Any]:
    """Start again and ask for what an auditor asks for."""
    before = rss_mb()
    began = time.perf_counter()
    ledger, _ = opened(home, ManualClock())
    restart = time.perf_counter() - began
    state = ledger.state
    size = state.log.size
    assert state.book.imbalance() == 0
    figures: dict[str, Any] = {"restart_s": restart, "records": size, "entries": ledger.seq}
    began = time.perf_counter()
    picture = taken(state, ledger._journal, ledger.seq, ledger._journal.chain)
    figures["picture_ms"] = (time.perf_counter() - began) * 1e3
    del picture
    leaves = [leaf(state.records[index].envelope) for index in range(100, size, size // 200)]
    figures["leaf_bytes"] = min(map(len, leaves))
    figures["proof_ms"] = list(_proofs(ledger, range(100, size, size // 200)))
    figures["read_ms"] = list(_reads(ledger, range(50, size, size // 200)))
    figures["append_us"], figures["root_us"], figures["root_again_us"] = [], [], []
    for _ in range(15):
        began = time.perf_counter()
        for item in leaves:
            state.log.append(item)
        figures["append_us"].append((time.perf_counter() - began) / len(leaves) * 1e6)
        for name in ("root_us", "root_again_us"):
            began = time.perf_counter()
            state.log.root()
            figures[name].append((time.perf_counter() - began) * 1e6)
    figures["rss_mb"], figures["peak_mb"], figures["before_mb"] = rss_mb(), peak_mb(), before
    return figures


def _proofs(ledger: Ledger, indexes: range) -> Iterator[float]:
    """Milliseconds a proof; each is verified."""
    log, size = ledger.state.log, ledger.state.log.size
    for index in indexes:
        began = time.perf_counter()
        path = log.inclusion(index, size)
        yield (time.perf_counter() - began) * 1e3
        verify_inclusion(leaf_hash(leaf(ledger.state.records[index].envelope)), index, size, path, log.root())


def _reads(ledger: Ledger, indexes: range) -> Iterator[float]:
    for index in indexes:
        began = time.perf_counter()
        record = ledger.state.stored(ledger.state.book.ids[index])
        yield (time.perf_counter() - began) * 1e3
        assert record is not None and record.leaf_index == index


if __name__ == "__main__":
    what, home = sys.argv[1], Path(sys.argv[2])
    done = asyncio.run(make(home, int(sys.argv[3]))) if what == "make" else reopen(home)
    short = {name: median(value) if isinstance(value, list) else value for name, value in done.items()}
    print(json.dumps(done if "--whole" in sys.argv else short))
