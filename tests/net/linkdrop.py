"""Two network namespaces joined by a veth pair, a node in each, and a link that goes down: run by test_linkdrop.

``unshare -rn python -m tests.net.linkdrop SECONDS_DOWN`` prints, as JSON, how long after the link came back the
dialling node had an answer again.
"""

import asyncio
import json
import subprocess
import sys

from tirami.core.errors import MeshError, PeerUnreachable
from tirami.core.keys import SigningKey
from tirami.net import Connection, PeerAddress
from tirami.net.iroh import IrohEndpoint

HERE, THERE = "10.9.0.1", "10.9.0.2"
PATIENCE_S = 1.0
"""How long an answer may take before the connection is given up, as a heartbeat of the mesh would."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


async def answer(connection: Connection) -> None:
    try:
        while True:
            stream = await connection.accept()
            await stream.write(await stream.read(4))
            await stream.finish()
    except MeshError:
        return


async def serve() -> None:
    print("in a namespace of its own", flush=True)
    sys.stdin.readline()  # the link has been moved here
    for words in (
        ("link", "set", "lo", "up"),
        ("addr", "add", f"{THERE}/24", "dev", "vb"),
        ("link", "set", "vb", "up"),
    ):
        ip(*words)
    endpoint = await IrohEndpoint.bind(SigningKey.generate(), f"{THERE}:0")
    direct = tuple(way for way in endpoint.address().direct if way.startswith(THERE))
    print(PeerAddress(endpoint.key, direct), flush=True)
    async with asyncio.TaskGroup() as connections:
        while (connection := await endpoint.accept()) is not None:
            connections.create_task(answer(connection))


async def ask(connection: Connection) -> None:
    async with asyncio.timeout(PATIENCE_S):
        stream = await connection.open()
        await stream.write(b"ping")
        assert await stream.read(4) == b"ping"


async def redial(endpoint: IrohEndpoint, peer: PeerAddress) -> Connection:
    while True:
        try:
            return await endpoint.connect(peer, PATIENCE_S)
        except PeerUnreachable:
            await asyncio.sleep(0.1)


async def drop(peer: PeerAddress, down_s: float) -> dict[str, object]:
    loop = asyncio.get_running_loop()
    endpoint = await IrohEndpoint.bind(SigningKey.generate(), f"{HERE}:0")
    first = connection = await redial(endpoint, peer)
    await ask(connection)
    ip("link", "set", "va", "down")
    cut = loop.time()
    back: float | None = None
    noticed: float | None = None

    async def restore() -> None:
        nonlocal back
        await asyncio.sleep(down_s)
        ip("link", "set", "va", "up")
        back = loop.time()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(restore())
        while True:
            try:
                await ask(connection)
            except (TimeoutError, MeshError):
                noticed = noticed or loop.time()
                connection.close("no answer")
                connection = await redial(endpoint, peer)
                continue
            if back is not None:
                break
            await asyncio.sleep(0.05)
    answered = loop.time()
    assert noticed is not None and connection is not first
    return {"noticed_s": round(noticed - cut, 2), "down_s": down_s, "back_s": round(answered - back, 2)}


async def main(down_s: float) -> None:
    ip("link", "set", "lo", "up")
    ip("link", "add", "va", "type", "veth", "peer", "name", "vb")
    child = subprocess.Popen(
        ["unshare", "-n", sys.executable, "-m", "tests.net.linkdrop", "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdin is not None and child.stdout is not None
        await asyncio.to_thread(child.stdout.readline)
        ip("link", "set", "vb", "netns", str(child.pid))
        ip("addr", "add", f"{HERE}/24", "dev", "va")
        ip("link", "set", "va", "up")
        child.stdin.write("\n")
        child.stdin.flush()
        peer = PeerAddress.parse(await asyncio.to_thread(child.stdout.readline))
        print(json.dumps(await drop(peer, down_s)), flush=True)
    finally:
        child.kill()
        child.wait()


if __name__ == "__main__":
    asyncio.run(serve() if sys.argv[1] == "serve" else main(float(sys.argv[1])))
