"""Tables of the protocol documents, made from the structs themselves so that no document can disagree with the code.

A document asks for a table with ``<!-- fields: Trade -->`` … ``<!-- end -->``; what stands between is rewritten.
"""

import json
import re
from collections.abc import Callable, Mapping

import msgspec

from tirami.ledger import entries
from tirami.proto import (
    RECORDS,
    Advert,
    Envelope,
    FraudProof,
    FraudRecord,
    Issuer,
    NetworkFile,
    Observation,
    Offering,
    Open,
    Parameters,
    Probe,
    Receipt,
    Record,
    Signal,
    StatementTrade,
    Summary,
    Voucher,
)
from tirami.proto.codec import NAME_PATTERN
from tirami.proto.reconciliation import Difference, Fingerprint, Listing, ReconciliationMessage

_DESCRIBED: tuple[type[msgspec.Struct], ...] = (
    *RECORDS,
    Open,
    Envelope,
    Voucher,
    Issuer,
    NetworkFile,
    Parameters,
    Receipt,
    Summary,
    StatementTrade,
    FraudProof,
    FraudRecord,
    Signal,
    Offering,
    Observation,
    ReconciliationMessage,
    Fingerprint,
    Listing,
    Difference,
    Advert,
    Probe,
)
STRUCTS: Mapping[str, type[msgspec.Struct]] = {cls.__name__: cls for cls in _DESCRIBED}
MARKED = re.compile(r"(<!-- (fields|entries|example): ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

MEANINGS: Mapping[str, str] = {
    # parties and numbers
    "network": "id of the network file the record belongs to",
    "scope": "0 network, 1 local (own use of one node)",
    "provider": "key that serves and is paid",
    "payer": "key that pays",
    "issuer": "key of the network file that grants",
    "node": "key whose log this is",
    "to": "key that receives",
    "incarnation": "which life of the payer's counter; 0 is the first",
    "number": "the payer's number of this debit",
    "session": "the number its acceptance carries",
    "settled": "S: everything numbered below that is not in the open list, TRM",
    "open": "the payer's other open sessions",
    # what is bought
    "nonce": "random; keeps the quote's id from being guessed",
    "model_digest": "SHA-256 of the model file",
    "tokenizer_digest": "SHA-256 of the model's metadata block, which holds its tokenizer",
    "prompt_tokens": "tokens read",
    "prompt_hash": "TIP-04",
    "max_tokens": "most tokens the provider will write",
    "seed": "sampling seed",
    "temperature_ppm": "temperature in millionths",
    "top_p_ppm": "top-p in millionths",
    "top_k": "top-k; 0 is off",
    "price_in": "µTRM a token read",
    "price_out": "µTRM a token written",
    "lifetime_ms": "how long the offer stands",
    "log_size": "size of the provider's newest head; 0 without one",
    "log_root": "its root; 32 zero bytes without one",
    "quote_hash": "record id of the quote",
    "acceptance_hash": "record id of the acceptance",
    "ceiling": "the most the session can ever cost, TRM",
    "completion_tokens": "tokens written and received",
    "amount": "TRM moved",
    "flop": "useful operations, by formula from model and counts",
    "running_hash": "TIP-04, over everything delivered",
    "at_ms": "when it was signed; Unix milliseconds",
    # lines and heads
    "limit": "size of the line, TRM",
    "due_ms": "when the gate stops honouring it; Unix milliseconds",
    "period": "the calendar day (UTC) of `at_ms`, whose quota pays: Unix days",
    "network_hash": "hash of the network file the log is kept under",
    "log_id": "random name of this log",
    "size": "number of leaves",
    "root": "RFC 6962 root over them",
    # carriers
    "kind": "`trade`, `grant` or `transfer`",
    "body": "canonical bytes of the record",
    "signatures": "over `tag ‖ body`, in the order the kind prescribes",
    "attachments": "evidence bound by a hash inside the body",
    "trade_body": "canonical bytes of the trade at this count",
    "payer_signature": "the payer's, over `tag ‖ trade_body`",
    "acceptance_body": "canonical bytes of its acceptance",
    "acceptance_signature": "the payer's, over the acceptance",
    # network file
    "format": "fixed text",
    "id": "name of the network",
    "parameters": "below",
    "issuers": "who may grant lines",
    "witnesses": "witness keys",
    "seeds": "`PUBLIC_KEY@HOST:PORT` of nodes to ask first",
    "key": "the issuer's public key",
    "daily_lines": "lines of the largest size it may grant a day",
    "quorum": "q: statements count with this many witnesses; must be ⌊w/2⌋ + 1",
    "unwitnessed_daily_limit": "U: TRM between one payer and one provider in 24 h without a witness",
    "voucher_tokens": "K: most tokens ahead of the vouchers",
    "stranger_tokens": "K for strangers, where that is less",
    "voucher_trm": "K for strangers in TRM, where that is less still",
    "welcome_limit": "largest line, TRM",
    "welcome_hours": "hours until a line is due",
    "issuer_daily_lines": "quota of an issuer that names none",
    "yield_ceiling_ppm": "most yield a year, in millionths of the cap",
    "acceptance_minutes": "how long a witness counts an unshown acceptance",
    # receipt
    "acceptance": "canonical bytes of the acceptance",
    "leaf_index": "place of the leaf in the log, from 0",
    "proof": "audit path, leaf side first",
    "head": "canonical bytes of the head",
    "head_signature": "the log node's, over the head",
    "trade": "the readable summary; repeats the body",
    "amount_trm": "TRM moved",
    # settlement statement
    "account": "whose trades; 32 zero bytes for everybody's",
    "since_ms": "begin of the window, by time of booking; Unix milliseconds",
    "until_ms": "its end, not included; Unix milliseconds",
    "first": "first leaf looked at",
    "end": "the leaf after the last one looked at",
    "trades": "how many trades are in it",
    "volume": "sum of their amounts, TRM",
    "rows_hash": "SHA-256 of the rows of a CSV file, in order, each with its line end; without first and last row",
    "booked_at": "when the node booked it; Unix milliseconds",
    "timestamp": "`at_ms` of the trade",
    "consumer": "key that pays",
    "trm_amount": "TRM moved",
    "tokens_processed": "tokens written and received",
    "flops_estimated": "useful operations",
    "model_id": "SHA-256 of the model file",
    "provider_signature": "the provider's, over `tag ‖ body`",
    # fraud proof
    "guilty": "key that is convicted",
    "records": "what it signed, in the order of `kind`",
    "path": "of a rewritten log: the other root, then the consistency path; else empty",
    "signature": "the accused key's, over `tag ‖ body`",
    # signals and observations
    "demand_ppm": "the load factor in its prices, in millionths",
    "free_tokens": "tokens it can write within the next minute, as its engines were measured",
    "slots": "answers for strangers that could begin now",
    "audit_tier": "0 … 3",
    "features": "as in the hello",
    "models": "what it sells now",
    "name": "for people",
    "context_length": "tokens, prompt and answer together",
    "active_parameters": "weights a token touches",
    "layers": "for people",
    "hidden": "size of the hidden state",
    "quantization": "for people",
    "observer": "key that says so, and was a customer",
    "subject": "key of the provider",
    "score_ppm": "how far its service was kept, smoothed, in millionths",
    "sessions": "how many answers that rests on, by its own word; weighs nothing",
    "latency_ms": "to the first word, smoothed",
    # adverts
    "addresses": "where it may be found: `HOST:PORT`",
    # probes
    "observed": "key that was called",
    "reached": "whether it proved its key there",
    "rtt_us": "how long that took, µs; 0 if it did not",
    # reconciliation
    "ranges": "ascending, without overlap",
    "more": "whether the sender has more ranges for its next message",
    "lower": "first bytes of the range, included",
    "upper": "first bytes behind the range; empty is the end of all ids",
    "fingerprint": "of the sender's ids in the range",
    "ids": "the sender's ids in the range, ascending",
    "offered": "ids the sender has and the listing had not, ascending",
    "wanted": "ids of the listing the sender has not, ascending",
}
SPECIAL: Mapping[tuple[str, str], str] = {
    ("Open", "number"): "number of the open session",
    ("Open", "ceiling"): "its ceiling, TRM",
    ("Grant", "incarnation"): "which life of the issuer's counter; 0 is the first",
    ("Grant", "number"): "the issuer's number of this debit",
    ("Grant", "settled"): "S: everything granted below this number out of the same day's quota, TRM",
    ("Parameters", "witnesses"): "w: how many witnesses a key has",
    ("FraudProof", "kind"): "what is proved; see below",
    ("FraudRecord", "kind"): "which record; a voucher is a `trade`",
    ("Receipt", "kind"): "fixed text",
    ("Receipt", "body"): "canonical bytes of the trade",
    ("Receipt", "signatures"): "payer's, provider's",
    ("Summary", "id"): "record id of the trade",
    ("Statement", "node"): "key that signs, whose log it is",
    ("Statement", "network_hash"): "hash of the network file the book is kept under",
    ("Statement", "root"): "RFC 6962 root over exactly the exported leaves, in log order",
    ("Offering", "parameters"): "weights of the model",
    ("Signal", "node"): "key of the provider",
    ("Signal", "lifetime_ms"): "how long it counts",
    ("Advert", "network"): "id of its network file",
    ("Advert", "node"): "the node's key",
    ("Probe", "observer"): "key that called, and signs",
    ("Probe", "addresses"): "where, tried together: `HOST:PORT`",
    ("Advert", "lifetime_ms"): "how long it counts, from `at_ms` on",
    ("StatementTrade", "id"): "record id of the trade",
    ("StatementTrade", "scope"): "`local` is own use of one node",
    ("StatementTrade", "body"): "canonical bytes of the trade",
    ("StatementTrade", "payer_signature"): "the payer's, over `tag ‖ body`",
}


def type_name(kind: msgspec.inspect.Type) -> str:
    """How a field's type is called in the documents."""
    match kind:
        case msgspec.inspect.IntType(le=None):
            return "u64" if kind.ge == 0 else "integer"
        case msgspec.inspect.IntType(ge=low, le=high):
            return f"{low} … 2⁵³ − 1" if high == 2**53 - 1 else f"{low} … {high}"
        case msgspec.inspect.BytesType(min_length=low, max_length=high):
            return f"bytes{low}" if low == high else f"bytes ≤ {high}"
        case msgspec.inspect.BoolType():
            return "boolean"
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(map(type_name, types))
        case msgspec.inspect.StrType(pattern=pattern) if pattern == NAME_PATTERN:
            return "name"
        case msgspec.inspect.StrType(pattern=str() as pattern):
            if printable := re.fullmatch(r"\^\[\\x21-\\x7e\]\{(\d+),(\d+)\}\\Z", pattern):
                return f"text of {printable[1]} … {printable[2]} printable ASCII characters"
            digits = re.search(r"\{(\d+)\}\\Z", pattern)
            return f"hex, {digits[1]} digits" if digits else "hex, whole bytes"
        case msgspec.inspect.StrType(max_length=high):
            return "text" if high is None else f"text ≤ {high}"
        case msgspec.inspect.LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in values)
        case msgspec.inspect.VarTupleType(item_type=item, min_length=low, max_length=high):
            bound = "" if high is None else f"{high} × " if low == high else f"{low or 0} … {high} × "
            return f"list of {bound}{type_name(item)}"
        case msgspec.inspect.StructType(cls=cls):
            return cls.__name__
    raise TypeError(f"no name for {kind}")


def fields(name: str) -> list[str]:
    """The table of one struct; for a record with its tag."""
    cls = STRUCTS[name]
    info = msgspec.inspect.type_info(cls)
    assert isinstance(info, msgspec.inspect.StructType)
    with_defaults = any(not field.required for field in info.fields)
    lines = []
    if issubclass(cls, Record):
        lines += [f"Tag `{cls.TAG.decode()}`; array of {len(info.fields)}.", ""]
    elif info.array_like:
        tagged = info.tag is not None
        lines += [f"Array of {len(info.fields) + tagged}" + (f": the integer {info.tag}, then" if tagged else "."), ""]
    else:
        lines += ["JSON object; the order of names is RFC 8785's.", ""]
    rows = [["#", "field", "type", "default", "meaning"], ["---"] * 5]
    for index, field in enumerate(info.fields):
        meaning = SPECIAL.get((name, field.name)) or MEANINGS[field.name]
        rows.append([str(index), f"`{field.name}`", type_name(field.type), _default(field), meaning])
    shown = [place for place in range(5) if (place or info.array_like) and (place != 3 or with_defaults)]
    return lines + ["| " + " | ".join(row[place] for place in shown) + " |" for row in rows]


def _default(field: msgspec.inspect.Field) -> str:
    if field.required:
        return "—"
    return f"{field.default}" if isinstance(field.default, int) else "empty" if field.default == () else "all defaults"


def entry_kinds(union: str) -> list[str]:
    """Tags and fields, in order, of one kind of journal entry: ``holds``, ``claims`` or ``facts``."""
    lines = ["| first item | then |", "|---|---|"]
    for cls in {"holds": entries.Hold, "claims": entries.Claim, "facts": entries.Fact}[union].__args__:
        lines.append(f"| `{cls.__struct_config__.tag}` | {', '.join(f'`{name}`' for name in cls.__struct_fields__)} |")
    return lines


def filled(document: str, examples: Mapping[str, Callable[[], list[str]]]) -> str:
    """``document`` with everything between its markers written anew."""

    def write(found: re.Match[str]) -> str:
        name = found[3]
        match found[2]:
            case "fields":
                lines = fields(name)
            case "entries":
                lines = entry_kinds(name)
            case _:
                lines = examples[name]()
        return found[1] + "\n" + "\n".join(lines) + "\n\n" + found[4]

    return MARKED.sub(write, document)


def fenced(*lines: str) -> list[str]:
    """Lines that stand in a document as they are."""
    return ["```text", *lines, "```"]


def shortened(document: object) -> list[str]:
    """A JSON document as an example shows it: long strings are cut."""

    def short(value: object) -> object:
        match value:
            case str() if len(value) > 24:
                return value[:16] + "…"
            case list():
                return [short(item) for item in value]
            case dict():
                return {name: short(item) for name, item in value.items()}
        return value

    return ["```json", *json.dumps(short(document), indent=1, ensure_ascii=False).splitlines(), "```"]
