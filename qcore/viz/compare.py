"""Runs side by side: one metric of several runs on the same steps, pairs of forks with their mean, and a sweep.

A run keeps its colour in every chart of a page: the place in the list decides. The fork is a vertical mark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from qcore.viz.curves import Line, Mark, curves
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
    log_y: bool = False,
    y_title: str = "",
    uirevision: str,
    height: int = 230,
) -> Figure:
    """One metric, a line a run. series: run → steps and values · shift: run → step that becomes 0, so that runs are
    aligned at their forks."""
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
        log_y=log_y,
        height=height,
        uirevision=uirevision,
        message="None of these runs has measured it.",
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
    """Each pair of forks as a line from its value without the change to the one with it; bold: the means."""
    whole = [(a, b) for a, b in zip(without, changed, strict=True) if a is not None and b is not None]
    if not whole:
        return empty_figure("No pair of forks has ended yet.", uirevision=uirevision, title=title)
    layout = base_layout(height=300, uirevision=uirevision, title=title)
    layout["hovermode"] = "closest"
    layout["showlegend"] = False
    layout["xaxis"] = {"tickvals": [0, 1], "ticktext": ["without", "with the change"], "range": [-0.35, 1.35]}
    layout["yaxis"] |= {"title": {"text": label(metric), "standoff": 6}}
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": [0, 1],
            "y": [a, b],
            "line": {"color": VERMILLION if b > a else BLUE, "width": 1.5},
            "opacity": _FAINT,
            "hovertemplate": f"pair {number}: %{{y:.4g}}<extra></extra>",
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
            "hovertemplate": "mean %{y:.4g}<extra></extra>",
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
    numbers, or that a logarithmic axis cannot show, stand at even distances."""
    if not any(value is not None for row in results for value in row):
        return empty_figure("No fork has ended yet.", uirevision=uirevision, title=title)
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    even = len(numbers) < len(values)
    layout = base_layout(height=300, uirevision=uirevision, title=title)
    layout["hovermode"] = "closest"
    layout["showlegend"] = False
    layout["yaxis"] |= {"title": {"text": label(metric), "standoff": 6}}
    shown = [label(str(value)) for value in values] if even or (log_x and min(numbers) <= 0) else list(values)
    layout["xaxis"] = {"type": "category" if shown != list(values) or even else ("log" if log_x else "linear")}
    dots = [(x, y) for x, row in zip(shown, results, strict=True) for y in row if y is not None]
    means = [
        (x, float(np.mean(known)))
        for x, row in zip(shown, results, strict=True)
        if (known := [y for y in row if y is not None])
    ]
    return Figure(
        [
            {
                "type": "scatter",
                "mode": "lines",
                "x": [x for x, _ in means],
                "y": [y for _, y in means],
                "line": {"color": GREY, "width": 2},
                "hovertemplate": "mean %{y:.4g}<extra></extra>",
            },
            {
                "type": "scatter",
                "mode": "markers",
                "x": [x for x, _ in dots],
                "y": [y for _, y in dots],
                "marker": {"color": BLUE, "size": 8},
                "hovertemplate": "%{x}: %{y:.4g}<extra></extra>",
            },
        ],
        layout,
    )
