"""Findings of curves alone: what the rules about curves say of a run that is over, or that another program writes.

A pure function of series, so that it serves whatever can be read back: no model, no logits, no trainer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qcore.detect.finding import Facts, Verdict
from qcore.detect.table import curves
from qcore.detect.watch import Watch

MOST_STEPS = 8000
"""Steps that are judged one by one; of a longer run every second, third … one, and all that stand out."""
Points = tuple[Sequence[int], Sequence[float]]
"""Steps and values of a series, in order."""


def judge_curves(
    series: Mapping[str, Points], facts: Facts, events: Iterable[tuple[int, str, Mapping[str, Any]]] = ()
) -> list[Verdict]:
    """Each finding as it stands at the end, in the order in which they were raised.

    Args:
        series: by the catalogue's names: `train/loss` or `term/ce`, `eval/ce`, `train/lr`, `train/grad_norm`.
        events: step, kind and payload, as of `Watch.note_event`, in order.
    """
    by_step: dict[int, dict[str, float]] = {}
    for name, (steps, values) in series.items():
        for step, value in zip(steps, values, strict=True):
            by_step.setdefault(int(step), {})[name] = float(value)
    watch = Watch(facts, curves.RULES)
    waiting = list(events)
    found: dict[str, Verdict] = {}
    for step in _chosen(by_step):
        while waiting and waiting[0][0] < step:
            at, kind, payload = waiting.pop(0)
            watch.note_event(at, kind, payload)
        told = watch.observe(step, by_step[step], {"ce": 1.0})
        for verdict in [*told, *watch.refreshed_verdicts()]:
            found[verdict.id] = verdict
    return list(found.values())


def _chosen(by_step: Mapping[int, Mapping[str, float]]) -> list[int]:
    """The steps that are judged: all, or every n-th and those with a value that came seldom or is not finite."""
    every = sorted(by_step)
    stride = math.ceil(len(every) / MOST_STEPS)
    if stride <= 1:
        return every
    counts: dict[str, int] = {}
    for values in by_step.values():
        for name in values:
            counts[name] = counts.get(name, 0) + 1
    seldom = {name for name, count in counts.items() if count * 4 < len(every)}
    return [
        step
        for place, step in enumerate(every)
        if place % stride == 0
        or not seldom.isdisjoint(by_step[step])
        or not all(map(math.isfinite, by_step[step].values()))
    ][: 4 * MOST_STEPS]
