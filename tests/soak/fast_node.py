"""``tirami`` under a clock that runs ahead: ``python -m tests.soak.fast_node start …``.

``FAST_FACTOR`` says how many times faster than the wall, ``FAST_SINCE`` from which second on, so that a restarted node
goes on where the last one was. SIGUSR1 collects garbage; a thread waits for it, so that the event loop's own signals
stay undisturbed.
"""

import gc
import os
import signal
import time
from threading import Thread

from tirami.cli import main
from tirami.core.units import UnixMs
from tirami.node import node


class FastClock:
    """Both times of a node, ahead of the machine's."""

    def __init__(self) -> None:
        self._since = float(os.environ["FAST_SINCE"])
        self._factor = float(os.environ["FAST_FACTOR"])

    def now_ms(self) -> UnixMs:
        return UnixMs(round((self._since + (time.time() - self._since) * self._factor) * 1000))

    def monotonic(self) -> float:
        return time.monotonic() * self._factor


def collect() -> None:
    while True:
        signal.sigwait({signal.SIGUSR1})
        gc.collect()


if __name__ == "__main__":
    node.SystemClock = FastClock  # type: ignore[misc, assignment]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    Thread(target=collect, daemon=True).start()
    main()
