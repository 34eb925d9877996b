"""How good providers are held to be: a weighted median of own experience and signed observations (spec 02 §11).

What an observer weighs is never what it says: it is how many sessions it is known to have paid the provider for, by
trades with both signatures in this node's own book, applied ones, and at most ``MOST``. So a liar has to be a paying
customer, and one that declares a billion sessions weighs what it paid for. All of this is opinion: it is kept in memory
only, bounded, and gathered again after a restart. It never touches the book.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from tirami.core.clock import APART_MS
from tirami.core.units import MICRO, Ppm
from tirami.proto import Observation, Trade

START = Ppm(MICRO // 2)
"""Of whom nothing is known."""
LEAST = 5
"""Sessions an observer must have paid for to count; also what this node's own view weighs at least."""
MOST = 100
OBSERVERS = 32
"""Of one provider; the one that weighs least gives way."""
SUBJECTS = 10_000
AVERAGED = 1_000
"""Providers that :meth:`Reputation.mean` goes over: those something was heard of last."""
PAIRS = 100_000
_STEP = 5
"""The newest experience counts a fifth."""


@dataclass(slots=True)
class _Subject:
    own: Ppm = START
    sessions: int = 0
    observations: dict[bytes, Observation] = field(default_factory=dict)
    cached: Ppm | None = START


@dataclass(slots=True)
class _Custom:
    """What one payer has bought of one provider."""

    sessions: int = 0
    newest: tuple[int, int] = (-1, -1)


class Reputation:
    """Of one node's mesh, as this node sees it.

    Args:
        own: this node's key: it takes nobody's word for its own opinion.
    """

    def __init__(self, own: bytes) -> None:
        self._own = own
        self._subjects: OrderedDict[bytes, _Subject] = OrderedDict()
        self._customs: OrderedDict[tuple[bytes, bytes], _Custom] = OrderedDict()
        self._changed: Callable[[bytes], None] = lambda _: None

    def on_change(self, changed: Callable[[bytes], None]) -> None:
        """Have ``changed`` told of every key whose reputation may be another."""
        self._changed = changed

    def of(self, key: bytes) -> Ppm:
        """0 … 10⁶; computed when something changed, else at hand."""
        subject = self._subjects.get(key)
        if subject is None:
            return START
        if subject.cached is None:
            views = [(seen.score_ppm, self.weight(observer, key)) for observer, seen in subject.observations.items()]
            subject.cached = consensus(subject.own, views, LEAST + min(subject.sessions, MOST))
        return subject.cached

    def mean(self) -> Ppm:
        """Over the ``AVERAGED`` providers something was heard of last, rounded down; ``START`` where there are none."""
        latest = list(islice(reversed(self._subjects), AVERAGED))
        return Ppm(sum(map(self.of, latest)) // len(latest)) if latest else START

    def weight(self, observer: bytes, subject: bytes) -> int:
        """Sessions it is known to have paid for, at most ``MOST``."""
        custom = self._customs.get((observer, subject))
        return min(custom.sessions, MOST) if custom else 0

    def traded(self, trade: Trade) -> None:
        """A trade that is applied in the book. Of a session's vouchers one counts."""
        pair, session = (trade.payer, trade.provider), (trade.incarnation, trade.session)
        custom = self._customs.setdefault(pair, _Custom())
        self._customs.move_to_end(pair)
        if session <= custom.newest:
            return
        custom.sessions, custom.newest = custom.sessions + 1, session
        if (subject := self._subjects.get(trade.provider)) is not None:
            subject.cached = None
            self._changed(trade.provider)
        while len(self._customs) > PAIRS:
            self._customs.popitem(last=False)

    def experienced(self, key: bytes, *, good: bool) -> None:
        """An answer was bought of this provider, and was kept or broken."""
        subject = self._subject(key)
        subject.own = Ppm(subject.own + ((MICRO if good else 0) - subject.own) // _STEP)
        subject.sessions += 1
        subject.cached = None
        self._changed(key)

    def own_view(self, key: bytes) -> tuple[Ppm, int]:
        """What this node itself thinks of a provider, and on how many answers that rests."""
        subject = self._subjects.get(key)
        return (subject.own, subject.sessions) if subject else (START, 0)

    def is_news(self, observation: Observation, now_ms: int) -> bool:
        """Whether it is worth the check of its signature: of a customer, about somebody else, newer than the last."""
        observer, subject = observation.observer, observation.subject
        if observer in (subject, self._own) or observation.at_ms > now_ms + APART_MS:
            return False
        if not self.weight(observer, subject):
            return False
        known = self._subjects.get(subject)
        last = known.observations.get(observer) if known else None
        return last is None or last.at_ms < observation.at_ms

    def take(self, observation: Observation, now_ms: int) -> bool:
        """Take what its observer has signed; whether it was news."""
        if not self.is_news(observation, now_ms):
            return False
        key = observation.subject
        subject = self._subject(key)
        subject.observations[observation.observer] = observation
        subject.cached = None
        self._changed(key)
        if len(subject.observations) > OBSERVERS:
            lightest = min(subject.observations, key=lambda observer: self.weight(observer, key))
            del subject.observations[lightest]
            return lightest != observation.observer
        return True

    def _subject(self, key: bytes) -> _Subject:
        subject = self._subjects.setdefault(key, _Subject())
        self._subjects.move_to_end(key)
        while len(self._subjects) > SUBJECTS:
            forgotten, _ = self._subjects.popitem(last=False)
            self._changed(forgotten)
        return subject


def consensus(own: int, views: Iterable[tuple[int, int]], weight: int = LEAST) -> Ppm:
    """The weighted lower median of ``own`` and the (value, weight) of observers that weigh enough."""
    counted = [view for view in views if view[1] >= LEAST]
    if not counted:
        return Ppm(own)
    ranked = sorted([*counted, (own, weight)], key=lambda view: view[0])
    half, sum_so_far = sum(view[1] for view in ranked) // 2, 0
    for value, weighs in ranked:
        sum_so_far += weighs
        if sum_so_far >= half:
            return Ppm(value)
    raise AssertionError("weights are positive")
