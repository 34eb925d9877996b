"""A case of the vectors: a name, its input, and what follows or the stable code of the error."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from tirami.core.errors import TiramiError

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
