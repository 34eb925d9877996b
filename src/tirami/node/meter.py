"""The node's instruments: distributions of what answers took, and counts of HTTP requests, for ``GET /metrics``.

Told once an answer and once a request. What the book knows is read from the book instead, by
:mod:`tirami.node.http.collector`.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from tirami.infer import FinishReason, Reading

if TYPE_CHECKING:
    from tirami.net.session import Sale

MODELS = 16
"""Models whose series are kept; those of the one used longest ago go first."""
_WAITS_S = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_FIRST_TOKENS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SETTLES_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_SPEEDS = (1, 2, 5, 10, 20, 35, 50, 75, 100, 150, 200, 500, 1000, 5000)
_WEIGHT = 0.2
"""How much the newest answer counts in the running speed."""


class NodeMeter:
    """A :class:`tirami.market.Meter` over Prometheus instruments in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._queue = self._histogram("queue_seconds", "Time a request waited for a place at the engine.", _WAITS_S)
        self._ttft = self._histogram(
            "ttft_seconds", "Time from the request to the engine to its first token.", _FIRST_TOKENS_S
        )
        self._speed = self._histogram(
            "tokens_per_second", "Tokens a second of one answer, after its first token.", _SPEEDS
        )
        self._settle = self._histogram("settle_seconds", "Time to sign, book and store an answer.", _SETTLES_S)
        self._answers = Counter(
            "tirami_answers", "Answers that ended, by reason.", ("model", "reason"), registry=self.registry
        )
        self._sales = self._counter("sales", "Answers for payers of other nodes that ended.")
        self._unpaid_tokens = self._counter("unpaid_tokens", "Tokens handed to them that nobody signed for.")
        self._unpaid = self._counter("unpaid_trm", "TRM those would have cost.")
        self._requests = Counter(
            "tirami_http_requests",
            "HTTP requests, by class of status.",
            ("operation", "status"),
            registry=self.registry,
        )
        self._speeds: OrderedDict[str, float | None] = OrderedDict()

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"tirami_{name}", meaning, ("model",), buckets=buckets, registry=self.registry)

    def _counter(self, name: str, meaning: str) -> Counter:
        return Counter(f"tirami_{name}", meaning, registry=self.registry)

    def speed(self, model: str) -> float | None:
        """Tokens a second of recent answers of a model, smoothed; ``None`` before there was one."""
        return self._speeds.get(model)

    def queued(self, model: str, seconds: float) -> None:
        self._keep(model)
        self._queue.labels(model).observe(seconds)

    def settled(self, model: str, reason: FinishReason, seconds: float) -> None:
        self._keep(model)
        self._answers.labels(model, reason.value).inc()
        self._settle.labels(model).observe(seconds)

    def sold(self, sale: "Sale") -> None:
        """A session of another node's payer is over."""
        self._sales.inc()
        self._unpaid_tokens.inc(max(0, sale.due - sale.vouched))
        self._unpaid.inc(sale.unpaid)
        if sale.reading is not None:
            self.made(sale.model, sale.reading)

    def made(self, model: str, reading: Reading) -> None:
        self._keep(model)
        if reading.ttft_ms is None:
            return
        self._ttft.labels(model).observe(reading.ttft_ms / 1000)
        flowing_ms = reading.wall_ms - reading.ttft_ms
        if reading.completion_tokens > 1 and flowing_ms > 0:
            speed = (reading.completion_tokens - 1) * 1000 / flowing_ms
            self._speed.labels(model).observe(speed)
            known = self._speeds[model]
            self._speeds[model] = speed if known is None else known + _WEIGHT * (speed - known)

    def requested(self, operation: str, status: int) -> None:
        """An HTTP request ended. ``operation`` is a name of the table or ``none``; ``status`` 0: it got no answer."""
        self._requests.labels(operation, f"{status // 100}xx" if status else "aborted").inc()

    def _keep(self, model: str) -> None:
        """Mark a model as used; forget the series of the one used longest ago when there are too many."""
        self._speeds.setdefault(model, None)
        self._speeds.move_to_end(model)
        if len(self._speeds) > MODELS:
            oldest, _ = self._speeds.popitem(last=False)
            for histogram in (self._queue, self._ttft, self._speed, self._settle):
                histogram.remove(oldest)
            self._answers.remove_by_labels({"model": oldest})
