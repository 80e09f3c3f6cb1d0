"""Collapses in mid-run: how many steps before one token takes more than half of the predictions the lab speaks.

python bench/collapses.py [--jobs 2]

Runs of the exam's size that learn for 80 steps and are then broken by a control change (learning rates from 0.1 to 1.0,
terms at absurd weights), and the planted term that works against the loss, over several seeds and both models. Printed:
the step of the break, the first finding, the step from which on one token has the majority to the end, and the lead.
A change that a run survives is no collapse; what is said of it is printed all the same.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from qcore.config import EXAM_BASE, FAULTS, default_run
from qcore.experiments.exam import ExamCase, ExamResult, run_exam

BREAK = 80
CHANGES = {
    "rate 0.1": ["learning_rate = 0.1"],
    "rate 0.2": ["learning_rate = 0.2"],
    "rate 0.5": ["learning_rate = 0.5"],
    "rate 1.0": ["learning_rate = 1.0"],
    "unlikelihood 10": ["unlikelihood_weight = 10"],
    "entropy 10": ["entropy_floor_weight = 10", "entropy_floor = 5"],
    "eos 10": ["eos_weight = 10"],
    "no cross-entropy": ["ce_weight = 0", "diversity_weight = 1"],
}


def cases() -> list[ExamCase]:
    """Every change for both models, two seeds of the learning rates, three of the planted term."""
    found = []
    for kind in ("phase_lm", "transformer"):
        base = {**EXAM_BASE, "kind": kind, "lr_policy": "constant", "steps": 200}
        if kind == "transformer":
            del base["phases"]
        for title, lines in CHANGES.items():
            for seed in (0, 1) if title.startswith("rate") else (0,):
                schedule = [f"{BREAK}: {line}" for line in lines]
                config = default_run().with_values({**base, "schedule": schedule, "seed": seed, "data_seed": seed})
                found.append(ExamCase(f"{title}, {kind} {seed}", "", config))
    for seed in (0, 1, 2):
        changes = {**FAULTS["T2"].preset_changes, "seed": seed, "data_seed": seed}
        found.append(ExamCase(f"term against the loss {seed}", "T2", default_run().with_values(changes)))
    return [ExamCase(case.name.replace(" ", "-").replace(",", ""), case.fault, case.config) for case in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args()
    leads, missed = [], []
    with tempfile.TemporaryDirectory() as folder:
        results = run_exam(Path(folder), cases(), chosen.jobs, lambda result: None)
    for result in results:
        first = min(result.found.values(), default=None)
        print(f"{result.name:36} {_words(result, first)}")
        if result.collapsed_at is not None and result.collapsed_at >= BREAK:
            (missed if first is None else leads).append(0 if first is None else result.collapsed_at - first)
    print(
        f"{len(leads) + len(missed)} collapses, {len(missed)} missed; lead "
        f"{min(leads)} to {max(leads)}, median {statistics.median(leads)} steps"
    )


def _words(result: ExamResult, first: int | None) -> str:
    said = ", ".join(f"{name} {step}" for name, step in result.found.items()) or "nothing said"
    if result.collapsed_at is None:
        return f"no lasting majority; {said}"
    return f"majority from {result.collapsed_at}, lead {'–' if first is None else result.collapsed_at - first}; {said}"


if __name__ == "__main__":
    main()
