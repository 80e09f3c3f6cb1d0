"""Train a small model in the background, and read what the app draws: its curve, what the data allow, its findings.

You see the held-out loss fall while this script goes on, then how far it is above what the text itself allows, and what
the detectors have to say, with the remedies that the Findings page offers.
"""
# ruff: noqa: T201

import sys
import time

from qcore import Lab
from qcore.config import preset
from qcore.probes import catalog

SMALL = {"width": 16, "layers": 1, "context": 16, "documents": 100, "steps": 40, "eval_every": 10}


def main(runs: str) -> None:
    """Start a run, watch it from outside, and print what it measured."""
    config = preset("tiny").config.with_values({**SMALL, "budget_percent": 100})
    with Lab(runs) as lab:
        run = lab.start(config, name="first", preset="tiny")
        while (info := lab.info(run)).alive:  # the run trains in a thread; this one is free
            print(f"{info.state:8} step {info.step} of {info.total_steps}")
            time.sleep(0.5)
        print(info.state, info.message)
        reader = lab.reader(run)
        loss = reader.scalars(catalog.EVAL_CE)
        words = catalog.series_words(catalog.EVAL_CE)
        for step, value in zip(loss.steps, loss.values, strict=True):
            print(f"step {step:3}  {words.title} {value:.3f} {words.unit}")
        for name, nats in reader.meta()["references"].items():
            print(f"reference: {name} {nats:.3f}" if nats is not None else f"reference: {name} unknown")
        for finding in lab.findings(run):
            print(f"since step {finding.since_step}: {finding.title}")
            for remedy in finding.remedies:
                print(f"    remedy: {remedy['label']}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs")
