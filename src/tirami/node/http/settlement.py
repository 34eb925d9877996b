"""Settlement statements, streamed, and the anchor payload."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from tirami.api.schemas import AnchorQuery, AnchorReply, SettlementQuery
from tirami.core.errors import InvalidField
from tirami.core.units import UnixMs
from tirami.ledger import StatementRun, StatementWindow
from tirami.node.http.departure import put, until_gone
from tirami.node.http.economy import visible_account
from tirami.node.http.handlers import Call, handles
from tirami.node.http.log import head_entry
from tirami.proto import AnchorNetwork, Statement, anchor_payload, anchor_script, decode
from tirami.proto.statement import FORMAT, csv_end, csv_header, csv_row

HOUR_MS = 3_600_000
_ANCHOR_NAMES = {
    AnchorNetwork.MAINNET: "Bitcoin",
    AnchorNetwork.TESTNET: "Testnet",
    AnchorNetwork.SIGNET: "Signet",
    AnchorNetwork.REGTEST: "Regtest",
}


@handles("settlement", shows_book=True)
async def settlement(call: Call) -> Response:
    query: SettlementQuery = call.query
    ledger = call.parts.ledger
    account = call.caller.account if query.node is None else visible_account(call, query.node)
    now = ledger.now()  # a window that is still going on would be signed for before its last trade
    until = now if query.until is None else min(UnixMs(query.until), now)
    since = UnixMs(max(0, until - query.hours * HOUR_MS) if query.since is None else query.since)
    if since > until:
        raise InvalidField("the window ends before it begins", param="since")
    window = StatementWindow.of(ledger.state, since, until, query.cursor or 0)
    run = StatementRun(ledger, window, account, query.limit)
    if query.format == "csv":
        return Pieces(_as_csv(call, run), "text/csv; charset=utf-8; header=present")
    return Pieces(_as_json(call, run, query.reference_price_per_trm), "application/json")


@handles("anchor")
async def anchor(call: Call) -> AnchorReply:
    query: AnchorQuery = call.query
    network = AnchorNetwork[query.network.upper()]
    signed = await call.parts.heads.current()
    payload = anchor_payload(signed.head.root, network)
    return AnchorReply(
        merkle_root_hex=signed.head.root.hex(),
        script_hex=anchor_script(payload).hex(),
        payload_hex=payload.hex(),
        network=_ANCHOR_NAMES[network],
        payload_len=len(payload),
        head=head_entry(signed),
    )


async def _as_csv(call: Call, run: StatementRun) -> AsyncIterator[bytes]:
    yield csv_header().encode()
    for rows in run:
        yield "".join(map(csv_row, rows)).encode()
    signed = run.sign(call.parts.key)
    yield csv_end(signed.body, signed.signature, run.next_cursor).encode()


async def _as_json(call: Call, run: StatementRun, price: float | None) -> AsyncIterator[bytes]:
    """The members of :class:`tirami.proto.StatementFile`; sums follow the trades, once they are known."""
    yield b'{"format":' + msgspec.json.encode(FORMAT) + b',"trades":['
    separator = b""
    for rows in run:
        if rows:
            yield separator + b",".join(map(msgspec.json.encode, rows))
            separator = b","
        else:
            yield b""
    signed = run.sign(call.parts.key)
    statement = decode(Statement, signed.body)
    rest = {
        "network": statement.network,
        "network_hash": statement.network_hash.hex(),
        "node_id": statement.node.hex(),
        "account": statement.account.hex() if any(statement.account) else None,
        "window_start": statement.since_ms,
        "window_end": statement.until_ms,
        "generated_at": statement.at_ms,
        "reference_price_per_trm": price,
        "reference_price_per_cu": price,
        "trade_count": statement.trades,
        "total_trm_transferred": statement.volume,
        "merkle_root": statement.root.hex(),
        "nodes": run.tally.nodes(price),
        "next_cursor": run.next_cursor,
        "statement": signed.body.hex(),
        "signature": signed.signature.hex(),
    }
    yield b"]," + msgspec.json.encode(rest)[1:]


class Pieces(Response):
    """A body sent piece by piece; between two, the event loop serves others. Ends when the client goes away."""

    def __init__(self, pieces: AsyncIterator[bytes], media_type: str) -> None:
        super().__init__(media_type=media_type)
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        sending = await until_gone(receive, self._send_all(send))
        if not sending.cancelled() and (error := sending.exception()) is not None:
            raise error

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        with suppress(TimeoutError):
            async for piece in self._pieces:
                await asyncio.sleep(0)
                await put(send, {"type": "http.response.body", "body": piece, "more_body": True})
            await put(send, {"type": "http.response.body", "body": b"", "more_body": False})
