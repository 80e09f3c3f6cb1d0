"""Runs side by side: one metric of several runs on the same steps, pairs of forks with their mean, and a sweep.

A run keeps its colour in every chart of a page: the place in the list decides. The fork is a vertical mark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from qcore.probes.catalog import series_words
from qcore.viz.curves import Line, Mark, YAxis, curves, say_notes
from qcore.viz.figure import Figure
from qcore.viz.theme import BLUE, GREY, VERMILLION, base_layout, empty_figure, label, line_style

_FAINT = 0.45


def side_by_side(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    title: str,
    shift: Mapping[str, int] | None = None,
    marks: Sequence[Mark] = (),
    span: float = 0.0,
    y: YAxis = YAxis(),
    y_title: str = "",
    uirevision: str,
    height: int = 230,
    **look: Any,
) -> Figure:
    """One metric, a line a run.

    Args:
        series: run → steps and values.
        shift: run → step that becomes 0, so that runs are aligned at their forks.
        y_title: unit.
        look: as of `viz.curves`.
    """
    lines = [
        Line(name, np.asarray(steps) - (shift or {}).get(name, 0), values, line_style(index))
        for index, (name, (steps, values)) in enumerate(series.items())
    ]
    figure = curves(
        lines,
        title=title,
        y_title=y_title,
        marks=marks,
        span=span,
        y=y,
        height=height,
        uirevision=uirevision,
        message="None of these runs has measured it.",
        **look,
    )
    if shift and lines:
        figure.layout["xaxis"]["title"] = {"text": "steps since the fork", "standoff": 8}
    return figure


def pairs(
    without: Sequence[float | None],
    changed: Sequence[float | None],
    *,
    title: str,
    metric: str,
    uirevision: str,
) -> Figure:
    """Each pair of forks as a line from its value without the change to the one with it; bold: the means.

    Args:
        metric: name of its series.
    """
    both = [(a, b) for a, b in zip(without, changed, strict=True) if a is not None and b is not None]
    whole = [pair for pair in both if all(map(math.isfinite, pair))]
    if not whole:
        message = "No pair of forks has ended with finite values." if both else "No pair of forks has ended yet."
        return empty_figure(message, uirevision=uirevision, title=title)
    layout = base_layout(height=300, uirevision=uirevision, title=title)
    layout["hovermode"] = "closest"
    layout["showlegend"] = False
    layout["xaxis"] = {"tickvals": [0, 1], "ticktext": ["without", "with the change"], "range": [-0.35, 1.35]}
    layout["yaxis"] |= {"title": {"text": label(series_words(metric).text), "standoff": 6}}
    say_notes(layout, _lost_notes(len(both) - len(whole), "pair"), bool(title))
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": [0, 1],
            "y": [a, b],
            "line": {"color": VERMILLION if b > a else BLUE, "width": 1.5},
            "opacity": _FAINT,
            "hovertemplate": f"pair {number}: %{{y:,.5~r}}<extra></extra>",
        }
        for number, (a, b) in enumerate(whole, 1)
    ]
    means = [float(np.mean(column)) for column in zip(*whole, strict=True)]
    traces.append(
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": [0, 1],
            "y": means,
            "line": {"color": GREY, "width": 4},
            "marker": {"size": 10},
            "hovertemplate": "mean %{y:,.5~r}<extra></extra>",
        }
    )
    return Figure(traces, layout)


def sweep(
    values: Sequence[float | str],
    results: Sequence[Sequence[float | None]],
    *,
    title: str,
    metric: str,
    log_x: bool = False,
    uirevision: str,
) -> Figure:
    """The metric at each value of one control: dots for the forks, a line through their means. Values that are no
    numbers, or that a logarithmic axis cannot show, stand at even distances.
    """
    ended = sum(value is not None for row in results for value in row)
    found = [[value for value in row if value is not None and math.isfinite(value)] for row in results]
    if not any(found):
        message = "No fork has ended with a finite value." if ended else "No fork has ended yet."
        return empty_figure(message, uirevision=uirevision, title=title)
    # a switch is an int to Python and no place on an axis
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    # one value that is no number puts all of them at even distances: half an axis of numbers would be read as one
    even = len(numbers) < len(values)
    layout = base_layout(height=300, uirevision=uirevision, title=title)
    layout["hovermode"] = "closest"
    layout["showlegend"] = False
    layout["yaxis"] |= {"title": {"text": label(series_words(metric).text), "standoff": 6}}
    # a fork that diverged is an answer, and would be missing without a trace
    say_notes(layout, _lost_notes(ended - sum(map(len, found)), "fork"), bool(title))
    shown = [label(str(value)) for value in values] if even or (log_x and min(numbers) <= 0) else list(values)
    layout["xaxis"] = {"type": "category" if shown != list(values) or even else ("log" if log_x else "linear")}
    dots = [(x, y) for x, row in zip(shown, found, strict=True) for y in row]
    means = [(x, float(np.mean(row))) for x, row in zip(shown, found, strict=True) if row]
    return Figure(
        [
            {
                "type": "scatter",
                "mode": "lines",
                "x": [x for x, _ in means],
                "y": [y for _, y in means],
                "line": {"color": GREY, "width": 2},
                "hovertemplate": "mean %{y:,.5~r}<extra></extra>",
            },
            {
                "type": "scatter",
                "mode": "markers",
                "x": [x for x, _ in dots],
                "y": [y for _, y in dots],
                "marker": {"color": BLUE, "size": 8},
                "hovertemplate": "%{x}: %{y:,.5~r}<extra></extra>",
            },
        ],
        layout,
    )


def _lost_notes(count: int, what: str) -> list[str]:
    return [f"{count} {what}{'' if count == 1 else 's'} ended with a value that is not finite"] if count else []
