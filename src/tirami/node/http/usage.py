"""Usage by day."""

from collections.abc import Iterable
from datetime import UTC, datetime

from tirami.api.schemas import UsageDay, UsageEntry, UsageQuery, UsageReply
from tirami.core.units import DAY_MS
from tirami.ledger import UsageSums
from tirami.node.http.economy import visible_account
from tirami.node.http.handlers import Call, handles


@handles("usage", shows_book=True)
async def usage(call: Call) -> UsageReply:
    query: UsageQuery = call.query
    ledger, account = call.parts.ledger, visible_account(call, query.node)
    since = ledger.now() // DAY_MS - query.days + 1
    days = ledger.state.usage.of(account, since)
    return UsageReply(
        node_id=account.hex(),
        network=ledger.network.id,
        spent=_total(used.spent for _, used in days),
        earned=_total(used.earned for _, used in days),
        days=[
            UsageDay(
                day=datetime.fromtimestamp(day * DAY_MS / 1000, UTC).date().isoformat(),
                spent=_total([used.spent]),
                earned=_total([used.earned]),
            )
            for day, used in days
        ],
    )


def _total(sums: Iterable[UsageSums]) -> UsageEntry:
    every = list(sums)
    return UsageEntry(
        requests=sum(entry.requests for entry in every),
        prompt_tokens=sum(entry.prompt_tokens for entry in every),
        completion_tokens=sum(entry.completion_tokens for entry in every),
        trm=sum(entry.trm for entry in every),
        flop=sum(entry.flop for entry in every),
    )
