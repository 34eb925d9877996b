"""What a command does not need it does not load (RULINGS, Libraries)."""

import subprocess
import sys

import pytest

from tests.cli.running import Shell

HEAVY = ("openai", "mcp", "scipy", "tokenizers", "jinja2", "tirami.testing")


def loaded_by(module: str) -> set[str]:
    """Names of modules loaded once ``module`` is imported in a fresh process."""
    code = f"import sys, {module}; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ended.stdout.split())


def test_a_command_that_talks_to_a_node_loads_none() -> None:
    loaded = loaded_by("tirami.cli")
    assert not loaded & {*HEAVY, "tirami.node", "tirami.market", "tirami.ledger", "tirami.infer", "uvicorn"}


def test_a_node_loads_no_client() -> None:
    assert not loaded_by("tirami.cli.host") & set(HEAVY)


def test_the_demo_names_the_extra_it_needs(nowhere: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("openai", "tirami.cli.demo.stage", "tirami.cli.demo.steps"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "openai", None)
    ended = nowhere.run("demo", "--json")
    assert (ended.code, ended.json["error"]["code"]) == (1, "demo_failed")
    assert "pip install 'tirami[demo]'" in ended.err
