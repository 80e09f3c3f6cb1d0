"""Change the weight of a loss term, and the learning rate, while a model trains.

You see each change applied between two steps, kept as an event with its author, and the loss term's own curve, which is
unweighted and so stays comparable. A slider in the app, `qcore set` and the protocol take this very path.
"""
# ruff: noqa: T201

import sys

from qcore import ConfigError, Lab
from qcore.config import Continue, Pause, SetControl, preset
from qcore.probes import catalog

SMALL = {"width": 16, "layers": 1, "context": 16, "documents": 100, "steps": 60}


def main(runs: str) -> None:
    """Pause a run, turn two controls, let it go on, and print what became of them."""
    with Lab(runs) as lab:
        run = lab.start(preset("tiny").config.with_values(SMALL), name="steered")
        for command in (
            Pause(),  # for this script's sake: changes are taken between steps of a running model just as well
            SetControl("diversity_weight", 0.3),
            SetControl("learning_rate", 1e-3),
            Continue(),
        ):
            row = lab.outcome(run, lab.command(run, command, author="example"), timeout=60)
            print(f"{row.kind}: {row.status} {row.message}")
        try:
            lab.command(run, SetControl("diversity_weight", 99))
        except ConfigError as error:  # refused at once: nothing has changed
            print(f"refused: {error}")
        print(lab.wait(run).state)
        for event in lab.reader(run).events():
            if event.kind == "control":
                payload = event.payload
                print(f"step {event.step}: {payload['name']} {payload['old']:g} → {payload['new']:g} by {event.author}")
        term = lab.reader(run).scalars(catalog.term("diversity"))
        for step, value in list(zip(term.steps, term.values, strict=True))[::10]:
            print(f"step {step:3}  diversity {value:.3f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs")
