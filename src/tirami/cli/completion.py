"""``tirami completion``: the script that teaches a shell our commands and options."""

from enum import StrEnum
from typing import Annotated

import typer
from typer._completion_shared import get_completion_script


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.")]) -> None:
    """Print the script that completes commands and options: eval "$(tirami completion bash)"."""
    print(get_completion_script(prog_name="tirami", complete_var="_TIRAMI_COMPLETE", shell=shell.value))
