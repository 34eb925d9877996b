"""Settlement statements, one lie at a time; everything else about the file is true and signed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from tests.proto.samples import AGENT, AT, NODE, PAYER, STATEMENT, TRADE, Log
from tirami.core.errors import InvalidStatement
from tirami.core.keys import PublicKey, SigningKey
from tirami.proto import (
    Statement,
    StatementFile,
    StatementNode,
    StatementTrade,
    Trade,
    encode,
    sign,
    statement_trade,
)
from tirami.proto.statement import FORMAT, csv_end, csv_header, csv_row
from tirami.verify import NOBODY, verify_statement

OTHER = SigningKey.from_seed(b"\x05" * 32)
FIRST, END, PRICE = 3, 20, 0.5
SINCE, UNTIL = STATEMENT.since_ms, STATEMENT.until_ms


def sold(
    index: int,
    payer: SigningKey,
    provider: SigningKey,
    amount: int,
    *,
    booked_ms: int = AT + 10,
    signers: tuple[SigningKey, SigningKey] | None = None,
    **fields: object,
) -> StatementTrade:
    trade: Trade = msgspec.structs.replace(
        TRADE, payer=payer.public_key, provider=provider.public_key, amount=amount, **fields
    )
    signatures = [sign(trade, key) for key in signers or (payer, provider)]
    return statement_trade(index, booked_ms, encode(trade), signatures[0], signatures[1])


TRADES = (
    sold(3, PAYER, NODE, 5, booked_ms=SINCE),
    sold(4, PAYER, NODE, 7),
    sold(7, AGENT, PAYER, 4),
    sold(8, OTHER, NODE, 4),
    sold(19, AGENT, NODE, 9, scope=1, booked_ms=UNTIL - 1),
)


def party(key: SigningKey, earned: int, spent: int, trades: int, price: float | None, local: bool) -> StatementNode:
    net = earned - spent
    scope, payout = "local" if local else "network", None if price is None else net * price
    return StatementNode(key.public_key.hex(), scope, earned, spent, net, earned, spent, net, trades, payout)  # type: ignore[arg-type]


def parties(price: float | None) -> list[StatementNode]:
    """What :data:`TRADES` add up to, by hand: the largest net first, of equals the smaller key."""
    equal = sorted((party(key, 0, 4, 1, price, False) for key in (AGENT, OTHER)), key=lambda row: row.node_id)
    return [
        party(NODE, 16, 0, 3, price, False),
        party(NODE, 9, 0, 1, price, True),
        *equal,
        party(PAYER, 4, 12, 3, price, False),
        party(AGENT, 0, 9, 1, price, True),
    ]


@dataclass(frozen=True)
class File:
    """A file about ``trades`` whose signed part says ``fields`` instead of the truth."""

    trades: Sequence[StatementTrade] = TRADES
    signer: SigningKey = NODE
    next_cursor: int | None = None

    def signed(self, **fields: object) -> Statement:
        truth: dict[str, object] = {
            "account": NOBODY,
            "first": FIRST,
            "end": END,
            "trades": len(self.trades),
            "volume": sum(trade.trm_amount for trade in self.trades),
            "root": Log(tuple(trade.leaf for trade in self.trades)).root(),
            "rows_hash": hashlib.sha256("".join(map(csv_row, self.trades)).encode()).digest(),
        }
        return msgspec.structs.replace(STATEMENT, **truth | fields)

    def csv(self, **fields: object) -> bytes:
        statement = self.signed(**fields)
        end = csv_end(encode(statement), sign(statement, self.signer), self.next_cursor)
        return (csv_header() + "".join(map(csv_row, self.trades)) + end).encode()

    def json(self, nodes: list[StatementNode], signed: dict[str, Any] | None = None, /, **lies: Any) -> bytes:
        """``lies`` stand in the readable part, beside a signed part that says otherwise."""
        statement = self.signed(**signed or {})
        file = StatementFile(
            format=FORMAT,  # type: ignore[arg-type]
            network=statement.network,
            network_hash=statement.network_hash.hex(),
            node_id=statement.node.hex(),
            account=None,
            window_start=SINCE,
            window_end=UNTIL,
            generated_at=statement.at_ms,
            reference_price_per_trm=PRICE,
            reference_price_per_cu=PRICE,
            trades=list(self.trades),
            trade_count=statement.trades,
            total_trm_transferred=statement.volume,
            merkle_root=statement.root.hex(),
            nodes=nodes,
            next_cursor=self.next_cursor,
            statement=encode(statement).hex(),
            signature=sign(statement, self.signer).hex(),
        )
        return msgspec.json.encode(msgspec.structs.replace(file, **lies))


def refused(data: bytes, words: str, trusted: frozenset[PublicKey] | None = None) -> InvalidStatement:
    with pytest.raises(InvalidStatement, match=words) as caught:
        verify_statement(data, trusted)
    return caught.value


# --- the truth -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cursor", [None, END])
def test_what_a_statement_adds_up_to(cursor: int | None) -> None:
    file = File(next_cursor=cursor)
    for data in (file.csv(), file.json(parties(PRICE))):
        verified = verify_statement(data)
        assert verified.statement == file.signed()
        assert verified.nodes == parties(None)
        assert (verified.next_cursor, verified.trusted) == (cursor, False)
    verify_statement(file.json(parties(None), reference_price_per_trm=None, reference_price_per_cu=None))


def test_nothing_may_have_been_sold() -> None:
    assert verify_statement(File(()).csv()).nodes == verify_statement(File(()).json([])).nodes == []


def test_one_accounts_statement_has_what_it_bought_and_what_it_sold() -> None:
    file, account = File(TRADES[:3]), PAYER.public_key
    nodes = [
        party(NODE, 12, 0, 2, PRICE, False),
        party(AGENT, 0, 4, 1, PRICE, False),
        party(PAYER, 4, 12, 3, PRICE, False),
    ]
    assert verify_statement(file.json(nodes, {"account": account}, account=account.hex())).nodes[2].net_trm == -8
    refused(file.json(nodes, {"account": account}), "account disagrees")
    refused(File(TRADES[:4]).csv(account=account), f"{TRADES[3].id} is not one of the account's")


def test_the_node_must_be_one_the_reader_knows() -> None:
    file = File().csv()
    assert verify_statement(file, frozenset({PAYER.public_key, NODE.public_key})).trusted
    refused(file, "did not name as trusted", frozenset({PAYER.public_key}))
    refused(file, "did not name as trusted", frozenset())


# --- lies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [{"trades": 6}, {"volume": 30}, {"root": bytes(32)}, {"rows_hash": bytes(32)}], ids="+".join
)
def test_the_node_signed_for_these_trades(fields: dict[str, object]) -> None:
    refused(File().csv(**fields), "not the ones the node signed for")


@pytest.mark.parametrize(
    "lie",
    [
        {"network": "other"},
        {"network_hash": "00" * 32},
        {"node_id": PAYER.public_key.hex()},
        {"account": PAYER.public_key.hex()},
        {"window_start": SINCE + 1},
        {"window_end": UNTIL - 1},
        {"generated_at": 0},
        {"trade_count": 6},
        {"total_trm_transferred": 30},
        {"merkle_root": "00" * 32},
        {"reference_price_per_cu": 0.25},
        {"nodes": parties(None)},
        {"nodes": parties(PRICE)[1:]},
        {"nodes": parties(PRICE)[::-1]},
    ],
    ids="+".join,
)
def test_what_people_read_is_what_was_signed(lie: dict[str, Any]) -> None:
    refused(File().json(parties(PRICE), **lie), f"^{next(iter(lie))} disagrees")


@pytest.mark.parametrize("cursor", [0, END - 1, END + 1])
def test_the_next_statement_begins_where_this_one_ends(cursor: int) -> None:
    refused(File(next_cursor=cursor).csv(), "next_cursor disagrees")


def test_the_nodes_signature_is_the_nodes() -> None:
    refused(File(signer=PAYER).csv(), "node's signature does not verify")


@pytest.mark.parametrize("signers", [(AGENT, NODE), (PAYER, AGENT)], ids=["payer", "provider"])
def test_both_sides_signed_a_trade(signers: tuple[SigningKey, SigningKey]) -> None:
    forged = sold(5, PAYER, NODE, 5, signers=signers)
    refused(File([forged]).csv(), f"{forged.id}: a signature does not verify")


def test_a_trade_reads_as_it_was_signed() -> None:
    dearer = msgspec.structs.replace(TRADES[0], trm_amount=6)
    refused(File([dearer]).csv(), f"{dearer.id}: the readable fields disagree")


def test_a_body_that_is_none_is_called_that() -> None:
    error = refused(File([msgspec.structs.replace(TRADES[0], body="00")]).csv(), ".")
    assert error.__cause__ is not None
    assert error.message == str(error.__cause__)


def test_a_trade_is_of_the_network_of_the_statement() -> None:
    foreign = sold(5, PAYER, NODE, 5, network="other")
    refused(File([foreign]).csv(), f"{foreign.id} belongs to another network")


@pytest.mark.parametrize("indices", [(FIRST - 1,), (END,), (5, 5), (6, 5)], ids=["before", "after", "twice", "order"])
def test_leaves_stand_in_order_within_the_statement(indices: tuple[int, ...]) -> None:
    rows = [sold(index, PAYER, NODE, 5) for index in indices]
    refused(File(rows).csv(), f"{rows[-1].id} stands outside")


@pytest.mark.parametrize("booked_ms", [SINCE - 1, UNTIL])
def test_trades_are_of_the_window(booked_ms: int) -> None:
    late = sold(5, PAYER, NODE, 5, booked_ms=booked_ms)
    refused(File([late]).csv(), f"{late.id} was booked outside the window")
