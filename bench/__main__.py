"""Runs every ``bench_*`` module; writes ``bench/results.json`` and ``docs/benchmarks.md``."""

import asyncio
import importlib
import json
import os
import pkgutil
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from math import floor, log10
from pathlib import Path

import bench
from bench.machine import Machine
from bench.result import NO_GOAL, Result
from tirami.cli.host import event_loop
from tirami.core.config import LogConfig
from tirami.node import configure_logs

ROOT = Path(__file__).resolve().parent.parent


def document(results: list[Result], machine: Machine) -> str:
    """``docs/benchmarks.md``: three significant digits; – where nothing was aimed at."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Ratios are medians of interleaved pairs in one run; spread is (max − min) ÷ median.",
        "",
        machine.told(),
        "",
        "| figure | value | unit | goal | met | runs | spread |",
        "|---|---:|---|---|---|---:|---:|",
    ]
    for r in results:
        goal = "–" if r.goal == NO_GOAL else r.goal
        met = "no" if not r.met else "–" if r.goal == NO_GOAL else "yes"
        lines.append(f"| {r.name} | {digits(r.value)} | {r.unit} | {goal} | {met} | {r.runs} | {r.spread:.0%} |")
    return "\n".join(lines) + "\n"


def digits(value: float) -> str:
    """Three significant digits, never an exponent."""
    if not value:
        return "0"
    places = 2 - floor(log10(abs(value)))
    return f"{round(value, places):.{max(places, 0)}f}"


async def main(only: list[str]) -> None:
    results: list[Result] = []
    machine = Machine.this(datetime.now(UTC).date().isoformat())
    for module in sorted(info.name for info in pkgutil.iter_modules(bench.__path__) if info.name.startswith("bench_")):
        if only and module.removeprefix("bench_") not in only:
            continue
        for result in await importlib.import_module(f"bench.{module}").run():
            print(
                f"{'ok  ' if result.met else 'MISS'} {result.name}: {result.value:g} {result.unit} ({result.goal})",
                flush=True,
            )
            results.append(result)
    if not only:
        rows = json.dumps([asdict(result) for result in results], indent=1, ensure_ascii=False)
        (ROOT / "bench" / "results.json").write_text(rows + "\n")
        (ROOT / "docs" / "benchmarks.md").write_text(document(results, machine))


if __name__ == "__main__":
    with open(os.devnull, "w") as nowhere, asyncio.Runner(loop_factory=event_loop()) as runner:
        configure_logs(LogConfig(), nowhere)  # written as a node writes them, and dropped
        runner.run(main(sys.argv[1:]))
