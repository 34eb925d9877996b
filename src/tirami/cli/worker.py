"""``tirami worker``: a consumer, a node on the mesh without a model of its own that buys of the seeds it is given."""

from typing import Annotated

import typer

from tirami.cli.banner import Banner
from tirami.cli.chat import converse
from tirami.cli.options import DataDir, Json
from tirami.cli.seed import MeshBind, Relay
from tirami.cli.settings import ConfigFile, settings
from tirami.cli.start import Bind, Ledger, LogLevel, Network, Port, flags_of, foreground, make_home, quiet
from tirami.cli.terminal import Terminal
from tirami.core.config import Config

MAX_TOKENS, TEMPERATURE = 256, 0.7
"""Of each answer in the conversation."""
MEETING_S = 10.0
Seeds = Annotated[
    list[str],
    typer.Option("--seed", "-s", metavar="KEY[@WAY]", help="Provider: KEY, KEY@IP:PORT or KEY@RELAY; repeat."),
]
Daemon = Annotated[bool, typer.Option("--daemon", help="Serve the API only; no conversation here.")]


def worker(
    seed: Seeds,
    daemon: Daemon = False,
    port: Port = None,
    bind: Bind = None,
    p2p_bind: MeshBind = None,
    relay: Relay = None,
    network: Network = None,
    config_file: ConfigFile = None,
    log_level: LogLevel = None,
    ledger: Ledger = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Run a consumer: no model, prompts go to the seeds and to nobody else. A conversation, or with --daemon an API."""
    config = _buying(settings(config_file, data_dir, flags_of(no_model=True, **locals())), seed)
    if daemon or json_output:
        foreground(config, json_output)
        return
    terminal = Terminal(json_output)
    config = quiet(config, terminal)
    banner = Banner(config, terminal.out, config.log.file)
    make_home(config)
    from tirami.cli.host import PrivateNode  # a whole node: only who runs one imports it

    banner.opening()
    with PrivateNode.open(config, None, serve=True) as node:
        banner.ready(node.facts)
        if not node.provider_within(MEETING_S):
            terminal.note("No seed has answered with an offer yet: `tirami peers` says why.")
        converse(node, [], MAX_TOKENS, TEMPERATURE, terminal)
    banner.stopped()


def _buying(config: Config, seeds: list[str]) -> Config:
    """``config`` of a node that stays with these seeds and buys of them. Raises ``InvalidField``.

    A wider consent in the settings stands; a relay among the ways is the one this node then uses itself.
    """
    from tirami.cli.host import peers_of

    peers, mesh = peers_of(seeds), config.mesh
    trusted = [mesh.trusted, *(peer.key.hex() for peer in peers)]
    relay = next((peer.relay for peer in peers if peer.relay), None) if mesh.relay == "off" else None
    return config.with_flags(
        {
            "mesh.enabled": True,
            "mesh.sell": False,
            "mesh.consume": "trusted" if mesh.consume == "off" else mesh.consume,
            "mesh.trusted": ",".join(filter(None, trusted)),
            "mesh.bootstrap": " ".join([mesh.bootstrap, *map(str, peers)]).strip(),
            "mesh.relay": relay,
        }
    )
