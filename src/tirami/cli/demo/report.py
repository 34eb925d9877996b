"""What the demo asserted and measured, for people and machines."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tirami.core.errors import TiramiError


class DemoFailed(TiramiError):
    """An assertion of the demo does not hold."""

    code = "demo_failed"


def expect(holds: bool, claim: str, **facts: object) -> None:
    """Raises ``DemoFailed`` naming the claim that does not hold."""
    if not holds:
        seen = ", ".join(f"{name}={value!r}" for name, value in facts.items())
        raise DemoFailed(f"does not hold: {claim}" + (f" ({seen})" if seen else ""))


@dataclass(slots=True)
class Step:
    """One asserted step. ``row`` is the mission row it shows; ``seconds`` its duration."""

    row: str
    title: str
    detail: str = ""
    passed: bool = False
    seconds: float = 0.0


@dataclass(slots=True)
class Report:
    """Steps in order, and figures by name."""

    console: Console | None
    """Where steps are shown as they happen; ``None`` for silence."""
    steps: list[Step] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def step(self, row: str, title: str) -> Iterator[Step]:
        """Time a step and print its outcome; it passes when the block ends without an error."""
        step = Step(row, title)
        self.steps.append(step)
        began = time.monotonic()
        try:
            yield step
            step.passed = True
        except TiramiError as error:
            step.detail = error.message
            raise
        except Exception as error:
            step.detail = f"{type(error).__name__}: {error}"
            raise DemoFailed(step.detail) from error
        finally:
            step.seconds = round(time.monotonic() - began, 3)
            self._print(step)

    def measured(self, name: str, value: object) -> None:
        self.figures[name] = str(value)

    def to_json(self) -> dict[str, object]:
        passed = bool(self.steps) and all(step.passed for step in self.steps)
        return {"passed": passed, "steps": [asdict(step) for step in self.steps], "figures": self.figures}

    def _print(self, step: Step) -> None:
        if self.console is None:
            return
        mark = "[bold green]✓[/]" if step.passed else "[bold red]✗[/]"
        detail = f" [dim]— {escape(step.detail)}[/]" if step.detail else ""
        self.console.print(f"{mark} [cyan]{step.row:<8}[/] {escape(step.title)}{detail}")

    def summary(self) -> Table:
        """The closing table."""
        passed = sum(step.passed for step in self.steps)
        seconds = sum(step.seconds for step in self.steps)
        table = Table("Figure", "Value", title=f"Tirami demo: {passed} of {len(self.steps)} steps in {seconds:.1f} s")
        table.title_style = "bold green" if passed == len(self.steps) else "bold red"
        for name, value in self.figures.items():
            table.add_row(name, value)
        return table
