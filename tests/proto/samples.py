"""One of everything, from fixed seeds: what the tests and the protocol vectors are made of."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from tirami.core.keys import SigningKey, sha256
from tirami.proto import (
    Acceptance,
    Envelope,
    Grant,
    Head,
    NetworkFile,
    Open,
    Quote,
    Record,
    RunningHash,
    Statement,
    Trade,
    Transfer,
    amount_due,
    build_receipt,
    encode,
    leaf,
    prompt_hash,
    record_id,
    session_secret,
    sign,
    statement_trade,
)
from tirami.proto.statement import csv_row

NODE = SigningKey.from_seed(b"\x01" * 32)
PAYER = SigningKey.from_seed(b"\x02" * 32)
AGENT = SigningKey.from_seed(b"\x07" * 32)
NETWORK = NetworkFile.regtest(NODE.public_key)
AT = 1_760_000_000_000
SECRET = session_secret(b"\x0a" * 32, b"\x0b" * 32)
PROMPT_IDS = (1, 9_690, 198, 2_683, 359)
MODEL, TOKENIZER = sha256(b"a model file"), sha256(b"its metadata")


def _running_hash() -> bytes:
    running = RunningHash(SECRET)
    running.update([5_000, 284], "Grüße".encode())
    running.update([], b"")
    running.update([2**31], "日本".encode())
    return running.digest()


QUOTE = Quote(
    network="regtest",
    scope=0,
    provider=NODE.public_key,
    payer=PAYER.public_key,
    nonce=b"\x0c" * 16,
    model_digest=MODEL,
    tokenizer_digest=TOKENIZER,
    prompt_tokens=len(PROMPT_IDS),
    prompt_hash=prompt_hash(SECRET, PROMPT_IDS, ""),
    max_tokens=1_024,
    seed=2**63,
    temperature_ppm=700_000,
    top_p_ppm=1_000_000,
    top_k=0,
    price_in=250_000,
    price_out=1_000_000,
    lifetime_ms=30_000,
    log_size=4,
    log_root=sha256(b"an earlier root"),
    at_ms=AT,
)
ACCEPTANCE = Acceptance(
    network="regtest",
    scope=0,
    payer=PAYER.public_key,
    provider=NODE.public_key,
    incarnation=0,
    number=AT + 1,
    settled=12,
    open=(Open(AT - 5, 100), Open(AT - 3, 2**40)),
    quote_hash=record_id(QUOTE),
    ceiling=1_026,
    at_ms=AT + 2,
)
TRADE = Trade(
    network="regtest",
    scope=0,
    provider=NODE.public_key,
    payer=PAYER.public_key,
    incarnation=0,
    session=ACCEPTANCE.number,
    quote_hash=record_id(QUOTE),
    acceptance_hash=record_id(ACCEPTANCE),
    model_digest=MODEL,
    tokenizer_digest=TOKENIZER,
    price_in=QUOTE.price_in,
    price_out=QUOTE.price_out,
    prompt_tokens=5,
    completion_tokens=3,
    amount=amount_due(QUOTE.price_in, QUOTE.price_out, 5, 3),
    flop=2 * 134_515_008 * 8,
    running_hash=_running_hash(),
    at_ms=AT + 900,
)
GRANT = Grant(
    network="regtest",
    issuer=NODE.public_key,
    incarnation=0,
    number=1,
    settled=0,
    to=AGENT.public_key,
    limit=1_000,
    due_ms=AT + 72 * 3_600_000,
    period=AT // 86_400_000,
    at_ms=AT,
)
TRANSFER = Transfer(
    network="regtest",
    scope=0,
    payer=NODE.public_key,
    to=AGENT.public_key,
    incarnation=1,
    number=AT + 7,
    settled=0,
    open=(),
    amount=2**64 - 1,
    at_ms=AT + 8,
)


def trade_envelope(trade: Trade = TRADE, acceptance: Acceptance = ACCEPTANCE) -> Envelope:
    """Signed by the keys of the samples, whatever the trade says."""
    return Envelope(
        "trade",
        encode(trade),
        (sign(trade, PAYER), sign(trade, NODE)),
        (encode(acceptance), sign(acceptance, PAYER)),
    )


@dataclass(frozen=True)
class Log:
    """RFC 6962 §2.1 word for word, recursive; the judge of the code under test."""

    leaves: tuple[bytes, ...]

    def root(self, first: int = 0, last: int | None = None) -> bytes:
        part = self.leaves[first:last]
        if not part:
            return hashlib.sha256(b"").digest()
        if len(part) == 1:
            return hashlib.sha256(b"\x00" + part[0]).digest()
        middle = first + self.split(len(part))
        return hashlib.sha256(b"\x01" + self.root(first, middle) + self.root(middle, first + len(part))).digest()

    @staticmethod
    def split(size: int) -> int:
        power = 1
        while power * 2 < size:
            power *= 2
        return power

    def inclusion(self, index: int, first: int = 0, last: int | None = None) -> list[bytes]:
        last = len(self.leaves) if last is None else last
        if last - first == 1:
            return []
        middle = first + self.split(last - first)
        if index < middle:
            return [*self.inclusion(index, first, middle), self.root(middle, last)]
        return [*self.inclusion(index, middle, last), self.root(first, middle)]

    def consistency(self, size: int) -> list[bytes]:
        return self._consistency(size, 0, len(self.leaves), True) if 0 < size < len(self.leaves) else []

    def _consistency(self, size: int, first: int, last: int, whole: bool) -> list[bytes]:
        if size == last - first:
            return [] if whole else [self.root(first, last)]
        middle = first + self.split(last - first)
        if size <= middle - first:
            return [*self._consistency(size, first, middle, whole), self.root(middle, last)]
        return [*self._consistency(size - (middle - first), middle, last, False), self.root(first, middle)]


OTHER_LEAVES = tuple(f"leaf {number}".encode() for number in range(6))
INDEX = 4


def log_of(envelope: Envelope) -> Log:
    return Log((*OTHER_LEAVES[:INDEX], leaf(envelope), *OTHER_LEAVES[INDEX:]))


def head_of(log: Log) -> Head:
    return Head(
        network="regtest",
        network_hash=NETWORK.hash,
        log_id=b"\x0d" * 16,
        node=NODE.public_key,
        size=len(log.leaves),
        root=log.root(),
        at_ms=AT + 1_000,
    )


def receipt_of(envelope: Envelope, head: Head | None = None, signer: SigningKey = NODE) -> bytes:
    log = log_of(envelope)
    head = head or head_of(log)
    return build_receipt(envelope, INDEX, log.inclusion(INDEX), encode(head), sign(head, signer))


HEAD = head_of(log_of(trade_envelope()))
RECEIPT = receipt_of(trade_envelope())
STATEMENT_ROW = csv_row(
    statement_trade(INDEX, AT + 1_000, trade_envelope().body, *trade_envelope().signatures)
).encode()
STATEMENT = Statement(
    network="regtest",
    network_hash=NETWORK.hash,
    log_id=HEAD.log_id,
    node=NODE.public_key,
    account=bytes(32),
    since_ms=AT,
    until_ms=AT + 3_600_000,
    first=INDEX - 1,
    end=INDEX + 2,
    trades=1,
    volume=TRADE.amount,
    root=hashlib.sha256(b"\x00" + leaf(trade_envelope())).digest(),
    rows_hash=sha256(STATEMENT_ROW),
    at_ms=AT + 3_600_001,
)
SIGNERS: dict[type[Record], SigningKey] = {
    Quote: NODE,
    Acceptance: PAYER,
    Trade: PAYER,
    Grant: NODE,
    Transfer: NODE,
    Head: NODE,
    Statement: NODE,
}
SAMPLES: Sequence[Record] = (QUOTE, ACCEPTANCE, TRADE, GRANT, TRANSFER, HEAD, STATEMENT)


def changed(record: Trade, **fields: object) -> Trade:
    return msgspec.structs.replace(record, **fields)
