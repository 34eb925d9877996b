"""The repair of iroh's byte writer: it works, it is needed still, and it keeps off what it does not know."""

import inspect
import subprocess
import sys
from queue import SimpleQueue
from types import ModuleType, SimpleNamespace

import iroh.iroh_ffi as bindings
import nostr_sdk.nostr_sdk as nostr_bindings
import pytest

import tirami.net.nostr  # noqa: F401
from tirami.net import bindings as repairs


def test_upstream_still_writes_byte_by_byte() -> None:
    """When this fails, upstream has changed its writer: measure it, and drop ``tirami.net.bindings`` if it is fast."""
    loop = "with self._reserve(len(value)):\n            for i, byte in enumerate(value):"
    assert f"    def write(self, value):\n        {loop}" in inspect.getsource(bindings)
    assert repairs.writes_bytewise(fresh())


def test_the_writer_is_repaired_once() -> None:
    assert bindings._UniffiRustBufferBuilder.write is repairs._write
    assert repairs.repair(bindings) is False
    assert bindings._UniffiRustBufferBuilder.write is repairs._write


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 100_000])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_is_written_is_what_arrives(size: int, kind: type) -> None:
    data = bytes(number % 251 for number in range(size))
    with bindings._UniffiRustBuffer.alloc_with_builder() as builder:
        builder.write_u8(7)
        builder.write(kind(data))
        builder.write(kind(b"end"))
        buffer = builder.finalize()
    with buffer.consume_with_stream() as stream:
        assert stream.read_u8() == 7
        assert stream.read(size) == data
        assert stream.read(3) == b"end"


def fresh() -> ModuleType:
    """The shipped classes, executed anew without the library behind them."""
    source = inspect.getsource(bindings._UniffiRustBufferBuilder)
    module = ModuleType("shipped")
    namespace = {"contextlib": bindings.contextlib, "struct": bindings.struct}
    exec(source, namespace)
    module.__dict__.update(
        _UniffiRustBufferBuilder=namespace["_UniffiRustBufferBuilder"], _UniffiRustBuffer=bindings._UniffiRustBuffer
    )
    return module


def test_the_shipped_class_is_recognised_and_replaced() -> None:
    module = fresh()
    assert repairs.repair(module) is True
    assert module._UniffiRustBufferBuilder.write is repairs._write
    assert repairs.repair(module) is False


def test_an_unknown_writer_or_layout_is_left_alone() -> None:
    class Better:
        def _reserve(self, size: int) -> None: ...

        def write(self, value: bytes) -> None:
            self.buffer = value

    shipped = fresh()._UniffiRustBufferBuilder
    other_layout = SimpleNamespace(_fields_=[("data", int), ("len", int), ("capacity", int)])
    for builder, buffer in ((Better, bindings._UniffiRustBuffer), (shipped, other_layout), (None, None)):
        module = ModuleType("other")
        module.__dict__.update(_UniffiRustBufferBuilder=builder, _UniffiRustBuffer=buffer)
        before = getattr(builder, "write", None)
        assert repairs.repair(module) is False
        assert getattr(builder, "write", None) is before
    assert repairs.repair(ModuleType("empty")) is False


LET_GO = """
import asyncio, faulthandler, gc
from contextlib import suppress

faulthandler.dump_traceback_later(50, exit=True)
from tirami.core.errors import ConnectionLost
from tirami.core.keys import SigningKey
from tirami.net.iroh import IrohEndpoint

ROUNDS = 300


async def echo(stream):
    with suppress(ConnectionLost):
        while data := await stream.read(5):
            await stream.write(data)
    await stream.reset()
    stream.kept = stream  # a cycle: only the garbage collector lets it go


async def echoes(connection):
    async with asyncio.TaskGroup() as group:
        for _ in range(ROUNDS * 8):
            group.create_task(echo(await connection.accept()))


async def ask(connection):
    stream = await connection.open()
    stream.kept = stream
    await stream.write(b"hello")
    await stream.read(5)
    await stream.reset()


async def main():
    caller, called = [await IrohEndpoint.bind(SigningKey.generate()) for _ in range(2)]
    out, into = await asyncio.gather(caller.connect(called.address(), 5), called.accept())
    answering = asyncio.create_task(echoes(into))
    gc.set_threshold(1, 1, 1)  # at every allocation, in every thread
    for _ in range(ROUNDS):
        await asyncio.gather(*(ask(out) for _ in range(8)))
    gc.set_threshold(700, 10, 10)
    await answering
    await caller.close()
    await called.close()


asyncio.run(main())
"""


def test_streams_the_garbage_collector_frees_lock_nothing_up() -> None:
    """It runs in the library's own threads too, which tell of a finished call under the lock that freeing takes."""
    ran = subprocess.run([sys.executable, "-c", LET_GO], timeout=100, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]


@pytest.mark.parametrize(
    ("library", "some"),
    [
        (bindings, {"SendStream", "RecvStream", "BiStream", "Connection", "Endpoint", "Incoming"}),
        (nostr_bindings, {"Client", "Event", "EventBuilder", "Keys", "RelayUrl", "Filter"}),
    ],
    ids=["iroh", "nostr"],
)
def test_every_destructor_of_the_bindings_is_deferred_once(library: ModuleType, some: set[str]) -> None:
    deferred = {name: made.__del__ for name, made in vars(library).items() if hasattr(made, "__del__")}
    assert some <= set(deferred)
    assert {leave.__module__ for leave in deferred.values()} == {repairs.__name__}
    repairs.free_elsewhere(library)
    assert all(vars(library)[name].__del__ is leave for name, leave in deferred.items())


def test_a_destructor_that_fails_is_not_the_last_to_run() -> None:
    freed: SimpleQueue[int] = SimpleQueue()

    def panics(_: object) -> None:
        raise bindings.InternalError("a panic")

    repairs._LET_GO.put((panics, 1))
    repairs._LET_GO.put((lambda left: freed.put(left._handle), 2))
    assert freed.get(timeout=10) == 2


def test_a_node_without_a_mesh_does_not_load_the_library() -> None:
    program = "import sys, tirami.net, tirami.testing, tirami.cli; sys.exit('iroh' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
