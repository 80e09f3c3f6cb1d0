"""A probe of your own: two numbers that the lab does not have, measured while a model trains, with a chart on a page.

A series is declared once (title, unit, meaning, healthy range), a probe says what it needs, how often it runs and what
it measures on a `ProbeInput`. Run it with a folder for runs, then open that folder in the app: the Gradients page draws
both under "Your probes". To have a probe in every run, name it as an entry point `qcore.probes` of a package.
"""
# ruff: noqa: T201

import sys

from qcore.config import default_run
from qcore.lab import Lab
from qcore.probes import Probe, ProbeInput, catalog, register, text_of

LARGEST = catalog.declare(
    "logits/largest",
    "largest logit",
    "logits",
    meaning="The largest logit of the batch; one that grows and grows ends in numbers that are not finite.",
    form=".2f",
    healthy=(None, 30.0),
    needs="text",
)
REACH = catalog.declare(
    "logits/reach",
    "reach of the first token",
    "mean change of a logit",
    meaning="How much the answer at the end of a text changes when its first token is another one.",
    form=".4f",
    needs="text",
)


def measure(seen: ProbeInput) -> dict[str, float]:
    """Logits that the step had anyway, and what the model says when it is asked about other tokens."""
    text = text_of(seen)
    tokens_BT = text.inputs_BT[seen.rows]
    changed_BT = tokens_BT.clone()
    changed_BT[:, 0] = (changed_BT[:, 0] + 1) % text.vocab_size
    change_BV = (text.engine.logits(changed_BT) - text.engine.logits(tokens_BT))[:, -1]
    return {LARGEST: float(seen.outputs[seen.mask].max()), REACH: float(change_BV.abs().mean())}


register(Probe("logits", needs={"text"}, every=5, measure=measure))


def main(runs: str) -> None:
    """Train a small model for a few steps and print what was measured."""
    small = {"width": 32, "layers": 2, "context": 32, "documents": 200, "batch_size": 8, "steps": 20}
    with Lab(runs) as lab:
        run = lab.start(default_run().with_values({**small, "budget_percent": 100}), name="own-probe")
        print(lab.wait(run).state)
        for name, series in lab.reader(run).scalars_of([LARGEST, REACH]).items():
            words = catalog.series_words(name)
            print(words.text, *(f"{value:{words.form}}" for value in series.values), sep="  ")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs")
