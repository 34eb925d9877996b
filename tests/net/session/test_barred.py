"""A key that is convicted, or ends, while a session of it runs: the session ends there, at the last voucher (B8)."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.net.session.conftest import PROMPT, Mesh, opened_mesh
from tirami.core.errors import AccountDisabled
from tirami.core.keys import SigningKey
from tirami.infer import FinishReason
from tirami.ledger import FraudProven, KeyRotated
from tirami.market import MeteredSession
from tirami.proto import SignedBody, Trade, decode, rotation, signed

LENGTH, AT = 400, 50
WINDOW = 10

Ends = Callable[[Mesh, SigningKey], FraudProven | KeyRotated]


def convicted(mesh: Mesh, key: SigningKey) -> FraudProven:
    return FraudProven(key.public_key, b"proof")


def revoked(mesh: Mesh, key: SigningKey) -> KeyRotated:
    made = rotation(mesh.provider.ledger.network.id, key, None, (0, 1 << 62), mesh.provider.ledger.now())
    order = signed(made, key)
    return KeyRotated(order.body, order.signature)


async def read(mesh: Mesh, told: Callable[[], Awaitable[None]]) -> tuple[int, MeteredSession]:
    """An answer of ``LENGTH``, and after ``AT`` tokens ``told`` is awaited; how many came."""
    mesh.desk.engine.length, mesh.desk.engine.delay = LENGTH, 0.001
    bought = await mesh.asked(LENGTH)
    got = 0
    async with await mesh.begun(bought) as session:
        async for chunk in session:
            got = chunk.count
            if got == AT:
                await told()
    await bought.close()
    await mesh.quiet()
    return got, session


@pytest.mark.parametrize("ends", [convicted, revoked])
async def test_a_payer_is_served_no_further(tmp_path: Path, ends: Ends) -> None:
    """Before, the answer went on to its end, four hundred tokens."""
    async with opened_mesh(tmp_path, voucher_tokens=WINDOW) as mesh:
        provider, sales = mesh.provider.ledger, []
        mesh.service._sold = sales.append
        amounts = []

        async def told() -> None:
            fact = ends(mesh, mesh.payer.key)
            amounts.append(*(claim.amount for claim in provider.state.claims.open.values()))
            await provider.record_facts(fact)

        got, session = await read(mesh, told)
        assert AT <= got <= AT + WINDOW
        assert session.settlement.reason is FinishReason.BARRED
        assert [sale.reason for sale in sales] == [FinishReason.BARRED]
        assert mesh.provider.net == amounts[0] >= len(PROMPT) + AT - 2 * WINDOW, "the last voucher before it, no less"
        assert mesh.desk.engine.running == 0


async def test_a_voucher_of_a_convicted_key_is_not_taken(tmp_path: Path) -> None:
    async with opened_mesh(tmp_path, voucher_tokens=WINDOW) as mesh:
        provider = mesh.provider.ledger
        mesh.desk.engine.length, mesh.desk.engine.stall_after = 100, AT
        bought = await mesh.asked(100)
        async with await mesh.begun(bought) as session:
            while (await anext(session)).count < AT:
                pass
            (claim,) = provider.state.claims.open.values()
            assert claim.vouched is not None
            voucher = claim.voucher
            assert voucher is not None
            written = provider.append([convicted(mesh, mesh.payer.key)])
            with pytest.raises(AccountDisabled):
                provider.receivables.take(
                    claim.opened.id,
                    decode(Trade, voucher.trade_body),
                    SignedBody(voucher.trade_body, voucher.payer_signature),
                )
            await written
        await bought.close()
        await mesh.quiet()


async def test_nothing_more_is_signed_for_a_convicted_provider(tmp_path: Path) -> None:
    """What it was given before stays its: a debit is never taken back."""
    async with opened_mesh(tmp_path, voucher_tokens=WINDOW) as mesh:
        payer, owed = mesh.payer.ledger, []

        async def told() -> None:
            (hold,) = payer.state.holds.open.values()
            assert hold.vouched is not None
            owed.append(hold.vouched.amount)
            await payer.record_facts(convicted(mesh, mesh.provider.key))

        got, session = await read(mesh, told)
        assert got == AT
        assert session.settlement.reason is FinishReason.BARRED
        assert session.settlement.denied is None
        assert session.settlement.cost == mesh.provider.net == owed[0] < len(PROMPT) + AT
        assert payer.books(mesh.payer.key.public_key).settled == owed[0]


async def test_a_provider_whose_key_ends_is_paid_for_what_it_began(tmp_path: Path) -> None:
    async with opened_mesh(tmp_path, voucher_tokens=WINDOW) as mesh:

        async def told() -> None:
            await mesh.payer.ledger.record_facts(revoked(mesh, mesh.provider.key))

        got, session = await read(mesh, told)
        assert (got, session.settlement.cost) == (LENGTH, len(PROMPT) + LENGTH)


async def test_the_gate_itself_lets_no_voucher_to_a_convicted_provider_pass(
    tmp_path: Path,
) -> None:
    async with opened_mesh(tmp_path, voucher_tokens=WINDOW) as mesh:
        bought = await mesh.asked()
        async with await mesh.begun(bought) as session:
            await anext(session)
            (hold,) = mesh.payer.ledger.state.holds.open.values()
            mesh.payer.ledger.state.settings.apply(convicted(mesh, mesh.provider.key), 1, mesh.payer.ledger.now())
            with pytest.raises(AccountDisabled):
                mesh.payer.ledger.gate.check_voucher(hold.opened, hold.provider)
        await bought.close()
        assert session.settlement.cost == 0
