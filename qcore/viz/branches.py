"""The tree of runs: each run a line from its fork to its newest step, hanging on the line it was forked from.

Steps run to the right and every run has a lane of its own, so that a fork's distance from its parent means nothing and
its place along the steps means everything. What changed at a fork, and what was changed on the way, is on the marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcore.viz.curves import Mark
from qcore.viz.figure import Figure
from qcore.viz.theme import LABEL_SIZE, base_layout, empty_figure, label, line_style

LANE = 34
_MARGIN = 90
_MARK, _CLEAR = 9, 6
_LONGEST_NAME = 28


@dataclass(frozen=True)
class Branch:
    """One run of the tree.

    Attributes:
        parent: name of the run it was forked from, or empty.
        fork_step: where it begins.
        step: its newest.
        changes: what differs from its parent, in words.
        marks: what was changed on the way.
    """

    name: str
    parent: str
    fork_step: int
    step: int
    state: str
    changes: str = ""
    marks: tuple[Mark, ...] = ()


def branches(runs: Sequence[Branch], *, chosen: Sequence[str] = (), uirevision: str = "tree") -> Figure:
    """The tree as lanes, in the order given: parents before their forks.

    A run whose parent is not among `runs` begins a tree of its own.

    Args:
        chosen: runs that are drawn thick.
    """
    if not runs:
        return empty_figure("No runs to show.", uirevision=uirevision)
    lane = {run.name: index for index, run in enumerate(runs)}
    layout = base_layout(height=_MARGIN + LANE * len(runs), uirevision=uirevision)
    layout["hovermode"] = "closest"
    layout["showlegend"] = False
    layout["xaxis"] |= {"rangemode": "tozero", "zeroline": False}
    layout["yaxis"] |= {
        "tickvals": list(range(len(runs))),
        "ticktext": [label(_short(run.name)) for run in runs],
        "range": [len(runs) - 0.5, -0.5],
        "showgrid": False,
        "ticklabelstandoff": 8,
        "fixedrange": True,
    }
    traces = []
    for index, run in enumerate(runs):
        style = line_style(index)
        hangs = lane.get(run.parent, index) < index
        xs: list[int | None] = [run.fork_step, run.fork_step, run.step] if hangs else [run.fork_step, run.step]
        ys = [lane[run.parent], index, index] if hangs else [index, index]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": xs,
                "y": ys,
                "line": {"color": style["color"], "width": 4 if run.name in chosen else 2, "shape": "linear"},
                "hoverinfo": "skip",
            }
        )
        points = [(run.fork_step, _beginning(run)), *((mark.step, mark.text) for mark in run.marks)]
        points.append((run.step, f"{run.name}: {run.state} at step {run.step:,}"))
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [step for step, _ in points],
                "y": [index] * len(points),
                "marker": {"color": style["color"], "size": [_MARK, *[6] * len(run.marks), _MARK]},
                "text": [label(text) for _, text in points],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    layout["annotations"] = [
        {
            "x": run.fork_step,
            "y": lane[run.name],
            "text": label(run.changes if len(run.changes) <= 60 else run.changes[:57] + "…"),
            "showarrow": False,
            "xanchor": "left",
            "yanchor": "bottom",
            # Clear of the line that comes down to the fork, and of the marks on its own.
            "xshift": _CLEAR,
            "yshift": _CLEAR,
            "font": {"size": LABEL_SIZE},
        }
        for run in runs
        if run.changes
    ]
    return Figure(traces, layout)


def _beginning(run: Branch) -> str:
    if not run.parent:
        return f"{run.name} starts"
    return f"{run.name}: forked from {run.parent} at step {run.fork_step:,}" + (
        f": {run.changes}" if run.changes else ""
    )


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 10]}…{name[-9:]}"
