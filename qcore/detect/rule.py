"""A rule: what it reads, its thresholds, and a small function that judges one call's measurements.

A rule's memory is a plain JSON-able dict. Persistence lives in latches: a signal is on after n bad measurements in a
row and off after m clear ones, with a band between the two limits that counts as neither. So a verdict never flaps, and
every rule says "since when" in the same way: the first of the bad measurements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from qcore.detect.finding import Facts, Family, Grade, Report, Role
from qcore.detect.history import History

Limits = Mapping[str, float]
Memory = dict[str, Any]
Store = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """The newest change of one control."""

    step: int
    old: Any
    new: Any


@dataclass
class RuleContext:
    """What a rule sees at one call: the values that just arrived, and the newest of all others.

    Attributes:
        values: finite numbers only.
        weights: effective weights of the terms.
        armed: a language model has once left the plateau on which it ignores the context; rules about losing what was
            learned wait for it.
        controls, changes: as known from the facts and from events.
        objective_step: step of the newest change of what the loss is made of.
        active: id of each finding that is active now → the step since which it is.
        curves: what `qcore.detect.curves` keeps of losses, norms and rates; rules only read it.
        broken: values of this call that are not finite.
    """

    facts: Facts
    step: int
    values: Mapping[str, float]
    latest: Mapping[str, float]
    weights: Mapping[str, float]
    history: History
    armed: bool
    controls: Mapping[str, Any]
    changes: Mapping[str, Change]
    objective_step: int | None
    active: Mapping[str, int] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    broken: Mapping[str, float] = field(default_factory=dict)

    def measured(self, prefix: str) -> Iterator[tuple[str, float]]:
        """(rest of the name, value) of the values under `prefix` in this call."""
        for name, value in self.values.items():
            if name.startswith(prefix):
                yield name[len(prefix) :], value

    def weighted(self, term: str) -> bool:
        """Whether a term counts in the loss."""
        return self.weights.get(term, 0.0) != 0

    def in_range(self, term: str, value: float, tolerance: float = 1e-3) -> bool:
        """Whether a term's value lies in its declared range, if it has one."""
        low, high = self.facts.term_ranges.get(term, (-math.inf, math.inf))
        return low - tolerance * (1 + abs(low)) <= value <= high + tolerance * (1 + abs(high))


@dataclass(frozen=True)
class Signal:
    """A rule's judgement after a call.

    Attributes:
        since, last: first and newest measurement that showed it, while it is on.
        key: the term, where a rule judges terms.
        report: made only when asked.
        moving: in transition: still on, although the newest measurement no longer shows it. The value lies between the
            two limits, or on the other side of what is healthy, or is well and has not been so long enough.
        retold: the report's title speaks of the transition; otherwise the title stays that of what was found.
        role, grade: of this case, where they are not the rule's: the same sight may be a mistake of the design before
            the first step, and a consequence later.
    """

    on: bool
    since: int
    last: int
    report: Callable[[], Report]
    key: str = ""
    moving: bool = False
    retold: bool = False
    role: Role | None = None
    grade: Grade | None = None


@dataclass(frozen=True)
class Clear:
    """A number that speaks against a cause: within its limit, the cause is not there.

    Attributes:
        series: what is measured; with a trailing `*`, of the terms that have a weight the one nearest to the limit.
        low, high: names of the rule's thresholds that a healthy value is at least, or at most.
        fact: a fact of the data in place of a series.
    """

    series: str = ""
    low: str = ""
    high: str = ""
    fact: str = ""


Detector = Callable[[RuleContext, Limits, Memory], Iterable[Signal]]


@dataclass(frozen=True)
class Rule:
    """One row of the table of rules.

    Attributes:
        faults: codes of the fault bank that it names.
        title, explanation: in general, for documentation; a verdict has its own title with numbers.
        past: the title of a case that is over: a green card must not read as if something were wrong now.
        thresholds: all numbers the detector compares with.
        false_alarms: how often it spoke in healthy runs, as measured.
        reads: series that make it look, a trailing * for a family.
        shows: further series that it needs or charts.
        per_term: a verdict for each term, withdrawn when the term loses its weight.
        families: of models that it is about; it is silent on others.
        role: whether it names what is wrong, or what follows from something that is.
        grade: how bad it is: the run is broken, weaker than it could be, or this is only worth knowing.
        explained_by: names of the causes that a symptom may come from, the likeliest first. A name that is in no table
            is passed over.
        clear: the numbers that rule it out, the one that must have been measured first; without any, those of
            `healthy`, or else its own latches (see `causes`).
        reads_nonfinite: it also looks when a value that arrives is not finite, and when one of such a series is again.
    """

    name: str
    faults: tuple[str, ...]
    title: str
    explanation: str
    thresholds: Mapping[str, float]
    false_alarms: str
    reads: tuple[str, ...]
    detector: Detector
    shows: tuple[str, ...] = ()
    per_term: bool = False
    families: tuple[Family, ...] = ("text",)
    past: str = ""
    role: Role = "cause"
    grade: Grade = "broken"
    explained_by: tuple[str, ...] = ()
    clear: tuple[Clear, ...] = ()
    reads_nonfinite: bool = False

    def reads_series(self, series: str) -> bool:
        """Whether a measurement of `series` makes this rule look."""
        return _matches(series, self.reads)

    def keeps_series(self, series: str) -> bool:
        """Whether this rule wants `series` to be kept."""
        return _matches(series, (*self.reads, *self.shows, *(one.series for one in self.clear)))


def _matches(series: str, patterns: tuple[str, ...]) -> bool:
    return any(series.startswith(one[:-1]) if one.endswith("*") else series == one for one in patterns)


def is_above(value: float, limit: float, release: float) -> bool | None:
    """True above the limit, False at or under the release, None in the band between them."""
    return True if value > limit else (False if value <= release else None)


def is_below(value: float, limit: float, release: float) -> bool | None:
    """True under the limit, False at or above the release, None in the band between them."""
    return True if value < limit else (False if value >= release else None)


def update_latch(
    store: Store, name: str, step: int, bad: bool | None, *, raise_after: int = 1, clear_after: int = 2
) -> bool:
    """Take one measurement of a signal and say whether it is on.

    On after `raise_after` bad measurements in a row, off after `clear_after` clear ones in a row; None is neither and
    ends both rows.
    """
    signal = store.setdefault(name, {"on": False, "bad": 0, "clear": 0, "since": step, "last": step})
    if bad:
        signal["bad"] += 1
        signal["clear"] = 0
        signal["last"] = step
        if signal["bad"] == 1 and not signal["on"]:
            signal["since"] = step
        signal["on"] = signal["on"] or signal["bad"] >= raise_after
    else:
        signal["bad"] = 0
        signal["clear"] = 0 if bad is None else signal["clear"] + 1
        signal["on"] = signal["on"] and signal["clear"] < clear_after
    return bool(signal["on"])


def is_on(store: Store, name: str) -> bool:
    """Whether a latch is on; one that was never measured is not."""
    return bool(store.get(name, {}).get("on"))


def signal_of(store: Store, report: Callable[[], Report], key: str = "") -> list[Signal]:
    """The common sign of all latches in a store: on while any is, in transition once the newest measurement of none of
    those has shown it; nothing before the first measurement.
    """
    if not store:
        return []
    on = [signal for signal in store.values() if signal["on"]]
    if not on:
        return [Signal(False, 0, 0, report, key)]
    since, last = min(signal["since"] for signal in on), max(signal["last"] for signal in on)
    return [Signal(True, since, last, report, key, moving=all(signal["bad"] == 0 for signal in on))]
