"""Fraud proofs: who is convicted, and the file by which anybody can see it."""

import asyncio
from itertools import islice

from starlette.responses import Response

from tirami.api.schemas import FraudEntry, FraudsQuery, FraudsReply
from tirami.core.errors import FraudNotFound
from tirami.node.http.handlers import Call, handles


@handles("frauds", shows_book=True)
async def frauds(call: Call) -> FraudsReply:
    query: FraudsQuery = call.query
    convicted = call.parts.ledger.state.settings.convicted
    newest = islice(reversed(convicted.values()), query.limit)
    found = [FraudEntry(id=one.evidence_id.hex(), guilty=one.key.hex(), at_ms=one.at_ms) for one in newest]
    return FraudsReply(count=len(convicted), frauds=found)


@handles("fraud", shows_book=True)
async def fraud(call: Call) -> Response:
    wanted, ledger = call.digest(FraudNotFound), call.parts.ledger
    found = (one for one in ledger.state.settings.convicted.values() if one.evidence_id == wanted)
    conviction = next(found, None)
    if conviction is None:
        raise FraudNotFound("no such fraud proof", param="id")
    return Response(await asyncio.to_thread(ledger.proof, conviction), media_type="application/json")
