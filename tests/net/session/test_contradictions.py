"""An acceptance that contradicts a session its payer has open here is refused before the engine begins (B8)."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.net.session.conftest import PROMPT, Mesh, opened_mesh
from tests.net.session.test_adversaries import resigned
from tests.waiting import until
from tirami.core.errors import EngineFailed, PeerRefused
from tirami.core.keys import sha256
from tirami.ledger import Evidence
from tirami.ledger.gate import Gate
from tirami.market import MeteredSession
from tirami.net.frames import FrameWriter
from tirami.net.session import consumer
from tirami.proto import Accept, Acceptance, Cited, Message, Open, Payment, Trade, decode
from tirami.verify import verify_fraud

WINDOW, LENGTH, FIRST = 10, 100, 20
Lie = Callable[[Acceptance, Acceptance], dict[str, Any]]
"""Fields of the second acceptance, by the first and the honest second."""


@dataclass
class Liar:
    """A payer whose second acceptance says something else than its books, and whose vouchers stand under it."""

    mesh: Mesh
    lie: Lie
    proofs: list[bytes] = field(default_factory=list)
    first: MeteredSession | None = None

    async def second(self) -> int:
        """Tokens of a second session. Raises ``EngineFailed`` because of ``PeerRefused``."""
        bought = await self.mesh.asked(LENGTH)
        got = 0
        try:
            async with await self.mesh.begun(bought) as session:
                async for chunk in session:
                    got = chunk.count
        finally:
            await bought.close()
        return got


@asynccontextmanager
async def lying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: Lie, **parameters: int) -> AsyncIterator[Liar]:
    """After the first ``FIRST`` tokens of its first session, which is open, at a provider that keeps evidence."""
    async with opened_mesh(tmp_path, voucher_tokens=WINDOW, **parameters) as mesh:
        mesh.desk.engine.length = LENGTH
        liar, evidence, key = Liar(mesh, lie), Evidence(mesh.provider.ledger.network.id), mesh.payer.key
        said: list[Acceptance] = []

        def seen(pieces: Sequence[Cited]) -> bool:
            found = [proof for proof in map(evidence.see, pieces) if proof]
            liar.proofs += found
            return bool(found)

        class Lying(FrameWriter):
            told: bytes | None = None

            async def write(self, message: Message) -> None:
                if isinstance(message, Accept):
                    said.append(decode(Acceptance, message.acceptance.body))
                    if len(said) == 2:
                        lie = resigned(Acceptance, message.acceptance.body, key, **liar.lie(*said))
                        self.told, message = lie.body, Accept(lie)
                elif isinstance(message, Payment) and self.told is not None:
                    number, hashed = decode(Acceptance, self.told).number, sha256(Acceptance.TAG, self.told)
                    message = Payment(resigned(Trade, message.trade.body, key, session=number, acceptance_hash=hashed))
                await super().write(message)

        mesh.service._seen = seen
        monkeypatch.setattr(consumer, "FrameWriter", Lying)
        monkeypatch.setattr(Gate, "check", lambda *_, **__: ())  # a liar's own gate lets everything pass
        bought = await mesh.asked(LENGTH)
        async with await mesh.begun(bought) as liar.first:
            while (await anext(liar.first)).count < FIRST:
                pass
            await until(lambda: mesh.provider.ledger.state.claims.of(key.public_key)[0].amount > 0)
            yield liar
        await bought.close()
        await mesh.quiet()


def refusal(failed: BaseException) -> object:
    """The code that the provider refused with."""
    assert isinstance(failed.__cause__, PeerRefused)
    return failed.__cause__.data["refused"]


def same_number(first: Acceptance, second: Acceptance) -> dict[str, Any]:
    return {"number": first.number, "open": ()}


def low_ceiling(first: Acceptance, second: Acceptance) -> dict[str, Any]:
    return {"open": tuple(Open(session.number, 1) for session in second.open)}


def left_out(first: Acceptance, second: Acceptance) -> dict[str, Any]:
    """S does not cover what the session that is not listed has a voucher for."""
    return {"open": ()}


@pytest.mark.parametrize(
    ("lie", "offence"), [(same_number, "same-number"), (low_ceiling, "ceiling"), (left_out, "totals")]
)
async def test_it_is_refused_at_once_and_the_proof_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: Lie, offence: str
) -> None:
    """Two sessions whose totals cross: the second gets no token, and the first is worth its vouchers."""
    async with lying(tmp_path, monkeypatch, lie) as liar:
        mesh = liar.mesh
        with pytest.raises(EngineFailed) as failed:
            await liar.second()
        assert refusal(failed.value) == "account_disabled"
        assert mesh.desk.engine.opened == 1, "the engine never began"
        (proof,) = liar.proofs
        verdict = verify_fraud(proof)
        assert (verdict.guilty, verdict.kind) == (mesh.payer.key.public_key, offence)


async def test_a_number_whose_session_is_over_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two amounts under one number the book counts the higher: the second answer would be had for nothing."""
    async with lying(tmp_path, monkeypatch, same_number) as liar:
        assert liar.first is not None
        async for _ in liar.first:
            pass
        await liar.first.settle()
        await liar.mesh.quiet()
        with pytest.raises(EngineFailed) as failed:
            await liar.second()
        assert refusal(failed.value) == "account_disabled"
        assert (len(liar.proofs), liar.mesh.desk.engine.opened) == (1, 1)


async def test_what_agrees_is_served_beside_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with lying(tmp_path, monkeypatch, lambda first, second: {}) as liar:
        assert await liar.second() == LENGTH
        assert liar.first is not None
        async for _ in liar.first:
            pass
    assert liar.proofs == []
    assert liar.mesh.provider.net == 2 * (len(PROMPT) + LENGTH)


async def test_a_total_that_is_not_covered_is_refused_without_a_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Honest lists and too little money for both: that is no fraud."""
    async with lying(tmp_path, monkeypatch, lambda first, second: {}, welcome_limit=150) as liar:
        with pytest.raises(EngineFailed) as failed:
            await liar.second()
        assert refusal(failed.value) == "insufficient_funds"
        assert (liar.proofs, liar.mesh.desk.engine.opened) == ([], 1)
