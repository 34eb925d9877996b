"""``tirami metrics``: what a node measures, for people; ``--raw`` as Prometheus reads it."""

import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.target import connect
from tirami.cli.terminal import Terminal

HELP = "Show only names that contain this."


def metrics(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help=HELP)] = "",
    raw: Annotated[bool, typer.Option("--raw", help="The text itself, as Prometheus reads it.")] = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """What the node measures: book, engines, answers, requests, safety."""
    with connect(url, token, data_dir, admin=True) as client:
        text = client.metrics().decode()
    if raw:
        sys.stdout.write(text)
        return
    families = [family for family in _parsed(text) if name in family["name"]]
    Terminal(json_output).show(families, lambda console: _show(console, families))


def _parsed(text: str) -> list[dict[str, Any]]:
    from prometheus_client.parser import text_string_to_metric_families  # slow to import

    return [
        {
            "name": family.name,
            "type": family.type,
            "help": family.documentation,
            "samples": [{"name": s.name, "labels": s.labels, "value": s.value} for s in family.samples],
        }
        for family in text_string_to_metric_families(text)
    ]


def _show(console: Console, families: list[dict[str, Any]]) -> None:
    table = Table("Name", "Labels", "Value", box=None, pad_edge=False, header_style="bold")
    table.columns[0].no_wrap = True
    table.columns[2].justify = "right"
    for family in families:
        for name, labels, value in _rows(family):
            table.add_row(name, escape(", ".join(f"{key}={text[:16]}" for key, text in labels.items())), value)
    console.print(table)


def _rows(family: dict[str, Any]) -> list[tuple[str, dict[str, str], str]]:
    """One row a sample; a histogram becomes its mean and count."""
    if family["type"] != "histogram":
        return [(sample["name"], sample["labels"], _number(sample["value"])) for sample in family["samples"]]
    sums = {tuple(s["labels"].items()): s["value"] for s in family["samples"] if s["name"].endswith("_sum")}
    counts = [s for s in family["samples"] if s["name"].endswith("_count") and s["value"]]
    return [
        (family["name"], s["labels"], f"mean {sums[tuple(s['labels'].items())] / s['value']:.4g} of {s['value']:g}")
        for s in counts
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() or abs(value) >= 100_000 else f"{value:.6g}"
