"""Runs every ``bench_*`` module; writes ``bench/results.json`` and ``docs/benchmarks.md``."""

import asyncio
import importlib
import json
import os
import pkgutil
import sys
from dataclasses import asdict
from pathlib import Path

import bench
from bench.result import Result
from tirami.cli.host import event_loop
from tirami.core.config import LogConfig
from tirami.node import configure_logs

ROOT = Path(__file__).resolve().parent.parent


def document(results: list[Result]) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Ratios are medians of interleaved pairs in one run; spread is (max − min) ÷ median.",
        "",
        "| figure | value | unit | goal | met | runs | spread |",
        "|---|---:|---|---|---|---:|---:|",
    ]
    lines += [
        f"| {r.name} | {r.value:g} | {r.unit} | {r.goal} | {'yes' if r.met else 'no'} | {r.runs} | {r.spread:.0%} |"
        for r in results
    ]
    return "\n".join(lines) + "\n"


async def main(only: list[str]) -> None:
    results: list[Result] = []
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
        (ROOT / "docs" / "benchmarks.md").write_text(document(results))


if __name__ == "__main__":
    with open(os.devnull, "w") as nowhere, asyncio.Runner(loop_factory=event_loop()) as runner:
        configure_logs(LogConfig(), nowhere)  # written as a node writes them, and dropped
        runner.run(main(sys.argv[1:]))
