"""``tirami seed``: a provider, a node on the mesh that sells answers of its model."""

from typing import Annotated

import typer

from tirami.cli.options import DataDir, Json, Offline
from tirami.cli.settings import ConfigFile, settings
from tirami.cli.start import (
    AcceptRollback,
    Bind,
    Ledger,
    LogLevel,
    MeshBind,
    ModelChoice,
    Network,
    Port,
    Upstream,
    flags_of,
    foreground,
)

Relay = Annotated[str | None, typer.Option("--relay", metavar="URL", help="off, n0, or the URL of a relay.  [off]")]
Bootstrap = Annotated[
    list[str] | None,
    typer.Option("--bootstrap", "--bootstrap-peer", metavar="KEY@HOST:PORT", help="Peer to stay with; repeat."),
]


def seed(
    model: ModelChoice = None,
    port: Port = None,
    bind: Bind = None,
    p2p_bind: MeshBind = None,
    bootstrap: Bootstrap = None,
    relay: Relay = None,
    network: Network = None,
    offline: Offline = False,
    config_file: ConfigFile = None,
    upstream: Upstream = None,
    accept_rollback: AcceptRollback = False,
    log_level: LogLevel = None,
    ledger: Ledger = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Run a provider: `start`, on the mesh, selling. It prints the address a worker is given."""
    config = settings(config_file, data_dir, flags_of(**locals()))
    peers = " ".join([config.mesh.bootstrap, *(bootstrap or ())]).strip()
    flags = {"mesh.enabled": True, "mesh.sell": True, "mesh.bootstrap": peers or None}
    foreground(config.with_flags(flags), json_output)
