"""Probe scheduler: keeps the total cost of the diagnostics under the person's budget, by cadence.

Each probe asks for a cadence (every n steps). Its cost is measured as a running mean; when the probes together would
take more than the budget's share of the step time, all cadences are stretched by the same power of two. Nothing is
thinned silently: the cadence in force and the cost are series of the run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class _Cost:
    seconds: float = 0.0
    every: int = 1


class ProbeScheduler:
    """Decides which probes run at a step and measures them."""

    def __init__(self) -> None:
        self._costs: dict[str, _Cost] = {}
        self._step_seconds = 0.0
        self._stretch = 1

    def observe_step(self, seconds: float) -> None:
        """Tell the time of one training step without its probes, s."""
        self._step_seconds = running_mean(self._step_seconds, seconds)

    def due(self, name: str, step: int, every: int, budget_percent: float) -> bool:
        """Whether the probe `name`, asked for every `every` steps, runs at `step` within the budget (% of step
        time).
        """
        cost = self._costs.setdefault(name, _Cost())
        cost.every = every
        if budget_percent <= 0:
            return False
        self._stretch = self._needed_stretch(budget_percent)
        return step % (every * self._stretch) == 0

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Measure the cost of one run of a probe."""
        started = time.perf_counter()
        try:
            yield
        finally:
            cost = self._costs.setdefault(name, _Cost())
            cost.seconds = running_mean(cost.seconds, time.perf_counter() - started)

    def report(self) -> dict[str, float]:
        """Series `cost/<probe>_ms`, `cost/<probe>_every` (cadence in force, steps) and `cost/total_percent`."""
        series = {}
        for name, cost in self._costs.items():
            series[f"cost/{name}_ms"] = cost.seconds * 1e3
            series[f"cost/{name}_every"] = float(cost.every * self._stretch)
        series["cost/total_percent"] = 100 * self._share(self._stretch)
        return series

    def _share(self, stretch: int) -> float:
        if not self._step_seconds:
            return 0.0
        return sum(cost.seconds / (cost.every * stretch) for cost in self._costs.values()) / self._step_seconds

    def _needed_stretch(self, budget_percent: float) -> int:
        stretch = 1
        while 100 * self._share(stretch) > budget_percent and stretch < 1024:
            stretch *= 2
        return stretch


def running_mean(old: float, new: float, share: float = 0.3) -> float:
    """Exponential running mean: `share` of the new value; the first value (old = 0) is taken whole."""
    return new if not old else old + share * (new - old)
