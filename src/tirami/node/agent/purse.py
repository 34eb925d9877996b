"""The agent's day in TRM: what the book says was spent and earned, and what tasks under way have set aside."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from tirami.core.keys import PublicKey
from tirami.core.units import DAY_MS, Ppm, Trm, UnixMs
from tirami.ledger import Ledger, PreferencesSet
from tirami.mind import PersonalAgent, Preferences, Tally


class Purse:
    """Sets money aside before anything is asked of a peer, so that tasks side by side cannot pass the same limit twice.

    What is set aside is in memory only: nothing was promised for it yet. From the hold on it is in the book.

    Args:
        node: whose money it is.
    """

    def __init__(self, ledger: Ledger, node: PublicKey) -> None:
        self._ledger = ledger
        self._node = node
        self._aside: dict[str, Trm] = {}
        """By task, the most it may cost."""

    @property
    def preferences(self) -> Preferences:
        told = self._ledger.state.settings.preferences
        if told is None:
            return Preferences()
        return Preferences(
            daily_spend_limit_trm=Trm(told.daily_spend_limit_trm),
            per_task_budget_trm=Trm(told.per_task_budget_trm),
            auto_earn_enabled=told.auto_earn_enabled,
            auto_spend_enabled=told.auto_spend_enabled,
            idle_utilization_threshold=Ppm(told.idle_utilization_threshold),
            idle_grace_seconds=told.idle_grace_seconds,
            min_peer_reputation=Ppm(told.min_peer_reputation),
            content_filter=told.content_filter,
        )

    async def prefer(self, preferences: Preferences) -> None:
        """Keep what the owner set. Raises ``StorageUnavailable``; then the old ones stand."""
        kept = asdict(preferences)
        del kept["auto_stake_fraction"]  # it has one value
        await self._ledger.record_facts(PreferencesSet(**kept))

    @property
    def agent(self) -> PersonalAgent:
        """As it stands now."""
        return PersonalAgent(self.preferences, self.tally)

    @property
    def tally(self) -> Tally:
        """Of the present day (UTC)."""
        now, outlays = self._ledger.now(), self._ledger.state.outlays
        held = outlays.held(now)
        aside = sum(max(0, most - outlays.of(task, now)) for task, most in self._aside.items())
        day = now // DAY_MS
        earned = sum(use.earned.trm for on, use in self._ledger.state.usage.of(self._node, day) if on == day)
        return Tally(UnixMs(day * DAY_MS), outlays.paid(now), Trm(held + aside), Trm(earned))

    @property
    def balance(self) -> Trm:
        """What the node's key could promise now."""
        return self._ledger.gate.means(self._node).available or Trm(0)

    @contextmanager
    def aside(self, task: str, most: Trm) -> Iterator[None]:
        """Set aside what ``task`` may cost until it is over."""
        self._aside[task] = most
        try:
            yield
        finally:
            del self._aside[task]
