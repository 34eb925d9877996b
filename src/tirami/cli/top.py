"""``tirami top``: a live view of one node, through its restarts and outages."""

import json
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer
from rich.console import Console
from rich.live import Live

from tirami.api.schemas import SafetyReply, StatusReply
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.screen import drawn
from tirami.cli.target import NoNode, connect
from tirami.cli.terminal import Terminal
from tirami.core.errors import TiramiError
from tirami.sdk import Tirami

PATIENCE_S = 3.0
"""A node that is silent for longer is shown as gone."""
QUIT = {"q", "Q", "\x04"}
Once = Annotated[bool, typer.Option("--once", help="Show one frame and end.")]
Every = Annotated[float, typer.Option("--every", min=0.1, max=3600, metavar="SECONDS", help="Time between two frames.")]


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a node found. ``rate`` is its tokens a second since the look before."""

    status: StatusReply
    safety: SafetyReply
    rate: float | None

    def to_json(self) -> dict[str, Any]:
        facts = {**self.status.model_dump(), "safety": self.safety.model_dump()}
        return {**facts, "tokens_per_second": self.rate, "problem": None}


class Watch:
    """Looks at the chosen node again and again; after a failure it looks for the node anew."""

    def __init__(self, url: str | None, token: str | None, data_dir: Path | None) -> None:
        self._target = (url, token, data_dir)
        self._client: Tirami | None = None
        self._before: tuple[float, int, int] | None = None

    def look(self) -> Look:
        """Raises ``TiramiError``."""
        try:
            if self._client is None:
                self._client = connect(*self._target, admin=True, timeout_s=PATIENCE_S)
            status, safety = self._client.status(), self._client.safety()
        except httpx2.TransportError as error:
            self.close()
            raise NoNode(f"the node cannot be reached: {type(error).__name__}") from error
        except TiramiError:
            self.close()
            raise
        return Look(status, safety, self._rate(status))

    def close(self) -> None:
        client, self._client, self._before = self._client, None, None
        if client is not None:
            client.close()

    def _rate(self, status: StatusReply) -> float | None:
        """Never negative: an answer that is broken off takes the tokens back that were not sold."""
        now, before = (time.monotonic(), status.activity.tokens_total, status.started_ms), self._before
        self._before = now
        if before is None or before[2] != now[2] or now[0] <= before[0]:
            return None
        return max(0.0, (now[1] - before[1]) / (now[0] - before[0]))


def top(
    once: Once = False,
    every: Every = 1.0,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Watch a node: streams, speed, earnings, safety, trades. q quits. In a pipe, frame after frame."""
    terminal, watch = Terminal(json_output), Watch(url, token, data_dir)
    try:
        with _interrupted_by_sigterm():
            if once:
                look = watch.look()
                terminal.show(look.to_json(), lambda console: console.print(drawn(look.status, look.safety, look.rate)))
            elif json_output or not terminal.out.is_terminal:
                _print_frames(watch, terminal, every)
            else:
                _draw_frames(watch, every)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:  # whoever read the frames has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        watch.close()


def _print_frames(watch: Watch, terminal: Terminal, every: float) -> None:
    """One after the other, written whole: a person's console would end the program when its reader leaves."""
    while True:
        with terminal.out.capture() as frame:
            _print_frame(watch, terminal)
        sys.stdout.write(frame.get())
        sys.stdout.flush()
        time.sleep(every)


def _print_frame(watch: Watch, terminal: Terminal) -> None:
    try:
        look = watch.look()
    except TiramiError as error:
        facts, picture = {"problem": error.message}, drawn(None, None, None, problem=f"{error.message}; trying again")
    else:
        facts, picture = look.to_json(), drawn(look.status, look.safety, look.rate)
    if terminal.json_output:
        terminal.out.out(json.dumps(facts), highlight=False)
    else:
        terminal.out.print(picture)


def _draw_frames(watch: Watch, every: float) -> None:
    last: Look | None = None
    with (
        Live(console=Console(highlight=False, emoji=False), screen=True, auto_refresh=False) as live,
        _keys() as pressed,
    ):
        while True:
            problem = None
            try:
                last = watch.look()
            except TiramiError as error:
                problem = f"{error.message}; trying again"
            status, safety, rate = (last.status, last.safety, last.rate) if last else (None, None, None)
            live.update(drawn(status, safety, rate, problem=problem, hint="q quits"), refresh=True)
            if pressed(every) in QUIT:
                return


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """A function that waits so many seconds for one key; without a keyboard it only waits."""
    if not sys.stdin.isatty():
        yield _no_key
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)

    def pressed(seconds: float) -> str:
        if not select.select([keyboard], [], [], seconds)[0]:
            return ""
        return os.read(keyboard, 1).decode(errors="replace") or "q"  # a terminal that hung up has no more keys

    tty.setcbreak(keyboard)
    try:
        yield pressed
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _no_key(seconds: float) -> str:
    time.sleep(seconds)
    return ""


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the command like Ctrl-C, so that the terminal is left as it was found."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
