"""Probe scheduler: keeps the total cost of the diagnostics within the user's budget, by cadence.

Each probe asks for a cadence (every n steps), and its cost is measured as a running mean. The budget is shared like
water: a probe that needs less than an equal part keeps its cadence and leaves the rest to the others; one that needs
more is stretched by a power of two. It also limits what has been spent: a probe that is due waits for its next turn
when running it would spend more than the budget of the time trained so far. Nothing is thinned silently: cadence in
force, cost of each and the share of the time actually spent are series of the run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from qcore.probes import catalog

LONGEST_STRETCH = 1024
UNLIMITED = 100
_SHARE = 0.3


@dataclass
class _Cost:
    seconds: float = 0.0
    is_known: bool = False
    every: int = 1
    stretch: int = 1


class ProbeScheduler:
    """Decides which probes run at a step and measures them."""

    def __init__(self) -> None:
        self._costs: dict[str, _Cost] = {}
        self._step_seconds = 0.0
        self.spent = 0.0
        """Seconds spent since training began."""
        self._trained = self._budget = 0.0
        self._plan: Mapping[str, frozenset[int]] | None = None
        self._begins = True
        self._first: frozenset[str] | None = None

    def follow(self, plan: Mapping[str, frozenset[int]], *, begins: bool, first: frozenset[str] | None = None) -> None:
        """Run each probe at exactly these steps, whatever it costs, and before training or not: a replay measures when
        the run that it repeats did, which depended on the speed of the machine.

        Args:
            first: built-in probes that the run measured before training; None for all.
        """
        self._plan, self._begins, self._first = plan, begins, first

    def begins_with(self, name: str) -> bool:
        """Whether a built-in probe measures before the first update: in a replay, if the run had it then."""
        return self._first is None or name in self._first

    def knows(self, name: str) -> bool:
        """Whether the probe may run at all: a replay leaves out what the run that it repeats did not have."""
        return self._plan is None or name in self._plan

    def begins(self, budget_percent: float) -> bool:
        """Whether everything is measured before the first update."""
        return self._begins and (self._plan is not None or budget_percent > 0)

    def observe_step(self, seconds: float) -> None:
        """Tell the time of one training step without its probes, s."""
        self._step_seconds = running_mean(self._step_seconds, seconds)
        self._trained += seconds

    def due(self, name: str, step: int, every: int, budget_percent: float) -> bool:
        """Whether the probe `name`, asked for every `every` steps, runs at `step` within the budget (% of step
        time). A budget of 0 switches all probes off; at 100 none is thinned, so what is measured when no longer
        depends on the machine's speed.
        """
        if self._plan is not None:
            return step in self._plan.get(name, ())
        cost = self._costs.setdefault(name, _Cost())
        # a cadence or budget that a person has just moved holds from this step on
        if (cost.every, self._budget) != (every, budget_percent):
            cost.every, self._budget = every, budget_percent
            self._fit()
        if budget_percent <= 0 or step % (every * cost.stretch):
            return False
        # planned cost may be too low for what really happens: what was spent has the last word
        return budget_percent >= UNLIMITED or self.spent + cost.seconds <= budget_percent / 100 * self._trained

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Measure the cost of one run of a probe, and fit all cadences to the budget anew."""
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            cost = self._costs.setdefault(name, _Cost())
            # A run before training warms caches up and costs a multiple; the first one in training replaces it.
            cost.seconds = running_mean(cost.seconds, seconds) if cost.is_known else seconds
            cost.is_known = self._trained > 0
            self.spent += seconds if cost.is_known else 0.0
            self._fit()

    def charge(self, seconds: float) -> None:
        """What goes with every step beside the probes (logging, detectors) counts against the same budget."""
        self.spent += seconds

    def forget(self, name: str) -> None:
        """A probe that will not run again takes no part of the budget."""
        self._costs.pop(name, None)

    def report(self) -> dict[str, float]:
        """Series `cost/<probe>_ms`, `cost/<probe>_every` (cadence in force, steps), `cost/total_percent` (as planned)
        and `cost/spent_percent` (time really spent since training began, % of the steps' time).
        """
        series = {}
        for name, cost in self._costs.items():
            series[catalog.cost_ms(name)] = cost.seconds * 1e3
            series[catalog.cost_every(name)] = float(cost.every * cost.stretch)
        series[catalog.COST_TOTAL_PERCENT] = 100 * sum(
            self._share(cost) / cost.stretch for cost in self._costs.values()
        )
        series[catalog.COST_SPENT_PERCENT] = 100 * self.spent / self._trained if self._trained else 0.0
        return series

    def _share(self, cost: _Cost) -> float:
        """Share of the step time that a probe takes at the cadence asked for."""
        return cost.seconds / cost.every / self._step_seconds if self._step_seconds else 0.0

    def _fit(self) -> None:
        left = self._budget / 100
        # the cheap ones first: what they leave of their part goes to the dear
        by_share = sorted(self._costs.values(), key=self._share)
        for place, cost in enumerate(by_share):
            part, share = max(0.0, left) / (len(by_share) - place), self._share(cost)
            cost.stretch = 1
            if self._budget >= UNLIMITED:
                continue
            while share / cost.stretch > part and cost.stretch < LONGEST_STRETCH:
                # doubled, so that steps at a longer cadence are among those of the shorter one, and curves meet
                cost.stretch *= 2
            left -= share / cost.stretch


def running_mean(old: float, new: float, share: float = _SHARE) -> float:
    """Exponential running mean: `share` of the new value; the first value (old = 0) is taken whole."""
    return new if not old else old + share * (new - old)
