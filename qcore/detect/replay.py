"""A watch over a run that is over: its stored series, told in the order in which they were measured.

For trying thresholds on finished runs. Stored series lack what a watch hears besides: changes of weights and controls
are given as events, as the store keeps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qcore.detect.verdict import Facts, Verdict
from qcore.detect.watch import Watch

SeriesMap = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def replay(
    facts: Facts,
    series: SeriesMap,
    weights: Mapping[str, float],
    events: Iterable[tuple[int, str, Mapping[str, Any]]] = (),
) -> list[Verdict]:
    """All verdicts that a watch would have told, in order: raised, told again, resolved.

    series: name → (steps, values), steps ascending · weights: effective weights of the terms at the start; a control
    event of `<term>_weight` changes them · events: (step, kind, payload), taken before the measurements of later steps.
    """
    watch = Watch(facts)
    by_step: dict[int, dict[str, float]] = {}
    for name, (steps, values) in series.items():
        for step, value in zip(steps, values, strict=True):
            by_step.setdefault(int(step), {})[name] = float(value)
    waiting = sorted(events, key=lambda event: event[0])
    current, told = dict(weights), []
    for step in sorted(by_step):
        while waiting and waiting[0][0] < step:
            at, kind, payload = waiting.pop(0)
            term = str(payload.get("name", "")).removesuffix("_weight")
            if kind == "control" and term in current and payload["name"] != term:
                current[term] = float(payload["new"])
            watch.event(at, kind, payload)
        told += watch.observe(step, by_step[step], current)
    return told


def newest(verdicts: Iterable[Verdict]) -> dict[str, Verdict]:
    """The last word on each finding, by id."""
    return {verdict.id: verdict for verdict in verdicts}
