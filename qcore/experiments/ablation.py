"""Ablation, matched by quality: does a loss term or a mechanism beat plain cross-entropy, and does it earn its cost?

Every case is an ordinary run through the façade, without probes, at a constant learning rate: a decaying one would tie
the loss at a step to the planned end. Seed by seed a variant is compared with its base in held-out loss after the same
steps, and in the steps, tokens and seconds until it reaches what the base reached in the end; a variant that is behind
then trains on, to 1.5 times the steps. Finished cases are kept and never trained again.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qcore.base import read_json
from qcore.base.run_states import RunState
from qcore.base.words import number_words
from qcore.config import EXAM_BASE, KIND, RunConfig, all_controls, default_run
from qcore.config.ablation_variants import BASE, Variant, variants_of, waves
from qcore.experiments.parallel_runs import fan_out, open_share, run_as_process
from qcore.experiments.statistics import Paired, paired_difference
from qcore.experiments.stored_records import parse_record
from qcore.lab.lab import Lab
from qcore.probes import catalog
from qcore.runs.errors import LabError

MODULE = "qcore.experiments.ablation"
STRETCH = 1.5
"""A variant that is behind trains on to so many times the steps before it counts as not having caught up."""
CASE_SECONDS = 3600.0
TARGETS_FILE = "targets.json"
HELPS, HURTS, NEITHER = "helps", "hurts", "no detectable effect"
FAILS, UNKNOWN = "fails", "too few seeds"
_EVALUATIONS = 30
_NEVER = 1_000_000
_SIZES = ("width", "layers", "heads", "phases", "context", "batch_size", "documents", "warmup_steps")


@dataclass(frozen=True)
class Case:
    """One run of an ablation: a variant with a seed."""

    name: str
    variant: str
    seed: int
    config: RunConfig


@dataclass(frozen=True)
class CaseResult:
    """What came of a case.

    Attributes:
        held_out: cross-entropy after `steps`, nats per token, None for a run that failed.
        curve: (step, the same) over the run, further steps included.
        step_ms: time of a step, lower decile, into which other work on the machine enters little.
        repetition, distinct_2: means over the samples drawn after `steps`.
        seconds: wall time of the case.
    """

    name: str
    variant: str
    seed: int
    state: str
    message: str
    steps: int
    held_out: float | None
    curve: tuple[tuple[int, float], ...]
    parameters: int
    tokens_per_step: int
    step_ms: float
    repetition: float | None
    distinct_2: float | None
    seconds: float

    def reached(self, target: float) -> float | None:
        """Steps until the held-out loss first was `target` or less, between evaluations on a straight line."""
        before: tuple[int, float] | None = None
        for step, loss in self.curve:
            if loss <= target:
                if before is None or before[1] == loss:
                    return float(max(step, 1))
                share = (before[1] - target) / (before[1] - loss)
                return max(1.0, before[0] + share * (step - before[0]))
            before = (step, loss)
        return None


@dataclass(frozen=True)
class Ratio:
    """Geometric mean of variant ÷ base over the seeds, with its confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """`0.83 (0.79 … 0.87)`; the mean alone for one seed."""
        mean, low, high = (number_words(one, places=2) for one in (self.mean, self.low, self.high))
        return mean if math.isinf(self.high) else f"{mean} ({low} … {high})"


@dataclass(frozen=True)
class VariantRow:
    """A variant beside what it is compared with.

    Attributes:
        difference: held-out loss after equal steps, variant − base, nats per token, None when no pair finished.
        reached: of `pairs` seeds, how many reached the base's final loss.
        steps, tokens, seconds: until then, means over those that did.
        steps_ratio, seconds_ratio: against the base's own way there, when all did.
        cost_ratio, parameters_ratio: of a step and of the model.
        failed: runs that broke off.
    """

    variant: Variant
    difference: Paired | None
    pairs: int
    failed: int
    reached: int
    steps: float | None
    tokens: float | None
    seconds: float | None
    steps_ratio: Ratio | None
    seconds_ratio: Ratio | None
    cost_ratio: float | None
    parameters_ratio: float | None
    held_out: float | None
    repetition: float | None
    distinct_2: float | None

    @property
    def verdict(self) -> str:
        """helps, hurts or no detectable effect; fails when no run finished, too few seeds for one pair."""
        if self.difference is None:
            return FAILS if self.failed else UNKNOWN
        if self.difference.n < 2:
            return UNKNOWN
        return NEITHER if not self.difference.detected else HELPS if self.difference.mean < 0 else HURTS

    @property
    def earns(self) -> bool:
        """Whether it reaches the base's quality in less time, by an interval that leaves out equality."""
        return self.seconds_ratio is not None and self.seconds_ratio.high < 1


def base_config(
    start: RunConfig | None = None,
    *,
    kind: str = KIND.default,
    changes: Mapping[str, Any] | None = None,
    steps: int = 300,
) -> RunConfig:
    """The configuration of plain cross-entropy: `start`, or the exam's small model of `kind`, with `changes`.

    All other weights, the schedule and the rules are taken out, diagnostics are off, and 30 evaluations come in a run.

    Raises:
        ConfigError: for a value out of range, or a family that is no language model.
    """
    if start is None:
        known = {control.name for control in all_controls(kind)}
        sizes = {name: EXAM_BASE[name] for name in _SIZES if name in known}
        start = default_run(kind).with_values({**sizes, "learning_rate": 3e-3})
    variants_of(start.kind)
    plain = {name: 0.0 for name in start.live_values() if name.endswith("_weight")}
    own = {
        **plain,
        "ce_weight": 1.0,
        "label_smoothing": 0.0,
        "steps": steps,
        "lr_policy": "constant",
        "schedule": [],
        "rules": [],
        "autopilot": False,
        "eval_every": max(1, steps // _EVALUATIONS),
        "eval_batches": 8,
        "sample_every": _NEVER,
        "sample_length": 100,
        "prompts": ["Once a", "Anna was a", "The", "One day"],
        "checkpoint_every": _NEVER,
        "budget_percent": 0.0,
    }
    return start.with_values({**own, **(changes or {})})


def ablation_cases(config: RunConfig, variants: Sequence[Variant], seeds: int) -> list[Case]:
    """Every variant with every seed, of weights and of data; one seed is the same data for all variants."""
    return [
        Case(
            f"{variant.name}-{seed}",
            variant.name,
            seed,
            config.with_values({**variant.changes, "seed": seed, "data_seed": seed}),
        )
        for variant in variants
        for seed in range(seeds)
    ]


def run_ablation(
    folder: Path,
    config: RunConfig,
    variants: Sequence[Variant],
    seeds: int,
    jobs: int,
    report: Callable[[CaseResult], None],
    done: Mapping[str, CaseResult] | None = None,
) -> list[CaseResult]:
    """Train what has not finished in `done`, in `jobs` processes, telling `report` of each case that ends; all results.

    What others are compared with comes first, so that a variant knows the loss it has to reach.

    Raises:
        LabError: with the words of a process that failed.
    """
    results = {name: result for name, result in (done or {}).items() if result.held_out is not None}

    def keep(line: str) -> None:
        result = result_from(json.loads(line))
        results[result.name] = result
        report(result)

    for wave in waves(variants):
        cases = ablation_cases(config, wave, seeds)
        missing = {case.name: case for case in cases if case.name not in results}
        against = {variant.name: variant.against for variant in wave if variant.group != "reference"}
        targets = {
            name: results[f"{against[case.variant]}-{case.seed}"].held_out
            for name, case in missing.items()
            if case.variant in against
        }
        (folder / TARGETS_FILE).write_text(json.dumps(targets), encoding="utf-8")
        fan_out(folder, {name: case.config for name, case in missing.items()}, jobs, MODULE, keep)
    return [results[case.name] for case in ablation_cases(config, variants, seeds)]


def run_case(lab: Lab, case: Case, target: float | None) -> CaseResult:
    """Train one case, and on when it ends above `target`.

    Raises:
        LabError: when it takes longer than an hour.
    """
    started = time.monotonic()
    steps = int(case.config.value("steps"))
    name = lab.start(case.config, name=case.name, author="ablation")
    info = _wait_for_end(lab, name)
    held_out = _loss_at(lab, name, steps)
    if info.state == RunState.FINISHED and target is not None and held_out is not None and held_out > target:
        lab.resume(name, steps=round(steps * STRETCH), author="ablation")
        _wait_for_end(lab, name)
    series = lab.reader(name).scalars_of([catalog.EVAL_CE, catalog.TRAIN_STEP_MS])
    curve, times = series[catalog.EVAL_CE], series[catalog.TRAIN_STEP_MS].values.tolist()
    samples = [made.stats for made in lab.reader(name).generations("timeline") if made.step == steps]
    return CaseResult(
        name=case.name,
        variant=case.variant,
        seed=case.seed,
        state=info.state,
        message=info.message,
        steps=steps,
        held_out=held_out if info.state == RunState.FINISHED else None,
        curve=tuple(zip(curve.steps.tolist(), curve.values.tolist(), strict=True)),
        parameters=info.parameters,
        tokens_per_step=int(lab.reader(name).meta().get("tokens_per_step", 0)),
        step_ms=statistics.quantiles(times, n=10, method="inclusive")[0] if len(times) > 1 else math.nan,
        repetition=_mean([stats["repetition"] for stats in samples if "repetition" in stats]),
        distinct_2=_mean([stats["distinct_2"] for stats in samples if "distinct_2" in stats]),
        seconds=time.monotonic() - started,
    )


def ablation_rows(results: Sequence[CaseResult], variants: Sequence[Variant]) -> list[VariantRow]:
    """One row a variant in the order of the list; of the references only plain cross-entropy, which comes first."""
    found: dict[str, dict[int, CaseResult]] = {}
    for result in results:
        found.setdefault(result.variant, {})[result.seed] = result
    rows = []
    for variant in variants:
        if variant.name in found and (variant.group != "reference" or variant.name == BASE):
            rows.append(_row(variant, found[variant.name], found.get(variant.against, {})))
    return rows


def _row(variant: Variant, own: Mapping[int, CaseResult], base: Mapping[int, CaseResult]) -> VariantRow:
    pairs = [
        (own[seed], base[seed], own[seed].held_out, base[seed].held_out) for seed in sorted(own.keys() & base.keys())
    ]
    whole = [(mine, theirs, loss, goal) for mine, theirs, loss, goal in pairs if loss is not None and goal is not None]
    ways = [(mine, theirs, mine.reached(goal), theirs.reached(goal)) for mine, theirs, _, goal in whole]
    reached = [(mine, steps) for mine, _, steps, _ in ways if steps is not None]
    both = [(mine, theirs, there, here) for mine, theirs, there, here in ways if there is not None and here is not None]
    complete = both if len(both) == len(whole) else []
    return VariantRow(
        variant=variant,
        difference=paired_difference([loss - goal for _, _, loss, goal in whole])
        if whole and variant.name != BASE
        else None,
        pairs=len(whole),
        failed=sum(result.held_out is None for result in own.values()),
        reached=len(reached),
        steps=_mean([steps for _, steps in reached]),
        tokens=_mean([steps * mine.tokens_per_step for mine, steps in reached]),
        seconds=_mean([steps * mine.step_ms / 1e3 for mine, steps in reached]),
        steps_ratio=_ratio([there / here for _, _, there, here in complete]),
        seconds_ratio=_ratio(
            [there * mine.step_ms / (here * theirs.step_ms) for mine, theirs, there, here in complete]
        ),
        cost_ratio=_mean([mine.step_ms / theirs.step_ms for mine, theirs, _, _ in whole]),
        parameters_ratio=_mean(
            [mine.parameters / theirs.parameters for mine, theirs, _, _ in whole if theirs.parameters]
        ),
        held_out=_mean([result.held_out for result in own.values() if result.held_out is not None]),
        repetition=_mean([result.repetition for result in own.values() if result.repetition is not None]),
        distinct_2=_mean([result.distinct_2 for result in own.values() if result.distinct_2 is not None]),
    )


def work(folder: Path, names: Sequence[str]) -> Iterator[CaseResult]:
    """One process's share."""
    targets = read_json(folder / TARGETS_FILE)
    for lab, name, config in open_share(folder, names):
        variant, _, seed = name.rpartition("-")
        yield run_case(lab, Case(name, variant, int(seed), config), targets.get(name))


def result_from(values: Mapping[str, Any]) -> CaseResult:
    """The result whose fields were written as JSON.

    Raises:
        ShapeError: for other fields.
    """
    return parse_record(CaseResult, values, "a case")


def _wait_for_end(lab: Lab, name: str) -> Any:
    info = lab.wait(name, CASE_SECONDS)
    if info.alive:
        raise LabError(
            f"run {name!r} took more than {CASE_SECONDS:g} s: take fewer steps, fewer jobs or a free machine"
        )
    return info


def _loss_at(lab: Lab, name: str, step: int) -> float | None:
    last = lab.reader(name).last(catalog.EVAL_CE)
    return last[1] if last is not None and last[0] == step and math.isfinite(last[1]) else None


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _ratio(values: Sequence[float]) -> Ratio | None:
    if not values:
        return None
    found = paired_difference([math.log(value) for value in values])
    low, high = (math.exp(edge) if math.isfinite(edge) else edge for edge in (found.low, found.high))
    return Ratio(math.exp(found.mean), 0.0 if found.n == 1 else low, high)


if __name__ == "__main__":
    sys.exit(run_as_process(asdict(finished) for finished in work(Path(sys.argv[1]), sys.argv[2:])))
