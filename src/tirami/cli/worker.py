"""``tirami worker``: a consumer, a node on the mesh without a model of its own that buys of its seeds only."""

from collections.abc import Sequence
from typing import Annotated

import typer

from tirami.cli.banner import Banner
from tirami.cli.chat import converse
from tirami.cli.options import DataDir, Json
from tirami.cli.seed import Relay
from tirami.cli.settings import ConfigFile, named_file, settings
from tirami.cli.start import Bind, Ledger, LogLevel, MeshBind, Network, Port, flags_of, foreground, prepare, quiet
from tirami.cli.terminal import Terminal
from tirami.core.config import Config

MAX_TOKENS, TEMPERATURE = 256, 0.7
"""Of each answer in the conversation."""
Seeds = Annotated[
    list[str] | None,
    typer.Option(
        "--seed",
        "-s",
        metavar="KEY[@WAY]",
        help="Provider: KEY, KEY@IP:PORT or KEY@RELAY; repeat.  [those of mesh.bootstrap]",
    ),
]
Join = Annotated[
    str | None,
    typer.Option("--join", metavar="TOKEN", help="Come by invitation, and buy of the node that made it."),
]
Daemon = Annotated[bool, typer.Option("--daemon", help="Serve the API only; no conversation here.")]


def worker(
    seed: Seeds = None,
    invitation: Join = None,
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
    flags = flags_of(no_model=True, **locals())
    before = settings(config_file, data_dir, {"network.file": flags["network.file"]})
    config, terminal = _buying(before.with_flags(flags), seed or (), invitation), Terminal(json_output)
    if invitation is not None:
        from tirami.cli.host import settle_in

        mesh = config.mesh
        chosen: dict[str, bool | str] = {"sell": False, "consume": "trusted", "trusted": mesh.trusted}
        chosen |= {"bootstrap": mesh.bootstrap, "relay": mesh.relay}
        changed = settle_in(invitation, before, chosen, named_file(config_file))
        if changed is not None:
            terminal.note(f"Kept for later starts in {changed}, under [mesh].")
    if daemon or json_output:
        foreground(config, json_output)
        return
    config = quiet(config, terminal)
    banner = Banner(config, terminal.out, config.log.file)
    prepare(config)
    from tirami.cli.host import PrivateNode  # a whole node: only who runs one imports it

    banner.opening()
    with PrivateNode.open(config, None, serve=True) as node:
        banner.ready(node.facts)
        if (obstacle := node.obstacle(banner.told)) is not None:
            terminal.note(f"Nothing can be bought of a seed yet: {obstacle}. `tirami peers` says how it goes on.")
        converse(node, [], MAX_TOKENS, TEMPERATURE, terminal)
    banner.stopped()


def _buying(config: Config, seeds: Sequence[str], invitation: str | None) -> Config:
    """``config`` of a node that stays with these seeds and whoever invited, and buys of them and of nobody else.

    Without any, the peers of ``mesh.bootstrap`` are the seeds. A relay among the ways is the one this node then uses
    itself. Raises ``InvalidField``.
    """
    from tirami.cli.host import inviter, peers_of

    mesh, named = config.mesh, [*seeds, *([inviter(invitation)] if invitation else ())]
    peers = peers_of(named or mesh.bootstrap.split())
    if not peers:
        raise typer.BadParameter("of whom is there to buy? Name one with --seed KEY@IP:PORT, or come with --join TOKEN")
    relay = next((peer.relay for peer in peers if peer.relay), None) if mesh.relay == "off" else None
    return config.with_flags(
        {
            "mesh.enabled": True,
            "mesh.sell": False,
            "mesh.consume": "trusted",
            "mesh.trusted": ",".join(peer.key.hex() for peer in peers),
            "mesh.bootstrap": " ".join(dict.fromkeys([*mesh.bootstrap.split(), *map(str, peers)])),
            "mesh.relay": relay,
        }
    )
