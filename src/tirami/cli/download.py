"""How far a model's download has come: a bar on a terminal, a line every tenth elsewhere."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich import progress
from rich.console import Console

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


class DownloadBar:
    """Call it with (bytes done, bytes in all); appears with the first call. Use as a context manager."""

    def __init__(self, console: Console, what: str) -> None:
        self._console = console
        self._what = what
        self._bar: progress.Progress | None = None
        self._task = progress.TaskID(0)
        self._tenths = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def __call__(self, done: int, total: int) -> None:
        if self._console.is_terminal:
            self._move(done, total)
        elif total and done * 10 // total > self._tenths:
            self._tenths = done * 10 // total
            self._console.print(f"Fetching {self._what}: {done:,} of {total:,} bytes", markup=False)

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _move(self, done: int, total: int) -> None:
        if self._bar is None:
            columns = (
                progress.TextColumn("⬇  {task.description}"),
                progress.BarColumn(),
                progress.DownloadColumn(),
                progress.TimeRemainingColumn(),
            )
            self._bar = progress.Progress(*columns, console=self._console)
            self._task = self._bar.add_task(self._what, total=total)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total)
