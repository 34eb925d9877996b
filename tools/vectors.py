"""Writes the protocol's test vectors and the generated parts of its documents: ``python -m tools.vectors``.

Everything comes from fixed seeds (``tests/proto/samples.py``), so a second run writes the same bytes. A case has a
``name``, its input and either what follows from it or the stable code of the ``error``. Byte strings are lowercase
hex; an integer JSON cannot hold (beyond ±(2⁵³ − 1)) is decimal text.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from hashlib import sha512
from pathlib import Path
from typing import Any, cast

import msgspec
import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from tests.proto import samples
from tests.proto.samples import ACCEPTANCE, AGENT, AT, NETWORK, NODE, PAYER, QUOTE, RECEIPT, SAMPLES, SIGNERS, TRADE

from tirami.core import keystore
from tirami.core.errors import TiramiError
from tirami.core.keys import (
    REFUSED_POINTS,
    PublicKey,
    Signature,
    SigningKey,
    hkdf,
    journal_key,
    local_user_key,
    parse_node_id,
    sha256,
    verify,
)
from tirami.ledger import Account, AccountKind, Book, Debit, Demand, MerkleLog
from tirami.ledger.admission import Admitted, admit, allowance_rule
from tirami.ledger.entries import (
    Content,
    HeadPublished,
    HoldCaptured,
    HoldOpened,
    HoldVouched,
    JournalOpened,
    KillSet,
    NodeStarted,
    encode_content,
    kind_of,
)
from tirami.ledger.journal import GENESIS, chain_hash
from tirami.ledger.tip import Tip, pack_tip
from tirami.proto import (
    Acceptance,
    Envelope,
    Grant,
    Head,
    NetworkFile,
    Open,
    Record,
    RunningHash,
    Trade,
    Transfer,
    Voucher,
    amount_due,
    decode,
    encode,
    leaf,
    prompt_hash,
    record_id,
    session_secret,
    sign,
)
from tirami.verify import check_bill, leaf_hash, verify_consistency, verify_inclusion, verify_receipt
from tools.protocol_tables import filled

DOCS = Path(__file__).resolve().parent.parent / "docs" / "protocol"
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
LOCAL_USER = local_user_key(NODE)
DAY = AT // 86_400_000

Case = dict[str, Any]


def plain(value: Any) -> Any:
    """As JSON shows it: bytes as hex, large integers as text, structs as objects."""
    match value:
        case bool() | str() | None:
            return value
        case int():
            return value if abs(value) < 2**53 else str(value)
        case bytes():
            return value.hex()
        case msgspec.Struct():
            return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
        case Mapping():
            return {str(name): plain(item) for name, item in value.items()}
        case Iterable():
            return [plain(item) for item in value]
    raise TypeError(value)


def case(name: str, **parts: Any) -> Case:
    return {"name": name} | {key: plain(value) for key, value in parts.items()}


def code(call: Callable[[], object]) -> str:
    """The stable code with which ``call`` is refused; it must be."""
    try:
        call()
    except TiramiError as error:
        return error.code
    raise AssertionError("this was to be refused")


def verdict(call: Callable[[], object]) -> Case:
    """``ok``, or code and, where there is one, field of the refusal."""
    try:
        call()
    except TiramiError as error:
        return {"error": error.code} | ({"param": error.param} if error.param else {})
    return {"ok": True}


def replaced(record: msgspec.Struct, **fields: object) -> Any:
    return msgspec.structs.replace(record, **fields)


# --- TIP-01 ------------------------------------------------------------------------------------------------------

SPELLED = Transfer("x", 0, b"\xf0" * 32, b"\xf1" * 32, 0, 77, 200, (Open(5, 6),), 40_000, 70_000)
ZERO = Transfer("0", 0, bytes(32), bytes(32), 0, 0, 0, (), 0, 0)
EDGES = (0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
SPELLINGS = (
    ("77 in 8 bits", "4d", "cc4d"),
    ("77 in 16 bits", "4d", "cd004d"),
    ("77 in 32 bits", "4d", "ce0000004d"),
    ("77 in 64 bits", "4d", "cf000000000000004d"),
    ("77 as a signed byte", "4d", "d04d"),
    ("77 as a float", "4d", "cb4053400000000000"),
    ("77 as text", "4d", "a23737"),
    ("77 in a list", "4d", "914d"),
    ("a negative number", "4d", "ff"),
    ("nil for a number", "4d", "c0"),
    ("true for a number", "4d", "c3"),
    ("200 in 16 bits", "ccc8", "cd00c8"),
    ("40000 in 32 bits", "cd9c40", "ce00009c40"),
    ("70000 in 64 bits", "ce00011170", "cf0000000000011170"),
    ("a short name with a long length", "a178", "d90178"),
    ("a name as bytes", "a178", "c40178"),
    ("an upper-case name", "a178", "a158"),
    ("a name with a newline", "a178", "a2780a"),
    ("an empty name", "a178", "a0"),
    ("a name of 65 characters", "a178", "d941" + "78" * 65),
    ("a name that is no UTF-8", "a178", "a1ff"),
    ("32 bytes with a 16-bit length", "c420f0", "c50020f0"),
    ("33 bytes for 32", "c420f0", "c421f0f0"),
    ("31 bytes for 32", "c420f0", "c41f"),
    ("bytes as text", "c420f0", "d920f0"),
    ("a list with a 16-bit length", "91920506", "dc0001920506"),
    ("three items in an open session", "91920506", "9193050607"),
    ("one item in an open session", "91920506", "919105"),
    ("a map for an open session", "91920506", "918205060708"),
    ("a record with a 16-bit length", "9aa178", "dc000aa178"),
    ("a map for a record", "9aa178", "8aa178"),
)


def canonical() -> Case:
    def signed(name: str, record: Record, signer: SigningKey) -> Case:
        return case(
            name,
            type=type(record).__name__,
            tag=record.TAG.decode(),
            fields=record,
            body=encode(record),
            id=record_id(record),
            signer_seed=signer.seed,
            public_key=signer.public_key,
            signature=sign(record, signer),
        )

    full = tuple(Open(AT + number, 2**64 - 1) for number in range(32))
    records = [signed(f"a {type(record).__name__}", record, SIGNERS[type(record)]) for record in SAMPLES]
    records += [signed("everything zero", ZERO, NODE), signed("name of 64", replaced(ZERO, network="n" * 64), NODE)]
    records += [signed(f"name of {size}", replaced(ZERO, network="n" * size), NODE) for size in (31, 32)]
    records += [signed(f"{n} open sessions", replaced(ACCEPTANCE, open=full[:n]), PAYER) for n in (0, 15, 16, 32)]
    records += [signed(f"number {value}", replaced(ZERO, number=value), NODE) for value in EDGES]
    good = encode(SPELLED)
    bodies: list[tuple[str, type[Record], bytes]] = []
    for name, old, new in SPELLINGS:
        assert good.count(bytes.fromhex(old)) == 1
        bodies.append((name, Transfer, good.replace(bytes.fromhex(old), bytes.fromhex(new))))
    many = encode(replaced(ACCEPTANCE, open=full))
    mark, item = bytes.fromhex("dc0020"), msgspec.msgpack.encode(full[0])
    bodies += [
        ("33 open sessions", Acceptance, many.replace(mark, bytes.fromhex("dc0021") + item)),
        ("a field too many", Transfer, b"\x9b" + good[1:] + b"\x00"),
        ("a field too few", Transfer, b"\x99" + good[1 : -len(bytes.fromhex("ce00011170"))]),
        ("one byte more", Transfer, good + b"\x00"),
        ("twice", Transfer, good + good),
        ("one byte less", Transfer, good[:-1]),
        ("nothing", Transfer, b""),
        ("a reserved marker", Transfer, b"\xc1"),
        ("another record", Transfer, encode(samples.GRANT)),
        ("a quote for a trade", Trade, encode(QUOTE)),
        ("16385 bytes", Transfer, bytes(16_385)),
        ("nested 4096 deep", Transfer, b"\x91" * 4_096),
    ]
    unwritable = [
        case(f"{name} = {shown}", type="Trade", field=name, value=shown, error=code(partial(encode, record)))
        for name, value, shown in (
            ("amount", -1, "-1"),
            ("amount", 2**64, "2^64"),
            ("amount", True, "true"),
            ("amount", 1.0, "1.0"),
            ("amount", None, "nil"),
            ("network", "", '""'),
            ("network", "Regtest", '"Regtest"'),
            ("payer", bytes(31), "31 zero bytes"),
        )
        for record in [replaced(TRADE, **{name: value})]
    ]
    return {
        "records": records,
        "refused": [
            case(name, type=cls.__name__, body=body, error=code(partial(decode, cls, body)))
            for name, cls, body in bodies
        ],
        "unwritable": unwritable,
    }


# --- TIP-02 ------------------------------------------------------------------------------------------------------


def secret_scalar(seed: bytes) -> int:
    """RFC 8032 §5.1.5: what is behind a seed."""
    half = bytearray(sha512(seed).digest()[:32])
    half[0] &= 248
    half[31] = half[31] & 127 | 64
    return int.from_bytes(half, "little")


def forged(key: bytes) -> tuple[bytes, bytes]:
    """(signature, message): R = sB, S = s, valid for a part of all messages in plain verification if A is small."""
    point = SigningKey.from_seed(b"\x05" * 32)
    signature = point.public_key + (secret_scalar(point.seed) % GROUP_ORDER).to_bytes(32, "little")
    messages = [b"message %d" % number for number in range(64)]
    return signature, next((message for message in messages if plainly(key, signature, message)), messages[0])


def plainly(key: bytes, signature: bytes, message: bytes) -> bool:
    """What the library says without the refusals."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


MIXED = bytes.fromhex("fc409141c6cc9bb91f07fc184947c53a09b90b03cd0bee63bf639cb847f264a4")
"""The key of seed 06 plus a point of order 8: not refused, and where the two ways to verify disagree."""


def cofactored(message: bytes) -> bytes:
    """Valid under :data:`MIXED` when both sides are multiplied by 8; as it stands for one message in eight."""
    point = SigningKey.from_seed(b"\x05" * 32)
    challenge = int.from_bytes(sha512(point.public_key + MIXED + message).digest(), "little")
    value = (secret_scalar(point.seed) + challenge * secret_scalar(b"\x06" * 32)) % GROUP_ORDER
    return point.public_key + value.to_bytes(32, "little")


def _signatures() -> list[Case]:
    signer, message = SigningKey.from_seed(b"\x08" * 32), b"message"
    key, good = signer.public_key, signer.sign(message)
    r, s = good[:32], int.from_bytes(good[32:], "little")
    identity = (1).to_bytes(32, "little")
    challenge = int.from_bytes(sha512(identity + key + message).digest(), "little")
    lone = identity + (challenge * secret_scalar(signer.seed) % GROUP_ORDER).to_bytes(32, "little")
    body = encode(TRADE)
    rows: list[tuple[str, bytes, bytes, bytes]] = [
        ("good", key, good, message),
        ("good, of nothing", key, signer.sign(b""), b""),
        ("a trade's, over tag and body", PAYER.public_key, sign(TRADE, PAYER), Trade.TAG + body),
        ("another message", key, good, b"massage"),
        ("another key", NODE.public_key, good, message),
        ("a trade's, made without the tag", PAYER.public_key, PAYER.sign(body), Trade.TAG + body),
        ("a trade's, made under a quote's tag", PAYER.public_key, PAYER.sign(QUOTE.TAG + body), Trade.TAG + body),
        *((f"S + {times} L", key, r + (s + times * GROUP_ORDER).to_bytes(32, "little"), message) for times in (1, 2)),
        ("S = L", key, r + GROUP_ORDER.to_bytes(32, "little"), message),
        ("S = 2^256 - 1", key, r + b"\xff" * 32, message),
        ("63 bytes", key, good[:-1], message),
        ("65 bytes", key, good + b"\x00", message),
        ("empty", key, b"", message),
        ("a key of 31 bytes", key[:-1], good, message),
        ("a key of 33 bytes", key + b"\x00", good, message),
        ("R is the identity, S fits", key, lone, message),
        ("valid only with the cofactor", MIXED, cofactored(b"message 0"), b"message 0"),
        ("valid with and without the cofactor", MIXED, cofactored(b"message 1"), b"message 1"),
    ]
    for encoding in sorted(REFUSED_POINTS):
        rows.append((f"A = {encoding.hex()}", encoding, *forged(encoding)))
        rows.append((f"R = {encoding.hex()}", key, encoding + good[32:], message))
    return [
        case(name, public_key=k, message=m, signature=g, valid=verify(PublicKey(k), Signature(g), m))
        for name, k, g, m in rows
    ]


def _sealed(node: SigningKey, account: SigningKey, passphrase: str) -> bytes:
    """A keystore blob with a fixed nonce; step by step as the document has it."""
    salt, nonce = b"\x11" * 16 if passphrase else b"", b"\x22" * 12
    kek = hkdf(node.seed, b"tirami/keystore/1")
    if passphrase:
        stretched = Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=65_536)
        kek = hkdf(kek + stretched.derive(passphrase.encode()), b"tirami/keystore/1/passphrase")
    ciphertext = AESGCM(kek).encrypt(nonce, account.seed, b"\x01" + salt + account.public_key)
    return msgspec.msgpack.encode([1, salt, nonce, ciphertext])


def _keystore() -> list[Case]:
    word = "correct horse"
    bare, locked = _sealed(NODE, AGENT, ""), _sealed(NODE, AGENT, word)
    rows: list[tuple[str, SigningKey, str, PublicKey, bytes]] = [
        ("no passphrase", NODE, "", AGENT.public_key, bare),
        ("a passphrase", NODE, word, AGENT.public_key, locked),
        ("a passphrase set later", NODE, "later", AGENT.public_key, bare),
        ("passphrase missing", NODE, "", AGENT.public_key, locked),
        ("passphrase wrong", NODE, "correct horse ", AGENT.public_key, locked),
        ("another node", PAYER, "", AGENT.public_key, bare),
        ("another account", NODE, "", PAYER.public_key, bare),
        ("a flipped bit", NODE, "", AGENT.public_key, bare[:-1] + bytes([bare[-1] ^ 1])),
        ("version 2", NODE, "", AGENT.public_key, bare.replace(b"\x94\x01", b"\x94\x02")),
        ("cut", NODE, "", AGENT.public_key, bare[:-1]),
    ]
    result = []
    for name, node, passphrase, account, blob in rows:
        parts: Case = {"node_seed": node.seed, "passphrase": passphrase, "account": account, "sealed": blob}
        try:
            found = keystore.Keystore(node, passphrase).open(account, blob)
        except TiramiError as error:
            result.append(case(name, **parts, error=error.code))
        else:
            result.append(case(name, **parts, account_seed=found.seed))
    return result


def keys() -> Case:
    text = NODE.public_key.hex()
    names = [text, text.upper(), "tirami_" + text, "forge_" + text]
    bad = ["", text[:-1], text + "0", "zz" * 32, "tirami_forge_" + text, "TIRAMI_" + text, " " + text, "٣" * 64]
    files = [
        ("raw", NODE.seed, 0o600, NODE),
        ("hexadecimal", NODE.seed.hex().encode(), 0o600, NODE),
        ("hexadecimal, a newline after it", NODE.seed.hex().encode() + b"\n", 0o400, NODE),
        ("open to the group", NODE.seed, 0o640, None),
        ("open to others", NODE.seed, 0o604, None),
        ("33 bytes", NODE.seed + b"\x01", 0o600, None),
        ("empty", b"", 0o600, None),
        ("62 digits", NODE.seed.hex()[2:].encode(), 0o600, None),
        ("no digits", b"zz" * 32, 0o600, None),
    ]
    return {
        "keys": [
            case(
                f"seed of {byte:02x}",
                seed=signer.seed,
                public_key=signer.public_key,
                local_user_seed=local_user_key(signer).seed,
                local_user_public_key=local_user_key(signer).public_key,
                journal_key=journal_key(signer),
            )
            for byte in (1, 2, 7)
            for signer in [SigningKey.from_seed(bytes([byte]) * 32)]
        ],
        "refused_points": sorted(encoding.hex() for encoding in REFUSED_POINTS),
        "signatures": _signatures(),
        "key_files": [
            case(name, content=content, mode=f"{mode:04o}", **({"seed": key.seed} if key else {"error": "key_file"}))
            for name, content, mode, key in files
        ],
        "node_ids": [
            *(case(f"good {i}", text=name, public_key=parse_node_id(name)) for i, name in enumerate(names)),
            *(case(f"bad {i}", text=t, error=code(partial(parse_node_id, t))) for i, t in enumerate(bad)),
        ],
        "keystore": _keystore(),
    }


# --- TIP-03 ------------------------------------------------------------------------------------------------------


def _bills() -> list[Case]:
    lies: list[tuple[str, Trade, Acceptance]] = [("honest", TRADE, ACCEPTANCE)]
    just = replaced(ACCEPTANCE, ceiling=TRADE.amount)
    lies.append(("at the ceiling", replaced(TRADE, acceptance_hash=record_id(just)), just))
    long = amount_due(TRADE.price_in, TRADE.price_out, 5, 1_100)
    changes: dict[str, dict[str, object]] = {
        "an unknown scope": {"scope": 2},
        "pays itself": {"payer": TRADE.provider},
        "another payer": {"payer": AGENT.public_key},
        "another provider": {"provider": AGENT.public_key},
        "another network": {"network": "other"},
        "another incarnation": {"incarnation": 1},
        "another session": {"session": TRADE.session + 1},
        "another quote": {"quote_hash": bytes(32)},
        "another acceptance": {"acceptance_hash": bytes(32)},
        "a TRM too many": {"amount": TRADE.amount + 1},
        "a TRM too few": {"amount": TRADE.amount - 1},
        "for nothing": {"amount": 0},
        "a higher price, the old amount": {"price_out": TRADE.price_out + 300_000},
        "nothing delivered": {"completion_tokens": 0, "amount": 0},
        "above the ceiling": {"completion_tokens": 1_100, "amount": long},
    }
    lies += [(name, replaced(TRADE, **fields), ACCEPTANCE) for name, fields in changes.items()]
    for name, value in {"scope": 1, "provider": AGENT.public_key, "number": 1, "ceiling": TRADE.amount - 1}.items():
        other = replaced(ACCEPTANCE, **{name: value})
        lies.append((f"an acceptance with another {name}", replaced(TRADE, acceptance_hash=record_id(other)), other))
    return [
        case(name, trade=encode(t), acceptance=encode(a), **verdict(partial(check_bill, t, a, record_id(a))))
        for name, t, a in lies
    ]


def envelope_case(name: str, envelope: Envelope) -> Case:
    """How admission under the regtest file of the sample node judges an envelope."""
    admitted: list[Admitted] = []
    result = verdict(lambda: admitted.append(admit(envelope, NETWORK)))
    found = {"id": admitted[0].record_id, "leaf": leaf_hash(leaf(envelope))} if admitted else {}
    return case(name, envelope=msgspec.msgpack.encode(envelope), **result, **found)


def _trade_envelopes() -> list[Case]:
    good = samples.trade_envelope()
    a, p = good.signatures
    rows = [
        ("a trade", good),
        ("the payer's signature twice", replaced(good, signatures=(a, a))),
        ("signatures in the wrong order", replaced(good, signatures=(p, a))),
        ("one signature", replaced(good, signatures=(a,))),
        ("no acceptance", replaced(good, attachments=())),
        (
            "acceptance signed by another",
            replaced(good, attachments=(good.attachments[0], sign(ACCEPTANCE, NODE))),
        ),
        ("a trade of another network", samples.trade_envelope(replaced(TRADE, network="other"))),
        ("an amount nobody owes", samples.trade_envelope(replaced(TRADE, amount=TRADE.amount + 1))),
        ("one byte after the body", replaced(good, body=good.body + b"\x00")),
        ("an unknown kind", replaced(good, kind="loan")),
    ]
    return [envelope_case(name, envelope) for name, envelope in rows]


def bills() -> Case:
    dues = (
        ("prompt free", 0, 1_000_000, 100, 9),
        ("exact", 250_000, 1_000_000, 4, 9),
        ("rounded up", 250_000, 1_000_000, 5, 9),
        ("one millionth is one", 1, 1, 1, 1),
        ("free is one", 0, 0, 1_000, 1_000),
        ("just above a whole", 0, 1_000_001, 0, 1),
        ("just below a whole", 0, 999_999, 0, 1),
        ("nothing delivered, nothing due", 250_000, 1_000_000, 1_000, 0),
        ("beyond 64 bits on the way", 1_500_000, 6_000_000, 2**40, 2**40),
        ("a half", 500_000, 500_000, 1, 2),
    )
    envelope = samples.trade_envelope()
    voucher = Voucher(envelope.body, envelope.signatures[0], *envelope.attachments)
    return {
        "amounts": [
            case(
                name, price_in=i, price_out=o, prompt_tokens=p, completion_tokens=c, amount=int(amount_due(i, o, p, c))
            )
            for name, i, o, p, c in dues
        ],
        "bills": _bills(),
        "voucher": case("a voucher", bytes=msgspec.msgpack.encode(voucher), fields=voucher),
        "admission": _trade_envelopes(),
    }


# --- TIP-04 ------------------------------------------------------------------------------------------------------


def hashes() -> Case:
    nonces = ((b"\x0a", b"\x0b"), (b"\x0b", b"\x0a"), (b"\x00", b"\x00"))
    chunks: tuple[tuple[list[int], bytes], ...] = (
        ([5_000, 284], "Grüße".encode()),
        ([], b""),
        ([2**31], "日本".encode()),
        ([7], b"\xe6\x97"),
        (list(range(16)), b"sixteen ids"),
        ([255, 256], b"long" * 75),
    )

    def steps(name: str, secret: bytes, parts: Sequence[tuple[list[int], bytes]]) -> Case:
        running = RunningHash(secret)
        rows: list[Case] = [{"hash": running.digest()}]
        for ids, text in parts:
            running.update(ids, text)
            rows.append({"ids": ids, "text": text, "hash": running.digest()})
        return case(name, secret=secret, steps=rows)

    prompts: tuple[tuple[str, tuple[int, ...], str], ...] = (
        ("ids", samples.PROMPT_IDS, ""),
        ("ids; the text does not count", samples.PROMPT_IDS, "ignored"),
        ("text, ids unknown", (), "Grüße"),
        ("neither", (), ""),
        ("text that spells ids", (), "\x92\x01\x02"),
    )
    secret = samples.SECRET
    return {
        "secrets": [
            case(f"nonces of {a.hex()} and {b.hex()}", payer_nonce=a * 32, provider_nonce=b * 32, secret=s)
            for a, b in nonces
            for s in [session_secret(a * 32, b * 32)]
        ],
        "running": [
            steps("six chunks", secret, chunks),
            steps("two tokens in one chunk", secret, [([1, 2], b"ab")]),
            steps("the same two in two chunks: another hash", secret, [([1], b"a"), ([2], b"b")]),
            steps("another secret", bytes(32), [([1, 2], b"ab")]),
        ],
        "prompts": [
            case(name, secret=secret, ids=ids, text=text, hash=prompt_hash(secret, ids, text))
            for name, ids, text in prompts
        ],
    }


# --- TIP-05 ------------------------------------------------------------------------------------------------------

LARGEST = 9


def log() -> Case:
    merkle, leaves, roots = MerkleLog(), [b"leaf %d" % number for number in range(LARGEST)], []
    roots.append(merkle.root())
    for data in leaves:
        merkle.append(data)
        roots.append(merkle.root())
    inclusions = [
        {"index": index, "size": size, "proof": merkle.inclusion(index, size)}
        for size in range(1, LARGEST + 1)
        for index in range(size)
    ]
    consistencies = [
        {"first": first, "second": second, "proof": merkle.consistency(first, second)}
        for second in range(1, LARGEST + 1)
        for first in range(1, second + 1)
    ]
    path = merkle.inclusion(4, 7)
    hash4, zero = leaf_hash(leaves[4]), bytes(32)
    broken: list[tuple[str, bytes, int, int, Sequence[bytes], bytes]] = [
        ("the path cut", hash4, 4, 7, path[:-1], roots[7]),
        ("a hash too many", hash4, 4, 7, [*path, zero], roots[7]),
        ("the path turned", hash4, 4, 7, path[::-1], roots[7]),
        ("another index", hash4, 5, 7, path, roots[7]),
        ("index at the size", hash4, 7, 7, path, roots[7]),
        ("another size", hash4, 4, 8, path, roots[8]),
        ("another leaf", leaf_hash(leaves[3]), 4, 7, path, roots[7]),
        ("another root", hash4, 4, 7, path, roots[6]),
        ("a hash of 31 bytes", hash4, 4, 7, [path[0][:-1], *path[1:]], roots[7]),
        ("an empty tree", hash4, 0, 0, [], roots[0]),
    ]
    step = merkle.consistency(3, 7)
    unequal: list[tuple[str, int, int, bytes, bytes, Sequence[bytes]]] = [
        ("the proof cut", 3, 7, roots[3], roots[7], step[:-1]),
        ("a hash too many", 3, 7, roots[3], roots[7], [*step, zero]),
        ("empty", 3, 7, roots[3], roots[7], []),
        ("an old root that was never published", 3, 7, roots[2], roots[7], step),
        ("another new root", 3, 7, roots[3], roots[6], step),
        ("sizes turned", 7, 3, roots[7], roots[3], step),
        ("from the empty tree", 0, 7, roots[0], roots[7], []),
        ("equal sizes, unequal roots", 7, 7, roots[7], roots[6], []),
        ("equal sizes, a proof", 7, 7, roots[7], roots[7], [zero]),
    ]
    return {
        "leaves": [
            {"data": data.hex(), "hash": leaf_hash(data).hex(), "size": size, "root": roots[size].hex()}
            for size, data in enumerate(leaves, start=1)
        ],
        "empty_root": roots[0].hex(),
        "inclusion": plain(inclusions),
        "consistency": plain(consistencies),
        "inclusion_refused": [
            case(name, leaf=h, index=i, size=n, proof=p, root=r, error=code(partial(verify_inclusion, h, i, n, p, r)))
            for name, h, i, n, p, r in broken
        ],
        "consistency_refused": [
            case(
                n,
                first=f,
                second=s,
                first_root=a,
                second_root=b,
                proof=p,
                error=code(partial(verify_consistency, f, s, a, b, p)),
            )
            for n, f, s, a, b, p in unequal
        ],
        "record_leaves": [
            case(
                "a trade: body, payer's and provider's signature",
                envelope=msgspec.msgpack.encode(envelope),
                leaf=leaf(envelope),
                hash=leaf_hash(leaf(envelope)),
            )
            for envelope in [samples.trade_envelope()]
        ],
    }


# --- TIP-06 ------------------------------------------------------------------------------------------------------


def receipts() -> Case:
    good = samples.trade_envelope()
    document: Case = json.loads(RECEIPT)
    other: Case = json.loads(samples.receipt_of(samples.trade_envelope(replaced(TRADE, at_ms=TRADE.at_ms + 1))))
    stranger = SigningKey.from_seed(b"\x09" * 32)
    head = samples.HEAD
    start = good.body.index(b"regtest") + len(b"regtest")
    spelled = good.body[:start] + b"\xcc" + good.body[start:]
    respelled = [signer.sign(Trade.TAG + spelled).hex() for signer in (PAYER, NODE)]

    def with_(**fields: object) -> bytes:
        return rfc8785.dumps(document | fields)

    def signed_by(*signatures: bytes) -> bytes:
        return samples.receipt_of(Envelope("trade", good.body, signatures, good.attachments))

    files: list[tuple[str, bytes]] = [
        ("good", RECEIPT),
        ("a newline after it", RECEIPT + b"\n"),
        ("laid out for people", json.dumps(document, indent=1, sort_keys=True).encode()),
        ("names in another order", json.dumps(dict(reversed(document.items())), separators=(",", ":")).encode()),
        ("a name twice", RECEIPT.replace(b'"kind":"trade"', b'"kind":"trade","kind":"trade"')),
        ("an escaped letter", RECEIPT.replace(b'"kind":"trade"', b'"kind":"\\u0074rade"')),
        ("an index as 4.0", RECEIPT.replace(b'"leaf_index":4', b'"leaf_index":4.0')),
        ("upper-case hex", with_(body=document["body"].upper())),
        ("a foreign field", with_(colour="red")),
        ("a later format", with_(format="tirami/2/receipt")),
        ("a field missing", rfc8785.dumps({k: v for k, v in document.items() if k != "acceptance"})),
        ("payer's signature by a stranger", signed_by(sign(TRADE, stranger), good.signatures[1])),
        ("provider's signature by a stranger", signed_by(good.signatures[0], sign(TRADE, stranger))),
        ("signatures in the wrong order", signed_by(*good.signatures[::-1])),
        ("acceptance signed by a stranger", with_(acceptance_signature=sign(ACCEPTANCE, stranger).hex())),
        ("head signed by a stranger", samples.receipt_of(good, signer=stranger)),
        ("another leaf index", with_(leaf_index=samples.INDEX - 1)),
        ("the path cut", with_(proof=document["proof"][:-1])),
        ("a hash too many", with_(proof=[*document["proof"], "00" * 32])),
        ("a head over another root", samples.receipt_of(good, replaced(head, root=bytes(32)))),
        ("a head of another network", samples.receipt_of(good, replaced(head, network="other"))),
        ("another trade's proof", with_(**{name: other[name] for name in ("head", "head_signature", "proof")})),
        ("another trade's body", with_(**{name: other[name] for name in ("body", "signatures", "trade")})),
        ("a summary with another amount", with_(trade=document["trade"] | {"amount_trm": TRADE.amount + 1})),
        ("an amount nobody owes", samples.receipt_of(samples.trade_envelope(replaced(TRADE, amount=TRADE.amount + 1)))),
        ("dearer than accepted", samples.receipt_of(_dear())),
        ("another session than accepted", samples.receipt_of(samples.trade_envelope(replaced(TRADE, session=1)))),
        ("a number spelled in two bytes, signed so", with_(body=spelled.hex(), signatures=respelled)),
        ("a quote in place of the acceptance", with_(acceptance=encode(QUOTE).hex())),
        ("65537 bytes", b" " * 65_537),
        ("no JSON", b"\xff"),
    ]
    trust: list[tuple[str, list[SigningKey]]] = [
        ("the node is known", [NODE]),
        ("the node and others are known", [NODE, AGENT]),
        ("only the payer is known", [PAYER]),
        ("nobody is known", []),
    ]
    return {
        "files": [_file(name, data) for name, data in files],
        "trust": [
            case(name, file="good", trusted=sorted(keys), **verdict(partial(verify_receipt, RECEIPT, keys)))
            for name, signers in trust
            for keys in [frozenset(signer.public_key for signer in signers)]
        ],
    }


def _dear() -> Envelope:
    amount = amount_due(TRADE.price_in, TRADE.price_out, 5, 2_000)
    return samples.trade_envelope(replaced(TRADE, completion_tokens=2_000, amount=amount))


def _file(name: str, data: bytes) -> Case:
    """Text where it is text and short, else hex or a repetition."""
    if len(set(data)) == 1 and len(data) > 64:
        shown: Case = {"repeat": {"byte": data[:1], "times": len(data)}}
    elif data.isascii():
        shown = {"text": data.decode()}
    else:
        shown = {"bytes": data}
    return case(name, **shown, **verdict(lambda: verify_receipt(data)))


# --- TIP-07 ------------------------------------------------------------------------------------------------------

KEYS = {letter: sha256(letter.encode()) for letter in "ABCD"}
ISSUER = sha256(b"issuer")
QUOTA = 2_000


def key(letter: str) -> Account:
    return Account(AccountKind.KEY, KEYS[letter])


def demand(
    name: str,
    account: Account,
    number: int,
    amount: int,
    payee: Account,
    *,
    declared: int = 0,
    trade: bool = True,
    progress: int = 1,
    incarnation: int = 0,
    limit_of: bytes = b"",
) -> tuple[bytes, Demand]:
    identity = sha256(name.encode())
    tie = b"" if trade and not limit_of else identity
    on_credit = trade or bool(limit_of)
    order = (incarnation, number, tie)
    debit = Debit(order, identity, cast(Any, amount), cast(Any, declared), payee, on_credit, limit_of, progress)
    return identity, Demand(account, debit)


def line(name: str, letter: str, limit: int, number: int = 1, issuer: bytes = ISSUER) -> tuple[bytes, Demand]:
    account = Account(AccountKind.QUOTA, issuer, 7)
    lines = Account(AccountKind.LINES, b"")
    return demand(name, account, number, limit, lines, trade=False, progress=0, limit_of=KEYS[letter])


def pay(name: str, payer: str, payee: str, number: int, amount: int, **rest: Any) -> tuple[bytes, Demand]:
    return demand(name, key(payer), number, amount, key(payee), **rest)


def give(name: str, payer: str, payee: str, number: int, amount: int, declared: int = 0) -> tuple[bytes, Demand]:
    return pay(name, payer, payee, number, amount, declared=declared, trade=False, progress=0)


def _histories() -> dict[str, list[tuple[bytes, Demand]]]:
    def local(letter: str) -> Account:
        return Account(AccountKind.LOCAL, KEYS[letter])

    return {
        "nothing": [],
        "a line pays for a trade": [line("g", "A", 100), pay("t", "A", "B", 1, 30)],
        "a trade nobody can pay waits": [pay("t", "A", "B", 1, 30)],
        "to the last TRM and not one more": [
            line("g", "A", 100),
            pay("t1", "A", "B", 1, 100),
            pay("t2", "A", "B", 2, 1, declared=100),
        ],
        "income pays on": [line("g", "A", 100), pay("t1", "A", "B", 1, 60), pay("t2", "B", "C", 1, 60)],
        "of one session the most tokens count": [
            line("g", "A", 100),
            pay("v64", "A", "B", 1, 10, progress=64),
            pay("v160", "A", "B", 1, 25, progress=160),
            pay("v128", "A", "B", 1, 20, progress=128),
        ],
        "equal tokens: the larger amount": [
            line("g", "A", 100),
            pay("cheap", "A", "B", 1, 10, progress=64),
            pay("dear", "A", "B", 1, 11, progress=64),
        ],
        "equal tokens and amounts: the smaller id": [
            line("g", "A", 100),
            pay("one", "A", "B", 1, 10, progress=64),
            pay("other", "A", "C", 1, 10, progress=64),
        ],
        "a line gives nothing away": [line("g", "A", 100), give("gift", "A", "B", 1, 10)],
        "income may be given": [
            line("g", "C", 100),
            pay("t", "C", "A", 1, 10),
            give("gift", "A", "B", 1, 10),
        ],
        "lines do not add up": [line("g30", "A", 30), line("g50", "A", 50, 2), pay("t", "A", "B", 1, 51)],
        "a quota is used up": [line("g1", "A", 1_500), line("g2", "B", 600, 2)],
        "no issuer, no line": [line("g", "A", 100, issuer=KEYS["D"]), pay("t", "A", "B", 1, 10)],
        "numbers may have holes": [line("g", "A", 100), pay("t9", "A", "B", 9, 10, declared=70)],
        "an honest total covers what is missing": [
            line("g", "A", 100),
            pay("t1", "A", "B", 1, 40),
            pay("t2", "A", "B", 2, 40, declared=40),
            pay("t3", "A", "B", 3, 20, declared=80),
        ],
        "a liar's later number gives way to an earlier one": [
            line("g", "A", 50),
            pay("t5", "A", "B", 5, 50),
            pay("t1", "A", "C", 1, 50),
        ],
        "a ring that pays itself falls with its support": [
            line("g", "A", 10),
            pay("t5", "A", "B", 5, 10),
            pay("back", "B", "A", 1, 10),
            pay("t1", "A", "C", 1, 10),
        ],
        "a ring without a line is worth nothing": [
            pay("ab", "A", "B", 1, 1_000),
            pay("bc", "B", "C", 1, 1_000),
            pay("ca", "C", "A", 1, 1_000),
        ],
        "a gift and a trade of one number both stand": [
            line("g", "A", 100),
            line("h", "B", 100, 2),
            pay("in", "B", "A", 1, 100),
            pay("t", "A", "C", 1, 60),
            give("gift", "A", "C", 1, 40),
            give("too much", "A", "C", 1, 41),
        ],
        "incarnations rank before numbers": [
            line("g", "A", 50),
            pay("new life", "A", "B", 1, 50, incarnation=1),
            pay("old life", "A", "C", 9, 50),
        ],
        "local stays local": [
            demand("own", local("A"), 1, 500, local("B")),
            pay("t", "B", "C", 1, 1),
        ],
    }


def _orders(size: int) -> list[list[int]]:
    """Forwards, backwards, rotated, and forwards with everything twice."""
    forwards = list(range(size))
    half = size // 2
    return [forwards, forwards[::-1], forwards[half:] + forwards[:half], forwards + forwards]


def _state(book: Book, ids: Sequence[bytes]) -> Case:
    balances = sorted((a.kind.value, a.owner, a.period, int(net)) for a, net in book.balances().items() if net)
    return {
        "applied": sorted(identity for identity in ids if book.is_applied(identity)),
        "balances": balances,
        "state": book.state_bytes(),
        "state_hash": book.state_hash(),
    }


def _folded(rows: Sequence[tuple[bytes, Demand]], orders: list[list[int]], allowance: Callable[[Account], Any]) -> Case:
    states = []
    for order in orders:
        book = Book(allowance)
        book.add_all(rows[index] for index in order)
        states.append(plain(_state(book, [identity for identity, _ in rows])))
    assert all(state == states[0] for state in states)
    return cast(Case, states[0])


def _abstract(account: Account) -> Any:
    match account.kind:
        case AccountKind.LOCAL:
            return 1 << 62
        case AccountKind.QUOTA:
            return QUOTA if account.owner == ISSUER else 0
    return 0


def _history(name: str, rows: list[tuple[bytes, Demand]]) -> Case:
    orders = _orders(len(rows))
    debits = [
        {
            "id": identity,
            "account": wanted.account,
            "incarnation": wanted.debit.order[0],
            "number": wanted.debit.order[1],
            "tie": wanted.debit.order[2],
            "amount": wanted.debit.amount,
            "declared": wanted.debit.declared,
            "payee": wanted.debit.payee,
            "on_credit": wanted.debit.on_credit,
            "limit_of": wanted.debit.limit_of,
            "progress": wanted.debit.progress,
        }
        for identity, wanted in rows
    ]
    return case(name, debits=debits, orders=orders, expected=_folded(rows, orders, _abstract))


def _real() -> list[Envelope]:
    """Grants, trades at two counts, a gift and an own use, all properly signed under regtest."""
    line = replaced(samples.GRANT, to=PAYER.public_key)
    accepted = replaced(ACCEPTANCE, settled=0, open=())
    first = replaced(TRADE, acceptance_hash=record_id(accepted), completion_tokens=2, amount=4, flop=0)
    last = replaced(TRADE, acceptance_hash=record_id(accepted))
    gift = replaced(samples.TRANSFER, incarnation=0, amount=3)
    own = replaced(ACCEPTANCE, scope=1, payer=LOCAL_USER.public_key, settled=0, open=())
    used = replaced(TRADE, scope=1, payer=LOCAL_USER.public_key, acceptance_hash=record_id(own))
    return [
        Envelope("grant", encode(line), (sign(line, NODE),), ()),
        *(samples.trade_envelope(trade, accepted) for trade in (first, last)),
        Envelope("transfer", encode(gift), (sign(gift, NODE),), ()),
        Envelope(
            "trade",
            encode(used),
            (sign(used, LOCAL_USER), sign(used, NODE)),
            (encode(own), sign(own, LOCAL_USER)),
        ),
    ]


def book() -> Case:
    envelopes = _real()
    admitted = [admit(envelope, NETWORK) for envelope in envelopes]
    rows = [(entry.record_id, entry.demand) for entry in admitted]
    orders = _orders(len(rows))
    grant, transfer = samples.GRANT, samples.TRANSFER

    def one(record: Grant | Transfer, signer: SigningKey = NODE, **fields: Any) -> Envelope:
        changed = replaced(record, **fields)
        kind = "grant" if isinstance(record, Grant) else "transfer"
        return Envelope(kind, encode(changed), (sign(changed, signer),), ())

    return {
        "rules": {"issuer": ISSUER.hex(), "quota": QUOTA, "local": str(1 << 62)},
        "histories": [_history(name, history) for name, history in _histories().items()],
        "records": [
            case(
                "a line, a trade at two counts, a gift, the owner's own use",
                network=NETWORK.to_bytes().decode(),
                envelopes=[msgspec.msgpack.encode(envelope) for envelope in envelopes],
                orders=orders,
                expected=_folded(rows, orders, allowance_rule(NETWORK)),
            )
        ],
        "admission": [
            envelope_case(name, envelope)
            for name, envelope in (
                ("a grant", one(grant)),
                ("a grant by no issuer", one(grant, AGENT, issuer=AGENT.public_key)),
                ("a grant signed by another", one(grant, AGENT)),
                ("a line too large", one(grant, limit=1_001)),
                ("a line of nothing", one(grant, limit=0)),
                ("a grant of another network", one(grant, network="other")),
                ("a transfer", one(transfer)),
                ("a transfer of nothing", one(transfer, amount=0)),
                ("a transfer to oneself", one(transfer, to=NODE.public_key)),
                ("a transfer of local scope", one(transfer, scope=1)),
                ("a transfer signed by another", one(transfer, AGENT)),
                ("a transfer of another network", one(transfer, network="other")),
            )
        ],
    }


# --- TIP-08 ------------------------------------------------------------------------------------------------------


def networks() -> Case:
    minimal: Case = {"format": "tirami/1/network", "id": "mesh-1"}
    keys = [NODE.public_key.hex(), AGENT.public_key.hex()]
    full = minimal | {
        "parameters": {"welcome_limit": 500, "witnesses": 1, "quorum": 1},
        "issuers": [{"key": keys[0], "daily_lines": 7}, {"key": keys[1]}],
        "witnesses": [keys[1]],
        "seeds": [f"{keys[0]}@192.0.2.1:3100"],
    }
    defaults = json.loads(NetworkFile.parse(json.dumps(minimal).encode()).to_bytes())["parameters"]
    changed = {name: {name: value + 1} for name, value in defaults.items()}
    changed["witnesses"] = changed["quorum"] = {"witnesses": 5, "quorum": 3}
    files: list[tuple[str, object]] = [
        ("minimal", minimal),
        ("defaults written out", minimal | {"parameters": defaults}),
        ("full", full),
        ("full, other order", dict(reversed(full.items()))),
        ("an issuer's quota by the network's parameter", full | {"parameters": {"issuer_daily_lines": 3}}),
        *((f"{name} changed", minimal | {"parameters": value}) for name, value in changed.items()),
        ("another id", full | {"id": "mesh-2"}),
        ("no seeds", full | {"seeds": []}),
    ]
    files[4] = (files[4][0], cast(Case, files[4][1]) | {"witnesses": []})
    small = (1).to_bytes(32, "little").hex()
    bad: list[tuple[str, object]] = [
        ("no JSON", "{"),
        ("a list", "[]"),
        ("a name twice", '{"format":"tirami/1/network","id":"a","id":"b"}'),
        ("no id", {"format": "tirami/1/network"}),
        ("a later format", minimal | {"format": "tirami/2/network"}),
        ("an id with a capital", minimal | {"id": "Mesh"}),
        ("a foreign field", minimal | {"colour": "red"}),
        ("a foreign parameter", minimal | {"parameters": {"colour": 1}}),
        ("a fraction", minimal | {"parameters": {"welcome_limit": 0.5}}),
        ("a negative number", minimal | {"parameters": {"welcome_limit": -1}}),
        ("a number beyond 2^53 - 1", minimal | {"parameters": {"welcome_limit": 2**53}}),
        ("a quorum that is none", minimal | {"parameters": {"witnesses": 3, "quorum": 1}}),
        ("fewer witnesses than w", minimal | {"witnesses": [keys[0]]}),
        ("an issuer twice", minimal | {"issuers": [{"key": keys[0]}, {"key": keys[0]}]}),
        ("a witness twice", minimal | {"witnesses": [keys[0]] * 2 + [keys[1]]}),
        ("a key in capitals", minimal | {"issuers": [{"key": keys[0].upper()}]}),
        ("a key of small order", minimal | {"issuers": [{"key": small}]}),
    ]

    def text(document: object) -> str:
        return document if isinstance(document, str) else json.dumps(document)

    return {
        "regtest": case(
            "regtest of the sample node",
            node=NODE.public_key,
            canonical=NETWORK.to_bytes().decode(),
            hash=NETWORK.hash,
        ),
        "files": [
            case(name, text=text(document), canonical=network.to_bytes().decode(), hash=network.hash)
            for name, document in files
            for network in [NetworkFile.parse(text(document).encode())]
        ],
        "refused": [
            case(name, text=text(document), error=code(partial(NetworkFile.parse, text(document).encode())))
            for name, document in bad
        ],
    }


# --- TIP-09 ------------------------------------------------------------------------------------------------------


Row = tuple[int, int, int, bytes, bytes]
JOURNAL_KEY = journal_key(NODE)


def chained(contents: Sequence[tuple[int, Content]], key: bytes = JOURNAL_KEY) -> list[Row]:
    """(seq, kind, at_ms, body, chain) of every entry."""
    rows, chain = [], GENESIS
    for seq, (at_ms, content) in enumerate(contents, start=1):
        kind, body = int(kind_of(content)), encode_content(content)
        chain = chain_hash(key, chain, seq, kind, at_ms, body)
        rows.append((seq, kind, at_ms, body, chain))
    return rows


def journal_contents(head: Head | None = None, signer: SigningKey = NODE) -> list[tuple[int, Content]]:
    """A small life of one node; the head it signed is over its one record."""
    envelope = samples.trade_envelope()
    voucher = Voucher(envelope.body, envelope.signatures[0], *envelope.attachments)
    head = head or replaced(samples.HEAD, size=1, root=leaf_hash(leaf(envelope)))
    hold_id, accepted = b"\x0e" * 16, ACCEPTANCE
    opened = HoldOpened(
        id=hold_id,
        account=accepted.payer,
        scope=0,
        incarnation=0,
        number=accepted.number,
        ceiling=accepted.ceiling,
        purpose="inference",
        expires_ms=AT + 600_002,
        request_id="req-1",
        acceptance=encode(accepted),
        acceptance_signature=sign(accepted, PAYER),
        quote=encode(QUOTE),
        quote_signature=sign(QUOTE, NODE),
    )
    return [
        (AT, JournalOpened(1, NODE.public_key, NETWORK.id, NETWORK.hash)),
        (AT, NodeStarted(AT, 0, head.log_id, NETWORK.hash)),
        (AT + 2, opened),
        (AT + 900, HoldVouched(hold_id, TRADE.amount, voucher, AT + 600_900)),
        (AT + 901, envelope),
        (AT + 901, HoldCaptured(hold_id, record_id(TRADE), TRADE.amount)),
        (AT + 1_000, HeadPublished(encode(head), sign(head, signer))),
        (AT + 2_000, KillSet(True, "maintenance", "operator")),
    ]


def journal() -> Case:
    rows = chained(journal_contents())
    size = len(rows)

    def slot(row: Row, key: bytes = JOURNAL_KEY) -> bytes:
        return pack_tip(Tip(row[0], row[4]), key).ljust(512, b"\x00")

    def tip(first: int | None, second: int | None) -> bytes:
        return b"".join(bytes(512) if seq is None else slot(rows[seq - 1]) for seq in (first, second))

    def changed(place: int, **parts: Any) -> list[Row]:
        names = ("seq", "kind", "at_ms", "body", "chain")
        row = tuple(parts.get(name, value) for name, value in zip(names, rows[place - 1], strict=True))
        return [*rows[: place - 1], cast(Row, row), *rows[place:]]

    def with_tip(other: list[Row], key: bytes = JOURNAL_KEY) -> tuple[list[Row], bytes]:
        return other, slot(other[-1], key) + bytes(512)

    last, torn = tip(size - 1, size), bytearray(tip(size - 1, size))
    torn[512 + 20] ^= 1
    both = bytearray(torn)
    both[20] ^= 1
    flipped = rows[4][3][:-1] + bytes([rows[4][3][-1] ^ 1])
    missing = [row for row in rows if row[0] != 4]
    foreign = journal_key(AGENT)
    empty_log = chained([entry for entry in journal_contents() if not isinstance(entry[1], Envelope | HoldCaptured)])
    other_root = chained(journal_contents(replaced(samples.HEAD, size=1)))
    strange_head = chained(journal_contents(signer=AGENT))
    cases: list[tuple[str, list[Row], bytes, bool, Case]] = [
        ("whole", rows, last, False, {"entries": size}),
        ("ahead of its tip: a crash between the two", rows, tip(size - 2, size - 1), False, {"entries": size}),
        ("one slot torn: the other counts", rows, bytes(torn), False, {"entries": size}),
        ("both slots damaged", rows, bytes(both), False, _rolled(0)),
        ("no tip", rows, b"", False, _rolled(0)),
        ("a tip of zeros", rows, bytes(1_024), False, _rolled(0)),
        ("no tip, accepted", rows, b"", True, {"entries": size}),
        ("a tip sealed by another node", rows, slot(rows[-1], foreign) + bytes(512), False, _rolled(0)),
        ("a bit of a body", changed(5, body=flipped), last, False, _corrupt(5)),
        ("a time", changed(3, at_ms=AT + 3), last, False, _corrupt(3)),
        ("a kind", changed(2, kind=1), last, False, _corrupt(2)),
        ("a chain hash", changed(6, chain=bytes(32)), last, False, _corrupt(6)),
        ("an entry taken out", missing, last, False, _corrupt(4)),
        ("chained under another key", *with_tip(chained(journal_contents(), foreign)), False, _corrupt(1)),
        ("an older copy", rows[:-1], last, False, _rolled(size)),
        ("an older copy, accepted", rows[:-1], last, True, {"entries": size - 1}),
        (
            "an older copy with its older tip: not seen",
            rows[:-1],
            tip(size - 2, size - 1),
            False,
            {"entries": size - 1},
        ),
        ("nothing left", [], last, False, _rolled(1)),
        ("another journal of equal length", other_root, last, False, _rolled(size)),
        ("a bit of a body, rollback accepted", changed(5, body=flipped), last, True, _corrupt(5)),
        ("a signed head over a longer log", *with_tip(empty_log), False, _corrupt(len(empty_log))),
        ("a signed head over another log", *with_tip(other_root), False, _corrupt(size)),
        ("a head signed by another", *with_tip(strange_head), False, _corrupt(size)),
    ]
    return {
        "node_seed": NODE.seed.hex(),
        "key": JOURNAL_KEY.hex(),
        "network": NETWORK.to_bytes().decode(),
        "genesis": GENESIS.hex(),
        "entries": [
            case(f"entry {seq}", seq=seq, kind=kind, at_ms=at_ms, body=body, chain=chain)
            for seq, kind, at_ms, body, chain in rows
        ],
        "tips": [
            case(f"tip {row[0]}", seq=row[0], chain=row[4], slot=pack_tip(Tip(row[0], row[4]), JOURNAL_KEY))
            for row in rows
        ],
        "starts": [
            case(name, **_difference(rows, found), tip=data, accept_rollback=accept, **expected)
            for name, found, data, accept, expected in cases
        ],
    }


def _corrupt(entry: int) -> Case:
    return {"error": "journal_corrupt", "entry": entry}


def _rolled(entry: int) -> Case:
    return {"error": "journal_rollback", "entry": entry}


def _difference(rows: list[Row], found: list[Row]) -> Case:
    """Which of the entries above are on disk, and those that differ from above."""
    known = {row[0]: row for row in rows}
    names = ("seq", "kind", "at_ms", "body", "chain")
    differing = [dict(zip(names, row, strict=True)) for row in found if row != known[row[0]]]
    return {"present": [row[0] for row in found], "changed": differing}


# --- documents ---------------------------------------------------------------------------------------------------

VECTORS: Mapping[str, tuple[str, Callable[[], Case]]] = {
    "tip-01": ("Canonical bytes", canonical),
    "tip-02": ("Keys and signatures", keys),
    "tip-03": ("Records of a paid answer", bills),
    "tip-04": ("Running hash and prompt hash", hashes),
    "tip-05": ("Log, heads and proofs", log),
    "tip-06": ("Receipts", receipts),
    "tip-07": ("The book", book),
    "tip-08": ("The network file", networks),
    "tip-09": ("The journal", journal),
}


def _fenced(*lines: str) -> list[str]:
    return ["```text", *lines, "```"]


def _bytes_example() -> list[str]:
    head, lines = samples.HEAD, []
    lines.append(f"{'97':74} array of 7")
    for name in head.__struct_fields__:
        value = getattr(head, name)
        lines.append(
            f"{msgspec.msgpack.encode(value).hex():74} {name}{'' if isinstance(value, bytes) else f' {value}'}"
        )
    return _fenced(*lines, "", f"record id = SHA-256(tag ‖ body) = {record_id(head).hex()}")


def _signature_example() -> list[str]:
    return _fenced(
        f"node seed        {NODE.seed.hex()}",
        f"node key         {NODE.public_key.hex()}",
        f"local-user seed  {LOCAL_USER.seed.hex()}",
        f"local-user key   {LOCAL_USER.public_key.hex()}",
        f"message          {samples.HEAD.TAG.hex()} ‖ the {len(encode(samples.HEAD))} bytes of the example in TIP-01",
        f"signature        {sign(samples.HEAD, NODE)[:32].hex()}",
        f"                 {sign(samples.HEAD, NODE)[32:].hex()}",
    )


def _bill_example() -> list[str]:
    exact = TRADE.price_in * TRADE.prompt_tokens + TRADE.price_out * TRADE.completion_tokens
    return _fenced(
        f"price_in {TRADE.price_in} · prompt_tokens {TRADE.prompt_tokens}"
        f" + price_out {TRADE.price_out} · completion_tokens {TRADE.completion_tokens} = {exact} µTRM",
        f"amount = ⌈{exact} ÷ 1000000⌉ = {TRADE.amount} TRM ≤ ceiling {ACCEPTANCE.ceiling} TRM",
        f"quote      {record_id(QUOTE).hex()}",
        f"acceptance {record_id(ACCEPTANCE).hex()}",
        f"trade      {record_id(TRADE).hex()}",
    )


def _hash_example() -> list[str]:
    running = RunningHash(samples.SECRET)
    lines = [f"secret = {samples.SECRET.hex()}", f"h0     = {running.digest().hex()}"]
    for step, (ids, text) in enumerate((([5_000, 284], "Grüße"), ([], ""), ([2**31], "日本")), start=1):
        running.update(ids, text.encode())
        lines.append(f"h{step}     = {running.digest().hex()}   {msgspec.msgpack.encode([ids, text.encode()]).hex()}")
    return _fenced(*lines)


def _log_example() -> list[str]:
    merkle = MerkleLog()
    for number in range(3):
        merkle.append(b"leaf %d" % number)
    a, b, c = (leaf_hash(b"leaf %d" % number).hex() for number in range(3))
    path = merkle.inclusion(2, 3)
    return _fenced(
        f'a    = SHA-256(00 ‖ "leaf 0") = {a}',
        f'b    = SHA-256(00 ‖ "leaf 1") = {b}',
        f'c    = SHA-256(00 ‖ "leaf 2") = {c}',
        f"ab   = SHA-256(01 ‖ a ‖ b)    = {path[0].hex()}",
        f"root = SHA-256(01 ‖ ab ‖ c)   = {merkle.root().hex()}",
        "inclusion of leaf 2 in size 3: [ab];  consistency from 2 to 3: [c]",
    )


def _receipt_example() -> list[str]:
    document: Case = json.loads(RECEIPT)

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


def _book_example() -> list[str]:
    rows = _histories()["a liar's later number gives way to an earlier one"]
    expected = _history("", rows)["expected"]
    return _fenced(
        "g    quota → line of A      50 TRM",
        "t5   A → B   number 5       50 TRM   declares 0",
        "t1   A → C   number 1       50 TRM   declares 0",
        "",
        "g, t5 arrive:       0 + 50 ≥ max(0, 0) + 50     t5 applies, B has 50",
        "t1 arrives late:    0 + 50 ≥ max(0, 0) + 50     t1 applies, C has 50",
        "                    0 + 50 < max(0, 50) + 50    t5 does not: A hid number 1 when it signed number 5",
        f"state hash          {expected['state_hash']}",
    )


def _network_example() -> list[str]:
    text = json.dumps(json.loads(NETWORK.to_bytes()), indent=1)
    return ["```json", *text.splitlines(), "```", "", f"Hash: `{NETWORK.hash.hex()}`."]


def _journal_example() -> list[str]:
    rows = chained(journal_contents())
    lines = [f"key      {JOURNAL_KEY.hex()}", f"genesis  {GENESIS.hex()}"]
    lines += [f"{seq} {'RHF'[kind]} {at_ms}  {chain.hex()}" for seq, kind, at_ms, _, chain in rows]
    return _fenced(*lines)


EXAMPLES: Mapping[str, Callable[[], list[str]]] = {
    "bytes": _bytes_example,
    "signature": _signature_example,
    "bill": _bill_example,
    "hashes": _hash_example,
    "log": _log_example,
    "receipt": _receipt_example,
    "book": _book_example,
    "network": _network_example,
    "journal": _journal_example,
}


def rendered() -> dict[Path, bytes]:
    """Every generated file and document, as it must stand on disk."""
    files: dict[Path, bytes] = {}
    for name, (title, make) in VECTORS.items():
        document = {"format": "tirami/1/vectors", "tip": int(name[-2:]), "title": title} | make()
        text = json.dumps(document, indent=1, ensure_ascii=False)
        files[DOCS / "vectors" / f"{name}.json"] = text.encode() + b"\n"
    for path in sorted(DOCS.glob("TIP-*.md")):
        files[path] = filled(path.read_text(encoding="utf-8"), EXAMPLES).encode()
    return files


def main() -> None:
    for path, data in rendered().items():
        if not path.exists() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            print(path.relative_to(DOCS.parent.parent))


if __name__ == "__main__":
    main()
