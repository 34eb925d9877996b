"""Every signed record: schema, canonical bytes, limits; nothing else."""

from tirami.proto.codec import Record, Signed, decode, encode, record_id, sign, signed, signing_bytes, verify
from tirami.proto.envelope import Envelope, Voucher, leaf
from tirami.proto.network import Issuer, NetworkFile, Parameters
from tirami.proto.receipt import Receipt, Summary, build_receipt, parse_receipt, summary_of
from tirami.proto.records import RECORDS, Acceptance, Grant, Head, Open, Quote, Trade, Transfer, amount_due
from tirami.proto.running import RunningHash, prompt_hash, session_secret

__all__ = [
    "RECORDS",
    "Acceptance",
    "Envelope",
    "Grant",
    "Head",
    "Issuer",
    "NetworkFile",
    "Open",
    "Parameters",
    "Quote",
    "Receipt",
    "Record",
    "RunningHash",
    "Signed",
    "Summary",
    "Trade",
    "Transfer",
    "Voucher",
    "amount_due",
    "build_receipt",
    "decode",
    "encode",
    "leaf",
    "parse_receipt",
    "prompt_hash",
    "record_id",
    "session_secret",
    "sign",
    "signed",
    "signing_bytes",
    "summary_of",
    "verify",
]
