"""Three hosts: provider, consumer and relayer of records, each ``tirami start`` in a network namespace of its own.

``unshare -rnm python -m tests.soak.hosts DIRECTORY MODELS`` plays the whole story and prints its figures as JSON. A
bridge joins the hosts; a link is cut by taking its end at the bridge down, and two hosts are kept from each other by
isolating their ends: then a third is the only way between them. The figures are those of QUIC over veth.
"""

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx2

from tests.processes import NodeProcess
from tirami.api.schemas import AccountRequest, BalanceQuery, TradesQuery
from tirami.core.keyfile import load_or_create_node_key
from tirami.core.keys import PublicKey

CLONE_NEWNET = 0x4000_0000
MODEL = "smollm2:135m"
NAMES = ("provider", "consumer", "relayer")
WINDOW_TRM = 10
"""What a stranger may owe at any moment (B11)."""
ACCOUNTS = 20
"""Opened at each end while the relayer is the only way between them: a record each."""
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def inside(host: str | None) -> Iterator[None]:
    """Sockets and processes made within belong to this host."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{host}", os.O_RDONLY)
    try:
        _enter(there)
        yield
    finally:
        _enter(own)
        os.close(there)
        os.close(own)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Host:
    """One machine and its node."""

    def __init__(self, name: str, number: int, directory: Path) -> None:
        self.name = name
        self.address = f"10.9.0.{number}"
        self.home = directory / name / "home"
        self.home.mkdir(parents=True, mode=0o700)
        self.home.parent.chmod(0o700)
        self.key: PublicKey = load_or_create_node_key(self.home / "node.key")[0].public_key
        self.node: NodeProcess | None = None
        ip("netns", "add", name)
        ip("link", "add", f"v-{name[:8]}", "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", f"v-{name[:8]}", "master", "br0", "up")
        for words in (
            ("addr", "add", f"{self.address}/24", "dev", "eth0"),
            ("link", "set", "lo", "up"),
            ("link", "set", "eth0", "up"),
        ):
            ip("-n", name, *words)

    @property
    def mesh_address(self) -> str:
        return f"{self.key.hex()}@{self.address}:4433"

    def start(self, network: Path, *options: str, peers: "tuple[Host, ...]" = (), **settings: str) -> None:
        env = {
            "TIRAMI_MESH_ENABLED": "true",
            "TIRAMI_MESH_BIND": f"{self.address}:4433",
            "TIRAMI_MESH_BOOTSTRAP": " ".join(peer.mesh_address for peer in peers),
            "TIRAMI_NETWORK_FILE": str(network),
            "TIRAMI_PRICING_FOLLOW_LOAD": "false",
            "TIRAMI_API_RATE_PER_SECOND": "9999",
        } | {f"TIRAMI_{name.upper()}": value for name, value in settings.items()}
        with inside(self.name):
            self.node = NodeProcess(self.home, *options, env=env).start(within=180)

    def cut(self) -> None:
        ip("link", "set", f"v-{self.name[:8]}", "down")

    def mend(self) -> None:
        ip("link", "set", f"v-{self.name[:8]}", "up")

    def isolate(self, on: bool) -> None:
        """Whether nothing passes between this host and others that are isolated, either."""
        ip("link", "set", f"v-{self.name[:8]}", "type", "bridge_slave", "isolated", "on" if on else "off")

    def traffic(self) -> tuple[int, int]:
        """Packets and bytes that have passed its link, both ways; Ethernet headers counted."""
        shown = subprocess.run(
            ["ip", "-s", "-j", "link", "show", f"v-{self.name[:8]}"], check=True, capture_output=True
        ).stdout
        (link,) = json.loads(shown)
        both = link["stats64"]["rx"], link["stats64"]["tx"]
        return sum(way["packets"] for way in both), sum(way["bytes"] for way in both)

    def peers(self) -> set[str]:
        """Keys of those it is connected to."""
        assert self.node is not None
        with inside(self.name), self.node.admin() as admin:
            return {link.node_id for link in admin.topology().links}

    def open_account(self) -> str:
        """A hosted account, whose line is a record of this node."""
        assert self.node is not None
        with inside(self.name), self.node.admin() as admin:
            return admin.create_account(AccountRequest(label="of " + self.name)).account

    def limit(self, account: str) -> int:
        """What this node's book says an account may owe, TRM."""
        assert self.node is not None
        with inside(self.name), self.node.admin() as admin:
            return admin.balance(BalanceQuery(node=account)).credit_limit

    def book(self) -> tuple[str, str, int]:
        """Network file, state and number of records."""
        assert self.node is not None
        with inside(self.name), self.node.admin() as admin:
            state = admin.log_state()
            return state.network_hash, state.state_hash, state.records

    def trades(self) -> list[tuple[str, int, int]]:
        """Id, TRM and answer tokens of every trade between two nodes."""
        assert self.node is not None
        with inside(self.name), self.node.admin() as admin:
            found = admin.trades(TradesQuery(limit=100, scope="network")).trades
            return sorted((trade.id, trade.trm_amount, trade.tokens_processed) for trade in found)

    def net(self, key: PublicKey) -> int:
        assert self.node is not None
        with inside(self.name), self.node.admin() as admin:
            return admin.balance(BalanceQuery(node=key.hex())).net_balance


class Answer:
    """What a client of the consumer saw of one stream."""

    def __init__(self) -> None:
        self.pieces = 0
        self.finish: str | None = None
        self.error: str | None = None
        self.cost = 0
        self.owed = 0
        self.done = False

    def line(self, line: str) -> None:
        if not line.startswith("data: "):
            return
        if line == "data: [DONE]":
            self.done = True
            return
        event = json.loads(line[6:])
        self.error = self.error or (event.get("error") or {}).get("code")
        for choice in event.get("choices", ()):
            if choice["delta"].get("content"):
                self.pieces += 1
            self.finish = choice["finish_reason"] or self.finish
        told = event.get("x_tirami", {})
        self.cost, self.owed = told.get("trm_cost", self.cost), told.get("owed_trm", self.owed)


def ask(consumer: Host, most: int, at: dict[int, Callable[[], None]] | None = None) -> Answer:
    """Buy an answer; ``at``: what to do when so many pieces have come."""
    assert consumer.node is not None
    answer = Answer()
    body = {
        "model": MODEL,
        "stream": True,
        "max_tokens": most,
        "temperature": 1.0,
        "seed": 7,
        "messages": [{"role": "user", "content": "Tell me a very long story about the sea."}],
    }
    with inside(consumer.name):
        url = consumer.node.url + "/v1/chat/completions"
        with httpx2.Client(timeout=180) as http, http.stream("POST", url, json=body) as reply:
            if reply.status_code != 200:
                raise AssertionError(f"{reply.status_code}: {reply.read()!r}")
            done = 0
            for line in reply.iter_lines():
                answer.line(line)
                if at and answer.pieces > done:
                    done = answer.pieces
                    if (act := at.pop(done, None)) is not None:
                        with _outside():
                            act()
    return answer


@contextmanager
def _outside() -> Iterator[None]:
    """Back where the bridge is, from within a host."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    root = os.open("/run/netns/bridge", os.O_RDONLY)
    try:
        _enter(root)
        yield
    finally:
        _enter(here)
        os.close(root)
        os.close(here)


def eventually(what: str, condition: Callable[[], bool], within: float) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > within:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(0.1)
    return time.monotonic() - began


def agreed(hosts: list[Host]) -> bool:
    return len({host.book() for host in hosts}) == 1


def network_file(hosts: list[Host], path: Path) -> Path:
    keys = [host.key.hex() for host in hosts]
    document = {
        "format": "tirami/1/network",
        "id": "hosts",
        "parameters": {"witnesses": 1, "quorum": 1, "voucher_trm": WINDOW_TRM},
        "issuers": [{"key": key} for key in keys],
        "witnesses": keys,
    }
    path.write_text(json.dumps(document))
    return path


def play(directory: Path, models: Path) -> dict[str, object]:
    ip("link", "set", "lo", "up")
    Path("/run/netns").mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/netns"], check=True)
    ip("netns", "attach", "bridge", str(os.getpid()))
    ip("link", "add", "br0", "type", "bridge")
    ip("link", "set", "br0", "up")
    hosts = [Host(name, number, directory) for number, name in enumerate(NAMES, 1)]
    provider, consumer, relayer = hosts
    file = network_file(hosts, directory / "network.json")
    with ExitStack() as stack:
        stack.callback(_stop, hosts)
        relayer.start(file, "--no-model")
        provider.start(file, "--model", MODEL, peers=(relayer,), infer_models_dir=str(models))
        consumer.start(file, "--no-model", peers=(relayer, provider), mesh_consume="any")
        return story(provider, consumer, relayer)


def story(provider: Host, consumer: Host, relayer: Host) -> dict[str, object]:
    hosts = [provider, consumer, relayer]
    figures: dict[str, object] = {}

    def served() -> bool:
        with suppress(AssertionError):
            ask(consumer, 8)
            return True
        return False

    figures["first_s"] = eventually("a first answer", served, 60)
    whole = ask(consumer, 60)
    assert whole.done and whole.error is None and whole.finish in ("stop", "length"), vars(whole)
    figures["agreed_s"] = eventually("all books equal after an answer", lambda: agreed(hosts), 30)
    before = {trade[0] for trade in provider.trades()}
    assert before, "it was paid for"

    # the provider's link goes down in the middle of an answer
    cuts: list[float] = []

    def cut() -> None:
        provider.cut()
        cuts.append(time.monotonic())

    broken = ask(consumer, 700, {40: cut})
    ended = time.monotonic()
    figures |= {"received": broken.pieces, "finish": broken.finish, "shown_as_owed": broken.owed}
    figures["noticed_s"] = ended - cuts[0]
    assert broken.done and broken.error is None and broken.finish == "provider_failed", vars(broken)
    assert 0 < broken.owed == broken.cost, vars(broken)  # signed, not countersigned, and shown as owed

    # apart: each side books something the other does not see
    eventually("the provider settles what was vouched", lambda: len(provider.trades()) > len(before), 60)
    assert not agreed(hosts)
    provider.mend()
    figures["healed_s"] = eventually("all books equal after the cut", lambda: agreed(hosts), 90)
    trades = [host.trades() for host in hosts]
    assert trades[0] == trades[1] == trades[2]
    (paid,) = [trade for trade in trades[0] if trade[0] not in before]
    figures |= {"paid_trm": paid[1], "paid_tokens": paid[2]}

    figures["again_s"] = eventually("an answer after the cut", served, 60)
    figures["agreed_again_s"] = eventually("all books equal after it", lambda: agreed(hosts), 30)
    figures |= through_the_relayer(provider, consumer, relayer)
    figures |= without_the_relayer(provider, consumer, relayer, served)
    figures["books"] = [host.book() for host in hosts]
    figures["nets"] = {host.name: [host.net(other.key) for other in hosts] for host in hosts}
    return figures


def through_the_relayer(provider: Host, consumer: Host, relayer: Host) -> dict[str, object]:
    """Provider and consumer cannot reach each other: what either books comes to the other by the relayer alone."""
    ends = (provider, consumer)
    for host in ends:
        host.isolate(True)

    def apart() -> bool:
        return all(host.peers() == {relayer.key.hex()} for host in ends)

    eventually("the relayer is the only peer of both", apart, 30)
    before, records = relayer.traffic(), relayer.book()[2]
    accounts = [host.open_account() for _ in range(ACCOUNTS) for host in ends]
    took = eventually("all books equal by the relayer", lambda: agreed([*ends, relayer]), 30)
    packets, size = (now - then for now, then in zip(relayer.traffic(), before, strict=True))
    brought = 2 * (relayer.book()[2] - records)  # each to the relayer, and to the other end
    assert apart(), "and by no other way"
    assert all(host.limit(account) > 0 for host in ends for account in accounts)
    for host in ends:
        host.isolate(False)
    eventually("they meet again", lambda: provider.key.hex() in consumer.peers(), 30)
    return {"relayed_s": took, "brought": brought, "packets_each": packets / brought, "bytes_each": size / brought}


def without_the_relayer(provider: Host, consumer: Host, relayer: Host, served: Callable[[], bool]) -> dict[str, object]:
    """The relayer is cut off from the other two, which go on trading; each side books what the other does not see."""
    relayer.cut()
    own = relayer.open_account()
    eventually("an answer without the relayer", served, 60)
    eventually("both ends' books equal without it", lambda: agreed([provider, consumer]), 30)
    eventually("neither end is its peer", lambda: not relayer.peers(), 30)
    assert len(relayer.trades()) < len(provider.trades()) and provider.limit(own) == 0 < relayer.limit(own)
    relayer.mend()
    took = eventually("all books equal after the relayer's return", lambda: agreed([provider, consumer, relayer]), 90)
    assert provider.limit(own) > 0
    return {"rejoined_s": took}


def _stop(hosts: list[Host]) -> None:
    for host in hosts:
        if host.node is not None:
            with suppress(Exception):
                host.node.stop()
                continue
            host.node.kill()


if __name__ == "__main__":
    print(json.dumps(play(*map(Path, sys.argv[1:]))))
