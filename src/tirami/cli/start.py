"""``tirami start`` and ``tirami node``: run a node in the foreground until a signal ends it."""

import os
from pathlib import Path
from typing import Annotated

import typer

from tirami.cli.banner import Announcer, Banner, JsonLine, PlainLines
from tirami.cli.options import DataDir, Json, Offline
from tirami.cli.settings import ConfigFile, misspelt, settings
from tirami.cli.terminal import Terminal
from tirami.core.config import Config
from tirami.core.errors import ConfigError

ModelChoice = Annotated[
    str | None, typer.Option("--model", "-m", help="Catalogue alias or path of a GGUF file.  [qwen2.5:0.5b]")
]
NoModel = Annotated[bool, typer.Option("--no-model", help="Serve everything but inference.")]
Port = Annotated[
    int | None,
    typer.Option("--port", "-p", min=0, max=65_535, help="Port of the HTTP API; 0 picks a free one.  [3000]"),
]
Bind = Annotated[str | None, typer.Option("--bind", help="Address to listen on.  [127.0.0.1]")]
Network = Annotated[
    Path | None,
    typer.Option(
        "--network",
        metavar="FILE",
        help="Network file, the same on all nodes that trade; absent, this node is a network of its own.",
    ),
]
Upstream = Annotated[str | None, typer.Option("--upstream", metavar="URL", help="OpenAI-compatible server to front.")]
AcceptRollback = Annotated[bool, typer.Option("--accept-rollback", help="Start on an older journal than last seen.")]
LogLevel = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.  [info]")]
Ledger = Annotated[
    Path | None,
    typer.Option(
        "--ledger",
        metavar="FILE",
        help="File of the journal (setting journal.file).  [journal.db in the data directory]",
    ),
]
TlsCert = Annotated[Path | None, typer.Option("--tls-cert", metavar="FILE", help="PEM certificate: speak HTTPS.")]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="PEM key of the certificate.")]
Invitation = Annotated[
    str | None, typer.Option("--invitation", metavar="TOKEN", hidden=True, help="As `tirami join TOKEN`.")
]
MeshBind = Annotated[
    str | None,
    typer.Option("--p2p-bind", metavar="IP:PORT", help="UDP address of the mesh.  [0.0.0.0, at the port of before]"),
]
Consume = Annotated[
    str | None,
    typer.Option(
        "--consume",
        metavar="off|trusted|any",
        help="Of whom to buy: nobody, the keys in mesh.trusted, or any provider. Needs the mesh.  [off]",
    ),
]
NoSell = Annotated[bool, typer.Option("--no-sell", help="Sell nothing to other nodes of the mesh.")]
CorsOrigins = Annotated[
    list[str] | None, typer.Option("--cors-origin", metavar="ORIGIN", help="Web origin whose pages may ask; repeat.")
]


def start(
    model: ModelChoice = None,
    no_model: NoModel = False,
    port: Port = None,
    bind: Bind = None,
    network: Network = None,
    offline: Offline = False,
    config_file: ConfigFile = None,
    upstream: Upstream = None,
    accept_rollback: AcceptRollback = False,
    log_level: LogLevel = None,
    ledger: Ledger = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    cors_origin: CorsOrigins = None,
    p2p_bind: MeshBind = None,
    consume: Consume = None,
    no_sell: NoSell = False,
    data_dir: DataDir = None,
    json_output: Json = False,
    invitation: Invitation = None,
) -> None:
    """Run a node. The first start creates its key and downloads the model. Ctrl-C stops it and loses nothing."""
    config = settings(config_file, data_dir, flags_of(**locals()))
    if consume not in (None, "off") and not config.mesh.enabled:
        message = "nothing can be bought off the mesh: set mesh.enabled = true, or come by invitation (tirami join)"
        raise ConfigError(message, param="mesh.enabled")
    foreground(config, json_output)


def node(
    model: ModelChoice = None,
    no_model: NoModel = False,
    port: Port = None,
    bind: Bind = None,
    network: Network = None,
    offline: Offline = False,
    ledger: Ledger = None,
    upstream: Upstream = None,
    config_file: ConfigFile = None,
    accept_rollback: AcceptRollback = False,
    log_level: LogLevel = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    cors_origin: CorsOrigins = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Run a node with plain output: an API in the foreground."""
    config = settings(config_file, data_dir, flags_of(**locals()))
    if config.origin("log.format") == "default":
        config = config.with_flags({"log.format": "text"})
    run(config, JsonLine() if json_output else PlainLines(config, Terminal(json_output).out))


def flags_of(
    *,
    model: str | None = None,
    no_model: bool = False,
    offline: bool = False,
    upstream: str | None = None,
    port: int | None = None,
    bind: str | None = None,
    network: Path | None = None,
    accept_rollback: bool = False,
    log_level: str | None = None,
    ledger: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    cors_origin: list[str] | None = None,
    p2p_bind: str | None = None,
    relay: str | None = None,
    consume: str | None = None,
    no_sell: bool = False,
    invitation: str | None = None,
    **_: object,
) -> dict[str, object]:
    """What the options of a command that starts a node say, by setting."""
    return {
        "infer.model": "" if no_model else model,
        "infer.offline": offline or None,
        "infer.upstream_url": upstream,
        "api.port": port,
        "api.bind": bind,
        "network.file": network and str(network),
        "journal.accept_rollback": accept_rollback or None,
        "log.level": log_level,
        "journal.file": ledger,
        "api.tls_cert": tls_cert,
        "api.tls_key": tls_key,
        "api.cors_origins": cors_origin or None,
        "mesh.bind": p2p_bind,
        "mesh.relay": relay,
        "mesh.consume": consume,
        "mesh.sell": False if no_sell else None,
        "mesh.invitation": invitation,
        "mesh.enabled": True if invitation else None,
    }


def foreground(config: Config, json_output: bool) -> None:
    """Run a node for a person at a terminal, or for a program that reads one line of JSON."""
    terminal = Terminal(json_output)
    config = quiet(config, terminal)
    run(config, JsonLine() if json_output else Banner(config, terminal.out, config.log.file))


def quiet(config: Config, terminal: Terminal) -> Config:
    """With the log in a file where it would stand between the lines of the banner: that helps nobody."""
    if terminal.err.is_terminal and not config.log.file:
        return config.with_flags({"log.file": str(config.data_dir / "node.log")})
    return config


def prepare(config: Config) -> None:
    """Make the data directory, and warn of settings that are none. Raises ``ConfigError``."""
    for problem in misspelt(os.environ):
        Terminal(False).note(f"Warning: {problem}")
    try:
        config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"{config.data_dir} cannot be made: {error.strerror}", param="data_dir") from error


def run(config: Config, announcer: Announcer) -> None:
    """Run a node until a signal ends it. Raises ``StartError``."""
    prepare(config)
    from tirami.cli.host import serve  # a whole node: only who runs one imports it

    announcer.opening()
    serve(config, progress=announcer.progress, ready=announcer.ready, told=announcer.told)
    announcer.stopped()
