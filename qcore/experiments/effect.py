"""Effect of a change: paired forks from one state with and without it, and sweeps of one control.

Both forks of a pair draw the same batches, other than those of every other pair; so what differs within a pair is the
change, and what differs between pairs is chance. Forks are ordinary runs in a hidden folder, spread over processes;
each answer is kept as it comes, so that an interrupted measurement goes on where it was, and the result can be read
again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qcore.base import parse_json, plain_file, read_json
from qcore.base.run_states import RunState
from qcore.config import ConfigError, find_control
from qcore.experiments.effect_verdict import verdict_text
from qcore.experiments.parallel_runs import RUNS_FOLDER, fan_out, open_share, run_as_process
from qcore.experiments.statistics import paired_difference
from qcore.experiments.stored_records import parse_record
from qcore.lab.forks import ForkChanges, Origin, find_origin, make_child, planned_steps, split_changes
from qcore.probes import catalog
from qcore.runs.checkpoint_folders import folder_name
from qcore.runs.errors import LabError, with_run_errors
from qcore.runs.layout import CACHE_FOLDER
from qcore.runs.lineage import Lineage
from qcore.runs.replay_plan import changes_of, is_wall_clock
from qcore.store import BAD_DATA, DATABASE_NAME, RunReader

if TYPE_CHECKING:
    from qcore.lab.lab import Lab
    from qcore.runs.reader_set import RunReaderSet

MODULE = "qcore.experiments.effect"
log = logging.getLogger(__name__)
EFFECTS = ".effects"
FORK_SECONDS = 24 * 3600.0
_SPEC, _FORKS, _EFFECT, _SWEEP = "spec.json", "forks.jsonl", "effect.json", "sweep.json"
_BASE = "base"
_SEEDS = 2**31 - 1
Progress = Callable[[int, int], None]
T = TypeVar("T", "Effect", "Sweep")


@dataclass(frozen=True)
class ForkResult:
    """What became of one fork.

    Attributes:
        value: of the metric, None where the fork failed or has none.
        steps, values: the metric's curve from the fork on.
    """

    key: str
    state: str
    value: float | None
    steps: tuple[int, ...]
    values: tuple[float, ...]
    seconds: float


@dataclass(frozen=True)
class Pair:
    """The metric without and with the change, on the same batches; None where a fork failed."""

    order_seed: int
    without: float | None
    changed: float | None

    @property
    def difference(self) -> float | None:
        """changed − without."""
        return None if self.without is None or self.changed is None else self.changed - self.without


@dataclass(frozen=True)
class Effect:
    """What a change does to a metric after `steps` steps from one state.

    Attributes:
        mean, low, high: difference changed − without over the pairs, and its 95 % interval (paired t).
        p: two-sided.
        needed: pairs for 80 % power at this difference and spread, None where no number would do.
        last: the metric is its mean over that many last steps; 1: its value at the end.
        curves: by `without-3` and `changed-3`.
    """

    id: str
    run: str
    step: int
    changes: dict[str, Any]
    metric: str
    last: int
    steps: int
    pairs: tuple[Pair, ...]
    mean: float | None
    low: float | None
    high: float | None
    p: float | None
    needed: int | None
    verdict: str
    created: float
    seconds: float
    curves: dict[str, ForkResult]

    @property
    def detected(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class SweepPoint:
    """One value of a swept control.

    Attributes:
        results: one fork for each order of the batches, the run's own first.
    """

    value: Any
    results: tuple[ForkResult, ...]

    @property
    def mean(self) -> float | None:
        """Mean of the metric over the forks that have it."""
        found = [result.value for result in self.results if result.value is not None]
        return statistics.fmean(found) if found else None


@dataclass(frozen=True)
class Sweep:
    """Forks of one state at several values of one control: small multiples."""

    id: str
    run: str
    step: int
    control: str
    metric: str
    last: int
    steps: int
    points: tuple[SweepPoint, ...]
    created: float
    seconds: float


@dataclass(frozen=True)
class _Arm:
    """One fork to be made."""

    key: str
    changes: dict[str, Any]
    order_seed: int | None


@with_run_errors
def effect(
    lab: Lab,
    name: str,
    step: int,
    changes: Mapping[str, Any],
    *,
    metric: str | None = None,
    forks: int = 5,
    steps: int = 100,
    last: int = 1,
    jobs: int = 2,
    on_progress: Progress | None = None,
) -> Effect:
    """What a change does to a metric: `forks` pairs of runs that go on from one state for `steps` steps, with and
    without it, each pair on batches of its own; the mean difference with its 95 % interval (paired t).

    Interrupted, it goes on when asked the same again.

    Args:
        metric: a series; default: the held-out loss.
        last: the metric is its value at the end (1), or the mean of its last n steps.
        jobs: processes.
        on_progress: told (done, all).

    Raises:
        ConfigError: for a question that has no answer.
        LabError: for a run or a step that is not there.
    """
    if not changes:
        raise ConfigError("an effect needs a change to measure, such as diversity_weight=0.3")
    if forks < 2:
        raise ConfigError(f"forks = {forks} is refused: one pair has no spread; take at least 2")
    started = time.monotonic()
    lab.require_operator()
    config = lab.config(name)
    # the run's own order is left out: a fork without a change on it would be the run itself, no new draw
    seeds = [(config.drawn_seed + place) % _SEEDS for place in range(1, forks + 1)]
    split = split_changes(config, changes)
    checked = {**split.sizes, **split.config, **split.live}
    arms = [_Arm(f"without-{seed}", {}, seed) for seed in seeds]
    arms += [_Arm(f"changed-{seed}", checked, seed) for seed in seeds]
    spec = _spec(lab, name, step, metric, steps, last) | {"changes": checked, "seeds": seeds}
    folder, found = _measure(lab, name, step, arms, spec, jobs, on_progress)
    pairs = tuple(Pair(seed, found[f"without-{seed}"].value, found[f"changed-{seed}"].value) for seed in seeds)
    # pairs, not two means: both forks of a pair saw the same batches, whose luck then cancels
    differences = [pair.difference for pair in pairs if pair.difference is not None]
    tested = paired_difference(differences) if len(differences) > 1 else None
    result = Effect(
        id=folder.name,
        run=name,
        step=step,
        changes=spec["changes"],
        metric=spec["metric"],
        last=last,
        steps=steps,
        pairs=pairs,
        mean=tested.mean if tested else None,
        low=tested.low if tested else None,
        high=tested.high if tested else None,
        p=tested.p if tested else None,
        needed=tested.needed if tested else None,
        verdict=verdict_text(spec["metric"], differences, forks),
        created=time.time(),
        seconds=time.monotonic() - started,
        curves=found,
    )
    _keep(folder / _EFFECT, result)
    return result


@with_run_errors
def sweep(
    lab: Lab,
    name: str,
    step: int,
    control: str,
    values: Sequence[Any],
    *,
    metric: str | None = None,
    seeds: int = 1,
    steps: int = 100,
    last: int = 1,
    jobs: int = 2,
    on_progress: Progress | None = None,
) -> Sweep:
    """Fork one state at several values of one control: a curve of the metric each.

    Args:
        seeds: orders of the batches for each value, the run's own first; the other arguments are those of `effect`.
    """
    started = time.monotonic()
    lab.require_operator()
    config = lab.config(name)
    declared = find_control(control, config.kind)
    checked = [declared.check(value) for value in values]
    if not checked or len({json.dumps(value) for value in checked}) != len(checked):
        raise ConfigError(f"a sweep of {control} needs different values, not {', '.join(map(repr, values)) or 'none'}")
    if seeds < 1:
        raise ConfigError(f"seeds = {seeds} is refused: every value needs at least one fork")
    orders = [None, *((config.drawn_seed + place) % _SEEDS for place in range(1, seeds))]
    arms = [
        _Arm(f"{place}-{number}", {declared.name: value}, order)
        for place, value in enumerate(checked)
        for number, order in enumerate(orders)
    ]
    spec = _spec(lab, name, step, metric, steps, last)
    spec |= {"control": declared.name, "values": checked, "seeds": seeds}
    folder, found = _measure(lab, name, step, arms, spec, jobs, on_progress)
    points = tuple(
        SweepPoint(value, tuple(found[f"{place}-{number}"] for number in range(seeds)))
        for place, value in enumerate(checked)
    )
    result = Sweep(
        folder.name,
        name,
        step,
        declared.name,
        spec["metric"],
        last,
        steps,
        points,
        time.time(),
        time.monotonic() - started,
    )
    _keep(folder / _SWEEP, result)
    return result


def effects(lab: RunReaderSet, name: str | None = None) -> list[Effect]:
    """Effects measured before, of one run or all, newest first."""
    return _all(lab, _EFFECT, effect_from, name)


def sweeps(lab: RunReaderSet, name: str | None = None) -> list[Sweep]:
    """Sweeps made before, of one run or all, newest first."""
    return _all(lab, _SWEEP, sweep_from, name)


def effect_from(values: dict[str, Any]) -> Effect:
    """The effect that was kept as JSON.

    Raises:
        ShapeError: for anything else.
    """
    return parse_record(Effect, values, _EFFECT)


def sweep_from(values: dict[str, Any]) -> Sweep:
    """The sweep that was kept as JSON.

    Raises:
        ShapeError: for anything else.
    """
    return parse_record(Sweep, values, _SWEEP)


def _spec(lab: Lab, name: str, step: int, metric: str | None, steps: int, last: int) -> dict[str, Any]:
    """What is measured, checked: equal for equal questions."""
    config, reader = lab.config(name), lab.reader(name)
    if steps < 1 or last < 1:
        raise ConfigError(f"steps = {steps} with last = {last} is refused: both start at 1")
    chosen = metric or (catalog.EVAL_FLOW if lab.info(name).family == "video" else catalog.EVAL_CE)
    if chosen not in reader.names():
        raise ConfigError(f"{chosen!r} is no series of run {name!r}: take one that it has, such as train/loss")
    if is_wall_clock(chosen):
        raise ConfigError(
            f"{chosen!r} follows the clock of the machine, so forks side by side cannot be compared by it"
        )
    changes = [event for event in changes_of(reader.events()) if event.step <= step]
    total = planned_steps(config, changes)
    if step + steps > total:
        raise ConfigError(f"steps = {steps} is refused: from step {step} the run has {max(0, total - step)} steps left")
    created = reader.meta().get("created")
    return {"run": name, "created": created, "step": step, "metric": chosen, "steps": steps, "last": last}


def _measure(
    lab: Lab, name: str, step: int, arms: Sequence[_Arm], spec: dict[str, Any], jobs: int, on_progress: Progress | None
) -> tuple[Path, dict[str, ForkResult]]:
    """Make the forks that have not been made yet; the folder of the measurement, and all results by key."""
    if jobs < 1:
        raise ConfigError(f"jobs = {jobs} is refused: at least one process is needed")
    config = lab.config(name)
    splits = {arm.key: split_changes(config, arm.changes | _order_changes(arm)) for arm in arms}
    # the folder's name is the question: asked the same again, what was answered is found
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]
    folder = lab.runs_dir / EFFECTS / digest
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _SPEC).write_text(json.dumps(spec, indent=1), encoding="utf-8")
    found = {key: result for key, result in _results(folder) if key in splits}
    waiting = [arm for arm in arms if arm.key not in found]
    if waiting:
        (folder / RUNS_FOLDER).mkdir(exist_ok=True)
        _link_cache(lab, folder)
        source, origin = _common_state(lab, name, step, folder)
        with RunReader(source / DATABASE_NAME) as reader:
            for arm in waiting:
                # a fork that was begun goes on from its own checkpoint
                if not (folder / RUNS_FOLDER / arm.key).exists():
                    lineage = _lineage(lab, name, step, splits[arm.key])
                    child = folder / RUNS_FOLDER / arm.key
                    make_child(source, reader, config, origin, splits[arm.key], lineage, child)

    def keep(line: str) -> None:
        result = _fork_from(parse_json(line, "a fork's answer"))
        # kept before it is told: a process killed here has lost nothing that a person has seen
        _append(folder / _FORKS, line.rstrip("\n"))
        found[result.key] = result
        if on_progress is not None:
            on_progress(len(found), len(arms))

    if waiting:
        fan_out(folder, {arm.key: config for arm in waiting}, jobs, MODULE, keep)
        # forks are as large as runs, and all that is asked of them is in their answers
        shutil.rmtree(folder / RUNS_FOLDER)
    return folder, {arm.key: found[arm.key] for arm in arms}


def _order_changes(arm: _Arm) -> dict[str, Any]:
    return {} if arm.order_seed is None else {"order_seed": arm.order_seed}


def _common_state(lab: Lab, name: str, step: int, folder: Path) -> tuple[Path, Origin]:
    """Folder and state that all forks go on from: the run's own checkpoint, or one that is made by going there."""
    origin = find_origin(lab, name, step)
    if origin.saved_step == origin.step:
        return lab.folder(name), origin
    base = folder / RUNS_FOLDER / _BASE
    nothing = ForkChanges({}, {}, {})
    config = lab.config(name)
    # one that is made by going there is shared by all forks: the way is trained once, not once a fork
    if not base.exists():
        lineage = _lineage(lab, name, step, nothing)
        make_child(lab.folder(name), lab.reader(name), config, origin, nothing, lineage, base)
    if not (base / folder_name(step)).exists():
        fan_out(folder, {_BASE: config}, 1, MODULE, lambda line: None)
    return base, Origin(step, base / folder_name(step), origin.changes)


def _lineage(lab: Lab, name: str, step: int, split: ForkChanges) -> Lineage:
    created = float(lab.reader(name).meta()["created"])
    return Lineage(name, step, created, True, "effect", "", time.time(), split.live, split.config, split.sizes)


def _link_cache(lab: Lab, folder: Path) -> None:
    """Forks share what is known of the data with the runs."""
    cache, link = lab.runs_dir / CACHE_FOLDER, folder / RUNS_FOLDER / CACHE_FOLDER
    cache.mkdir(exist_ok=True)
    if not link.exists():
        link.symlink_to(cache, target_is_directory=True)


def _results(folder: Path) -> Iterator[tuple[str, ForkResult]]:
    path = folder / _FORKS
    if path.exists():
        with open(path, "rb", opener=plain_file) as file:
            lines = file.read().split(b"\n")
        for line in filter(None, lines):
            try:
                result = _fork_from(parse_json(line, path.name))
            except BAD_DATA as error:  # half a line of a process that was killed: that fork is made again
                log.warning("a line of %s is left out: %s", path, error)
            else:
                yield result.key, result


def _append(path: Path, line: str) -> None:
    """Add a line, also after one that a process which was killed has not ended."""
    with path.open("ab+") as file:
        whole = file.tell() == 0 or (file.seek(-1, os.SEEK_END) and file.read(1) == b"\n")
        file.write(("" if whole else "\n").encode() + line.encode() + b"\n")


def _fork_from(values: dict[str, Any]) -> ForkResult:
    return parse_record(ForkResult, values, "a fork")


def _keep(path: Path, result: Effect | Sweep) -> None:
    path.write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")


def _all(lab: RunReaderSet, file: str, read: Callable[[dict[str, Any]], T], name: str | None) -> list[T]:
    """Every kept result of a run, newest first; a damaged file hides no other."""
    found: list[T] = []
    for path in lab.runs_dir.glob(f"{EFFECTS}/*/{file}"):
        try:
            result = read(read_json(path))
            if name is None or result.run == name:
                found.append(result)
        except (OSError, *BAD_DATA) as error:
            log.warning("%s cannot be read and is left out: %s", path, error)
    return sorted(found, key=lambda result: -result.created)


# one process's share


def run_fork(lab: Lab, name: str, spec: dict[str, Any]) -> ForkResult:
    """Train one fork to the end of the measurement and read the metric. The fork is deleted."""
    started = time.monotonic()
    until = spec["step"] if name == _BASE else spec["step"] + spec["steps"]
    lab.resume(name, until=until, author="effect")
    info = lab.wait(name, FORK_SECONDS)
    if info.alive:
        raise LabError(f"the fork {name!r} took more than {FORK_SECONDS:g} s: measure fewer steps")
    series = lab.reader(name).scalars(spec["metric"], start=spec["step"] + 1)
    steps, values = series.steps.tolist(), series.values.tolist()
    window = [value for step, value in zip(steps, values, strict=True) if step > until - spec["last"]]
    window = window or values[-1:]
    value = statistics.fmean(window) if window and info.state != RunState.FAILED and info.step == until else None
    if name != _BASE:
        lab.delete(name)
    return ForkResult(name, info.state, value, tuple(steps), tuple(values), time.monotonic() - started)


def work(folder: Path, names: Sequence[str]) -> Iterator[ForkResult]:
    """One process's share of the forks."""
    spec = read_json(folder / _SPEC)
    for lab, name, _ in open_share(folder, names):
        yield run_fork(lab, name, spec)


if __name__ == "__main__":
    sys.exit(run_as_process(asdict(done) for done in work(Path(sys.argv[1]), sys.argv[2:])))
