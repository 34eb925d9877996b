"""Every signed record, field by field. The order of fields is the order of bytes and never changes.

Amounts are TRM, prices µTRM a token, times Unix milliseconds, rates parts per million; all integers.
"""

from typing import Annotated, ClassVar

import msgspec

from tirami.core.keys import PublicKey
from tirami.core.units import MICRO, Trm, ceil_div
from tirami.proto.codec import U64, Bytes16, Bytes32, Name, Record


class Open(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An open session in a payer's totals: its number and its ceiling (PROTOCOL B2)."""

    number: U64
    ceiling: U64


OpenList = Annotated[tuple[Open, ...], msgspec.Meta(max_length=32)]


class Quote(Record, frozen=True):
    """What the provider offers; signed by it. The nonce keeps its hash from being guessed (B12)."""

    TAG: ClassVar[bytes] = b"tirami/1/quote"

    network: Name
    scope: U64
    provider: Bytes32
    payer: Bytes32
    nonce: Bytes16
    model_digest: Bytes32
    tokenizer_digest: Bytes32
    prompt_tokens: U64
    prompt_hash: Bytes32
    max_tokens: U64
    seed: U64
    temperature_ppm: U64
    top_p_ppm: U64
    top_k: U64
    price_in: U64
    price_out: U64
    lifetime_ms: U64
    log_size: U64
    log_root: Bytes32
    at_ms: U64


class Acceptance(Record, frozen=True):
    """The most a session can ever cost, with the payer's covered totals; signed by the payer (B2, B10)."""

    TAG: ClassVar[bytes] = b"tirami/1/acceptance"

    network: Name
    scope: U64
    payer: Bytes32
    provider: Bytes32
    incarnation: U64
    number: U64
    settled: U64
    open: OpenList
    quote_hash: Bytes32
    ceiling: U64
    at_ms: U64


class Trade(Record, frozen=True):
    """What was delivered and what it costs; signed by payer and provider over identical bytes.

    A voucher is this body at an earlier count, signed by the payer alone. Finish reason, timings and opinions are
    outside on purpose.
    """

    TAG: ClassVar[bytes] = b"tirami/1/trade"

    network: Name
    scope: U64
    provider: Bytes32
    payer: Bytes32
    incarnation: U64
    session: U64
    quote_hash: Bytes32
    acceptance_hash: Bytes32
    model_digest: Bytes32
    tokenizer_digest: Bytes32
    price_in: U64
    price_out: U64
    prompt_tokens: U64
    completion_tokens: U64
    amount: U64
    flop: U64
    running_hash: Bytes32
    at_ms: U64


class Grant(Record, frozen=True):
    """A welcome line: the issuer's numbered debit of its quota of one calendar day (B4, B5)."""

    TAG: ClassVar[bytes] = b"tirami/1/grant"

    network: Name
    issuer: Bytes32
    incarnation: U64
    number: U64
    settled: U64
    to: Bytes32
    limit: U64
    due_ms: U64
    period: U64
    at_ms: U64


class Transfer(Record, frozen=True):
    """A gift of owned TRM from one key to another; signed by the payer."""

    TAG: ClassVar[bytes] = b"tirami/1/transfer"

    network: Name
    scope: U64
    payer: Bytes32
    to: Bytes32
    incarnation: U64
    number: U64
    settled: U64
    open: OpenList
    amount: U64
    at_ms: U64


class Head(Record, frozen=True):
    """A signed tree head of one node's log (RFC 6962 §3.5), with the network file it was kept under."""

    TAG: ClassVar[bytes] = b"tirami/1/head"

    network: Name
    network_hash: Bytes32
    log_id: Bytes16
    node: Bytes32
    size: U64
    root: Bytes32
    at_ms: U64


class Statement(Record, frozen=True):
    """A settlement statement: the applied trades among some leaves of a node's log, counted, summed and hashed.

    ``account`` is 32 zero bytes when nobody's trades were left out. The window is over the time of booking,
    ``since_ms`` ≤ booked < ``until_ms``; leaves ``first`` … ``end`` − 1 were looked at. ``root`` is the RFC 6962 root
    over exactly the exported leaves, in log order; ``volume`` their sum; ``rows_hash`` SHA-256 of their rows, as the
    CSV file has them, so that what the node itself says of each (place, time of booking) is signed too.
    """

    TAG: ClassVar[bytes] = b"tirami/1/statement"

    network: Name
    network_hash: Bytes32
    log_id: Bytes16
    node: Bytes32
    account: Bytes32
    since_ms: U64
    until_ms: U64
    first: U64
    end: U64
    trades: U64
    volume: U64
    root: Bytes32
    rows_hash: Bytes32
    at_ms: U64


RECORDS: tuple[type[Record], ...] = (Quote, Acceptance, Trade, Grant, Transfer, Head, Statement)


def parties(body: Trade | Grant | Transfer) -> tuple[PublicKey, PublicKey]:
    """Who gives and who gets; of a line its issuer, and whose line it is."""
    match body:
        case Trade(payer=payer, provider=payee) | Transfer(payer=payer, to=payee) | Grant(issuer=payer, to=payee):
            return PublicKey(payer), PublicKey(payee)


def amount_due(price_in: int, price_out: int, prompt_tokens: int, completion_tokens: int) -> Trm:
    """⌈price_in·prompt + price_out·completion⌉ TRM from µTRM prices, minimum 1 (B10). Rounds up.

    Nothing delivered, nothing due: 0 when ``completion_tokens`` is 0.
    """
    if completion_tokens == 0:
        return Trm(0)
    return Trm(max(1, ceil_div(price_in * prompt_tokens + price_out * completion_tokens, MICRO)))
