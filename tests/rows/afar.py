"""Nodes at public addresses that never met: a Nostr relay with a name, and a name server of the domain that lists one.

``unshare -rnm python -m tests.rows.afar DIRECTORY`` prints who met whom, as JSON. All addresses are this namespace's
own; names are looked up as on any machine, in ``/etc/hosts`` and at the name server of ``/etc/resolv.conf``.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import nostr_sdk as sdk

from tests.net.test_dns import Zone
from tests.net.test_nostr import publish
from tests.processes import NodeProcess
from tests.rows.meshes import Homes, homes
from tests.rows.test_finding import met, said
from tests.rows.test_l1 import wait_until
from tests.soak.hosts import ip
from tirami.core.clock import SystemClock
from tirami.core.keys import SigningKey
from tirami.net import PeerAddress, adverts
from tirami.net.addressbook import Trust

PLACES = ("5.9.0.1:4433", "6.9.0.1:4433", "10.9.0.1:4433")
"""Two that are public, one that is not."""
RELAY, RELAY_PORT = "9.9.9.1", 7777
RELAY_URL = f"ws://relay.example:{RELAY_PORT}"
BY_RELAY = {"TIRAMI_MESH_NOSTR": RELAY_URL}
NAMESERVER = "127.0.0.53"
DOMAIN = "nodes.example"
WAIT_S = 40


def prepare(directory: Path) -> None:
    for address in (RELAY, *(place.partition(":")[0] for place in PLACES)):
        ip("addr", "add", f"{address}/32", "dev", "lo")
    ip("link", "set", "lo", "up")
    for name, text in (
        ("hosts", f"127.0.0.1 localhost\n{RELAY} relay.example\n"),
        ("resolv.conf", f"nameserver {NAMESERVER}\n"),
    ):
        (directory / name).write_text(text)
        subprocess.run(["mount", "--bind", str(directory / name), f"/etc/{name}"], check=True)


def node(made: Homes, number: int, **settings: str) -> NodeProcess:
    return made.node(number, TIRAMI_MESH_BIND=PLACES[number], **settings)


def over_a_relay(made: Homes) -> list[str]:
    """Whom the second node knows afterwards.

    The third is at a private address: it advertises none, and who advertises that address is not believed.
    """
    insider = SigningKey.generate()
    own = PeerAddress(insider.public_key, (PLACES[2],))
    advert = adverts.write(own, "testnet", insider, SystemClock().now_ms(), Trust.NEAR)
    assert advert is not None
    asyncio.run(publish(RELAY_URL, advert))
    with node(made, 2, **BY_RELAY, TIRAMI_MESH_PEERS="0") as private, node(made, 1, **BY_RELAY) as second:
        wait_until(lambda: met(second, made.keys[0]), WAIT_S)
        wait_until(lambda: said(private, "not_advertised") is not None, WAIT_S)
    book = json.loads((second.data_dir / "peers.json").read_text())
    return [entry["address"].partition("@")[0] for entry in book["peers"]]


def by_name(made: Homes, liar: str) -> list[str]:
    """Who is connected to a node that knows the domain only."""
    with node(made, 2, TIRAMI_MESH_DNS=DOMAIN) as second:
        wait_until(lambda: met(second, made.keys[0]) and said(second, "hint_in_vain", peer=liar) is not None, WAIT_S)
        with second.admin() as admin:
            return [peer.node_id for peer in admin.peers().peers if peer.connected]


def story(made: Homes, liar: str) -> dict[str, list[str]]:
    """The first node calls nobody."""
    with node(made, 0, **BY_RELAY, TIRAMI_MESH_PEERS="0"):
        return {"over_a_relay": over_a_relay(made), "by_name": by_name(made, liar)}


async def main(directory: Path) -> None:
    prepare(directory)
    made = homes(directory, len(PLACES))
    liar = SigningKey.generate().public_key.hex()
    listed = [f'"{key}@{PLACES[0]}"' for key in (liar, made.keys[0])]
    zone = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Zone(listed), local_addr=(NAMESERVER, 53))
    relay = sdk.LocalRelayBuilder().addr(RELAY).port(RELAY_PORT).build()
    await relay.run()
    found = await asyncio.to_thread(story, made, liar)
    relay.shutdown()
    zone[0].close()
    print(json.dumps({"first": made.keys[0]} | found), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
