"""Every signed record: schema, canonical bytes, limits; nothing else."""

from tirami.proto.anchor import AnchorNetwork, anchor_payload, anchor_script
from tirami.proto.codec import Record, Signed, decode, encode, record_id, sign, signed, signing_bytes, verify
from tirami.proto.envelope import Envelope, Voucher, leaf
from tirami.proto.messages import MESSAGES, Message, SignedBody
from tirami.proto.network import Issuer, NetworkFile, Parameters
from tirami.proto.receipt import Receipt, Summary, build_receipt, parse_receipt, summary_of
from tirami.proto.records import RECORDS, Acceptance, Grant, Head, Open, Quote, Statement, Trade, Transfer, amount_due
from tirami.proto.running import RunningHash, prompt_hash, session_secret
from tirami.proto.statement import (
    ParsedStatement,
    StatementFile,
    StatementNode,
    StatementTrade,
    parse_statement,
    statement_trade,
)

__all__ = [
    "MESSAGES",
    "RECORDS",
    "Acceptance",
    "AnchorNetwork",
    "Envelope",
    "Grant",
    "Head",
    "Issuer",
    "Message",
    "NetworkFile",
    "Open",
    "Parameters",
    "ParsedStatement",
    "Quote",
    "Receipt",
    "Record",
    "RunningHash",
    "Signed",
    "SignedBody",
    "Statement",
    "StatementFile",
    "StatementNode",
    "StatementTrade",
    "Summary",
    "Trade",
    "Transfer",
    "Voucher",
    "amount_due",
    "anchor_payload",
    "anchor_script",
    "build_receipt",
    "decode",
    "encode",
    "leaf",
    "parse_receipt",
    "parse_statement",
    "prompt_hash",
    "record_id",
    "session_secret",
    "sign",
    "signed",
    "signing_bytes",
    "statement_trade",
    "summary_of",
    "verify",
]
