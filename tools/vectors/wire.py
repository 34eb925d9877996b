"""Vectors of TIP-13: one frame of every message, with made-up contents of every field; adverts, probes."""

import msgspec
from msgspec import inspect

from tirami.net.frames import encode
from tirami.proto import MESSAGES, Message
from tools.vectors import adverts, probes
from tools.vectors.case import Case, case
from tools.vectors.tables import fenced


def sample(kind: type[Message]) -> Message:
    """A message whose every field has a value that its bounds allow; the same each time."""
    made = msgspec.convert(_value(inspect.type_info(kind), 1), kind)
    assert isinstance(made, Message)
    return made


def vectors() -> Case:
    frames = [case(kind.__name__, type=kind.TYPE, limit=kind.LIMIT, frame=encode(sample(kind))) for kind in MESSAGES]
    told = {"adverts": adverts.events(), "read": adverts.readings(), "probes": probes.signed(), "taken": probes.taken()}
    return {"frames": frames} | told


def example() -> list[str]:
    wanted = {"Ping", "Cancel", "BlockFollows"}
    shown = [kind for kind in MESSAGES if kind.__name__ in wanted]
    return fenced(*(f"{kind.__name__:<13} {encode(sample(kind)).hex()}" for kind in shown))


def messages() -> list[str]:
    """The table of all messages."""
    lines = ["| type | name | most bytes | fields, in order | says |", "|---|---|---|---|---|"]
    for kind in MESSAGES:
        says = (kind.__doc__ or "").split("\n\n")[0].replace("\n", " ").strip()
        names = ", ".join(f"`{name}`" for name in kind.__struct_fields__)
        lines.append(f"| `{kind.TYPE:#06x}` | {kind.__name__} | {kind.LIMIT} | {names} | {says} |")
    return lines


def _value(kind: inspect.Type, number: int) -> object:
    match kind:
        case inspect.StructType(fields=fields):
            return [_value(field.type, place) for place, field in enumerate(fields, start=1)]
        case inspect.IntType(ge=least):
            return max(number, least or 0)
        case inspect.BoolType():
            return True
        case inspect.BytesType(min_length=least):
            return bytes([number]) * (least or 3)
        case inspect.StrType(pattern=pattern):
            return "regtest" if pattern else f"text {number}"
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.VarTupleType(item_type=item):
            return [_value(item, number)]
    raise TypeError(f"no sample of {kind}")
