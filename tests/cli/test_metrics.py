"""``tirami metrics``."""

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.running import Shell
from tirami.cli.metrics import _number


def test_a_table_for_people(shell: Shell) -> None:
    shell.run("chat", "hi", "-n", "3")
    ended = shell.run("metrics")
    assert (ended.code, ended.err) == (0, "")
    lines = {line.split()[0]: line for line in ended.out.splitlines() if line.strip()}
    assert "tirami_log_size" in lines
    assert "mean" in lines["tirami_ttft_seconds"], "a histogram is one line"
    assert "_bucket" not in ended.out
    assert len(lines["tirami_process_started_at_secs"].split()[1].split(",")) == 4, "numbers are written out"


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0"), (1e6, "1,000,000"), (0.25, "0.25"), (123456.7, "123,457"), (math.inf, "inf")]
)
def test_numbers(value: float, shown: str) -> None:
    assert _number(value) == shown


def test_only_what_was_named(shell: Shell) -> None:
    ended = shell.run("metrics", "engine_")
    names = {line.split()[0] for line in ended.out.splitlines()[1:]}
    assert names
    assert all("engine_" in name for name in names)
    assert shell.run("metrics", "no such name").code == 0


def test_the_text_itself(shell: Shell) -> None:
    ended = shell.run("metrics", "--raw")
    assert (ended.code, ended.err) == (0, "")
    assert len(list(text_string_to_metric_families(ended.out))) > 40


def test_for_programs(shell: Shell) -> None:
    families = {family["name"]: family for family in shell.run("metrics", "--json").json}
    sizes = families["tirami_log_size"]
    assert (sizes["type"], sizes["samples"][0]["labels"]) == ("gauge", {})
    assert sizes["samples"][0]["value"] >= 0
