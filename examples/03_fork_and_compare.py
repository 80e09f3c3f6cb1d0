"""Go on from one step of a run twice, as it was and with a change, and compare.

You see that the unchanged fork repeats its parent bit for bit, so that what the other one does differently comes from
the change alone. The page Compare and fork draws the same three curves.
"""
# ruff: noqa: T201

import sys

from qcore import Lab
from qcore.config import preset
from qcore.probes import catalog

SMALL = {"width": 16, "layers": 1, "context": 16, "documents": 100, "steps": 40, "checkpoint_every": 20}


def main(runs: str) -> None:
    """Train, fork at step 20, and print the loss of all three."""
    with Lab(runs) as lab:
        parent = lab.start(preset("tiny").config.with_values({**SMALL, "budget_percent": 100}), name="parent")
        lab.wait(parent)
        same = lab.fork(parent, step=20, new_name="same", reason="is it repeated?")
        slow = lab.fork(parent, step=20, changes={"learning_rate": 3e-4}, new_name="slow", reason="slower")
        for run in (same, slow):
            lab.wait(run)
        curves = [lab.reader(run).scalars(catalog.TRAIN_LOSS, start=21) for run in (parent, same, slow)]
        print("step  parent    same      slow")
        for row in list(zip(curves[0].steps, *(curve.values for curve in curves), strict=True))[::4]:
            print(f"{row[0]:4}  {row[1]:.6f}  {row[2]:.6f}  {row[3]:.6f}")
        print("the unchanged fork is its parent:", curves[0].values.tobytes() == curves[1].values.tobytes())
        for node in lab.run_tree():
            lineage = lab.lineage(node.name)
            changes = f" from step {lineage.step}, {lineage.changes or 'nothing changed'}" if lineage else ""
            print(f"{'  ' * node.depth}{node.name}{changes}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs")
