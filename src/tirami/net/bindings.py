"""A repair of the generated bindings of ``iroh``, until upstream makes it.

Its ``_UniffiRustBufferBuilder.write`` copies byte by byte in Python, under the interpreter lock: 8 MB take seconds.
Here it is one ``memmove``. A version whose writer looks different is left alone;
``tests/net/test_bindings.py`` tells when the repair can go.
"""

import ctypes
from types import ModuleType
from typing import Any

_SHIPPED = ("_reserve", "len", "enumerate", "rbuf", "data")
"""Every name that the byte-wise ``write`` uses (uniffi-bindgen 0.31, iroh 1.2)."""


def writes_bytewise(bindings: ModuleType) -> bool:
    """Whether ``write`` is the loop this module knows, over the buffer layout it knows."""
    builder = getattr(bindings, "_UniffiRustBufferBuilder", None)
    code = getattr(getattr(builder, "write", None), "__code__", None)
    fields = [name for name, *_ in getattr(getattr(bindings, "_UniffiRustBuffer", None), "_fields_", ())]
    known = code is not None and set(code.co_names) == set(_SHIPPED) and code.co_argcount == 2
    return known and hasattr(builder, "_reserve") and fields == ["capacity", "len", "data"]


def repair(bindings: ModuleType) -> bool:
    """Replace the writer of ``iroh.iroh_ffi`` where it is the known slow one; whether it was. Idempotent."""
    if not writes_bytewise(bindings):
        return False
    bindings._UniffiRustBufferBuilder.write = _write
    return True


def _write(self: Any, value: bytes | bytearray | memoryview) -> None:
    size = len(value)
    if size == 0:
        return
    with self._reserve(size):
        start = ctypes.addressof(self.rbuf.data.contents) + self.rbuf.len
        ctypes.memmove(start, bytes(value), size)
