"""What the chunks and the body of one answer have in common: id, model, usage, cost."""

import secrets
import time
from collections.abc import Sequence

from tirami.api.schemas import CompletionTokensDetails, Usage, XForge, XTirami
from tirami.core.errors import TiramiError
from tirami.ledger import LOCAL
from tirami.market import Settlement, Ticket
from tirami.node.http.handlers import Call
from tirami.node.http.replies import error_event


class Frame:
    """One answer to ``call`` under ``ticket``; its id begins with ``prefix``."""

    def __init__(self, call: Call, ticket: Ticket, prefix: str) -> None:
        self.call = call
        self.id = f"{prefix}{secrets.token_hex(8)}"
        self.created = int(time.time())
        self.model = ticket.card.name
        self._ticket = ticket

    def usage(self, settlements: Sequence[Settlement | None], prompts: Sequence[int]) -> Usage:
        """Each prompt is counted once, however many choices answer it; of the answers, what was delivered."""
        read: dict[int, int] = {}
        for settlement, prompt in zip(settlements, prompts, strict=True):
            if settlement is not None:
                read[prompt] = max(read.get(prompt, 0), settlement.reading.prompt_tokens)
        written = sum(s.bill.completion_tokens for s in settlements if s is not None and s.bill is not None)
        total = sum(read.values())
        thought = sum(_thought(settlement) for settlement in settlements if settlement is not None)
        return Usage(
            prompt_tokens=total,
            completion_tokens=written,
            total_tokens=total + written,
            completion_tokens_details=CompletionTokensDetails(reasoning_tokens=thought) if thought else None,
        )

    def x_tirami(self, settlements: Sequence[Settlement | None]) -> XTirami:
        ledger, ticket = self.call.parts.ledger, self._ticket
        ended = [settlement for settlement in settlements if settlement is not None]
        bills = [settlement.bill for settlement in ended if settlement.bill is not None]
        readings = [settlement.reading for settlement in ended]
        ids = tuple(settlement.record_id.hex() for settlement in ended if settlement.record_id is not None)
        return XTirami(
            trm_cost=sum(settlement.cost for settlement in ended),
            owed_trm=sum(settlement.cost for settlement in ended if settlement.trade is None),
            provider=ticket.provider.hex(),
            payer=ticket.payer.key.hex(),
            effective_balance=ledger.balance(ticket.payer.key).effective,
            provider_effective_balance=ledger.own_use().effective if ticket.payer.scope == LOCAL else None,
            trade_id=ids[0] if ids else None,
            trade_ids=ids,
            request_id=self.call.request_id,
            network=ledger.network.id,
            network_hash=ledger.network.hash.hex(),
            price_in_utrm=ticket.price.prompt,
            price_out_utrm=ticket.price.completion,
            flop=sum(bill.flop for bill in bills),
            ttft_ms=readings[0].ttft_ms,
            wall_ms=max(reading.wall_ms for reading in readings),
            peak_memory_bytes=max(reading.peak_memory_bytes for reading in readings),
            counted_by=readings[0].counted_by.value,
            ids_complete=all(reading.ids_complete for reading in readings),
        )

    def extensions(self, settlements: Sequence[Settlement | None]) -> dict[str, XTirami | XForge]:
        """What an answer carries beside the OpenAI fields."""
        ours = self.x_tirami(settlements)
        if not self.call.forge:
            return {"x_tirami": ours}
        return {"x_tirami": ours, "x_forge": XForge(cu_cost=ours.trm_cost, effective_balance=ours.effective_balance)}

    def dumped(self, settlements: Sequence[Settlement | None]) -> dict[str, object]:
        """:meth:`extensions` for an event; empty when no choice ever began."""
        if not any(settlements):
            return {}
        return {name: extension.model_dump() for name, extension in self.extensions(settlements).items()}

    def error(self, failure: TiramiError) -> bytes:
        return error_event(failure, self.call.request_id, forge=self.call.forge)


def _thought(settlement: Settlement) -> int:
    """Tokens of reasoning among those that were delivered."""
    billed = settlement.bill.completion_tokens if settlement.bill is not None else 0
    return min(settlement.reading.reasoning_tokens, billed)
