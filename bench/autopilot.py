"""The autopilot on recoverable collapses: recovered of tried, steps to recover, against the same runs without it.

python bench/autopilot.py [--seeds 3] [--jobs 2] [--only padding …]

Each case is trained twice from the same seed, with the autopilot off and on; healthy runs too. Recovered: at the end no
finding of the case is active, and the held-out loss is within 0.1 nats of the healthy twin's at the same step (clips:
generated frames are at least 0.6 of the data's distance apart). Steps to recover: from the autopilot's first action to
the first measurement from which it stays so.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from qcore.config import EXAM_BASE, FAULTS, VIDEO_EXAM_BASE, default_run
from qcore.experiments.exam import ExamCase, run_exam
from qcore.experiments.parallel_runs import RUNS_FOLDER
from qcore.lab import Lab

WITHIN = 0.1
"""Recovered: the held-out loss is at most this many nats above the healthy twin's."""
APART = 0.6
"""Recovered: generated frames are at least this share of the data's distance apart."""
_TEXT = {**EXAM_BASE, "steps": 300, "lr_policy": "constant"}
_TRANSFORMER = {name: value for name, value in _TEXT.items() if name != "phases"} | {"kind": "transformer"}
_VIDEO = {**VIDEO_EXAM_BASE, "steps": 900, "lr_policy": "constant", "learning_rate": 2e-3}


@dataclass(frozen=True)
class Collapse:
    """One way to collapse. changes: to its base · healthy: what its twin has instead · findings: that must be gone."""

    title: str
    base: Mapping[str, Any]
    changes: Mapping[str, Any]
    findings: tuple[str, ...]
    healthy: Mapping[str, Any] = field(default_factory=dict)
    video: bool = False


COLLAPSES = {
    "padding": Collapse(
        "padding counts as a target",
        _TRANSFORMER | {"packing": "padded", "context": 160, "batch_size": 4, "learning_rate": 2e-4},
        {"mask_padding": False},
        FAULTS["T1"].findings,
    ),
    "misalignment": Collapse("targets are not shifted", _TEXT, {"label_shift": 0}, FAULTS["B2"].findings),
    "harmful": Collapse(
        "a term works against the loss",
        _TEXT,
        {"fault": "T2", "dominance_weight": 3.4},
        FAULTS["T2"].findings,
    ),
    "rate": Collapse(
        "learning rate jumps to 0.5 at step 80",
        _TEXT,
        {"schedule": ["80: learning_rate = 0.5"]},
        FAULTS["T2b"].findings,
    ),
    "averaging": Collapse(
        "noise shared by all frames",
        _VIDEO,
        {"noise_correlation": 1.0, "flow_path": "plain"},
        FAULTS["V1"].findings,
        video=True,
    ),
}


@dataclass(frozen=True)
class Ended:
    """What came of a run. loss: held-out, nats or flow · apart: of generated frames ÷ the data's · first: step of the
    autopilot's first action · actions: how many · steady: first step from which it is well to the end.
    """

    loss: float
    apart: float
    active: frozenset[str]
    first: int | None
    actions: int
    course: list[tuple[int, float]]


def ended(lab: Lab, name: str, video: bool) -> Ended:
    reader = lab.reader(name)
    held = reader.scalars("eval/flow" if video else "eval/ce")
    apart = reader.scalars("frames/generated/divergence")
    of_data = reader.meta().get("data_frames", {}).get("divergence", 1.0)
    actions = [event for event in reader.events() if event.author == "autopilot"]
    shown = apart if video else held
    scale = of_data if video else 1.0
    return Ended(
        loss=float(held.values[-1]),
        apart=float(apart.values[-1]) / of_data if video else 0.0,
        active=frozenset(found.name for found in lab.findings(name) if found.state == "active"),
        first=actions[0].step if actions else None,
        actions=len(actions),
        course=[(int(step), float(value) / scale) for step, value in zip(shown.steps, shown.values, strict=True)],
    )


def well(collapse: Collapse, step: int, value: float, twin: Ended) -> bool:
    return value >= APART if collapse.video else value <= dict(twin.course).get(step, twin.loss) + WITHIN


def recovered(collapse: Collapse, run: Ended, twin: Ended) -> int | None:
    """Step from which the run is well to its end; None when it is not, or still has a finding of the case."""
    if run.active & set(collapse.findings):
        return None
    steady = None
    for step, value in run.course:
        if not well(collapse, step, value, twin):
            steady = None
        elif steady is None:
            steady = step
    return steady


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=COLLAPSES, default=list(COLLAPSES))
    chosen = parser.parse_args()
    cases = []
    for key in chosen.only:
        collapse = COLLAPSES[key]
        for seed in range(chosen.seeds):
            base = {**collapse.base, "seed": seed, "data_seed": seed}
            for label, changes in (
                ("healthy-off", collapse.healthy),
                ("healthy-on", {**collapse.healthy, "autopilot": True}),
                ("broken-off", collapse.changes),
                ("broken-on", {**collapse.changes, "autopilot": True}),
            ):
                config = default_run().with_values({**base, **changes})
                cases.append(ExamCase(f"{key}-{seed}-{label}", config.fault, config))
    with tempfile.TemporaryDirectory() as folder:
        run_exam(Path(folder), cases, chosen.jobs, lambda result: None)
        with Lab(Path(folder) / RUNS_FOLDER) as lab:
            for key in chosen.only:
                report(lab, key, chosen.seeds)


def report(lab: Lab, key: str, seeds: int) -> None:
    """One line a case."""
    collapse = COLLAPSES[key]
    back = {"on": [], "off": []}
    worse, healthy_actions, losses = [], 0, []
    for seed in range(seeds):
        runs = {
            label: ended(lab, f"{key}-{seed}-{label}", collapse.video)
            for label in ("healthy-off", "healthy-on", "broken-off", "broken-on")
        }
        twin = runs["healthy-off"]
        worse.append(runs["healthy-on"].loss - twin.loss)
        healthy_actions += runs["healthy-on"].actions
        for side in ("on", "off"):
            run = runs[f"broken-{side}"]
            steady = recovered(collapse, run, twin)
            back[side].append(None if steady is None else max(0, steady - (run.first or 0)))
        losses.append((twin.loss, runs["broken-off"].loss, runs["broken-on"].loss, runs["broken-on"].apart))
    took = [steps for steps in back["on"] if steps is not None]
    alone = sum(steps is not None for steps in back["off"])
    words = f"{statistics.median(took):.0f} steps ({min(took)}–{max(took)})" if took else "–"
    print(
        f"{collapse.title:38} recovered {len(took)}/{seeds} in {words} · without it {alone}/{seeds} · held out healthy "
        f"{statistics.mean(a for a, *_ in losses):.3f}, without {statistics.mean(b for _, b, *_ in losses):.3f}, with "
        f"{statistics.mean(c for _, _, c, _ in losses):.3f}"
        + (f" · frames apart ÷ data's {statistics.mean(d for *_, d in losses):.2f}" if collapse.video else "")
        + f" · healthy runs: {healthy_actions} actions, held out {statistics.mean(worse):+.4f}"
    )


if __name__ == "__main__":
    main()
