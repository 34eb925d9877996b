"""Completion in a real shell."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import Shell


def program(shell: Shell) -> Path:
    """``tirami`` on a PATH of its own."""
    path = shell.home / "bin" / "tirami"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m tirami.cli "$@"\n')
    path.chmod(0o755)
    return path


def completed(shell: Shell, script: str, typed: str) -> list[str]:
    """What bash offers behind ``typed`` when the script has been read."""
    words = typed.split(" ")
    ask = (
        f"{script}\n"
        "registered=$(complete -p tirami); function=${registered##*-F }; function=${function%% *}\n"
        f"COMP_WORDS=({' '.join(shlex.quote(word) for word in words)}); COMP_CWORD={len(words) - 1}\n"
        f"COMP_LINE={shlex.quote(typed)}; COMP_POINT=${{#COMP_LINE}}\n"
        '"$function" tirami "${COMP_WORDS[COMP_CWORD]}" ""; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    path = f"{program(shell).parent}:{shell.environment['PATH']}"
    ended = subprocess.run(
        ["bash", "--norc", "-c", ask],
        capture_output=True,
        text=True,
        timeout=60,
        env={**shell.environment, "PATH": path},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split()


def test_bash_completes_commands_and_options(nowhere: Shell) -> None:
    script = nowhere.process("completion", "bash").out
    assert {"start", "status"} <= set(completed(nowhere, script, "tirami sta"))
    assert completed(nowhere, script, "tirami config sh") == ["show"]
    assert "--passphrase-file" in completed(nowhere, script, "tirami backup --pass")
    assert completed(nowhere, script, "tirami nothing-begins-so") == []


def test_the_installer_that_typer_brings_works_too(nowhere: Shell) -> None:
    path = f"{program(nowhere).parent}:{nowhere.environment['PATH']}"
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # whoever runs the tests may be another shell's child
    ended = nowhere.process("--install-completion", "bash", PATH=path, **named)
    assert ended.code == 0, ended.err
    installed = next(nowhere.home.glob(".bash_completions/*"))
    assert {"restore"} <= set(completed(nowhere, f"source {shlex.quote(str(installed))}", "tirami rest"))


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_for_other_shells(nowhere: Shell, shell: str) -> None:
    ended = nowhere.run("completion", shell)
    assert ended.code == 0
    assert "_TIRAMI_COMPLETE" in ended.out and "tirami" in ended.out


def test_a_shell_nobody_knows_is_wrong_usage(nowhere: Shell) -> None:
    assert nowhere.run("completion", "tcl").code == 2
