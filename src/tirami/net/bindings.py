"""The library ``iroh``, loaded with three repairs that it needs: import it from here.

- Its generated writer ``_UniffiRustBufferBuilder.write`` copies byte by byte in Python, under the interpreter lock:
  8 MB take seconds. Here it is one ``memmove``. A version whose writer looks different is left alone;
  ``tests/net/test_bindings.py`` tells when the repair can go.
- Its errors capture a backtrace where ``RUST_BACKTRACE`` is set, and writing one out takes 0.1 to 0.2 s *of the event
  loop*: a stranger who breaks off handshakes could hold a node with them. So errors capture none; panics still do.
- It tells Python of a finished call while it holds the lock of the connection, from any thread. What Python lets go at
  that moment (its garbage collector may run anywhere) is freed there, and freeing a stream takes the same lock: the
  connection stood still for ever, and the event loop with it. So a thread that holds nothing frees what was let go.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import ModuleType, SimpleNamespace
from typing import Any

os.environ.setdefault("RUST_LIB_BACKTRACE", "0")  # read by the library at its first error

import iroh as iroh
import iroh.iroh_ffi as _generated
import structlog

_log = structlog.get_logger()
_SHIPPED = {"_reserve", "len", "enumerate", "rbuf", "data"}
"""Every name that the byte-wise ``write`` uses (iroh 1.2)."""


def writes_bytewise(bindings: ModuleType) -> bool:
    """Whether ``write`` is the loop this module knows, over the buffer layout it knows."""
    builder = getattr(bindings, "_UniffiRustBufferBuilder", None)
    code = getattr(getattr(builder, "write", None), "__code__", None)
    fields = [name for name, *_ in getattr(getattr(bindings, "_UniffiRustBuffer", None), "_fields_", ())]
    known = code is not None and set(code.co_names) == _SHIPPED and code.co_argcount == 2
    return known and fields == ["capacity", "len", "data"]


def repair(bindings: ModuleType) -> bool:
    """Replace the writer where it is the known slow one; whether it was. Idempotent."""
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


_LET_GO: SimpleQueue[tuple[Callable[[Any], None], int]] = SimpleQueue()
"""Destructors of the bindings, and the handle each is to free. A destructor may call its ``put`` (Python docs)."""


def free_elsewhere(bindings: ModuleType) -> None:
    """Make the destructor of every foreign object of ``bindings`` leave its handle to :data:`_LET_GO`. Idempotent."""
    for made in vars(bindings).values():
        free = vars(made).get("__del__") if isinstance(made, type) else None
        if free is not None and free.__module__ == bindings.__name__ and "_handle" in free.__code__.co_consts:
            made.__del__ = _leaving(free)


def _leaving(free: Callable[[Any], None]) -> Callable[[Any], None]:
    def leave(self: Any) -> None:
        handle = getattr(self, "_handle", None)
        if handle is not None:
            _LET_GO.put((free, handle))

    return leave


def _free_what_was_let_go() -> None:
    while True:
        free, handle = _LET_GO.get()
        try:
            free(SimpleNamespace(_handle=handle))
        except Exception:  # a panic of the library; without this thread nothing would be freed any more
            _log.exception("destructor_failed")


repair(_generated)
free_elsewhere(_generated)
threading.Thread(target=_free_what_was_let_go, name="iroh destructors", daemon=True).start()
