"""What a command says: text for people or one JSON value for machines on stdout, problems on stderr."""

import json
from collections.abc import Callable, Mapping
from enum import IntEnum

from rich.console import Console
from rich.markup import escape

from tirami.core.errors import TiramiError, VerificationError


class ExitCode(IntEnum):
    """How a command ends; 2 is left to the argument parser."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_VERIFIED = 3


Render = Callable[[Console], None]


class Terminal:
    """Output of one command.

    Args:
        json_output: print one JSON value on stdout and nothing else there.
    """

    def __init__(self, json_output: bool) -> None:
        self.json_output = json_output
        self.out = Console(highlight=False, soft_wrap=True, emoji=False)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

    def show(self, value: object, render: Render) -> None:
        """The result of a command: ``value`` for machines, ``render`` for people."""
        if self.json_output:
            print(json.dumps(value, ensure_ascii=False, indent=2))
        else:
            render(self.out)

    def say(self, text: str) -> None:
        """A line for people on stdout; silent with ``--json``."""
        if not self.json_output:
            self.out.print(text, markup=False)

    def note(self, text: str) -> None:
        """A line on stderr, whatever the mode."""
        self.err.print(text, markup=False)

    def fail(self, error: TiramiError) -> ExitCode:
        """Print ``Error: …`` with the code and the field, as JSON where JSON was asked for; returns the exit code."""
        where = "" if error.param is None or error.param in error.message else f"{error.param}: "
        self.err.print(f"[bold red]Error:[/] {escape(where + error.message)} [dim]({escape(error.code)})[/]")
        if self.json_output:
            named = {} if error.param is None else {"param": error.param}
            facts = {"code": error.code, "message": error.message, **named, **error.data}
            print(json.dumps({"error": facts}, ensure_ascii=False, indent=2, default=str))
        return ExitCode.NOT_VERIFIED if isinstance(error, VerificationError) else ExitCode.ERROR


def fields(console: Console, title: str, facts: Mapping[str, object]) -> None:
    """Named facts, one a line, aligned."""
    if title:
        console.print(f"[bold]{escape(title)}[/]")
    width = max((len(name) for name in facts), default=0) + 1
    for name, value in facts.items():
        console.print(f"  {name + ':':<{width}}  {value}", markup=False)
