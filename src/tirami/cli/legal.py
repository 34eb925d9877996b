"""``tirami legal``: what TRM is not."""

from tirami.api.legal import DISCLAIMER, TITLE
from tirami.cli.options import Json
from tirami.cli.terminal import Terminal


def legal(json_output: Json = False) -> None:
    """The disclaimer: TRM is not an investment."""
    terminal = Terminal(json_output)
    terminal.show({"title": TITLE, "disclaimer": DISCLAIMER}, lambda console: console.print(f"{TITLE}\n\n{DISCLAIMER}"))
