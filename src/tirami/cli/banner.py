"""What a node in the foreground tells whoever started it."""

import json
import os
from dataclasses import dataclass
from typing import Protocol

from rich.box import DOUBLE
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from tirami.api.consent import statements
from tirami.cli.download import DownloadBar, Progress
from tirami.core.config import Config, is_public
from tirami.core.keyfile import load_or_create_node_key

TAGLINE = "🌱 Tirami — GPU Airbnb × AI Agent Economy"

CLEAR_TEXT = "Other machines can reach this node, and it has no TLS: tokens and prompts cross the network in the clear."


def in_clear(config: Config) -> bool:
    """Whether the node is reachable beyond this machine without TLS."""
    return is_public(config.api) and not config.api.tls_cert


def _url(config: Config) -> str:
    bind = config.api.bind.strip("[]")
    host = f"[{bind}]" if ":" in bind else bind
    return f"{'https' if config.api.tls_cert else 'http'}://{host}:{config.api.port}"


@dataclass(frozen=True, slots=True)
class Running:
    """Facts of a node that serves. ``model`` ``None``: it runs without one, because of ``problem``.

    ``mesh``: where other nodes find it, while it is on the mesh.
    """

    url: str
    node_id: str
    model: str | None
    problem: str | None
    mesh: str | None = None


class Announcer(Protocol):
    """Follows one run of a node."""

    progress: Progress | None

    def opening(self) -> None: ...

    def ready(self, running: Running) -> None: ...

    def told(self, text: str) -> None:
        """What comes of the invitation it was started with."""
        ...

    def stopped(self) -> None: ...


class Banner:
    """For a person: the box, the facts, a progress bar."""

    def __init__(self, config: Config, console: Console, log_file: str) -> None:
        self._config = config
        self._console = console
        self._log_file = log_file
        self._bar = DownloadBar(console, config.infer.model)
        self.progress: Progress | None = self._bar

    def opening(self) -> None:
        """Raises ``KeyFileError``: the key is made here when there is none, so that its place can be named first."""
        key_file = self._config.data_dir / "node.key"
        if load_or_create_node_key(key_file)[1]:
            self._say(f"🔑 Generated new node key at {key_file}\n")
        self._console.print(Panel(Text(TAGLINE, justify="center"), box=DOUBLE, width=64), soft_wrap=False)
        infer = self._config.infer
        model = f"{infer.upstream_model or 'any'} at {infer.upstream_url}" if infer.upstream_url else infer.model
        self._say(f"\n   Data dir:  {self._config.data_dir}\n   Model:     {model or 'none'}")
        if self._log_file:
            self._say(f"   Log:       {self._log_file}")
        if self._config.api.port:
            self._say(f"   API:       {_url(self._config)}\n")
        if in_clear(self._config):
            self._console.print(f"[bold red]⚠  {CLEAR_TEXT}[/]\n")
        if self._config.mesh.enabled:
            for statement in statements(self._config.mesh):
                self._say(f"   🌐 {statement}")
            self._say("")

    def ready(self, running: Running) -> None:
        self._bar.finish()
        if not self._config.api.port:
            self._say(f"   API:       {running.url}\n")
        if running.model is not None:
            self._say(f"✅ Model loaded: {running.model}")
        elif self._config.infer.model:
            self._say(f"⚠  No model: {running.problem}")
        if running.mesh is not None:
            self._say(f"🌐 On the mesh as {running.mesh}")
        self._say("🟢 Tirami node is running. Press Ctrl-C to stop.")

    def told(self, text: str) -> None:
        self._say(f"✉  {text}")

    def stopped(self) -> None:
        self._bar.finish()
        self._say("Tirami node stopped; everything is saved.")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False)


class PlainLines:
    """For a log: one line an event."""

    def __init__(self, config: Config, console: Console) -> None:
        self._console = console
        self._in_clear = in_clear(config)
        self._mesh = config.mesh
        self.progress: Progress | None = DownloadBar(console, config.infer.model)

    def opening(self) -> None:
        return None

    def ready(self, running: Running) -> None:
        if self._in_clear:
            self._console.print(f"⚠  {CLEAR_TEXT}", markup=False)
        if running.mesh is not None:
            for statement in (f"on the mesh as {running.mesh}", *statements(self._mesh)):
                self._console.print(statement, markup=False)
        model = running.model or f"no model: {running.problem}"
        self._console.print(f"node {running.node_id} serves {model} at {running.url}", markup=False)

    def told(self, text: str) -> None:
        self._console.print(text, markup=False)

    def stopped(self) -> None:
        self._console.print("node stopped; everything is saved", markup=False)


class JsonLine:
    """For a program: one object as soon as the node serves."""

    progress: Progress | None = None

    def opening(self) -> None:
        return None

    def ready(self, running: Running) -> None:
        facts = {
            "pid": os.getpid(),
            "url": running.url,
            "node_id": running.node_id,
            "model": running.model,
            "problem": running.problem,
            "mesh": running.mesh,
        }
        print(json.dumps(facts, ensure_ascii=False), flush=True)

    def told(self, text: str) -> None:
        """A program reads it in the log, and asks the API for its balance."""

    def stopped(self) -> None:
        return None
