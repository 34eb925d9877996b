"""Vectors of TIP-01: canonical bytes."""

from functools import partial

import msgspec
from tests.proto import samples
from tests.proto.samples import ACCEPTANCE, AT, NODE, PAYER, QUOTE, SAMPLES, SIGNERS, TRADE

from tirami.core.keys import SigningKey
from tirami.proto import Acceptance, Open, Record, Trade, Transfer, decode, encode, record_id, sign
from tools.vectors.case import Case, case, code, replaced
from tools.vectors.tables import fenced

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


def vectors() -> Case:
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


def example() -> list[str]:
    head, lines = samples.HEAD, []
    lines.append(f"{'97':74} array of 7")
    for name in head.__struct_fields__:
        value = getattr(head, name)
        lines.append(
            f"{msgspec.msgpack.encode(value).hex():74} {name}{'' if isinstance(value, bytes) else f' {value}'}"
        )
    return fenced(*lines, "", f"record id = SHA-256(tag ‖ body) = {record_id(head).hex()}")
