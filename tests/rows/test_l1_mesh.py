"""The ledger among others, over real sockets: records reach everybody, and a double spender is served by nobody."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.net.mesh import Grants, Member, Spread, converged, counted, in_a_line, members
from tests.proto.samples import ACCEPTANCE, QUOTE, TRADE
from tests.waiting import until
from tirami.core.clock import SystemClock
from tirami.core.errors import AccountDisabled
from tirami.core.keys import SigningKey, sha256
from tirami.net.iroh import IrohEndpoint
from tirami.net.quic import IrohStream
from tirami.proto import Acceptance, Quote, SignedBody, encode, sign

change = msgspec.structs.replace
LINE = 1_000
"""TRM the issuer's grant posts for a payer."""


@pytest.mark.alone("within 5 s")
@pytest.mark.row("L1-04")
async def test_eight_nodes_in_a_line_agree_over_quic(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    clock, traffic = SystemClock(), counted(IrohStream, monkeypatch)
    grants = Grants(clock)
    async with members(tmp_path, 8, IrohEndpoint.bind, grants.network, clock) as nodes:
        in_a_line(nodes)
        await until(lambda: all(len(node.mesh.peers) == 2 for node in nodes[1:-1]), 30)
        spread = Spread(traffic, medium := "QUIC on loopback, one process, frames without what QUIC adds", clock)
        for number in range(40):
            await grants.trade(nodes[number % 8])
        took = await converged(nodes, 80, clock, 60)
        spread.told("8 in a line", 8, 80)
        messages, size = spread.cost(8, 80)
        record_property("figure", f"{took:.2f} s after the last was booked; {spread.each(8, 80)}, {medium}")
    assert took < 5
    assert messages < 8 and size < 2_000, "heads and heartbeats included; a record is some 400 bytes"


class Sale:
    """What a provider sells the cheat, up to the acceptance: 500 tokens for 500 TRM of its line of 1 000."""

    def __init__(self, node: Member, cheat: SigningKey, number: int) -> None:
        self.node, self.cheat = node, cheat
        now = node.ledger.now()
        parties = {"network": node.ledger.network.id, "provider": node.key.public_key, "payer": cheat.public_key}
        prices = {"price_in": 0, "price_out": 1_000_000}
        self.quote = change(QUOTE, **parties, **prices, max_tokens=600, at_ms=now)
        quoted = encode(self.quote)
        self.acceptance = change(
            ACCEPTANCE,
            **parties,
            incarnation=0,
            number=number,
            settled=0,
            open=(),
            quote_hash=sha256(Quote.TAG, quoted),
            ceiling=600,
            at_ms=now,
        )
        self.accepted = encode(self.acceptance)
        self.trade = change(
            TRADE,
            **parties,
            **prices,
            session=number,
            quote_hash=self.acceptance.quote_hash,
            acceptance_hash=sha256(Acceptance.TAG, self.accepted),
            completion_tokens=500,
            amount=500,
            at_ms=now,
        )
        self._claim = sha256(node.key.public_key)[:16]
        self._quoted = SignedBody(quoted, sign(self.quote, node.key))

    async def open(self) -> None:
        accepted = SignedBody(self.accepted, sign(self.acceptance, self.cheat))
        _, written = self.node.ledger.receivables.open(self._claim, self.quote, self._quoted, accepted)
        await written

    async def close(self) -> None:
        receivables = self.node.ledger.receivables
        voucher = SignedBody(encode(self.trade), sign(self.trade, self.cheat))
        await receivables.take(self._claim, self.trade, voucher)
        assert await receivables.settle(self._claim, "stop") is not None


@pytest.mark.alone("within 10 s")
@pytest.mark.row("L1-05")
async def test_one_balance_offered_to_ten_providers_at_once(tmp_path: Path) -> None:
    """Each alone cannot know; together they lose what was sold beyond the line, and the key is served no more."""
    clock, cheat = SystemClock(), SigningKey.generate()
    grants = Grants(clock)
    async with members(tmp_path, 10, IrohEndpoint.bind, grants.network, clock) as nodes:
        in_a_line(nodes)
        await nodes[0].ledger.book_record(grants.next(cheat))[1]
        await converged(nodes, 1, clock, 30)
        sales = [Sale(node, cheat, number) for number, node in enumerate(nodes, 1)]
        await asyncio.gather(*(sale.open() for sale in sales))
        await asyncio.gather(*(sale.close() for sale in sales))
        began = clock.monotonic()
        guilty = cheat.public_key
        await until(lambda: all(guilty in node.ledger.state.settings.convicted for node in nodes), 60)
        proven = clock.monotonic() - began
        await converged(nodes, 11, clock, 60)

        earned = [node.ledger.balance(node.key.public_key).net for node in nodes]
        daily = grants.network.parameters.unwitnessed_daily_limit
        print(f"one line of {LINE} TRM sold ten times, QUIC on loopback: proven to all in {proven:.2f} s; sold 5 000,")
        print(f"honoured {sum(earned)}, lost {5_000 - sum(earned)}; at most {daily} TRM a day by one provider (U)")
        assert sum(earned) == LINE, "the posted credit is honoured, once"
        assert all(500 - one <= daily for one in earned)
        assert proven <= 10
        for node in nodes:
            with pytest.raises(AccountDisabled):
                await Sale(node, cheat, 99).open()
        honest = SigningKey.generate()
        await nodes[3].ledger.book_record(grants.next(honest))[1]
        await Sale(nodes[3], honest, 1).open()
