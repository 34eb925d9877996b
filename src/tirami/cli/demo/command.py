"""The command: a temporary home, a real node process, the steps in order, a summary."""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

import typer

from tirami.cli.demo.process import clean_environment, favourite_or_free_port
from tirami.cli.demo.report import DemoFailed, Report
from tirami.cli.options import Json
from tirami.cli.terminal import ExitCode, Terminal
from tirami.core.errors import TiramiError

MODEL = "smollm2:135m"
OwnDir = Annotated[Path | None, typer.Option("--data-dir", help="Keep the node's directory here.  [a temporary one]")]
Upstream = Annotated[str | None, typer.Option("--upstream", metavar="URL", help="An engine instead of the real model.")]


class Staged(Protocol):
    def close(self) -> None: ...


S = TypeVar("S", bound=Staged)
TwoNodes = Annotated[
    bool, typer.Option("--two-nodes", help="Two nodes instead: a trade, a cheat, a consumer that vanishes.")
]


def demo(
    model: Annotated[str, typer.Option("--model", "-m", help="Catalogue alias or GGUF file.")] = MODEL,
    upstream: Upstream = None,
    data_dir: OwnDir = None,
    two_nodes: TwoNodes = False,
    json_output: Json = False,
) -> None:
    """Show, and assert, that a paid request cannot lie: real model, official client, receipt, kill switch, restart."""
    terminal = Terminal(json_output)
    report = Report(None if json_output else terminal.out)
    with tempfile.TemporaryDirectory(prefix="tirami-demo-") as scratch:
        home = data_dir or Path(scratch) / "home"
        if two_nodes:
            show = _between_two(home, model, upstream, report)
        else:
            show = _alone(home, Path(scratch), model, upstream, report)
        try:
            show()
        except TiramiError as error:
            terminal.show(report.to_json(), lambda console: console.print(report.summary()))
            terminal.note(f"Error: {error.message}")
            raise typer.Exit(ExitCode.ERROR) from error
    terminal.show(report.to_json(), lambda console: console.print(report.summary()))


def _alone(home: Path, scratch: Path, model: str, upstream: str | None, report: Report) -> Callable[[], None]:
    try:  # the official client is an extra, and slow to import: nobody else waits for it
        from tirami.cli.demo.stage import Stage
        from tirami.cli.demo.steps import STEPS
    except ModuleNotFoundError as error:
        raise DemoFailed(f"the demo needs {error.name}: pip install 'tirami[demo]'") from error
    options = ["--port", str(favourite_or_free_port()), "--model", model, "--log-level", "warning"]
    options += ["--upstream", upstream] if upstream else []
    stage = Stage(home, scratch, options, clean_environment(scratch), report)
    return partial(_walk, stage, (Stage.open, *STEPS))


def _between_two(home: Path, model: str, upstream: str | None, report: Report) -> Callable[[], None]:
    from tirami.cli.demo.pair import Pair
    from tirami.cli.demo.trade import STEPS

    if upstream:
        raise DemoFailed("between nodes only answers are sold that can be counted: --two-nodes needs a model")
    pair = Pair.built(home, model, clean_environment(home), report)
    return partial(_walk, pair, STEPS)


def _walk(stage: S, steps: Sequence[Callable[[S], None]]) -> None:
    try:
        for step in steps:
            step(stage)
    finally:
        stage.close()
