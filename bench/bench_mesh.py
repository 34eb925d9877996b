"""The transport over QUIC on loopback; the repair of its bindings; a link (veth between namespaces) that drops."""

import asyncio
import contextlib
import inspect
import json
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import iroh.iroh_ffi as generated

from bench.pairs import ratios
from bench.result import Result, measured, skipped
from tirami.core.errors import MeshError
from tirami.core.keys import SigningKey
from tirami.net import Connection
from tirami.net.bindings import repair
from tirami.net.iroh import IrohEndpoint

MB = 1024 * 1024
CONNECTS, ECHOES, LARGE, DROPS = 50, 500, 15, 5


def byte_wise() -> Any:
    """The writer as shipped."""
    namespace: dict[str, Any] = {"contextlib": contextlib, "struct": struct}
    exec(inspect.getsource(generated._UniffiRustBufferBuilder), namespace)
    return namespace["_UniffiRustBufferBuilder"].write


async def echo_all(connection: Connection) -> None:
    try:
        while True:
            stream = await connection.accept()
            while size := int.from_bytes(await stream.read(4), "big"):
                await stream.write(await stream.read(size))
    except MeshError:
        return


@contextlib.asynccontextmanager
async def two() -> AsyncIterator[tuple[IrohEndpoint, IrohEndpoint]]:
    a, b = await IrohEndpoint.bind(SigningKey.generate()), await IrohEndpoint.bind(SigningKey.generate())
    try:
        yield a, b
    finally:
        await a.close()
        await b.close()


async def connects() -> list[float]:
    times = []
    async with two() as (a, b):
        for _ in range(CONNECTS):
            began = time.perf_counter()
            connection = await a.connect(b.address(), 5)
            times.append(1000 * (time.perf_counter() - began))
            await b.accept()
            connection.close("measured")
    return times


@contextlib.asynccontextmanager
async def echoing() -> AsyncIterator[Any]:
    """How long an echo of so many bytes takes, ms, over one stream."""
    async with two() as (a, b):
        connection = await a.connect(b.address(), 5)
        answered = await b.accept()
        assert answered is not None
        server = asyncio.create_task(echo_all(answered))
        stream = await connection.open()

        async def echo(size: int) -> float:
            data = bytes(size)
            began = time.perf_counter()
            writing = asyncio.create_task(stream.write(size.to_bytes(4, "big") + data))
            assert await stream.read(size) == data
            await writing
            return 1000 * (time.perf_counter() - began)

        yield echo
        connection.close("measured")
        await server


def drops() -> Result:
    name = "answer after a link was down for 3 s (veth between two namespaces)"
    if shutil.which("unshare") is None:
        return skipped(name, "no unshare")
    command = ["unshare", "-rn", sys.executable, "-m", "tests.net.linkdrop", "3"]
    done = [subprocess.run(command, capture_output=True, text=True, timeout=60) for _ in range(DROPS)]
    if any(each.returncode for each in done):
        return skipped(name, "no network namespaces")
    return measured(name, [json.loads(each.stdout)["back_s"] for each in done], "s", most=5)


async def run() -> list[Result]:
    shipped, builder = byte_wise(), generated._UniffiRustBufferBuilder
    async with echoing() as echo:

        async def repaired() -> float:
            return float(await echo(MB))

        async def as_shipped() -> float:
            builder.write = shipped  # type: ignore[method-assign]
            try:
                return float(await echo(MB))
            finally:
                repair(generated)

        small = [await echo(100) for _ in range(ECHOES)]
        large = [await echo(8 * MB) for _ in range(LARGE)]
        ratio = await ratios(as_shipped, repaired)
    return [
        measured("mesh: connect on loopback, no relay", await connects(), "ms"),
        measured("mesh: echo of 100 bytes on loopback", small, "ms"),
        measured("mesh: echo of 8 MB on loopback", large, "ms"),
        measured("mesh: echo of 1 MB with the bindings as shipped ÷ repaired", ratio, "×", least=2),
        await asyncio.to_thread(drops),
    ]
