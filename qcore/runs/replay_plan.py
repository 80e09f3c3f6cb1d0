"""Replay: what a run is made to do again, step by step, and whether the same numbers came out. No torch here.

A run is its configuration, its seed and its events, so training it again gives the same series bit for bit on the CPU.
Two things are not in those three: which probes the budget let run, which follows the machine's speed, and what a clock
measured. The first is read back from the run and given to the replay as a plan; the second is declared here, left out
of the comparison, and named in its result.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcore.probes import catalog
from qcore.store import Event, Generation, RunReader, Series

WALL_CLOCK_SUFFIXES = ("_ms", "_per_second", "_seconds", "memory_mb")
WALL_CLOCK_STATS = ("seconds",)
"""Series, and statistics of a sample, that a clock or the machine's memory decides: no replay can repeat them."""
PROBES_RUN = catalog.COST_PROBES_RUN
"""Series: which probes ran at a step, bit i for the i-th of the meta value `PROBE_NAMES`; they fit a double exactly."""
PROBE_NAMES = "probe_names"
MEASURES, MEASURES_VERSION = catalog.COST_MEASURES, 2
"""Series of the first step of each worker: which measurements it knew. What only a replay has is no difference at steps
that an earlier version trained, which did not measure it yet. Add one whenever a built-in measurement is added.
"""
FIRST_PROBES = "first_probes"
"""Meta value: the built-in probes that measured before the first update."""
_EARLIEST_PROBES = frozenset(
    {"tokens", "terms", "phase", "internals", "pull", "gradients", "weights", "causality", "batch", "strict", "signs"}
    | {"accumulation", "concepts", "kernels", "frames", "path", "hidden", "velocity", "positions"}
)
"""What runs that do not say it measured before the first update; a newer program that resumes one knows more probes."""
BEFORE_TRAINING, PLANNED_LR_SUM = catalog.COST_BEFORE_TRAINING_MS, catalog.OPTIM_PLANNED_LR_SUM
"""Series of step 0: with the probes, and always."""
CHANGES = ("control", "grow", "restore")
"""Kinds of events that change numbers; a replay repeats these, in the order of their steps."""

UNSIZED = ("dropout", "activation_checkpointing", "chunk", "lora_dropout")
"""Values of a model section that say nothing of its weights: a fork may change them without growth."""


def is_wall_clock(name: str) -> bool:
    """Whether the values of a series follow the clock or the machine."""
    return catalog.in_group(name, catalog.COST) or name.endswith(WALL_CLOCK_SUFFIXES)


@dataclass(frozen=True)
class Recording:
    """When a run measured what.

    Attributes:
        probes: steps by name of the probe; None for a run from before they were recorded.
        opened, began: whether the data, and everything else, was measured before the first update.
        first: names of the built-in probes that were measured then.
        evaluations, samples: steps.
    """

    probes: Mapping[str, frozenset[int]] | None
    opened: bool
    began: bool
    evaluations: frozenset[int]
    samples: frozenset[int]
    first: frozenset[str]


@dataclass(frozen=True)
class ReplayPlan:
    """What a worker is to do beside training.

    Attributes:
        until: stop after this many updates.
        recording: measure at exactly these steps, and keep no checkpoints.
        catching_up: only go where the run already was: no command is obeyed on the way.
    """

    until: int | None = None
    recording: Recording | None = None
    catching_up: bool = False


@dataclass(frozen=True)
class Difference:
    """Where a replay first went another way.

    Attributes:
        series: `sample/<prompt>` for a sample.
        original, replayed: the two values; None where there is none.
    """

    step: int
    series: str
    original: Any
    replayed: Any


@dataclass(frozen=True)
class ReplayResult:
    """What a replay proved.

    Attributes:
        identical: no value differs.
        steps: updates that were compared, after `first_step`.
        series, values, samples: how many were compared.
        differing: values and samples that differ.
        left_out: names that were not compared, as a clock or memory decides them, or as their steps were not recorded.
        seconds: wall time.
    """

    identical: bool
    first_step: int
    steps: int
    series: int
    values: int
    samples: int
    differing: int
    first_difference: Difference | None
    left_out: tuple[str, ...]
    seconds: float = 0.0


def recording_of(reader: RunReader, until: int) -> Recording:
    """When the run measured what, up to step `until`."""
    names, begun = reader.meta().get(PROBE_NAMES), reader.meta().get(FIRST_PROBES)
    evaluations = {
        int(step)
        for series in reader.scalars_of(
            [name for name in reader.names() if catalog.in_group(name, catalog.EVAL)]
        ).values()
        for step in series.steps
    }
    samples = {sample.step for sample in _samples(reader, until)}
    first = reader.scalars_of([PLANNED_LR_SUM, BEFORE_TRAINING], stop=1)
    return Recording(
        probes=None if names is None else _probe_steps(names, reader.scalars(PROBES_RUN)) | _added_steps(reader),
        opened=bool(len(first[PLANNED_LR_SUM])),
        began=bool(len(first[BEFORE_TRAINING])),
        evaluations=frozenset(evaluations),
        samples=frozenset(samples),
        first=_EARLIEST_PROBES if begun is None else frozenset(begun),
    )


def changes_of(events: Collection[Event]) -> list[Event]:
    """The events that change numbers, in the order in which they take effect."""
    return sorted((event for event in events if event.kind in CHANGES), key=lambda event: (event.step, event.seq))


def compare(original: RunReader, replayed: RunReader, after: int, until: int) -> ReplayResult:
    """Every value of the steps after `after` up to `until`, bit for bit, both ways; so for the samples.

    A step that a killed worker could not write whole is compared only for what it has: at `until`, values that only
    the replay has are no difference.
    """
    whole = original.meta().get(PROBE_NAMES) is not None
    mine, again = set(original.names()), set(replayed.names())
    wall_clock = {name for name in mine if is_wall_clock(name)}
    # a probe from outside may be missing here
    absent = {declared.name for declared in catalog.stored_series(original.meta())} - again
    left_out = wall_clock | (absent & mine)
    found: list[Difference] = []
    values = 0
    compared = sorted((mine | again) - left_out - {name for name in again if is_wall_clock(name)})
    start, stop = after + 1 if after else 0, until + 1
    known_since = _measured_since(original)
    ours = original.scalars_of(compared, start=start, stop=stop)
    theirs = replayed.scalars_of(compared, start=start, stop=stop)
    series = 0
    for name in compared:
        if not len(ours[name]) and not len(theirs[name]):
            continue
        if not whole and not _every_step(ours[name], theirs[name]):
            left_out.add(name)
            continue
        series += 1
        values += len(ours[name])
        found += _differences(name, ours[name], theirs[name], range(known_since, until))
    samples = [sample for sample in _samples(original, until) if sample.step > after or not after]
    found += _sample_differences(samples, _samples(replayed, until))
    found.sort(key=lambda difference: (difference.step, difference.series))
    return ReplayResult(
        identical=not found,
        first_step=after,
        steps=until - after,
        series=series,
        values=values,
        samples=len(samples),
        differing=len(found),
        first_difference=found[0] if found else None,
        left_out=tuple(sorted(left_out)),
    )


def _probe_steps(names: list[str], ran: Series) -> dict[str, frozenset[int]]:
    masks = ran.values.astype(np.int64)
    return {
        name: frozenset(ran.steps[(masks >> place) & 1 == 1].astype(int).tolist()) for place, name in enumerate(names)
    }


def _added_steps(reader: RunReader) -> dict[str, frozenset[int]]:
    """When probes from outside ran."""
    by_series = {name: probe for name in reader.names() if (probe := catalog.probe_of_run_count(name))}
    found = reader.scalars_of(sorted(by_series))
    return {probe: frozenset(found[name].steps.astype(int).tolist()) for name, probe in by_series.items()}


def _every_step(ours: Series, theirs: Series) -> bool:
    """Whether a run without a record of its probes can be held to a series: the replay has it at the same steps."""
    return np.array_equal(ours.steps, theirs.steps)


def _measured_since(reader: RunReader) -> int:
    """The first step at which a run's worker knew all of today's measurements; beyond every step when none did."""
    versions = reader.scalars(MEASURES)
    known = versions.steps[versions.values >= MEASURES_VERSION]
    return int(known[0]) if len(known) else sys.maxsize


def _differences(name: str, ours: Series, theirs: Series, told: range) -> Iterator[Difference]:
    """Where two series differ.

    Args:
        told: steps at which what only the replay has is a difference.
    """
    there = dict(zip(theirs.steps.tolist(), theirs.values, strict=True))
    for step, value in zip(ours.steps.tolist(), ours.values, strict=True):
        other = there.pop(step, None)
        # Bits, not values: NaN equals itself, and 0.0 is not −0.0.
        if other is None or value.tobytes() != other.tobytes():
            yield Difference(step, name, float(value), None if other is None else float(other))
    for step, value in there.items():
        if step in told:
            yield Difference(step, name, None, float(value))


def _samples(reader: RunReader, until: int) -> list[Generation]:
    """Finished samples of the fixed prompts or seeds."""
    return [sample for sample in reader.generations("timeline") if sample.status == "done" and sample.step <= until]


def _sample_differences(ours: list[Generation], theirs: list[Generation]) -> Iterator[Difference]:
    there = {(sample.step, sample.prompt): sample for sample in theirs}
    for sample in ours:
        other = there.get((sample.step, sample.prompt))
        name = f"sample/{sample.prompt}"
        if other is None:
            yield Difference(sample.step, name, sample.text, None)
        elif _content(sample) != _content(other):
            yield Difference(sample.step, name, sample.text, other.text)


def _content(sample: Generation) -> tuple[str, str, str]:
    stats = {key: value for key, value in sample.stats.items() if key not in WALL_CLOCK_STATS}
    return sample.text, repr(sample.tokens), repr(sorted(stats.items()))
