"""Settings of a node: defaults < TOML file < environment < flags, each key known, typed and bounded.

A key is written ``section.name``: ``[section] name`` in the file, ``TIRAMI_SECTION_NAME`` in the environment. A key
nobody knows is refused, so that a misspelt limit is never silently the default. Messages name the key and where the
value came from, never the value: it may be a secret.
"""

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

from tirami.core.environment import is_service_link
from tirami.core.errors import ConfigError

Origin = Literal["default", "file", "environment", "flag"]

PREFIX = "TIRAMI_"
NOT_SETTINGS = frozenset({"TIRAMI_API_TOKEN"})
"""Read by clients of a node; not a setting of one."""
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
MAX_ORIGINS = 64
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")


def _count(default: int, least: int, most: int) -> Any:
    return field(default=default, metadata={"least": least, "most": most})


def _choice(default: str, *choices: str) -> Any:
    return field(default=default, metadata={"choices": choices})


def _path(default: str) -> Any:
    return field(default=default, metadata={"path": True})


def _secret() -> Any:
    return field(default="", repr=False)


def _origins() -> Any:
    return field(default=(), metadata={"origins": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiConfig:
    """The HTTP server."""

    bind: str = "127.0.0.1"
    """Address to listen on; another than loopback needs tokens."""
    port: int = _count(3000, 0, 65_535)
    """Port to listen on; 0 takes a free one."""
    body_limit: int = _count(65_536, 1_024, 1 << 30)
    """Bytes of a request body on our own routes."""
    openai_body_limit: int = _count(4_194_304, 1_024, 1 << 30)
    """Bytes of a request body on the OpenAI routes."""
    compat: str = _choice("none", "none", "forge")
    """``forge`` speaks as the original did: ``x_forge``, integer error codes, any model name is answered."""
    rate_per_second: int = _count(30, 1, 1_000_000)
    """Requests of one caller to economic routes: the burst, and what comes back each second."""
    cors_origins: tuple[str, ...] = _origins()
    """Origins whose pages may read answers, each exactly ``scheme://host[:port]``; by commas in the environment."""
    tls_cert: str = _path("")
    """PEM file of the certificate and its chain; with ``tls_key``, the API speaks HTTPS."""
    tls_key: str = _path("")
    """PEM file of the private key, readable by its owner only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthConfig:
    """Who counts as whom."""

    loopback_owner: bool = True
    """Whether a request from this machine without a token is the local user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferConfig:
    """The engine."""

    engine: str = _choice("embedded", "embedded", "llama-server")
    """``llama-server`` takes the one on PATH: a native or GPU build of llama.cpp."""
    model: str = "qwen2.5:0.5b"
    """Catalogue name or path; empty for none."""
    models: str = ""
    """Further models, names or paths with commas between: fetched at the start, loaded when first asked for."""
    memory_budget_mib: int = _count(0, 0, 1 << 24)
    """Memory for all loaded models together; the least recently used gives way. 0 for ¾ of the machine's."""
    slots: int = _count(8, 1, 1_024)
    """Answers of one model at the same time; a model on this machine has 256 at most."""
    context: int = _count(2_048, 64, 1 << 24)
    """Tokens of one slot, prompt and answer together, of models on this machine."""
    threads: int = _count(0, 0, 1_024)
    """Threads of the engine; 0 lets it choose."""
    upstream_url: str = ""
    """An OpenAI-compatible server to use instead of the own child; empty for none."""
    upstream_model: str = ""
    """Model to ask the upstream for; empty for the first it lists."""
    upstream_api_key: str = _secret()
    """Bearer token the upstream wants; empty for none."""
    upstream_parameters: int = _count(0, 0, 1 << 50)
    """Weights of the upstream model, for price and FLOP; 0 takes what it tells."""
    upstream_active_parameters: int = _count(0, 0, 1 << 50)
    """Weights a token touches, of a mixture of experts; 0 for all."""
    upstream_context: int = _count(0, 0, 1 << 24)
    """Tokens of the upstream model's context; 0 takes what it tells (vLLM, SGLang, llama-server), or else 4 096."""
    offline: bool = False
    """Never fetch a model."""
    models_dir: str = _path("")
    """Where models are cached; empty for ``tirami/models`` in the user's cache directory."""
    queue: int = _count(256, 0, 1 << 20)
    """Requests waiting for a slot."""
    memory_limit_mib: int = _count(0, 0, 1 << 24)
    """Address space of the engine process; a model that does not fit then fails to load. 0 for no limit."""
    start_timeout_s: int = _count(120, 1, 86_400)
    """Seconds until a loading engine is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PricingConfig:
    """What a token costs."""

    prompt_ppm: int = _count(250_000, 0, 1_000_000_000)
    """Price of a prompt token in millionths of the price of an output token."""
    follow_load: bool = True
    """Whether the price follows demand."""
    half_life_s: int = _count(1_800, 1, 31_536_000)
    """Seconds in which an observed load loses half its weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Which network this node belongs to."""

    file: str = _path("")
    """The network file; empty for ``network.json`` of the data directory, else the built-in ``regtest``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshConfig:
    """Other nodes: whether to meet them, what to sell them, what to buy."""

    enabled: bool = False
    """Whether this node joins the mesh of its network."""
    bind: str = "0.0.0.0:0"
    """UDP address to listen on; port 0 takes a free one at the first start, and the same again while it is free."""
    relay: str = "off"
    """``off``, ``n0`` for the public relays, or a relay's URL. It sees who talks to whom and how much, no words."""
    bootstrap: str = ""
    """Peers to stay connected to, ``KEY@HOST:PORT``, with blanks between."""
    peers: int = _count(8, 0, 256)
    """Connections this node makes of its own choice, out of what it hears of; 0 for those named here only."""
    lan: bool = True
    """Whether nodes of this network on the local network find this one, and it them."""
    dns: str = ""
    """A domain name whose TXT records name nodes, each ``KEY@HOST:PORT``; empty for none."""
    nostr: str = ""
    """Nostr relays to advertise this node at and to find others, ``wss://…``, with blanks between; empty for none."""
    invitation: str = _secret()
    """A token of ``tirami invite``, shown at the start to the node that made it."""
    sell: bool = True
    """Whether strangers may buy answers of this node's models."""
    slots: int = _count(4, 1, 1_024)
    """Answers for strangers at the same time; one place more always stays the owner's."""
    idle_only: bool = False
    """Serve strangers only while nobody of this node is being served."""
    consume: str = _choice("off", "off", "trusted", "any")
    """Whose answers may be bought: a prompt leaves this machine only with this consent."""
    overflow: bool = False
    """Rather buy an answer than wait for a place at a model that is here: prompts leave this machine and cost TRM."""
    trusted: str = ""
    """Keys of providers to buy from with ``consume = trusted``, with commas between; their lawful successors follow."""
    denied: str = ""
    """Keys nothing is bought from, with commas between, nor from any that follow them."""
    max_trm: int = _count(0, 0, 2**53 - 1)
    """Most TRM one bought answer may cost; 0 for no bound but the account's policy."""
    operator: str = ""
    """Key whose mesh-wide kill orders this node obeys; empty for its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """The owner's agent."""

    enabled: bool = True
    """Whether the node has one; what it may spend is set over HTTP (``tirami agent preferences``)."""
    tick_interval_s: int = _count(30, 1, 86_400)
    """Seconds between two looks around."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """What the node writes about itself."""

    level: str = _choice("info", "debug", "info", "warning", "error")
    """Least level that is written."""
    format: str = _choice("json", "json", "text")
    """One JSON object a line, or text for people."""
    file: str = _path("")
    """File to append to; empty for standard error, or ``node.log`` of the data directory from a terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalConfig:
    """The journal at start."""

    accept_rollback: bool = False
    """Start although the journal is older than the last published head."""
    file: str = _path("")
    """The journal; empty for ``journal.db`` in the data directory. Its tip lies beside it."""
    low_disk_mib: int = _count(256, 0, 1 << 30)
    """Free space under which the node warns that its journal will not grow much longer; 0 never warns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeystoreConfig:
    """Keys of hosted accounts."""

    accept_locked: bool = False
    """Start although not one key that needs a passphrase opens under this one: those accounts cannot pay."""
    passphrase: str = _secret()
    """Seals hosted keys, together with the node's key; empty when that alone seals them."""


_SECTIONS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "api": ApiConfig,
        "auth": AuthConfig,
        "infer": InferConfig,
        "pricing": PricingConfig,
        "network": NetworkConfig,
        "mesh": MeshConfig,
        "agent": AgentConfig,
        "log": LogConfig,
        "journal": JournalConfig,
        "keystore": KeystoreConfig,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of one node; see :func:`load_config`."""

    data_dir: Path = field(default_factory=lambda: _default_data_dir())
    """Keys, tokens and the journal lie here."""
    api: ApiConfig = ApiConfig()
    auth: AuthConfig = AuthConfig()
    infer: InferConfig = InferConfig()
    pricing: PricingConfig = PricingConfig()
    network: NetworkConfig = NetworkConfig()
    mesh: MeshConfig = MeshConfig()
    agent: AgentConfig = AgentConfig()
    log: LogConfig = LogConfig()
    journal: JournalConfig = JournalConfig()
    keystore: KeystoreConfig = KeystoreConfig()
    origins: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)
    """Where each value came from that is not a default, by dotted key."""

    def origin(self, key: str) -> Origin:
        """Where the value of a dotted key came from. Raises ``ConfigError`` for a key that does not exist."""
        if key not in KEYS:
            raise ConfigError(f"there is no setting {key}", param=key)
        return self.origins.get(key, "default")

    def value(self, key: str) -> object:
        """The value of a dotted key. Raises ``ConfigError`` for a key that does not exist."""
        self.origin(key)
        section, separator, name = key.partition(".")
        return getattr(getattr(self, section), name) if separator else getattr(self, key)

    def with_flags(self, flags: Mapping[str, object]) -> Self:
        """A copy in which ``flags`` (dotted key → value; ``None`` means not given) win. Raises ``ConfigError``."""
        given = {key: value for key, value in flags.items() if value is not None}
        checked = {key: _check(key, value, f"the flag for {key}") for key, value in given.items()}
        return type(self)(**_merged(self, checked, "flag"))


def _default_data_dir() -> Path:
    return _expanded("data_dir", Path("~/.tirami"), "the default")


def default_models_dir() -> Path:
    """``tirami/models`` in the user's cache directory."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache.startswith("/") else Path.home() / ".cache") / "tirami" / "models"


def _keys() -> Mapping[str, "Field[Any] | None"]:
    known: dict[str, Field[Any] | None] = {"data_dir": None}
    for section, cls in _SECTIONS.items():
        known |= {f"{section}.{item.name}": item for item in fields(cls)}
    return MappingProxyType(known)


KEYS: Mapping[str, "Field[Any] | None"] = _keys()
"""Every dotted key there is."""


def is_secret(key: str) -> bool:
    """Whether the value of a dotted key must not be shown."""
    item = KEYS.get(key)
    return item is not None and not item.repr


def is_public(api: ApiConfig) -> bool:
    """Whether machines beyond this one can reach the API."""
    return api.bind.strip().strip("[]").lower() not in LOOPBACK


def environment_variable(key: str) -> str:
    """The variable that sets a dotted key."""
    return PREFIX + key.upper().replace(".", "_")


def load_config(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Config:
    """The settings of a node.

    Args:
        file: TOML; ``None`` for no file. A relative path inside it is relative to the working directory.
        environ: the process environment; a variable whose section does not exist is somebody else's (Kubernetes names
            service links after the service), one of ours must name a key.
        flags: dotted key → value from the command line; ``None`` means not given.

    Raises:
        ConfigError: an unknown key or a value of the wrong type or range; ``param`` is the dotted key.
    """
    config = Config()
    if file is not None:
        config = Config(**_merged(config, _from_file(file), "file"))
    config = Config(**_merged(config, _from_environment(environ), "environment"))
    return config.with_flags(flags)


def _merged(config: Config, values: Mapping[str, object], origin: Origin) -> dict[str, Any]:
    """Constructor arguments of ``config`` with ``values`` laid over."""
    arguments: dict[str, Any] = {"data_dir": values.get("data_dir", config.data_dir)}
    for section, cls in _SECTIONS.items():
        current = getattr(config, section)
        content = {item.name: getattr(current, item.name) for item in fields(cls)}
        content |= {name: values[f"{section}.{name}"] for name in content if f"{section}.{name}" in values}
        arguments[section] = cls(**content)
    origins: dict[str, Origin] = {**config.origins, **dict.fromkeys(values, origin)}
    arguments["origins"] = MappingProxyType(origins)
    return arguments


def problems(file: Path, further: Callable[[Config], Iterable[ConfigError]] = lambda _: ()) -> list[ConfigError]:
    """Everything a TOML file would be refused for, in its order; empty for one that is right.

    ``further``: what else the settings that have the right type would be refused for.
    """
    found, right = [], dict[str, object]()
    try:
        for key, value in _entries(file):
            try:
                right[key] = _check(key, value, str(file))
            except ConfigError as error:
                found.append(error)
    except ConfigError as error:
        return [*found, error]
    return [*found, *further(Config(**_merged(Config(), right, "file")))]


def _from_file(path: Path) -> dict[str, object]:
    return {key: _check(key, value, str(path)) for key, value in _entries(path)}


def _entries(path: Path) -> Iterator[tuple[str, object]]:
    """Dotted keys and values of a file, not yet judged. Raises ``ConfigError``."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", path=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}", path=str(path)) from error
    for name, content in document.items():
        if name in _SECTIONS and isinstance(content, dict):
            yield from ((f"{name}.{key}", value) for key, value in content.items())
        else:
            yield name, content


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS or is_service_link(variable, text):
            continue
        section, separator, name = variable.removeprefix(PREFIX).lower().partition("_")
        if variable == f"{PREFIX}DATA_DIR":
            key = "data_dir"
        elif section in _SECTIONS and separator:
            key = f"{section}.{name}"
        else:
            continue
        values[key] = _check(key, _parsed(key, text), variable)
    return values


def _parsed(key: str, text: str) -> object:
    """The environment's text as the type of ``key``, or the text itself for :func:`_check` to refuse."""
    kind = _kind(key)
    if kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower(), text)
    if kind is int and text.strip().isascii() and text.strip().isdigit() and len(text) < 32:
        return int(text)
    if kind is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _kind(key: str) -> type[object]:
    item = KEYS.get(key)
    return type(item.default) if item is not None else str


def _check(key: str, value: object, source: str) -> object:
    """``value`` if it fits ``key``. Raises ``ConfigError``."""
    if key in _SECTIONS:
        raise ConfigError(f"{key} is a section, not a value ({source})", param=key)
    if key not in KEYS:
        raise ConfigError(f"{source} sets {key}, which does not exist", param=key)
    item = KEYS[key]
    if item is None:
        if not isinstance(value, str | Path) or not str(value):
            raise ConfigError(f"{key} must be a path ({source})", param=key)
        return _expanded(key, Path(value), source)
    metadata = item.metadata
    if isinstance(item.default, bool):
        if not isinstance(value, bool):
            raise ConfigError(f"{key} must be true or false ({source})", param=key)
    elif isinstance(item.default, int):
        least, most = metadata["least"], metadata["most"]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ConfigError(f"{key} must be a whole number from {least} to {most} ({source})", param=key)
    elif "choices" in metadata:
        if value not in metadata["choices"]:
            raise ConfigError(f"{key} must be one of {', '.join(metadata['choices'])} ({source})", param=key)
    elif "origins" in metadata:
        return _checked_origins(key, value, source)
    elif "path" in metadata:
        if not isinstance(value, str | Path):
            raise ConfigError(f"{key} must be a path ({source})", param=key)
        return str(_expanded(key, Path(value), source)) if str(value) else ""
    elif not isinstance(value, str):
        raise ConfigError(f"{key} must be text ({source})", param=key)
    return value


def _checked_origins(key: str, value: object, source: str) -> tuple[str, ...]:
    """Origins as browsers send them: anything else would match never, or, with a wildcard, everybody."""
    if not isinstance(value, list | tuple) or len(value) > MAX_ORIGINS:
        raise ConfigError(f"{key} must be a list of at most {MAX_ORIGINS} origins ({source})", param=key)
    for origin in value:
        if not isinstance(origin, str) or not _ORIGIN.fullmatch(origin):
            raise ConfigError(
                f"{key} holds something that is no origin: each is scheme://host or scheme://host:port, in lower case,"
                f" without a path and without wildcards ({source})",
                param=key,
            )
    return tuple(dict.fromkeys(value))


def _expanded(key: str, path: Path, source: str) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{key} names the home of a user who has none ({source})", param=key) from error
