"""Runs a node that cheats (see :mod:`tirami.testing.rogue`)."""

import argparse
import asyncio
import os
import signal
from pathlib import Path

from tirami.core.config import load_config
from tirami.core.keyfile import load_or_create_node_key
from tirami.node import Node, configure_logs
from tirami.testing import rogue
from tirami.testing.rogue import consumer, provider
from tirami.testing.rogue.lies import HONEST, Turns


async def _run(flags: dict[str, object]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    config = load_config(None, os.environ, flags)
    configure_logs(config.log)
    async with Node.open(config) as node:
        await node.run_until(stop)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tirami.testing.rogue",
        description=rogue.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cheats", nargs="+", choices=sorted(provider.CHEATS | consumer.CHEATS), metavar="CHEAT")
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--no-model", action="store_true")
    asked = parser.parse_args()
    home = Path(asked.data_dir)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    key, _ = load_or_create_node_key(home / "node.key")
    for side in (provider, consumer):
        side.lie(Turns(side.CHEATS, asked.cheats, home / "cheat"), key)
    if consumer.CHEATS.intersection(asked.cheats) - {HONEST}:
        consumer.unbound()
    asyncio.run(_run({"data_dir": asked.data_dir} | ({"infer.model": ""} if asked.no_model else {})))


if __name__ == "__main__":
    main()
