"""The arithmetic of a bill: does a trade agree with what its payer accepted (PROTOCOL B10)?"""

from tirami.core.errors import InvalidProof
from tirami.core.keys import Digest
from tirami.proto import Acceptance, Trade, amount_due


def check_bill(trade: Trade, acceptance: Acceptance, acceptance_id: Digest) -> None:
    """Raises ``InvalidProof`` naming the first field in which the two disagree. Looks at no signature."""
    due = amount_due(trade.price_in, trade.price_out, trade.prompt_tokens, trade.completion_tokens)
    for good, problem, field in (
        (trade.scope in (0, 1), "has an unknown scope", "scope"),
        (trade.payer != trade.provider, "pays itself", "payer"),
        (trade.acceptance_hash == acceptance_id, "cites another acceptance", "acceptance_hash"),
        (trade.quote_hash == acceptance.quote_hash, "and its acceptance cite different quotes", "quote_hash"),
        (
            (acceptance.network, acceptance.scope, acceptance.payer, acceptance.provider)
            == (trade.network, trade.scope, trade.payer, trade.provider),
            "and its acceptance name different parties",
            "payer",
        ),
        (
            (acceptance.incarnation, acceptance.number) == (trade.incarnation, trade.session),
            "and its acceptance have different numbers",
            "session",
        ),
        (trade.completion_tokens > 0, "delivers nothing", "completion_tokens"),
        (trade.amount == due, f"should cost {due} TRM", "amount"),
        (trade.amount <= acceptance.ceiling, "costs more than was accepted", "amount"),
    ):
        if not good:
            raise InvalidProof(f"the trade {problem}", param=field)
