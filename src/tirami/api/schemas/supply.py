"""Supply."""

from tirami.api.schemas.base import Reply


class SupplyReply(Reply):
    """TRM, and what follows from how much was issued."""

    total_supply: int
    """The cap."""
    total_minted: int
    """Gross issuance; trading mints nothing (R-05)."""
    total_burned: int
    circulating: int
    supply_factor: float
    current_epoch: int
    yield_rate: float
    """Of an hour."""
    epoch_yield_rate: float
    effective_mint_rate: float
    """TRM a token of the cheapest tier that a work subsidy would mint; see ``work_subsidy``."""
    mint_rates: dict[str, float]
    """The same for each tier."""
    work_subsidy: bool
    """Whether anybody is paid it."""
    transaction_fee_active: bool
