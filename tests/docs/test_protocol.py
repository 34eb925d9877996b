"""The protocol documents are true: generated parts are fresh, and every vector is judged again by means of its own.

The second opinion comes from the documents, not from the code: field tables are read out of the Markdown, MessagePack
is taken apart by hand, trees follow RFC 6962 word for word, the book is the oracle's fixpoint, journals are real files.
"""

import hashlib
import hmac
import itertools
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from tools.vectors.documents import VECTORS, rendered
from tools.vectors.tables import MARKED, STRUCTS

from tests.ledger.oracle import applied
from tests.proto.samples import Log
from tirami.core import errors
from tirami.core.errors import TiramiError
from tirami.core.keyfile import load_or_create_node_key
from tirami.core.keys import PublicKey, Signature, SigningKey, journal_key, local_user_key, parse_node_id, verify
from tirami.core.keystore import Keystore
from tirami.core.units import Trm
from tirami.ledger import Account, AccountKind, Book, Debit, Demand, Ledger
from tirami.ledger.admission import admit, allowance_rule
from tirami.proto import (
    RECORDS,
    Acceptance,
    Envelope,
    NetworkFile,
    RunningHash,
    Trade,
    Voucher,
    amount_due,
    decode,
    encode,
    leaf,
    prompt_hash,
    record_id,
    session_secret,
)
from tirami.testing import ManualClock
from tirami.verify import check_bill, verify_consistency, verify_inclusion, verify_receipt, verify_statement

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "protocol"
DOCUMENTS = sorted(DOCS.glob("TIP-*.md"))
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in DOCUMENTS}
BY_NAME: dict[str, Any] = {cls.__name__: cls for cls in RECORDS}
Case = dict[str, Any]


def load(number: int) -> Case:
    document: Case = json.loads((DOCS / "vectors" / f"tip-{number:02}.json").read_text(encoding="utf-8"))
    return document


V = {number: load(number) for number in range(1, 15)}


def cases(number: int, group: str) -> pytest.MarkDecorator:
    found = V[number][group]
    return pytest.mark.parametrize("case", found, ids=[case.get("name", str(i)) for i, case in enumerate(found)])


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def outcome(case: Case, call: Callable[[], object]) -> None:
    """``call`` does what the case says: nothing, or the named refusal."""
    if "error" not in case:
        call()
        return
    with pytest.raises(TiramiError) as caught:
        call()
    assert caught.value.code == case["error"]
    if "param" in case:
        assert caught.value.param == case["param"]


# --- the documents -----------------------------------------------------------------------------------------------


def test_nothing_generated_is_stale() -> None:
    """Run ``python -m tools.vectors`` when this fails, and read what changed before committing it."""
    stale = [str(path.relative_to(ROOT)) for path, data in rendered().items() if path.read_bytes() != data]
    assert stale == []


def test_no_vectors_without_a_generator() -> None:
    assert sorted(path.stem for path in (DOCS / "vectors").iterdir()) == sorted(VECTORS)


def test_numbers_are_used_once_and_listed() -> None:
    assert [int(name[4:6]) for name in TEXTS] == list(range(len(TEXTS)))
    index = TEXTS["TIP-00-conventions.md"]
    for name, text in TEXTS.items():
        number = int(name[4:6])
        assert text.startswith(f"# TIP-{number:02} · ")
        if number:
            for needed in (f"]({name})", f"](vectors/tip-{number:02}.json)"):
                assert needed in index
            assert f"](vectors/tip-{number:02}.json)" in text
            heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
            assert {"Purpose", "Rules", "Errors", "Example", "Security notes"} <= set(heads) | (
                {"Rules"} if number == 0 else set()
            )


def test_every_record_and_carrier_has_its_table_once() -> None:
    shown = [match[3] for text in TEXTS.values() for match in MARKED.finditer(text) if match[2] == "fields"]
    assert sorted(shown) == sorted(STRUCTS)
    assert {cls.__name__ for cls in RECORDS} <= set(shown)
    for text in TEXTS.values():
        assert text.count("<!-- end -->") == len(MARKED.findall(text)) == len(re.findall("<!-- (?!end)", text))


def _codes() -> set[str]:
    return {value.code for value in vars(errors).values() if isinstance(value, type) and issubclass(value, TiramiError)}


def _documented(number: int) -> set[str]:
    text = next(text for name, text in TEXTS.items() if name.startswith(f"TIP-{number:02}"))
    section = text.split("\n## Errors\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def _errors(value: object) -> Iterator[str]:
    match value:
        case dict():
            if "error" in value:
                yield value["error"]
            for item in value.values():
                yield from _errors(item)
        case list():
            for item in value:
                yield from _errors(item)


@pytest.mark.parametrize("number", V)
def test_error_codes_exist_and_are_documented(number: int) -> None:
    documented, used = _documented(number), set(_errors(V[number]))
    assert documented <= _codes()
    assert used <= documented
    elsewhere = {2: {"invalid_signature"}, 7: {"non_canonical"}, 9: {"journal_too_new"}}
    elsewhere[13] = _documented(13) - {"non_canonical", "invalid_proof"}
    assert documented - used == elsewhere.get(number, set()), "a code without a case; these have tests of their own"


LINKS = [(name, link) for name, text in TEXTS.items() for link in re.findall(r"\]\(([^)]+)\)", text)]


@pytest.mark.parametrize(("name", "link"), LINKS)
def test_links_resolve(name: str, link: str) -> None:
    if link.startswith("https://"):
        return
    target, _, anchor = link.partition("#")
    path = (DOCS / target).resolve() if target else DOCS / name
    assert path.is_relative_to(ROOT)
    assert path.is_file()
    if anchor:
        heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_vectors_say_what_they_are() -> None:
    for number, vectors in V.items():
        assert (vectors["format"], vectors["tip"]) == ("tirami/1/vectors", number)
        for group in vectors.values():
            if isinstance(group, list) and group and isinstance(group[0], dict) and "name" in group[0]:
                names = [case["name"] for case in group]
                assert len(set(names)) == len(names)


# --- a second implementation of TIP-01, from its field tables ----------------------------------------------------


def _tables() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Struct → (tag, [(field, type)]), as the documents print them."""
    tables = {}
    for text in TEXTS.values():
        for match in MARKED.finditer(text):
            if match[2] == "fields":
                tag = re.search(r"^Tag `(.*?)`", match[0], re.MULTILINE)
                rows = re.findall(r"^\| (?:\d+ \| )?`(\w+)` \| (.*?) \|", match[0], re.MULTILINE)
                tables[match[3]] = (tag[1] if tag else "", rows)
    return tables


TABLES = _tables()


def packed(value: object) -> bytes:
    """MessagePack, shortest forms, signed integers included."""
    match value:
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int() if value >= 0:
            for limit, marker in (
                (128, b""),
                (1 << 8, b"\xcc"),
                (1 << 16, b"\xcd"),
                (1 << 32, b"\xce"),
                (1 << 64, b"\xcf"),
            ):
                if value < limit:
                    return marker + value.to_bytes(max(1, (limit.bit_length() - 1) // 8))
        case int():
            if value >= -32:
                return value.to_bytes(1, signed=True)
            for bits, marker in ((8, b"\xd0"), (16, b"\xd1"), (32, b"\xd2"), (64, b"\xd3")):
                if value >= -(1 << bits - 1):
                    return marker + value.to_bytes(bits // 8, signed=True)
        case bytes() if len(value) < 1 << 8:
            return b"\xc4" + bytes([len(value)]) + value
        case bytes() if len(value) < 1 << 16:
            return b"\xc5" + len(value).to_bytes(2) + value
        case str():
            data = value.encode()
            assert len(data) < 256
            return (bytes([0xA0 | len(data)]) if len(data) < 32 else bytes([0xD9, len(data)])) + data
        case list() | tuple():
            mark = bytes([0x90 | len(value)]) if len(value) < 16 else b"\xdc" + len(value).to_bytes(2)
            return mark + b"".join(packed(item) for item in value)
    raise OverflowError(value)


def typed(kind: str, value: Any) -> Any:
    """A JSON value of a vector as what its documented type says."""
    if kind == "u64":
        return int(value)
    if kind == "name":
        return value
    if kind.startswith("bytes"):
        return raw(value)
    item = kind.rsplit("× ", 1)[1]
    return [[typed(k, entry[name]) for name, k in TABLES[item][1]] for entry in value]


class Refused(Exception):
    pass


class Reader:
    """Strict reader of one record: knows the shortest form of everything and nothing else."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        part = self.data[self.at : self.at + count]
        if len(part) != count:
            raise Refused("cut")
        self.at += count
        return part

    def value(self, kind: str) -> Any:
        if kind == "u64":
            return self.number()
        if kind == "name":
            return self.name()
        if re.fullmatch(r"bytes\d+", kind):
            size = int(kind[5:])
            if self.take(2) != bytes([0xC4, size]):
                raise Refused("bytes")
            return self.take(size)
        low, item = re.fullmatch(r"list of 0 … (\d+) × (\w+)", kind).groups()  # type: ignore[union-attr]
        return [self.struct(item) for _ in range(self.count(int(low)))]

    def number(self) -> int:
        first = self.take(1)[0]
        if first < 0x80:
            return first
        if not 0xCC <= first <= 0xCF:
            raise Refused("no number")
        size = 1 << first - 0xCC
        found = int.from_bytes(self.take(size))
        if found < (0x80 if size == 1 else 1 << 4 * size):
            raise Refused("not the shortest")
        return found

    def name(self) -> str:
        first = self.take(1)[0]
        size = first & 0x1F if 0xA0 <= first <= 0xBF else self.take(1)[0] if first == 0xD9 else None
        if size is None or (first == 0xD9 and size < 32) or not 1 <= size <= 64:
            raise Refused("no name")
        data = self.take(size)
        if not re.fullmatch(rb"[a-z0-9-]+", data):
            raise Refused("no name")
        return data.decode()

    def count(self, most: int) -> int:
        first = self.take(1)[0]
        found = first & 0x0F if 0x90 <= first <= 0x9F else int.from_bytes(self.take(2)) if first == 0xDC else None
        if found is None or (first == 0xDC and found < 16) or found > most:
            raise Refused("no list")
        return found

    def struct(self, name: str) -> dict[str, Any]:
        rows = TABLES[name][1]
        if self.count(len(rows)) != len(rows):
            raise Refused("fields")
        return {field: self.value(kind) for field, kind in rows}


def read(name: str, body: bytes) -> dict[str, Any]:
    if len(body) > 16_384:
        raise Refused("too long")
    reader = Reader(body)
    found = reader.struct(name)
    if reader.at != len(body):
        raise Refused("more behind it")
    return found


def identity(name: str, body: bytes) -> bytes:
    return sha(TABLES[name][0].encode(), body)


@cases(1, "records")
def test_01_bytes_id_and_signature_follow_from_the_document(case: Case) -> None:
    name, body = case["type"], raw(case["body"])
    tag, rows = TABLES[name]
    assert case["tag"] == tag
    assert list(case["fields"]) == [field for field, _ in rows]
    assert packed([typed(kind, case["fields"][field]) for field, kind in rows]) == body
    assert read(name, body)
    assert identity(name, body) == raw(case["id"])
    record = decode(BY_NAME[name], body)
    assert encode(record) == body
    assert record_id(record) == raw(case["id"])
    key = Ed25519PrivateKey.from_private_bytes(raw(case["signer_seed"]))
    assert key.public_key().public_bytes_raw() == raw(case["public_key"])
    assert key.sign(tag.encode() + body) == raw(case["signature"])
    assert verify(PublicKey(raw(case["public_key"])), Signature(raw(case["signature"])), tag.encode() + body)


def test_01_every_kind_of_record_is_there() -> None:
    assert {case["type"] for case in V[1]["records"]} == set(BY_NAME)


@cases(1, "refused")
def test_01_other_spellings_are_refused_twice(case: Case) -> None:
    body = raw(case["body"])
    outcome(case, lambda: decode(BY_NAME[case["type"]], body))
    with pytest.raises(Refused):
        read(case["type"], body)


@cases(1, "unwritable")
def test_01_unwritable(case: Case) -> None:
    shown = {"-1": -1, "2^64": 1 << 64, "true": True, "1.0": 1.0, "nil": None, "31 zero bytes": bytes(31)}
    value = shown.get(case["value"], case["value"].strip('"'))
    good = next(entry for entry in V[1]["records"] if entry["type"] == case["type"])
    record = msgspec.structs.replace(decode(BY_NAME[case["type"]], raw(good["body"])), **{case["field"]: value})
    outcome(case, lambda: encode(record))


# --- TIP-02 ------------------------------------------------------------------------------------------------------


def hkdf_by_hand(secret: bytes, info: str) -> bytes:
    return hmac.digest(hmac.digest(bytes(32), secret, "sha256"), info.encode() + b"\x01", "sha256")


@cases(2, "keys")
def test_02_derived_keys(case: Case) -> None:
    seed = raw(case["seed"])
    assert Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw() == raw(case["public_key"])
    local = hkdf_by_hand(seed, "tirami/local-user/1")
    assert local == raw(case["local_user_seed"])
    assert SigningKey.from_seed(local).public_key == raw(case["local_user_public_key"])
    assert hkdf_by_hand(seed, "tirami/journal/1") == raw(case["journal_key"]) == journal_key(SigningKey.from_seed(seed))


P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493


def test_02_refused_points_are_those_of_the_document() -> None:
    text = TEXTS["TIP-02-keys-and-signatures.md"]
    order8 = re.search(r"order 8[^`]*`([0-9a-f]{64})`", text)
    assert order8 is not None
    eighth = int.from_bytes(raw(order8[1]), "little")
    values = [0, 1, P - 1, eighth, P - eighth, *range(P, 1 << 255)]
    points = {(y | sign << 255).to_bytes(32, "little").hex() for y in values for sign in (0, 1)}
    assert points == set(V[2]["refused_points"])
    assert len(points) == 48


@cases(2, "signatures")
def test_02_signatures(case: Case) -> None:
    key, signature, message = (raw(case[name]) for name in ("public_key", "signature", "message"))
    assert verify(PublicKey(key), Signature(signature), message) is case["valid"]
    refused = {raw(point) for point in V[2]["refused_points"]}
    by_document = (
        (len(key), len(signature)) == (32, 64)
        and not {key, signature[:32]} & refused
        and int.from_bytes(signature[32:], "little") < L
    )
    if by_document:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except InvalidSignature:
            by_document = False
    assert by_document is case["valid"]


def test_02_every_refused_encoding_is_tried_as_key_and_as_commitment() -> None:
    tried = {case["name"] for case in V[2]["signatures"] if not case["valid"]}
    assert {f"{place} = {point}" for place in "AR" for point in V[2]["refused_points"]} <= tried


def test_02_the_attacks_would_work_without_the_refusals() -> None:
    worked = []
    for case in V[2]["signatures"]:
        try:
            key = Ed25519PublicKey.from_public_bytes(raw(case["public_key"]))
            key.verify(raw(case["signature"]), raw(case["message"]))
        except (InvalidSignature, ValueError):
            continue
        if not case["valid"]:
            worked.append(case["name"])
    assert len([name for name in worked if name.startswith("A = ")]) == 14, "eight points, six more spellings"
    assert "R is the identity, S fits" in worked


@cases(2, "key_files")
def test_02_key_files(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    path.write_bytes(raw(case["content"]))
    path.chmod(int(case["mode"], 8))
    outcome(case, lambda: load_or_create_node_key(path))
    if "seed" in case:
        assert load_or_create_node_key(path)[0].seed == raw(case["seed"])


@cases(2, "node_ids")
def test_02_node_ids(case: Case) -> None:
    outcome(case, lambda: parse_node_id(case["text"]))
    if "public_key" in case:
        assert parse_node_id(case["text"]) == raw(case["public_key"])


def unsealed(case: Case) -> bytes | None:
    """TIP-02 by hand."""
    blob = raw(case["sealed"])
    if len(blob) not in (68, 84) or blob[:3] != b"\x94\x01\xc4":
        return None
    salt, nonce, ciphertext = msgspec.msgpack.decode(blob)[1:]
    kek = hkdf_by_hand(raw(case["node_seed"]), "tirami/keystore/1")
    if salt:
        argon = Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=64 * 1024)
        kek = hkdf_by_hand(kek + argon.derive(case["passphrase"].encode()), "tirami/keystore/1/passphrase")
    try:
        return AESGCM(kek).decrypt(nonce, ciphertext, b"\x01" + salt + raw(case["account"]))
    except InvalidTag:
        return None


@cases(2, "keystore")
def test_02_keystore(case: Case) -> None:
    store = Keystore(SigningKey.from_seed(raw(case["node_seed"])), case["passphrase"])
    account = PublicKey(raw(case["account"]))
    outcome(case, lambda: store.open(account, raw(case["sealed"])))
    expected = raw(case["account_seed"]) if "account_seed" in case else None
    assert unsealed(case) == expected
    if expected:
        assert (
            Keystore(SigningKey.from_seed(raw(case["node_seed"])), case["passphrase"])
            .open(account, raw(case["sealed"]))
            .seed
            == expected
        )


# --- TIP-03 ------------------------------------------------------------------------------------------------------


def due(price_in: int, price_out: int, prompt: int, completion: int) -> int:
    exact = Fraction(price_in * prompt + price_out * completion, 1_000_000)
    return max(1, ceil(exact)) if completion else 0


@cases(3, "amounts")
def test_03_amounts(case: Case) -> None:
    parts = [int(case[name]) for name in ("price_in", "price_out", "prompt_tokens", "completion_tokens")]
    assert amount_due(*parts) == due(*parts) == int(case["amount"])


def honest(trade: dict[str, Any], acceptance: dict[str, Any], acceptance_id: bytes) -> bool:
    """Rule 5 of TIP-03, word for word."""
    same = ("quote_hash", "network", "scope", "payer", "provider", "incarnation")
    return (
        trade["scope"] in (0, 1)
        and trade["payer"] != trade["provider"]
        and trade["acceptance_hash"] == acceptance_id
        and all(trade[name] == acceptance[name] for name in same)
        and trade["session"] == acceptance["number"]
        and trade["completion_tokens"] > 0
        and trade["amount"] == due(*(trade[n] for n in ("price_in", "price_out", "prompt_tokens", "completion_tokens")))
        and trade["amount"] <= acceptance["ceiling"]
    )


@cases(3, "bills")
def test_03_bills(case: Case) -> None:
    trade, acceptance = raw(case["trade"]), raw(case["acceptance"])
    cited = identity("Acceptance", acceptance)
    assert honest(read("Trade", trade), read("Acceptance", acceptance), cited) is ("error" not in case)
    outcome(case, lambda: check_bill(decode(Trade, trade), decode(Acceptance, acceptance), cited))  # type: ignore[arg-type]


def test_03_a_voucher_is_its_four_fields() -> None:
    case = V[3]["voucher"]
    rows = TABLES["Voucher"][1]
    data = packed([raw(case["fields"][name]) for name, _ in rows])
    assert data == raw(case["bytes"])
    voucher = msgspec.msgpack.decode(data, type=Voucher)
    trade = read("Trade", voucher.trade_body)
    assert trade["acceptance_hash"] == identity("Acceptance", voucher.acceptance_body)
    for tag, body, signature in (
        ("Trade", voucher.trade_body, voucher.payer_signature),
        ("Acceptance", voucher.acceptance_body, voucher.acceptance_signature),
    ):
        key = Ed25519PublicKey.from_public_bytes(trade["payer"])
        key.verify(signature, TABLES[tag][0].encode() + body)


SAMPLE_NETWORK = NetworkFile.parse(V[8]["regtest"]["canonical"].encode())


@pytest.mark.parametrize(
    "case",
    [*V[3]["admission"], *V[7]["admission"]],
    ids=[case["name"] for number in (3, 7) for case in V[number]["admission"]],
)
def test_03_07_admission(case: Case) -> None:
    kind, body, signatures, _ = msgspec.msgpack.decode(raw(case["envelope"]))
    envelope = msgspec.msgpack.decode(raw(case["envelope"]), type=Envelope)
    outcome(case, lambda: admit(envelope, SAMPLE_NETWORK))
    if "error" in case:
        return
    assert packed([kind, body, signatures, msgspec.msgpack.decode(raw(case["envelope"]))[3]]) == raw(case["envelope"])
    assert admit(envelope, SAMPLE_NETWORK).record_id == identity(kind.capitalize(), body) == raw(case["id"])
    assert sha(b"\x00", body, *signatures) == raw(case["leaf"])
    signers = {"trade": ("payer", "provider"), "grant": ("issuer",), "transfer": ("payer",)}[kind]
    record = read(kind.capitalize(), body)
    for who, signature in zip(signers, signatures, strict=True):
        message = TABLES[kind.capitalize()][0].encode() + body
        Ed25519PublicKey.from_public_bytes(record[who]).verify(signature, message)


def admissible(kind: str, record: dict[str, Any]) -> bool:
    """Rule 2 of TIP-07, word for word, under the regtest file."""
    network = json.loads(V[8]["regtest"]["canonical"])
    if record["network"] != network["id"]:
        return False
    if kind == "grant":
        return (
            record["issuer"].hex() in {issuer["key"] for issuer in network["issuers"]}
            and 0 < record["limit"] <= network["parameters"]["welcome_limit"]
            and record["period"] == record["at_ms"] // 86_400_000
        )
    return record["amount"] >= 1 and record["scope"] == 0 and record["payer"] != record["to"]


@cases(7, "admission")
def test_07_admission_by_the_rule(case: Case) -> None:
    kind, body, signatures, _ = msgspec.msgpack.decode(raw(case["envelope"]))
    record = read(kind.capitalize(), body)
    key = Ed25519PublicKey.from_public_bytes(record["issuer" if kind == "grant" else "payer"])
    try:
        key.verify(signatures[0], TABLES[kind.capitalize()][0].encode() + body)
        signed = True
    except InvalidSignature:
        signed = False
    assert (signed and len(signatures) == 1 and admissible(kind, record)) is ("error" not in case)


# --- TIP-04 ------------------------------------------------------------------------------------------------------


@cases(4, "secrets")
def test_04_secrets(case: Case) -> None:
    nonces = raw(case["payer_nonce"]), raw(case["provider_nonce"])
    assert session_secret(*nonces) == hkdf_by_hand(b"".join(nonces), "tirami/1/session") == raw(case["secret"])


@cases(4, "running")
def test_04_running_hash(case: Case) -> None:
    first, *steps = case["steps"]
    running, value = RunningHash(raw(case["secret"])), sha(b"tirami/1/running", raw(case["secret"]))
    assert running.digest() == value == raw(first["hash"])
    for step in steps:
        ids, text = step["ids"], raw(step["text"])
        running.update(ids, text)
        value = sha(value, packed([ids, text]))
        assert running.digest() == value == raw(step["hash"])


@cases(4, "prompts")
def test_04_prompt_hash(case: Case) -> None:
    secret, ids, text = raw(case["secret"]), case["ids"], case["text"]
    by_hand = sha(b"tirami/1/prompt", secret, packed([ids, b"" if ids else text.encode()]))
    assert prompt_hash(secret, ids, text) == by_hand == raw(case["hash"])


# --- TIP-05 ------------------------------------------------------------------------------------------------------

LEAVES = tuple(raw(entry["data"]) for entry in V[5]["leaves"])


def test_05_roots_by_the_recursive_definition() -> None:
    assert V[5]["empty_root"] == hashlib.sha256(b"").hexdigest()
    for entry in V[5]["leaves"]:
        assert sha(b"\x00", raw(entry["data"])) == raw(entry["hash"])
        assert Log(LEAVES[: entry["size"]]).root() == raw(entry["root"])
    assert [entry["size"] for entry in V[5]["leaves"]] == list(range(1, 10))


def test_05_every_inclusion() -> None:
    assert len(V[5]["inclusion"]) == sum(range(1, 10))
    for entry in V[5]["inclusion"]:
        index, size, proof = entry["index"], entry["size"], [raw(node) for node in entry["proof"]]
        tree = Log(LEAVES[:size])
        assert tree.inclusion(index) == proof
        verify_inclusion(sha(b"\x00", LEAVES[index]), index, size, proof, tree.root())


def test_05_every_consistency() -> None:
    assert len(V[5]["consistency"]) == sum(range(1, 10))
    for entry in V[5]["consistency"]:
        first, second, proof = entry["first"], entry["second"], [raw(node) for node in entry["proof"]]
        tree = Log(LEAVES[:second])
        assert tree.consistency(first) == proof
        verify_consistency(first, second, Log(LEAVES[:first]).root(), tree.root(), proof)


@cases(5, "inclusion_refused")
def test_05_bad_inclusion(case: Case) -> None:
    proof = [raw(node) for node in case["proof"]]
    index, size, root = case["index"], case["size"], raw(case["root"])
    outcome(case, lambda: verify_inclusion(raw(case["leaf"]), index, size, proof, root))
    tree = Log(LEAVES[:size])
    true = 0 <= index < size and sha(b"\x00", LEAVES[index]) == raw(case["leaf"]) and tree.root() == root
    assert not (true and tree.inclusion(index) == proof)


@cases(5, "consistency_refused")
def test_05_bad_consistency(case: Case) -> None:
    proof, roots = [raw(node) for node in case["proof"]], (raw(case["first_root"]), raw(case["second_root"]))
    first, second = case["first"], case["second"]
    outcome(case, lambda: verify_consistency(first, second, *roots, proof))
    true = 0 < first <= second and roots == (Log(LEAVES[:first]).root(), Log(LEAVES[:second]).root())
    assert not (true and Log(LEAVES[:second]).consistency(first) == proof)


@cases(5, "record_leaves")
def test_05_leaves_of_records(case: Case) -> None:
    envelope = msgspec.msgpack.decode(raw(case["envelope"]), type=Envelope)
    data = envelope.body + b"".join(envelope.signatures)
    assert leaf(envelope) == data == raw(case["leaf"])
    assert sha(b"\x00", data) == raw(case["hash"])


# --- TIP-06 ------------------------------------------------------------------------------------------------------


def file_of(case: Case) -> bytes:
    if "repeat" in case:
        return raw(case["repeat"]["byte"]) * int(case["repeat"]["times"])
    return str(case["text"]).encode() if "text" in case else raw(case["bytes"])


def proves(data: bytes) -> bool:
    """The rules of TIP-06, one after the other, without a line of the product."""
    try:
        document = json.loads(data)
        if len(data) > 65_536 or json.dumps(document, sort_keys=True, separators=(",", ":")).encode() != data:
            return False
        if set(document) != {name for name, _ in TABLES["Receipt"][1]}:
            return False
        if (document["format"], document["kind"]) != ("tirami/1/receipt", "trade"):
            return False
        if type(document["leaf_index"]) is not int:
            return False
        hexes = [
            *document["signatures"],
            *document["proof"],
            document["body"],
            document["head"],
            document["acceptance"],
        ]
        if not all(re.fullmatch("([0-9a-f]{2})+", text) for text in hexes):
            return False
        bodies = {name: raw(document[name.lower()]) for name in ("Acceptance", "Head")} | {
            "Trade": raw(document["body"])
        }
        trade, acceptance, head = (read(name, bodies[name]) for name in ("Trade", "Acceptance", "Head"))
        signatures = [raw(text) for text in document["signatures"]]
        for name, key, signature in (
            ("Trade", trade["payer"], signatures[0]),
            ("Trade", trade["provider"], signatures[1]),
            ("Acceptance", trade["payer"], raw(document["acceptance_signature"])),
            ("Head", head["node"], raw(document["head_signature"])),
        ):
            Ed25519PublicKey.from_public_bytes(key).verify(signature, TABLES[name][0].encode() + bodies[name])
    except (ValueError, KeyError, Refused, InvalidSignature):
        return False
    path = [raw(text) for text in document["proof"]]
    node = sha(b"\x00", bodies["Trade"], *signatures)
    summary = {
        "id": identity("Trade", bodies["Trade"]).hex(),
        "flop": str(trade["flop"]),
        "amount_trm": trade["amount"],
        **{name: trade[name] for name in ("network", "prompt_tokens", "completion_tokens", "at_ms")},
        **{name: trade[name].hex() for name in ("provider", "payer", "model_digest")},
    }
    return (
        climbed(node, document["leaf_index"], head["size"], path) == head["root"]
        and honest(trade, acceptance, identity("Acceptance", bodies["Acceptance"]))
        and document["trade"] == summary
        and head["network"] == trade["network"]
    )


def climbed(node: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    """The root a path leads to, by the recursive definition of RFC 6962 §2.1.1."""
    if size == 1:
        return node if index == 0 and not path else None
    if not path or not 0 <= index < size:
        return None
    split, (*below, last) = Log.split(size), path
    if index < split:
        left = climbed(node, index, split, below)
        return None if left is None else sha(b"\x01", left, last)
    right = climbed(node, index - split, size - split, below)
    return None if right is None else sha(b"\x01", last, right)


@cases(6, "files")
def test_06_receipts(case: Case) -> None:
    data = file_of(case)
    outcome(case, lambda: verify_receipt(data))
    assert proves(data) is ("error" not in case)


@cases(6, "trust")
def test_06_whose_keys(case: Case) -> None:
    data = file_of(next(entry for entry in V[6]["files"] if entry["name"] == case["file"]))
    keys = frozenset(PublicKey(raw(text)) for text in case["trusted"])
    outcome(case, lambda: verify_receipt(data, keys))
    document = json.loads(data)
    needed = {document["trade"]["provider"], read("Head", raw(document["head"]))["node"].hex()}
    assert (needed <= set(case["trusted"])) is ("error" not in case)


# --- TIP-07 ------------------------------------------------------------------------------------------------------

Key = tuple[str, str, int]
LOCAL_CREDIT = 1 << 62


def counting(debits: list[Case]) -> list[Case]:
    """Of several trades of one rank the one that counts; everything else stands."""
    best: dict[object, Case] = {}
    for debit in debits:
        rank = (*debit["account"], debit["incarnation"], debit["number"], debit["tie"])
        known = best.get(rank)
        if known is None or _weight(debit) > _weight(known):
            best[rank] = debit
    return list(best.values())


def _weight(debit: Case) -> tuple[int, int, int]:
    return debit["progress"], debit["amount"], -int(debit["id"], 16)


def fixpoint(debits: list[Case], quota: Callable[[str], int]) -> tuple[set[str], dict[Key, int], dict[str, int]]:
    """The least fixpoint of TIP-07, every account by the oracle of one account; (applied, net positions, lines)."""
    debits = counting(debits)
    done: set[str] = set()
    while True:
        net: dict[Key, int] = {}
        income: dict[Key, int] = {}
        lines: dict[str, int] = {}
        for debit in (debit for debit in debits if debit["id"] in done):
            payer, payee = debit["account"], debit["payee"]
            income[payee] = income.get(payee, 0) + debit["amount"]
            net[payee] = net.get(payee, 0) + debit["amount"]
            net[payer] = net.get(payer, 0) - debit["amount"]
            if debit["limit_of"]:
                lines[debit["limit_of"]] = max(lines.get(debit["limit_of"], 0), debit["amount"])
        now: set[str] = set()
        for account in {debit["account"] for debit in debits}:
            kind, owner, _ = account
            credit = {"key": lines.get(owner, 0), "local": LOCAL_CREDIT, "quota": quota(owner)}[kind]
            own = [debit for debit in debits if debit["account"] == account]
            rows = [
                ((d["incarnation"], d["number"], raw(d["tie"])), raw(d["id"]), d["amount"], d["declared"]) for d in own
            ]
            funded = {
                True: applied(rows, income.get(account, 0), credit),
                False: applied(rows, income.get(account, 0), 0),
            }
            now |= {debit["id"] for debit in own if raw(debit["id"]) in funded[debit["on_credit"]]}
        if now == done:
            return done, {account: amount for account, amount in net.items() if amount}, lines
        done = now


def state_by_hand(net: dict[Key, int], lines: dict[str, int], ids: set[str]) -> bytes:
    balances = sorted((kind, raw(owner), period, amount) for (kind, owner, period), amount in net.items())
    limits = sorted((raw(key), limit) for key, limit in lines.items())
    return packed([balances, limits, sorted(raw(identity) for identity in ids)])


def shuffles(size: int, orders: list[list[int]]) -> list[tuple[int, ...]]:
    every = itertools.permutations(range(size)) if size <= 5 else iter(())
    return [*map(tuple, orders), *every]


def judged(case: Case, debits: list[Case], quota: Callable[[str], int]) -> None:
    done, net, lines = fixpoint(debits, quota)
    expected = case["expected"]
    assert sorted(done) == expected["applied"]
    shown = [[kind, owner, period, amount] for (kind, owner, period), amount in sorted(net.items())]
    assert shown == expected["balances"]
    assert sum(net.values()) == 0
    state = state_by_hand(net, lines, {debit["id"] for debit in debits})
    assert state == raw(expected["state"])
    assert sha(state) == raw(expected["state_hash"])


def account(shown: list[Any]) -> Account:
    kind, owner, period = shown
    return Account(AccountKind(kind), raw(owner), period)


@cases(7, "histories")
def test_07_histories(case: Case) -> None:
    rules = V[7]["rules"]
    debits = [debit | {"account": tuple(debit["account"]), "payee": tuple(debit["payee"])} for debit in case["debits"]]
    judged(case, debits, lambda owner: rules["quota"] if owner == rules["issuer"] else 0)

    def allowance(of: Account) -> Trm:
        if of.kind is AccountKind.LOCAL:
            return Trm(int(rules["local"]))
        return Trm(rules["quota"] if of.kind is AccountKind.QUOTA and of.owner.hex() == rules["issuer"] else 0)

    rows = [
        (
            raw(d["id"]),
            Demand(
                account(d["account"]),
                Debit(
                    order=(d["incarnation"], d["number"], raw(d["tie"])),
                    record_id=raw(d["id"]),
                    amount=Trm(d["amount"]),
                    declared=Trm(d["declared"]),
                    payee=account(d["payee"]),
                    on_credit=d["on_credit"],
                    limit_of=raw(d["limit_of"]),
                    progress=d["progress"],
                ),
            ),
        )
        for d in debits
    ]
    for order in shuffles(len(rows), case["orders"]):
        book = Book(allowance)
        for index in order:
            book.add(*rows[index])
        assert book.own_state_hash().hex() == case["expected"]["state_hash"]
        assert book.imbalance() == 0
        assert [i for i, _ in sorted(rows) if book.is_applied(i)] == [raw(i) for i in case["expected"]["applied"]]


def debit_of(envelope: bytes) -> Case:
    """The table "Debits" of TIP-07, from a record read by hand."""
    kind, body, _, attachments = msgspec.msgpack.decode(envelope)
    record, name = read(kind.capitalize(), body), identity(kind.capitalize(), body).hex()
    if kind == "grant":
        return {
            "id": name,
            "account": ("quota", record["issuer"].hex(), record["period"]),
            "payee": ("lines", "", 0),
            "number": record["number"],
            "tie": name,
            "amount": record["limit"],
            "declared": record["settled"],
            "on_credit": True,
            "limit_of": record["to"].hex(),
            "progress": 0,
            "incarnation": record["incarnation"],
        }
    totals = record if kind == "transfer" else read("Acceptance", attachments[0])
    side = "local" if record["scope"] else "key"
    return {
        "id": name,
        "account": (side, record["payer"].hex(), 0),
        "payee": (side, record["to" if kind == "transfer" else "provider"].hex(), 0),
        "number": record["number" if kind == "transfer" else "session"],
        "tie": name if kind == "transfer" else "",
        "amount": record["amount"],
        "declared": totals["settled"] + sum(entry["ceiling"] for entry in totals["open"]),
        "on_credit": kind == "trade",
        "limit_of": "",
        "progress": record.get("completion_tokens", 0),
        "incarnation": record["incarnation"],
    }


@cases(7, "records")
def test_07_real_records(case: Case) -> None:
    network = json.loads(case["network"])
    quotas = {issuer["key"]: issuer["daily_lines"] for issuer in network["issuers"]}
    welcome = network["parameters"]["welcome_limit"]
    envelopes = [raw(text) for text in case["envelopes"]]
    judged(case, [debit_of(envelope) for envelope in envelopes], lambda owner: quotas.get(owner, 0) * welcome)
    file = NetworkFile.parse(case["network"].encode())
    admitted = [admit(msgspec.msgpack.decode(envelope, type=Envelope), file) for envelope in envelopes]
    for order in shuffles(len(admitted), case["orders"]):
        book = Book(allowance_rule(file))
        for index in order:
            book.add(admitted[index].record_id, admitted[index].demand)
        assert book.own_state_hash().hex() == case["expected"]["state_hash"]


def numbers_of(history: str) -> list[tuple[str, str, int, int, int]]:
    case = next(case for case in V[7]["histories"] if case["name"].startswith(history))
    applied = case["expected"]["applied"]
    return sorted((*d["account"], d["incarnation"], d["number"]) for d in case["debits"] if d["id"] in applied)


def test_07_numbers_are_per_account() -> None:
    """One owner, one number, twice, and both debits apply."""
    issuer = V[7]["rules"]["issuer"]
    shared = numbers_of("numbers are an account's")
    assert [kind for kind, owner, _, _, number in shared if (owner, number) == (issuer, 1)] == ["key", "quota"]
    days = numbers_of("every day's quota")
    assert [day for kind, owner, day, _, number in days if (kind, owner, number) == ("quota", issuer, 1)] == [7, 8]


# --- TIP-08 ------------------------------------------------------------------------------------------------------


def canonical_by_hand(text: str) -> bytes:
    """RFC 8785 of an ASCII document with small integers, defaults filled in from the tables of TIP-08."""
    document = json.loads(text)
    page = TEXTS["TIP-08-network-file.md"]
    table = next(match[0] for match in MARKED.finditer(page) if match[3] == "Parameters")
    defaults = {name: int(value) for name, value in re.findall(r"\| `(\w+)` \| [^|]* \| (\d+) \|", table)}
    written = document.get("parameters", {})
    full = {"issuers": [], "witnesses": [], "seeds": []} | document | {"parameters": defaults | written}
    quota = written.get("issuer_daily_lines", 100)
    full["issuers"] = [{"daily_lines": quota} | issuer for issuer in full["issuers"]]
    return json.dumps(full, sort_keys=True, separators=(",", ":")).encode()


@cases(8, "files")
def test_08_files(case: Case) -> None:
    network = NetworkFile.parse(case["text"].encode())
    assert network.to_bytes() == canonical_by_hand(case["text"]) == case["canonical"].encode()
    assert network.hash == sha(case["canonical"].encode()) == raw(case["hash"])


def test_08_every_parameter_counts() -> None:
    files = {case["name"]: case["hash"] for case in V[8]["files"]}
    for name, _ in TABLES["Parameters"][1]:
        assert files[f"{name} changed"] != files["minimal"]
    same = [files["minimal"], files["defaults written out"]], [files["full"], files["full, other order"]]
    assert all(one == other for one, other in same)
    assert len({*files.values()}) == len(files) - 3, "witnesses and quorum only change together"


@cases(8, "refused")
def test_08_refused(case: Case) -> None:
    outcome(case, lambda: NetworkFile.parse(case["text"].encode()))


def seeds_and_quotas_fit(document: Case) -> bool:
    """Two rules of TIP-08 by hand."""
    parameters = document.get("parameters", {})
    welcome, quota = parameters.get("welcome_limit", 1_000), parameters.get("issuer_daily_lines", 100)
    return all(
        isinstance(seed, str) and 1 <= len(seed) <= 256 and all("!" <= character <= "~" for character in seed)
        for seed in document.get("seeds", [])
    ) and all(issuer.get("daily_lines", quota) * welcome <= 21 * 10**9 for issuer in document.get("issuers", []))


def test_08_seeds_and_quotas_by_hand() -> None:
    assert all(seeds_and_quotas_fit(json.loads(case["text"])) for case in V[8]["files"])
    bad = [case for case in V[8]["refused"] if re.search("seed|quota|TRM", case["name"])]
    assert len(bad) == 15
    assert not any(seeds_and_quotas_fit(json.loads(case["text"])) for case in bad)


def test_08_regtest() -> None:
    case = V[8]["regtest"]
    network = NetworkFile.regtest(PublicKey(raw(case["node"])))
    assert network.to_bytes() == canonical_by_hand(case["canonical"]) == case["canonical"].encode()
    assert network.hash == sha(case["canonical"].encode()) == raw(case["hash"])
    document = json.loads(case["canonical"])
    assert [issuer["key"] for issuer in document["issuers"]] == document["witnesses"] == [case["node"]]


# --- TIP-09 ------------------------------------------------------------------------------------------------------


JOURNAL_KEY = hkdf_by_hand(raw(V[9]["node_seed"]), "tirami/journal/1")


def hmac_sha(key: bytes, data: bytes) -> bytes:
    """RFC 2104 by hand."""
    inner, outer = (bytes(byte ^ pad for byte in key.ljust(64, b"\x00")) for pad in (0x36, 0x5C))
    return sha(outer, sha(inner, data))


def test_09_chain_by_hand() -> None:
    assert raw(V[9]["key"]) == JOURNAL_KEY
    chain = hashlib.sha256(b"tirami/1/journal").digest()
    assert chain == raw(V[9]["genesis"])
    for seq, entry in enumerate(V[9]["entries"], start=1):
        assert entry["seq"] == seq
        numbers = seq.to_bytes(8) + entry["kind"].to_bytes(1) + entry["at_ms"].to_bytes(8)
        chain = hmac_sha(JOURNAL_KEY, chain + numbers + raw(entry["body"]))
        assert chain == raw(entry["chain"])
    assert {entry["kind"] for entry in V[9]["entries"]} == {0, 1, 2}


@cases(9, "segments")
def test_09_segments_by_hand(case: Case) -> None:
    first, last, data = case["first"], case["last"], raw(case["data"])
    entries = [entry for entry in V[9]["entries"] if first <= entry["seq"] <= last]
    parts = [
        entry["kind"].to_bytes(1) + entry["at_ms"].to_bytes(8) + raw(entry["chain"]) + raw(entry["body"])
        for entry in entries
    ]
    place, offsets = 4 * (len(parts) + 1), b""
    for part in [*parts, b""]:
        offsets += place.to_bytes(4)
        place += len(part)
    assert data == offsets + b"".join(parts)
    before = {entry["seq"]: entry["chain"] for entry in V[9]["entries"]} | {0: V[9]["genesis"]}
    assert (case["previous"], case["chain"]) == (before[first - 1], before[last])
    numbers = first.to_bytes(8) + last.to_bytes(8)
    message = b"tirami/1/segment" + raw(case["previous"]) + numbers + raw(case["chain"]) + sha(data)
    assert raw(case["seal"]) == hmac_sha(JOURNAL_KEY, message)


async def test_09_schema_1_is_taken_over(tmp_path: Path) -> None:
    case = V[9]["starts"][0]
    path = tmp_path / "journal.db"
    written(path, case, version=1)
    database = sqlite3.connect(path)
    database.execute("DROP TABLE segments")
    database.close()
    assert await started(path, case["accept_rollback"]) == case["entries"]
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA user_version").fetchone()[0] == 3
    database.close()


@cases(9, "tips")
def test_09_tip_slots_by_hand(case: Case) -> None:
    data = b"TIRAMIT1" + case["seq"].to_bytes(8) + raw(case["chain"])
    assert data + hmac_sha(JOURNAL_KEY, data)[:16] == raw(case["slot"])


def _schema() -> str:
    match = re.search(r"```sql\n(.*?)```", TEXTS["TIP-09-journal.md"], re.DOTALL)
    assert match is not None
    return match[1]


def written(path: Path, case: Case, version: int = 3) -> None:
    """A journal as TIP-09 describes it, made with nothing but SQLite; ``database`` says how far its making had come."""
    if case["tip"]:
        path.with_suffix(".tip").write_bytes(raw(case["tip"]))
    match case.get("database"):
        case "none":
            return
        case "empty":
            path.touch()
            return
    rows = {entry["seq"]: entry for entry in (*V[9]["entries"], *case["changed"])}
    database = sqlite3.connect(path)
    if case.get("database") == "no schema":
        database.execute("PRAGMA journal_mode = WAL")
        database.close()
        assert path.stat().st_size > 0
        return
    database.executescript(_schema())
    database.execute(f"PRAGMA user_version = {version}")
    for seq in case["present"]:
        row = rows[seq]
        values = seq, row["kind"], row["at_ms"], raw(row["body"]), raw(row["chain"])
        database.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", values)
    for segment in case.get("segments", []):
        values = segment["first"], segment["last"], raw(segment["chain"]), raw(segment["seal"]), raw(segment["data"])
        database.execute("INSERT INTO segments VALUES (?, ?, ?, ?, ?)", values)
    database.commit()
    database.close()


def opened(path: Path, accept_rollback: bool, clock: ManualClock) -> Ledger:
    node = SigningKey.from_seed(raw(V[9]["node_seed"]))
    return Ledger.open(
        path,
        network=NetworkFile.parse(V[9]["network"].encode()),
        node=node,
        local_user=local_user_key(node).public_key,
        clock=clock,
        journal_key=JOURNAL_KEY,
        accept_rollback=accept_rollback,
    )


async def started(path: Path, accept_rollback: bool) -> int:
    """How many entries a node finds; it does not begin to write."""
    ledger = opened(path, accept_rollback, ManualClock())
    found = ledger.seq
    await ledger.close()
    return found


@cases(9, "starts")
async def test_09_starts(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    written(path, case)
    if "error" not in case:
        assert await started(path, case["accept_rollback"]) == case["entries"]
        return
    with pytest.raises(TiramiError) as caught:
        await started(path, case["accept_rollback"])
    assert caught.value.code == case["error"]
    assert caught.value.data["entry"] == case["entry"]


def on_disk(path: Path) -> list[Case]:
    database = sqlite3.connect(path)
    rows = database.execute("SELECT seq, kind, at_ms, body, chain FROM entries ORDER BY seq").fetchall()
    database.close()
    return [
        {"seq": seq, "kind": kind, "at_ms": at_ms, "body": body.hex(), "chain": chain.hex()}
        for seq, kind, at_ms, body, chain in rows
    ]


@cases(9, "restarts")
async def test_09_restarts(case: Case, tmp_path: Path) -> None:
    """What a started node writes, byte for byte; then the next start, also with either slot torn."""
    path, tip = tmp_path / "journal.db", tmp_path / "journal.tip"
    written(path, case)
    if case["rolled_back"]:
        with pytest.raises(TiramiError, match="journal") as caught:
            await started(path, False)
        assert caught.value.code == "journal_rollback"
    ledger = opened(path, case["accept_rollback"], ManualClock(case["clock_ms"]))
    await ledger.start(lambda size: raw(case["random"])[:size])
    await ledger.close()
    assert on_disk(path)[len(case["present"]) :] == case["written"]
    assert tip.read_bytes().ljust(1_024, b"\x00") == raw(case["tip_after"])
    assert await started(path, False) == case["entries"]
    for place in (20, 512 + 20):
        torn = bytearray(raw(case["tip_after"]))
        torn[place] ^= 1
        tip.write_bytes(torn)
        assert await started(path, False) == case["entries"]


def tips(data: bytes) -> list[tuple[int, bytes] | None]:
    """Both slots, by hand; ``None`` for one without a seal."""
    slots = [data[place : place + 64] for place in (0, 512)]
    return [
        (int.from_bytes(slot[8:16]), slot[16:48]) if slot[48:] == hmac_sha(JOURNAL_KEY, slot[:48])[:16] else None
        for slot in slots
    ]


@cases(9, "restarts")
def test_09_restarts_by_hand(case: Case) -> None:
    """Rules 1, 3 and 5 of TIP-09."""
    known = {entry["seq"]: entry for entry in (*V[9]["entries"], *case["changed"])}
    found = [known[seq] for seq in case["present"]]
    before = tips(raw(case["tip"]))
    last, last_chain = max((tip for tip in before if tip), default=(0, b""))
    lost = len(found) < last or (not any(before) and bool(found))
    assert case["rolled_back"] is case["accept_rollback"] is lost
    assert not 0 < last <= len(found) or raw(found[last - 1]["chain"]) == last_chain

    now = max([case["clock_ms"], *(entry["at_ms"] for entry in found)])
    facts = [msgspec.msgpack.decode(raw(entry["body"])) for entry in found if entry["kind"] == 2]
    _, _, incarnation, log_id, _ = next((f for f in facts[::-1] if f[0] == "node_started"), [0, 0, 0, b"", 0])
    if lost:
        incarnation = max(incarnation + 1, now)
    if lost or not log_id:
        log_id = raw(case["random"])
    file = sha(V[9]["network"].encode())
    node = SigningKey.from_seed(raw(V[9]["node_seed"])).public_key
    bodies = [packed(["node_started", now, incarnation, log_id, file])]
    if not found:
        bodies.insert(0, packed(["journal_opened", 3, node, "regtest", file]))
    assert [raw(entry["body"]) for entry in case["written"]] == bodies

    chain = raw(found[-1]["chain"]) if found else raw(V[9]["genesis"])
    for seq, entry in enumerate(case["written"], start=len(found) + 1):
        assert (entry["seq"], entry["kind"], entry["at_ms"]) == (seq, 2, now)
        numbers = seq.to_bytes(8) + b"\x02" + now.to_bytes(8)
        chain = hmac_sha(JOURNAL_KEY, chain + numbers + raw(entry["body"]))
        assert raw(entry["chain"]) == chain
    assert case["entries"] == len(found) + len(case["written"])

    after, newest = tips(raw(case["tip_after"])), (case["entries"], chain)
    if lost:
        assert after == [newest, newest], "nothing of the journal that was given up is left in the tip file"
    else:
        older = {newest, (last, last_chain or raw(V[9]["genesis"]))}
        assert set(after) == older, "the slot of the older tip is the one written"


def test_09_every_way_to_lose_entries_is_there() -> None:
    """Equal and lower tips, both turns, nothing left, both sides of the incarnation's maximum."""
    lost = [case for case in V[9]["restarts"] if case["rolled_back"] and case["tip"]]
    places = {(case["entries"] - max(tip for tip in tips(raw(case["tip"])) if tip)[0]) for case in lost}
    assert {0, -1} <= places
    assert {tips(raw(case["tip"]))[0] > tips(raw(case["tip"]))[1] for case in lost} == {True, False}  # type: ignore[operator]
    assert any(not case["present"] for case in lost)


async def test_09_a_later_schema_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "journal.db", V[9]["starts"][0], version=4)
    with pytest.raises(TiramiError) as caught:
        await started(tmp_path / "journal.db", False)
    assert caught.value.code == "journal_too_new"


def test_09_entries_are_those_of_the_document() -> None:
    """Holds and facts carry the tags and as many items as TIP-09 lists."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", TEXTS["TIP-09-journal.md"], re.MULTILINE))
    for entry in V[9]["entries"]:
        if entry["kind"]:
            first, *rest = msgspec.msgpack.decode(raw(entry["body"]))
            assert len(rest) == rows[first].count("`") // 2


# --- TIP-10 ------------------------------------------------------------------------------------------------------


@cases(10, "files")
def test_10_files(case: Case) -> None:
    outcome(case, lambda: verify_statement(case["text"].encode()))
    if "error" in case or case["text"].startswith("{"):
        return
    header, *rows = [line.split(",") for line in case["text"].split("\r\n")[:-1]]
    names = [name for name, _ in TABLES["StatementTrade"][1]]
    assert header == names
    *trades, (mark, body, signature, following) = rows
    assert (mark, following) == ("#statement", "")
    tag, fields = TABLES["Statement"]
    signed = dict(zip((name for name, _ in fields), msgspec.msgpack.decode(raw(body)), strict=True))
    Ed25519PublicKey.from_public_bytes(signed["node"]).verify(raw(signature), tag.encode() + raw(body))
    text = "".join(",".join(trade) + "\r\n" for trade in trades)
    assert sha(text.encode()) == signed["rows_hash"]
    cells = [dict(zip(names, trade, strict=True)) for trade in trades]
    leaves = [raw(cell["body"] + cell["payer_signature"] + cell["provider_signature"]) for cell in cells]
    assert Log(tuple(leaves)).root() == signed["root"]
    assert (len(cells), sum(int(cell["trm_amount"]) for cell in cells)) == (signed["trades"], signed["volume"])


@cases(10, "anchors")
def test_10_anchors(case: Case) -> None:
    assert case["payload"] == f"46524745010{case['chain']}0000" + case["root"]
    assert case["script"] == "6a28" + case["payload"]
    assert len(raw(case["payload"])) == 40
