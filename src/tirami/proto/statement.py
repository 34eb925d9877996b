"""The file of a settlement statement, as JSON or CSV: the exported trades, whole, and the signed :class:`Statement`.

Every row carries the signed body and both signatures of its trade, so that the file proves itself without a node. The
CSV has a header, one row a trade, and a last row ``#statement, body, signature, next leaf``.
"""

import csv
import io
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from tirami.core.errors import InvalidStatement, NonCanonical
from tirami.core.keys import sha256
from tirami.proto.codec import MAX_BODY, decode
from tirami.proto.records import Trade

FORMAT = "tirami/1/settlement"
MAX_STATEMENT = 512 << 20
"""Bytes of a file: more than any node writes in one piece."""
END_MARK = "#statement"
SCOPES = ("network", "local")

HexBytes = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2})+\Z", max_length=2 * MAX_BODY)]
Hex32 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Hex64 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0)]


class StatementTrade(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One exported trade: readable, and as it was signed. Its leaf in the log is body ‖ signatures."""

    id: Hex32
    leaf_index: Count
    booked_at: Count
    """Unix milliseconds, the node's."""
    timestamp: Count
    scope: Literal["network", "local"]
    provider: Hex32
    consumer: Hex32
    trm_amount: Count
    prompt_tokens: Count
    tokens_processed: Count
    flops_estimated: Count
    model_id: Hex32
    session: Count
    body: HexBytes
    payer_signature: Hex64
    provider_signature: Hex64

    @property
    def leaf(self) -> bytes:
        return bytes.fromhex(self.body + self.payer_signature + self.provider_signature)


class StatementNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one key earned and spent among the exported trades; own use (``local``) apart, for it funds nothing."""

    node_id: Hex32
    scope: Literal["network", "local"]
    gross_earned_trm: Count
    gross_spent_trm: Count
    net_trm: int
    gross_earned_cu: Count
    gross_spent_cu: Count
    net_cu: int
    trade_count: Count
    estimated_payout_value: float | None
    """net · reference price, in whatever unit that price was named."""


class StatementFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON file; a CSV has its trades, statement and signature only."""

    format: Literal["tirami/1/settlement"]
    network: str
    network_hash: Hex32
    node_id: Hex32
    account: Hex32 | None
    window_start: Count
    window_end: Count
    generated_at: Count
    reference_price_per_trm: float | None
    reference_price_per_cu: float | None
    trades: list[StatementTrade]
    trade_count: Count
    total_trm_transferred: Count
    merkle_root: Hex32
    nodes: list[StatementNode]
    next_cursor: Count | None
    statement: HexBytes
    signature: Hex64


class ParsedStatement(msgspec.Struct, frozen=True):
    """What JSON and CSV have in common. ``next_cursor`` is not signed; ``summary`` is the rest of a JSON file."""

    trades: list[StatementTrade]
    statement: bytes
    signature: bytes
    next_cursor: int | None
    summary: StatementFile | None = None


def statement_trade(
    leaf_index: int, booked_ms: int, body: bytes, payer_signature: bytes, provider_signature: bytes
) -> StatementTrade:
    """The row of a trade. Raises ``NonCanonical`` when ``body`` is none."""
    trade = decode(Trade, body)
    if trade.scope >= len(SCOPES):
        raise NonCanonical("a trade of an unknown scope")
    return StatementTrade(
        id=sha256(Trade.TAG, body).hex(),
        leaf_index=leaf_index,
        booked_at=booked_ms,
        timestamp=trade.at_ms,
        scope="local" if trade.scope else "network",
        provider=trade.provider.hex(),
        consumer=trade.payer.hex(),
        trm_amount=trade.amount,
        prompt_tokens=trade.prompt_tokens,
        tokens_processed=trade.completion_tokens,
        flops_estimated=trade.flop,
        model_id=trade.model_digest.hex(),
        session=trade.session,
        body=body.hex(),
        payer_signature=payer_signature.hex(),
        provider_signature=provider_signature.hex(),
    )


def csv_header() -> str:
    return _row(StatementTrade.__struct_fields__)


def csv_row(trade: StatementTrade) -> str:
    return _row(msgspec.structs.astuple(trade))


def csv_end(statement: bytes, signature: bytes, next_cursor: int | None) -> str:
    return _row((END_MARK, statement.hex(), signature.hex(), "" if next_cursor is None else next_cursor))


def _row(cells: Iterable[object]) -> str:
    """Digits, hex and plain words: no cell needs quotes."""
    return ",".join(map(str, cells)) + "\r\n"


def parse_statement(data: bytes) -> ParsedStatement:
    """Raises ``InvalidStatement``."""
    if len(data) > MAX_STATEMENT:
        raise InvalidStatement(f"a statement has at most {MAX_STATEMENT} bytes")
    try:
        if data.startswith(b"{"):
            file = msgspec.json.decode(data, type=StatementFile)
            body, signature = bytes.fromhex(file.statement), bytes.fromhex(file.signature)
            return ParsedStatement(file.trades, body, signature, file.next_cursor, file)
        return _from_csv(data.decode("ascii"))
    except (msgspec.MsgspecError, ValueError, csv.Error, RecursionError) as error:
        raise InvalidStatement(f"not a settlement statement: {error}") from error


def _from_csv(text: str) -> ParsedStatement:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    names = StatementTrade.__struct_fields__
    if tuple(next(rows, ())) != names:
        raise ValueError("the first row names other columns")
    trades: list[StatementTrade] = []
    for row in rows:
        if row[:1] == [END_MARK]:
            if next(rows, None) is not None or len(row) != 4:
                raise ValueError("something follows its last row")
            following = int(row[3]) if row[3] else None
            return ParsedStatement(trades, bytes.fromhex(row[1]), bytes.fromhex(row[2]), following)
        cells = dict(zip(names, row, strict=True))
        trades.append(msgspec.convert(cells, type=StatementTrade, strict=False))
    raise ValueError("it ends before its last row")
