"""A node that cheats, for demonstrations and tests: ``python -m tirami.testing.rogue CHEAT… --data-dir DIR``.

It is an ordinary node with an ordinary engine, configured by the environment like any other, but from the fifth piece
of every answer it sells on it says something else than is true, and notes so in its log. Several cheats take turns,
one a session.

=====  =====================================================
count  claims a token more than it sent
ids    sends every token twice, with its text once
text   puts words into the answer that the model never made
=====  =====================================================
"""

import argparse
import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from itertools import cycle

import msgspec
import structlog

from tirami.core.config import load_config
from tirami.net.frames import FrameWriter
from tirami.net.session import provider
from tirami.net.transport import Stream
from tirami.node import Node, configure_logs
from tirami.proto import Message, Piece

_log = structlog.get_logger()
HONEST = 4
"""Pieces of an answer before the first lie."""


def _count(piece: Piece) -> Piece:
    return msgspec.structs.replace(piece, count=piece.count + 1)


def _text(piece: Piece) -> Piece:
    return msgspec.structs.replace(piece, text=piece.text + b" (buy our other products)")


def _ids(piece: Piece) -> Piece:
    return msgspec.structs.replace(piece, ids=piece.ids * 2, count=piece.count + len(piece.ids))


CHEATS: dict[str, Callable[[Piece], Piece]] = {"count": _count, "ids": _ids, "text": _text}


def lying(cheats: Sequence[str]) -> type[FrameWriter]:
    """A writer that cheats, in turn, one way a session."""
    turns = cycle(cheats)

    class Lying(FrameWriter):
        def __init__(self, stream: Stream) -> None:
            super().__init__(stream)
            self._cheat = next(turns)
            self._pieces = 0

        async def write(self, message: Message) -> None:
            if isinstance(message, Piece):
                self._pieces += 1
                if self._pieces > HONEST:
                    message = CHEATS[self._cheat](message)
                    _log.warning("cheating", cheat=self._cheat, piece=self._pieces, claimed=message.count)
            await super().write(message)

    return Lying


async def _run(data_dir: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    config = load_config(None, os.environ, {"data_dir": data_dir})
    configure_logs(config.log)
    async with Node.open(config) as node:
        await node.run_until(stop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cheats", nargs="+", choices=sorted(CHEATS), metavar="CHEAT")
    parser.add_argument("--data-dir", required=True)
    asked = parser.parse_args()
    provider.FrameWriter = lying(asked.cheats)  # type: ignore[attr-defined]
    asyncio.run(_run(asked.data_dir))


if __name__ == "__main__":
    main()
