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
from tirami.core.errors import AccountDisabled, UnwitnessedLimit
from tirami.core.keys import SigningKey, sha256
from tirami.net.iroh import IrohEndpoint
from tirami.net.quic import IrohStream
from tirami.proto import Acceptance, Open, Quote, SignedBody, encode, sign

change = msgspec.structs.replace
LINE = 1_000
"""TRM the issuer's grant posts for a payer."""
U, SOLD = 500, 250
"""TRM of one payer at one provider a day, and of a sale: two are within U, the third is within the line only."""


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
    """What a provider sells the cheat, of a line as it says untouched but for the sales it has open with this one."""

    def __init__(self, node: Member, cheat: SigningKey, number: int, beside: tuple[int, ...] = ()) -> None:
        self.node, self.cheat = node, cheat
        now = node.ledger.now()
        parties = {"network": node.ledger.network.id, "provider": node.key.public_key, "payer": cheat.public_key}
        prices = {"price_in": 0, "price_out": 1_000_000}
        self.quote = change(QUOTE, **parties, **prices, max_tokens=SOLD, at_ms=now)
        quoted = encode(self.quote)
        self.acceptance = change(
            ACCEPTANCE,
            **parties,
            incarnation=0,
            number=number,
            settled=0,
            open=tuple(Open(other, SOLD) for other in beside),
            quote_hash=sha256(Quote.TAG, quoted),
            ceiling=SOLD,
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
            completion_tokens=SOLD,
            amount=SOLD,
            at_ms=now,
        )
        self._claim = sha256(node.key.public_key, self.accepted)[:16]
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


async def sold_as_far_as_it_goes(node: Member, cheat: SigningKey, numbers: range) -> list[Sale]:
    """Sales that are open with this provider when it refuses the next one: for U, before it can know of any lie."""
    sales: list[Sale] = []
    with pytest.raises(UnwitnessedLimit):
        for number in numbers:
            sale = Sale(node, cheat, number, tuple(numbers[: len(sales)]))
            await sale.open()
            sales.append(sale)
    return sales


@pytest.mark.alone("within 10 s")
@pytest.mark.row("L1-05")
async def test_one_balance_offered_to_ten_providers_at_once(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Each alone cannot know; together they lose what was sold beyond the line, and the key is served no more."""
    clock, cheat = SystemClock(), SigningKey.generate()
    grants = Grants(clock, unwitnessed_daily_limit=U)
    async with members(tmp_path, 10, IrohEndpoint.bind, grants.network, clock) as nodes:
        in_a_line(nodes)
        await nodes[0].ledger.book_record(grants.next(cheat))[1]
        await converged(nodes, 1, clock, 30)
        most = LINE // SOLD
        offered = [range(10 * number, 10 * number + most) for number in range(1, 11)]
        sales = await asyncio.gather(*map(sold_as_far_as_it_goes, nodes, [cheat] * 10, offered))
        sold = [SOLD * len(there) for there in sales]
        await asyncio.gather(*(sale.close() for there in sales for sale in there))
        began = clock.monotonic()
        guilty = cheat.public_key
        await until(lambda: all(guilty in node.ledger.state.settings.convicted for node in nodes), 60)
        proven = clock.monotonic() - began
        await converged(nodes, 1 + sum(map(len, sales)), clock, 60)

        earned = [node.ledger.balance(node.key.public_key).net for node in nodes]
        lost = [there - one for there, one in zip(sold, earned, strict=True)]
        figure = f"{sum(lost)} TRM lost of {sum(sold)} sold, at most {max(lost)} by one provider, bound {U} each: U"
        print(f"one line of {LINE} TRM before ten, QUIC on loopback: {figure}; proven to all in {proven:.2f} s")
        record_property("figure", f"{figure}; proven to all in {proven:.1f} s, bound 10")
        assert sum(earned) == LINE < sum(sold), "the posted credit is honoured, once"
        assert max(lost) == U < LINE, "no provider loses more than U, and U is what stops it, not the line"
        assert proven <= 10
        for node in nodes:
            with pytest.raises(AccountDisabled):
                await Sale(node, cheat, 999).open()
        honest = SigningKey.generate()
        await nodes[3].ledger.book_record(grants.next(honest))[1]
        await Sale(nodes[3], honest, 1).open()
