"""The command: a temporary home, a real node process, the steps in order, a summary."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tirami.cli.demo.process import clean_environment, favourite_or_free_port
from tirami.cli.demo.report import DemoFailed, Report
from tirami.cli.options import Json
from tirami.cli.terminal import ExitCode, Terminal
from tirami.core.errors import TiramiError

MODEL = "smollm2:135m"
OwnDir = Annotated[Path | None, typer.Option("--data-dir", help="Keep the node's directory here.  [a temporary one]")]
Upstream = Annotated[str | None, typer.Option("--upstream", metavar="URL", help="An engine instead of the real model.")]


def demo(
    model: Annotated[str, typer.Option("--model", "-m", help="Catalogue alias or GGUF file.")] = MODEL,
    upstream: Upstream = None,
    data_dir: OwnDir = None,
    json_output: Json = False,
) -> None:
    """Show, and assert, that a paid request cannot lie: real model, official client, receipt, kill switch, restart."""
    try:  # the official client is an extra, and slow to import: nobody else waits for it
        from tirami.cli.demo.stage import Stage
        from tirami.cli.demo.steps import STEPS
    except ModuleNotFoundError as error:
        raise DemoFailed(f"the demo needs {error.name}: pip install 'tirami[demo]'") from error
    terminal = Terminal(json_output)
    report = Report(None if json_output else terminal.out)
    with tempfile.TemporaryDirectory(prefix="tirami-demo-") as scratch:
        home = data_dir or Path(scratch) / "home"
        options = ["--port", str(favourite_or_free_port()), "--model", model, "--log-level", "warning"]
        options += ["--upstream", upstream] if upstream else []
        stage = Stage(home, Path(scratch), options, clean_environment(Path(scratch)), report)
        try:
            stage.open()
            for step in STEPS:
                step(stage)
        except TiramiError as error:
            terminal.show(report.to_json(), lambda console: console.print(report.summary()))
            terminal.note(f"Error: {error.message}")
            raise typer.Exit(ExitCode.ERROR) from error
        finally:
            stage.close()
    terminal.show(report.to_json(), lambda console: console.print(report.summary()))
