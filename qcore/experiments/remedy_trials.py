"""Do remedies help? A fault is planted, its finding waited for, and the run forked with each remedy that is proposed.

What the run itself does to its end, without any remedy, is the comparison: same weights, same batches, same length. A
remedy *helped* when the end of its fork no longer shows the finding and the end of the run does, with a held-out loss
that is no worse; or when the held-out loss is clearly lower. A remedy that puts weights back is tried from the step
before the trouble began. What comes out is the table `qcore.detect.remedies.MEASURED`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qcore.base.run_states import RunState
from qcore.config import (
    FAULTS,
    PLAIN_EXAM_BASE,
    VIDEO_EXAM_BASE,
    ConfigError,
    RunConfig,
    default_run,
    nearest_hint,
)
from qcore.experiments.parallel_runs import fan_out, open_share, run_as_process, train_to_end
from qcore.lab.lab import Lab
from qcore.probes import catalog
from qcore.runs.errors import LabError
from qcore.runs.findings import remedy_key
from qcore.store import Finding

MODULE = "qcore.experiments.remedy_trials"
SECONDS = 900.0
BETTER, NO_WORSE = 0.9, 1.02
"""Held-out loss ÷ the run's own from which on a remedy has helped, and up to which it has not done harm."""
_WAIT = 5
"""Steps after which a finding has been told in which its remedy is given, as the autopilot does."""
_KINDS = ("set", "restore")
_OFTEN = {"checks_every": 20}
_OWN: Mapping[str, dict[str, Any]] = {
    "unmasked": {**PLAIN_EXAM_BASE, **FAULTS["T1"].changes, "mask_padding": False},
    "label-shift": {**PLAIN_EXAM_BASE, "label_shift": 0},
    "few-steps": {**PLAIN_EXAM_BASE, "learning_rate": 2e-4, "steps": 200},
    "weak-frames": {**VIDEO_EXAM_BASE, "frame_amplification": 0.001},
}
"""Configurations that go wrong without a mistake in the code, beside the fault bank's."""
_LONGER: Mapping[str, dict[str, Any]] = {"V1": {"steps": 800}}
"""What takes longer to come right than the exam needs to find it."""
TRIALS = (
    "unmasked", "T2", "T2b", "label-shift", "P2", "G1", "G2", "G3", "G4", "G5", "few-steps", "V1", "V3", "V4", "V6",
    "weak-frames",
)  # fmt: skip
"""Planted runs whose findings propose a change of the live run."""
_HELD_OUT = (catalog.EVAL_CE, catalog.EVAL_FLOW)


@dataclass(frozen=True)
class Trial:
    """One remedy against one finding, in one planted run.

    Attributes:
        remedy: as of `remedy_key`.
        label: as it was offered.
        step: at which it was given.
        over, over_without: whether the end no longer showed the finding, with the remedy and without it.
        loss, loss_without: held out, at the end.
        comparable: whether the two are losses of one and the same task.
    """

    case: str
    rule: str
    remedy: str
    label: str
    step: int
    over: bool
    over_without: bool
    loss: float | None
    loss_without: float | None
    seconds: float
    comparable: bool = True

    @property
    def helped(self) -> bool:
        """Whether it made a difference for the better."""
        if not self.comparable or self.loss is None or self.loss_without is None:
            return self.over and not self.over_without
        if self.loss < BETTER * self.loss_without:
            return True
        return self.over and not self.over_without and self.loss <= NO_WORSE * self.loss_without


_OTHER_TASK = frozenset(
    {"flow_path", "noise_correlation", "t_star", "anchor_width", "anchor_decay", "repulsion", "time_sampling"}
)
"""Controls with which a model learns another velocity: the loss before and after is not one of the same thing."""


def trial_configs(only: Sequence[str] | None = None, seeds: int = 1) -> dict[str, RunConfig]:
    """The planted runs by name, `seeds` of each.

    Raises:
        ConfigError: for a name that is no trial.
    """
    found = {}
    for name in only or TRIALS:
        if name not in TRIALS:
            raise ConfigError(f"there is no trial {name!r}{nearest_hint(name, TRIALS)}; there are {', '.join(TRIALS)}")
        base = FAULTS[name].preset_changes if name in FAULTS else _OWN[name]
        base = {**base, **_OFTEN, **_LONGER.get(name, {})}
        for seed in range(seeds):
            config = default_run().with_values({**base, "seed": seed, "data_seed": seed})
            found[f"trial-{name}-{seed}"] = config
    return found


def run_trials(
    folder: Path, configs: Mapping[str, RunConfig], jobs: int, report: Callable[[Trial], None]
) -> list[Trial]:
    """Every trial of every planted run, in `jobs` processes, telling `report` of each as it ends.

    Raises:
        LabError: with the words of a process that failed.
    """
    found: list[Trial] = []

    def keep(line: str) -> None:
        found.append(trial := Trial(**json.loads(line)))
        report(trial)

    fan_out(folder, configs, jobs, MODULE, keep)
    return found


def tally(trials: Sequence[Trial]) -> dict[tuple[str, str], tuple[int, int]]:
    """(rule, remedy) → (helped, tried)."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for trial in trials:
        helped, runs = found.get((trial.rule, trial.remedy), (0, 0))
        found[trial.rule, trial.remedy] = helped + trial.helped, runs + 1
    return dict(sorted(found.items()))


def try_remedies(lab: Lab, name: str, config: RunConfig) -> Iterator[Trial]:
    """Train a planted run to its end, then a fork of it for each remedy that its findings propose."""
    info = train_to_end(lab, name, config, "trial", SECONDS)
    reader = lab.reader(name)
    without = _held_out(lab, name)
    for finding in reader.findings():
        seen: set[str] = set()
        for remedy in _proposed(finding):
            key = remedy_key(remedy)
            if key in seen:
                continue
            seen.add(key)
            started = time.monotonic()
            step = _fork_step(finding, remedy, info.step, failed=info.state == RunState.FAILED)
            try:
                child = lab.fork(name, step=step, changes=dict(remedy["changes"]), author="trial")
            except (ConfigError, LabError):  # a remedy that this run cannot take
                continue
            if lab.wait(child, SECONDS).alive:
                raise LabError(f"the fork {child!r} took more than {SECONDS:g} s: use fewer jobs, or a free machine")
            yield Trial(
                case=name,
                rule=finding.name,
                remedy=key,
                label=str(remedy["label"]),
                step=step,
                over=_is_over(lab, child, finding.id),
                over_without=finding.state == "resolved" or bool(finding.evidence.get("moving")),
                loss=_held_out(lab, child),
                loss_without=without,
                comparable=not _OTHER_TASK.intersection(remedy["changes"]),
                seconds=time.monotonic() - started,
            )


def work(folder: Path, names: Sequence[str]) -> Iterator[Trial]:
    """One process's share: the planted runs whose configurations lie in `folder`."""
    for lab, name, config in open_share(folder, names):
        yield from try_remedies(lab, name, config)


def _proposed(finding: Finding) -> list[dict[str, Any]]:
    return [remedy for remedy in finding.remedies if remedy["kind"] in _KINDS and remedy.get("changes")]


def _fork_step(finding: Finding, remedy: Mapping[str, Any], last: int, *, failed: bool) -> int:
    if remedy["kind"] == "restore" or failed:
        return max(0, finding.since_step - 1)
    return min(last, int(finding.evidence.get("raised_at", finding.since_step)) + _WAIT)


def _is_over(lab: Lab, name: str, finding: str) -> bool:
    """Whether the end of a fork that ended well no longer shows a finding: resolved, in transition, or never raised."""
    shown = [one for one in lab.reader(name).findings() if one.id == finding and one.state == "active"]
    return all(one.evidence.get("moving") for one in shown) and lab.info(name).state == RunState.FINISHED


def _held_out(lab: Lab, name: str) -> float | None:
    latest = lab.reader(name).latest()
    return next((float(latest[series][1]) for series in _HELD_OUT if series in latest), None)


if __name__ == "__main__":
    sys.exit(run_as_process(asdict(done) for done in work(Path(sys.argv[1]), sys.argv[2:])))
