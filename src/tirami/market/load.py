"""The load that moves the price: demand smoothed by elapsed time (spec 08 §3.3)."""

from tirami.core.units import Ppm, UnixMs
from tirami.ledger import UNITY, Price, price, raw_demand, smoothed, tier_of


class Load:
    """Demand factor of this node, parts per million.

    Args:
        follow: whether load moves the price at all.
        half_life_ms: time after which half of a step has been taken.
        prompt_ppm: price of a prompt token relative to an output token.
    """

    def __init__(self, *, follow: bool, half_life_ms: int, prompt_ppm: Ppm) -> None:
        self._follow = follow
        self._half_life_ms = half_life_ms
        self._prompt_ppm = prompt_ppm
        self._at_ms: UnixMs | None = None
        self.demand = UNITY

    def restore(self, demand: Ppm, at_ms: UnixMs) -> None:
        """Go on from what was journaled before a restart."""
        self.demand, self._at_ms = demand, at_ms

    def observe(self, running: int, waiting: int, slots: int, now_ms: UnixMs) -> None:
        """Take the load since the last observation into account."""
        if self._at_ms is not None and self._follow:
            raw = raw_demand(running, waiting, slots)
            self.demand = smoothed(self.demand, raw, now_ms - self._at_ms, self._half_life_ms)
        self._at_ms = now_ms

    @property
    def factor(self) -> Ppm:
        """What prices are multiplied by now: 1 where load does not move them."""
        return self.demand if self._follow else UNITY

    def price(self, active_parameters: int, factor: Ppm | None = None) -> Price:
        """Of a model of this size; at another ``factor`` than that of now, where one is given."""
        return price(tier_of(active_parameters), self.factor if factor is None else factor, self._prompt_ppm)
