"""Two hosts that cannot reach each other, and a relay between them: ``tirami start`` in a network namespace each.

``unshare -rnm python -m tests.rows.relayed DIRECTORY`` prints what the second node says of its link to the first, and
what went through the relay, as JSON. The relay is the stand-in of :mod:`tirami.testing.relay`; all else is real.
"""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from tests.processes import NodeProcess
from tests.rows.meshes import Homes, homes
from tests.soak.hosts import inside, ip
from tirami.testing.relay import Relay

RELAY = "10.9.0.254"
WAIT_S = 30


def host(name: str, number: int) -> str:
    """A namespace with one link, to this one, which passes nothing on; returns its address."""
    address = f"10.9.{number}.1"
    ip("netns", "add", name)
    ip("link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
    ip("addr", "add", f"10.9.{number}.254/24", "dev", f"to-{name}")
    ip("link", "set", f"to-{name}", "up")
    for words in (
        ("addr", "add", f"{address}/24", "dev", "eth0"),
        ("link", "set", "lo", "up"),
        ("link", "set", "eth0", "up"),
        ("route", "add", "default", "via", f"10.9.{number}.254"),
    ):
        ip("-n", name, *words)
    return address


def node(made: Homes, number: int, name: str, address: str, relay: str, bootstrap: str) -> NodeProcess:
    settings = {"TIRAMI_MESH_RELAY": relay, "TIRAMI_MESH_BIND": f"{address}:4433", "TIRAMI_MESH_BOOTSTRAP": bootstrap}
    with inside(name):
        return made.node(number, **settings).start()


async def meet(made: Homes, relay: Relay, addresses: list[str]) -> dict[str, object]:
    first = await asyncio.to_thread(node, made, 0, "one", addresses[0], relay.url, "")
    try:
        second = await asyncio.to_thread(node, made, 1, "two", addresses[1], relay.url, f"{made.keys[0]}@{relay.url}")
        try:
            links = await asyncio.to_thread(seen, second)
        finally:
            await asyncio.to_thread(second.stop)
    finally:
        await asyncio.to_thread(first.stop)
    keys = [bytes.fromhex(key) for key in made.keys]
    there, back = relay.datagrams.get((keys[1], keys[0]), 0), relay.datagrams.get((keys[0], keys[1]), 0)
    return {"links": links, "peer": made.keys[0], "there": there, "back": back}


def seen(of: NodeProcess) -> list[dict[str, object]]:
    with inside("two"), of.admin() as admin:
        for _ in range(WAIT_S * 10):
            found = admin.topology().links
            if found:
                return [{"node_id": link.node_id, "relayed": link.relayed} for link in found]
            time.sleep(0.1)
    raise AssertionError(of.log()[-3000:])


async def main(directory: Path) -> None:
    subprocess.run(["sh", "-c", "mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns"], check=True)
    ip("link", "set", "lo", "up")
    ip("addr", "add", f"{RELAY}/32", "dev", "lo")
    addresses = [host("one", 1), host("two", 2)]
    forwards = Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() != "0"
    made = homes(directory)
    async with Relay(RELAY) as relay:
        print(json.dumps({"direct": forwards} | await meet(made, relay, addresses)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
