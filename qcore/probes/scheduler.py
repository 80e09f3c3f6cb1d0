"""Probe scheduler: which probes run at a step, so that all of them together stay within the user's budget.

A run is looked at three times over. Before its first update and after its last one everything is measured; both looks
are outside the budget, as no cadence could pay for them in a short run. What an update does cannot be seen before there
is one: that belongs to the first look, too, and is measured at the second, before which there was another. In between
each probe has a period: the steps asked for, stretched by powers of two while it costs too much, but never so far that
fewer than `FEWEST` measurements would fall between the two looks; those are planned first, and only what they leave
pays for more. The rest is shared like water: a probe that needs less than an equal part keeps its cadence and leaves
what it does not need to the others.

What was really spent has the last word. A probe whose turn has come and that cannot be paid yet waits, and the one
whose next turn is nearest goes first (earliest deadline first); nobody behind it takes what it waits for, so that the
cheap ones cannot starve the dear, nor the other way round. Of the dear ones at most one runs at a step. Nothing is
thinned silently: cadence in force, cost of each and the share of the time actually spent are series of the run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from qcore.probes import catalog

FEWEST = 5
"""Measurements planned of each probe between the first and the last look."""
DEAR, SLIGHT = 0.25, 0.01
"""A probe is dear that takes this part of a step or more: two of them would be felt as a stumble. One that takes less
than the other part delays nobody."""
TRIAL = DEAR
"""Part of a step that is set aside for the first measurement in training of a probe that took longer before it."""
NEVER = 1_000_000
"""The largest cadence that a control takes: who asks for that wants nothing in between."""
LONGEST_STRETCH = 1024
FIRST_UPDATE = 2
"""Step at which updates are first looked at: what an earlier step has left behind is seen from the second on."""
UNLIMITED = 100
_SHARE = 0.3


@dataclass
class _Turns:
    """One probe's cost and turns.

    Attributes:
        every: steps asked for.
        period: steps in force.
        turn: step of its newest turn, in force or used; −1 before it is asked for at a step.
        waits: whether it has not run yet since that turn.
        ran: step at which it ran last.
    """

    seconds: float = 0.0
    is_known: bool = False
    every: int = 1
    period: int = 1
    turn: int = -1
    waits: bool = False
    ran: int = 0

    @property
    def deadline(self) -> int:
        """Its next turn, before which it is to have run."""
        return self.turn + self.period

    def take_turn(self, step: int) -> None:
        """Take the turn of a step, if there is one: at multiples of the period, and where one has been passed by while
        the probe waited or its period was another; then half a period after it ran, so that two are not neighbours.
        """
        if self.turn < 0:  # a run that goes on somewhere has missed nothing
            self.turn, self.ran = step - 1, -self.period
        has_passed = step // self.period > self.turn // self.period and step - self.ran >= self.period / 2
        if has_passed and not self.waits and self.every < NEVER:
            # not the step itself: one that was passed by is made up for, and the next one comes at its own time
            self.turn, self.waits = step // self.period * self.period, True


class ProbeScheduler:
    """Decides which probes run at a step and measures them.

    last_look: whether all of them do at the run's last one.
    """

    def __init__(self, *, last_look: bool = True) -> None:
        self._last_look = last_look
        self._turns: dict[str, _Turns] = {}
        self._step_seconds = 0.0
        self.spent = 0.0
        """Seconds of the budget spent since training began."""
        self.probing = 0.0
        """Seconds in probes since training began, also in the look after the last update."""
        self._charged = self._trained = self._budget = 0.0
        self._steps = 0
        self._asked: dict[str, int] = {}
        self._is_last = self._is_outside = False
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

    @property
    def is_last(self) -> bool:
        """Whether the step asked about last is the run's last one, at which everything is measured."""
        return self._is_last

    def observe_step(self, seconds: float) -> None:
        """Tell the time of one training step without its probes, s."""
        self._step_seconds = running_mean(self._step_seconds, seconds)
        self._trained += seconds

    @property
    def is_outside(self) -> bool:
        """Whether what is measured at the step asked about last is no part of the budget."""
        return self._is_outside

    def choose(
        self,
        step: int,
        cadences: Mapping[str, int],
        budget_percent: float,
        steps: int,
        of_updates: frozenset[str] = frozenset(),
    ) -> frozenset[str]:
        """Which probes run at `step`, 1 or later.

        A budget of 0 switches all probes off; at 100 none is thinned, so what is measured when no longer depends on
        the machine's speed.

        Args:
            cadences: every how many steps each probe is asked for.
            budget_percent: of step time, for all of them.
            steps: of the whole run.
            of_updates: those of the probes that look at an update.
        """
        self._is_last = self._is_outside = False
        if self._plan is not None:
            return frozenset(name for name in cadences if step in self._plan.get(name, ()))
        self.expect(cadences, budget_percent, steps)
        if budget_percent <= 0:
            return frozenset()
        if step >= steps and self._last_look:
            self._is_last = self._is_outside = True
            return frozenset(cadences)
        if budget_percent >= UNLIMITED:
            return frozenset(name for name, every in cadences.items() if step % every == 0)
        if step == FIRST_UPDATE and self._last_look and of_updates:
            self._is_outside = True
            return frozenset(name for name in of_updates if cadences[name] < NEVER)
        return frozenset(self._affordable(step))

    def expect(self, cadences: Mapping[str, int], budget_percent: float, steps: int) -> None:
        """Take what is asked for, see `choose`: a cadence, budget or length that was just changed holds from now on."""
        changed = (self._budget, self._steps) != (budget_percent, steps)
        if not changed and cadences == self._asked:  # at nearly every step
            return
        self._budget, self._steps, self._asked = budget_percent, steps, dict(cadences)
        for name, every in cadences.items():
            turns = self._turns.setdefault(name, _Turns(every=0))
            changed |= turns.every != every
            turns.every = every
        if changed:
            self._fit()

    def _affordable(self, step: int) -> Iterator[str]:
        """Those whose turn has come and that can be paid, the most urgent first."""
        slight, dear = SLIGHT * self._step_seconds, DEAR * self._step_seconds
        for turns in self._turns.values():
            turns.take_turn(step)
        waiting = [(turns.deadline, self._price(turns), name) for name, turns in self._turns.items() if turns.waits]
        funds = self._budget / 100 * self._trained - self.spent
        has_dear, is_saving = False, funds < 0
        for _, seconds, name in sorted(waiting):
            # once one is waited for, whoever comes behind would take what it saves
            is_saving |= seconds > funds
            if (is_saving and seconds > slight) or (has_dear and seconds >= dear):
                continue
            has_dear |= seconds >= dear
            funds -= seconds
            self._turns[name].waits, self._turns[name].ran = False, step
            yield name

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Measure the cost of one run of a probe, and fit all periods to the budget anew."""
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            turns = self._turns.setdefault(name, _Turns())
            self.probing += seconds if self._trained else 0.0
            if not self._is_outside:
                # The look before training warms caches up and asks more; the first one in training replaces its cost.
                turns.seconds = running_mean(turns.seconds, seconds) if turns.is_known else seconds
                turns.is_known = self._trained > 0
                self.spent += seconds if turns.is_known else 0.0
            self._fit()

    def charge(self, seconds: float) -> None:
        """What goes with every step beside the probes (logging, detectors) counts against the same budget."""
        self.spent += seconds
        self._charged += seconds

    def forget(self, name: str) -> None:
        """A probe that will not run again takes no part of the budget."""
        self._turns.pop(name, None)

    def report(self) -> dict[str, float]:
        """Series `cost/<probe>_ms`, `cost/<probe>_every` (cadence in force, steps), `cost/total_percent` (as planned)
        and `cost/spent_percent` (time really spent since training began, % of the steps' time).
        """
        series = {}
        for name, turns in self._turns.items():
            series[catalog.cost_ms(name)] = turns.seconds * 1e3
            series[catalog.cost_every(name)] = float(turns.period)
        planned = sum(self._share(turns, turns.period) for turns in self._turns.values())
        series[catalog.COST_TOTAL_PERCENT] = 100 * planned
        series[catalog.COST_SPENT_PERCENT] = 100 * self.spent / self._trained if self._trained else 0.0
        return series

    def _price(self, turns: _Turns) -> float:
        """Seconds that a measurement will take. Of one that has only been made before training no more than a part of a
        step is believed: some do a multiple there, and all would wait for what it will not take.
        """
        return turns.seconds if turns.is_known else min(turns.seconds, TRIAL * self._step_seconds)

    def _share(self, turns: _Turns, period: int) -> float:
        """Share of the step time that a probe takes every `period` steps."""
        return self._price(turns) / period / self._step_seconds if self._step_seconds and turns.every < NEVER else 0.0

    def _fit(self) -> None:
        # A turn is late by up to a period: with one period more than measurements the last of them is in time, too.
        longest = max(1, self._steps // (FEWEST + 1))
        for turns in self._turns.values():
            turns.period = turns.every
        if self._budget >= UNLIMITED:
            return
        charged = self._charged / self._trained if self._trained else 0.0
        least = {name: self._share(turns, longest) for name, turns in self._turns.items()}
        left = self._budget / 100 - charged - sum(least.values())
        # the cheap ones first: what they leave of their part goes to the dear
        by_share = sorted(self._turns.items(), key=lambda item: self._share(item[1], item[1].every))
        for place, (name, turns) in enumerate(by_share):
            part = least[name] + max(0.0, left) / (len(by_share) - place)
            # doubled, so that steps at a longer cadence are among those of the shorter one, and curves meet
            while (
                self._share(turns, turns.period) > part
                and turns.period < longest
                and turns.period < turns.every * LONGEST_STRETCH
            ):
                turns.period *= 2
            if turns.every < NEVER:
                turns.period = min(turns.period, longest)
            left -= self._share(turns, turns.period) - least[name]


def running_mean(old: float, new: float, share: float = _SHARE) -> float:
    """Exponential running mean: `share` of the new value; the first value (old = 0) is taken whole."""
    return new if not old else old + share * (new - old)
