"""Offline check of a settlement statement: every signature, every sum, and the root over exactly its trades."""

import hashlib
from dataclasses import dataclass, field

from tirami.core.errors import InvalidStatement, VerificationError
from tirami.core.keys import PublicKey, Signature
from tirami.core.keys import verify as verify_signature
from tirami.core.units import Trm
from tirami.proto import (
    Statement,
    StatementFile,
    StatementNode,
    StatementTrade,
    Trade,
    decode,
    parse_statement,
    statement_trade,
)
from tirami.proto.statement import csv_row
from tirami.verify.merkle import RunningRoot, leaf_hash

NOBODY = bytes(32)
"""Stands for "everybody's trades" in a statement."""


@dataclass(slots=True)
class _Sums:
    earned: int = 0
    spent: int = 0
    trades: int = 0


@dataclass(slots=True)
class Tally:
    """What a statement says about its trades, added up one by one; memory grows with the parties only."""

    root: RunningRoot = field(default_factory=RunningRoot)
    rows: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    trades: int = 0
    volume: Trm = Trm(0)
    _parties: dict[tuple[str, str], _Sums] = field(default_factory=dict)

    def add(self, trade: StatementTrade) -> None:
        self.root.add(leaf_hash(trade.leaf))
        self.rows.update(csv_row(trade).encode())
        self.trades += 1
        self.volume = Trm(self.volume + trade.trm_amount)
        provider, payer = (self._sums(key, trade.scope) for key in (trade.provider, trade.consumer))
        provider.earned += trade.trm_amount
        payer.spent += trade.trm_amount
        provider.trades += 1
        payer.trades += 1

    def nodes(self, price: float | None) -> list[StatementNode]:
        """Everybody's sums, the largest net first, of equals the smaller key."""
        rows = [
            StatementNode(
                node_id=key,
                scope="local" if scope == "local" else "network",
                gross_earned_trm=sums.earned,
                gross_spent_trm=sums.spent,
                net_trm=sums.earned - sums.spent,
                gross_earned_cu=sums.earned,
                gross_spent_cu=sums.spent,
                net_cu=sums.earned - sums.spent,
                trade_count=sums.trades,
                estimated_payout_value=None if price is None else (sums.earned - sums.spent) * price,
            )
            for (key, scope), sums in self._parties.items()
        ]
        return sorted(rows, key=lambda row: (-row.net_trm, row.node_id, row.scope))

    def _sums(self, key: str, scope: str) -> _Sums:
        return self._parties.setdefault((key, scope), _Sums())


@dataclass(frozen=True, slots=True)
class VerifiedStatement:
    """What a valid statement proves.

    ``trusted``: whether its node was among the keys the caller named. ``next_cursor``, which nobody signed: where the
    node said that the next statement of this window begins.
    """

    statement: Statement
    nodes: list[StatementNode]
    next_cursor: int | None
    trusted: bool


def verify_statement(data: bytes, trusted: frozenset[PublicKey] | None = None) -> VerifiedStatement:
    """Check every byte of a statement that means something, JSON or CSV.

    What no file can show is that nothing was left out; the leaves it covers are named, and every other holder of the
    log can count them.

    Args:
        data: the file.
        trusted: keys the caller knows; the node that made the statement must be among them.

    Raises:
        InvalidStatement: with the first reason found.
    """
    parsed = parse_statement(data)
    body, signature = parsed.statement, parsed.signature
    try:
        statement = decode(Statement, body)
        if not verify_signature(PublicKey(statement.node), Signature(signature), Statement.TAG + body):
            raise InvalidStatement("the node's signature does not verify")
        tally = _added_up(parsed.trades, statement)
    except InvalidStatement:
        raise
    except VerificationError as error:
        raise InvalidStatement(error.message) from error
    found = (tally.trades, tally.volume, tally.root.root(), tally.rows.digest())
    if found != (statement.trades, statement.volume, statement.root, statement.rows_hash):
        raise InvalidStatement("the trades of this file are not the ones the node signed for")
    if parsed.next_cursor not in (None, statement.end):
        raise InvalidStatement("next_cursor disagrees with the signed statement")
    if parsed.summary is not None:
        _check_summary(parsed.summary, statement, tally)
    if trusted is not None and statement.node not in trusted:
        raise InvalidStatement("the statement is signed by a key you did not name as trusted")
    return VerifiedStatement(statement, tally.nodes(None), parsed.next_cursor, trusted is not None)


def _added_up(trades: list[StatementTrade], statement: Statement) -> Tally:
    tally, before = Tally(), statement.first - 1
    for row in trades:
        what = f"trade {row.id}"
        body = bytes.fromhex(row.body)
        signatures = bytes.fromhex(row.payer_signature), bytes.fromhex(row.provider_signature)
        if row != statement_trade(row.leaf_index, row.booked_at, body, *signatures):
            raise InvalidStatement(f"{what}: the readable fields disagree with the signed body")
        trade = decode(Trade, body)
        for key, signature in zip((trade.payer, trade.provider), signatures, strict=True):
            if not verify_signature(PublicKey(key), Signature(signature), Trade.TAG + body):
                raise InvalidStatement(f"{what}: a signature does not verify")
        if trade.network != statement.network:
            raise InvalidStatement(f"{what} belongs to another network")
        if statement.account not in (NOBODY, trade.payer, trade.provider):
            raise InvalidStatement(f"{what} is not one of the account's")
        if not before < row.leaf_index < statement.end:
            raise InvalidStatement(f"{what} stands outside the leaves of the statement, or twice, or out of order")
        if not statement.since_ms <= row.booked_at < statement.until_ms:
            raise InvalidStatement(f"{what} was booked outside the window")
        before = row.leaf_index
        tally.add(row)
    return tally


def _check_summary(file: StatementFile, statement: Statement, tally: Tally) -> None:
    expected = {
        "network": statement.network,
        "network_hash": statement.network_hash.hex(),
        "node_id": statement.node.hex(),
        "account": None if statement.account == NOBODY else statement.account.hex(),
        "window_start": statement.since_ms,
        "window_end": statement.until_ms,
        "generated_at": statement.at_ms,
        "trade_count": statement.trades,
        "total_trm_transferred": statement.volume,
        "merkle_root": statement.root.hex(),
        "reference_price_per_cu": file.reference_price_per_trm,
        "nodes": tally.nodes(file.reference_price_per_trm),
    }
    for name, value in expected.items():
        if getattr(file, name) != value:
            raise InvalidStatement(f"{name} disagrees with the signed statement")
