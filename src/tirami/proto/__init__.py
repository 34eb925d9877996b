"""Every signed record: schema, canonical bytes, limits; nothing else."""

from tirami.proto.anchor import AnchorNetwork, anchor_payload, anchor_script
from tirami.proto.codec import Record, Signed, decode, encode, record_id, sign, signed, signing_bytes, verify
from tirami.proto.envelope import Envelope, Voucher, leaf
from tirami.proto.fraud import Cited, FraudProof, FraudRecord, build_fraud, cited_in, parse_fraud
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
    "RECORDS",
    "Acceptance",
    "AnchorNetwork",
    "Cited",
    "Envelope",
    "FraudProof",
    "FraudRecord",
    "Grant",
    "Head",
    "Issuer",
    "NetworkFile",
    "Open",
    "Parameters",
    "ParsedStatement",
    "Quote",
    "Receipt",
    "Record",
    "RunningHash",
    "Signed",
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
    "build_fraud",
    "build_receipt",
    "cited_in",
    "decode",
    "encode",
    "leaf",
    "parse_fraud",
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
