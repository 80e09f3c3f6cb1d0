"""Measure what a change does to the held-out loss, with its uncertainty, before believing a single pair of curves.

You see pairs of forks from one checkpoint, with the change and without it, each pair on batches of its own; then their
mean difference with a 95 % interval, and in words whether that is a difference at all.
"""
# ruff: noqa: T201

import sys

from qcore import Lab
from qcore.config import preset
from qcore.experiments.effect import effect

SMALL = {"width": 16, "layers": 1, "context": 16, "documents": 100, "steps": 20, "checkpoint_every": 10}


def main(runs: str) -> None:
    """Train a little, then ask what a tenth of the learning rate would do over the next steps."""
    with Lab(runs) as lab:
        run = lab.start(preset("tiny").config.with_values(SMALL), name="asked")
        lab.wait(run)
        found = effect(
            lab,
            run,
            step=10,
            changes={"learning_rate": 3e-4},
            forks=3,  # more pairs, a narrower interval
            steps=10,
            jobs=1,  # processes side by side
            on_progress=lambda done, total: print(f"{done} of {total} forks"),
        )
        for pair in found.pairs:
            print(f"order of batches {pair.order_seed}: {pair.without:.4f} without, {pair.changed:.4f} with the change")
        print(f"difference {found.mean:+.4f}, 95 % from {found.low:+.4f} to {found.high:+.4f}, p {found.p:.2g}")
        print(found.verdict)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs")
