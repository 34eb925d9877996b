"""A hosted account as the owner of an API key sees it, and what it was charged."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.processes import NodeProcess
from tirami.api.schemas import AccountRequest, PolicyRequest, TokenRequest, TradeEntry, TradesQuery
from tirami.proto import amount_due

MODEL = "smollm2:135m"
TESTING = "tirami-testing"
"""What the testing engine calls its model."""
QUESTION = "Tell me about the sea."
MESSAGES = [{"role": "user", "content": QUESTION}]
ENDLESS = {"0": -100, "2": -100}
"""A bias with which the small model never draws a token that ends its answer: for those that are broken off."""


@dataclass
class Bill:
    """What an account paid between entering and leaving :meth:`Customer.billed`."""

    trades: list[TradeEntry] = field(default_factory=list)
    charged: int = 0

    @property
    def completion_tokens(self) -> int:
        return sum(trade.tokens_processed for trade in self.trades)

    def is_nothing(self) -> bool:
        return not self.trades and not self.charged

    def is_for(self, usage: Any, told: Mapping[str, Any]) -> bool:
        """One trade for exactly what the answer said: ``usage`` as the client parsed it, ``told`` its ``x_tirami``."""
        (trade,) = self.trades
        due = amount_due(told["price_in_utrm"], told["price_out_utrm"], usage.prompt_tokens, usage.completion_tokens)
        assert (trade.id, trade.trm_amount) == (told["trade_id"], told["trm_cost"])
        assert (trade.prompt_tokens, trade.tokens_processed) == (usage.prompt_tokens, usage.completion_tokens)
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        return self.charged == told["trm_cost"] == due > 0


@dataclass(frozen=True)
class Customer:
    """``url`` is the base URL clients are given, ``token`` their key."""

    node: NodeProcess
    account: str
    token: str

    @property
    def url(self) -> str:
        return f"{self.node.url}/v1"

    @contextmanager
    def billed(self) -> Iterator[Bill]:
        """Everything the account pays inside, once no answer of it is open any more."""
        bill = Bill()
        with self.node.client(self.token) as client:
            before = client.balance()
            known = {trade.id for trade in client.trades(TradesQuery(limit=100)).trades}
            yield bill
            deadline = time.monotonic() + 10
            while (after := client.balance()).reserved:
                assert time.monotonic() < deadline, "an answer is still open"
                time.sleep(0.02)
            bill.trades = [trade for trade in client.trades(TradesQuery(limit=100)).trades if trade.id not in known]
        bill.charged = after.consumed - before.consumed
        assert bill.charged == sum(trade.trm_amount for trade in bill.trades)
        assert after.effective_balance == before.effective_balance - bill.charged

    def settled_at(self, told: Mapping[str, Any]) -> bool:
        """Whether the balance an answer told is the one the node tells now."""
        with self.node.client(self.token) as client:
            return client.balance().effective_balance == told["effective_balance"]

    def idle(self, within: float = 5) -> bool:
        """Whether the engine comes to rest: an abandoned answer gives its slot back."""
        deadline = time.monotonic() + within
        with self.node.client(self.token) as client:
            while client.status().engine.busy:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.01)
        return True


def new_customer(node: NodeProcess, per_request: int | None = None) -> Customer:
    """An account with the welcome line of the network that nobody needs to approve of.

    ``per_request``: the most one request of it may cost.
    """
    with node.admin() as admin:
        account = admin.create_account(AccountRequest(label="client")).account
        limits = {} if per_request is None else {"max_cu_per_request": per_request}
        admin.set_policy(
            PolicyRequest(node_id=account, human_approval_threshold=None, max_spends_per_minute=None, **limits)
        )
        token = admin.issue_token(TokenRequest(scope="inference", node_id=account)).token
    return Customer(node, account, token)
