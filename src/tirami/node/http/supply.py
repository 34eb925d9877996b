"""Supply."""

from tirami.api.schemas import SupplyReply
from tirami.core.units import Trm
from tirami.ledger import Tier
from tirami.ledger.supply import epoch_of, fee_active, mint_rate, supply_factor, yield_rate
from tirami.node.http.handlers import Call, handles
from tirami.proto.network import CAP

WORK_SUBSIDY = False
"""Q-01: nobody is paid for having been asked by himself."""


@handles("su_supply", shows_book=True)
async def su_supply(call: Call) -> SupplyReply:
    book = call.parts.ledger.state.book
    minted = Trm(book.minted)
    rate = float(yield_rate(minted))
    return SupplyReply(
        total_supply=CAP,
        total_minted=minted,
        total_burned=book.burned,
        circulating=minted - book.burned,
        supply_factor=float(supply_factor(minted)),
        current_epoch=epoch_of(minted),
        yield_rate=rate,
        epoch_yield_rate=rate,
        effective_mint_rate=float(mint_rate(Tier.SMALL, minted)),
        mint_rates={tier.name.lower(): float(mint_rate(tier, minted)) for tier in Tier},
        work_subsidy=WORK_SUBSIDY,
        transaction_fee_active=fee_active(minted),
    )
