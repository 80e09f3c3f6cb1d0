"""Curves over steps: any number of lines, smoothing with the raw data behind, reference lines, and marks of events.

The order of traces follows the arguments alone (events, then raw and smooth of each line), so that a refresh with new
points never swaps two traces under a person's zoom or hidden legend entry. Event lines live on an axis of their own
from 0 to 1, so that they span the plot whatever the scale and carry hover text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qcore.viz.figure import Figure
from qcore.viz.theme import CLEAR, GREY, LABEL_SIZE, PURPLE, base_layout, empty_figure, label, line_style

MARKERS_UP_TO = 40
_EVENT_HEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Line:
    """One curve. x: steps · y: values, NaN where unknown · style: Plotly line attributes, else the palette's next."""

    name: str
    x: ArrayLike
    y: ArrayLike
    style: dict[str, Any] | None = None
    smooth: bool = True


@dataclass(frozen=True)
class Reference:
    """A horizontal line with a name at its right end. hint: shown on hover, such as its value and origin."""

    name: str
    value: float
    hint: str = ""


@dataclass(frozen=True)
class Mark:
    """What happened at a step, such as `diversity weight 0 → 0.3 by person at step 120`."""

    step: int
    text: str


def ema(x: ArrayLike, y: ArrayLike, span: float) -> NDArray[np.float64]:
    """Exponential moving average along x, its memory `span` steps long, unbiased at the start.

    s_i = Σ_j≤i e^(−(x_i − x_j)/span) y_j / Σ_j≤i e^(−(x_i − x_j)/span) over finite y_j; the limit span → 0 is y itself.
    Uneven spacing is respected, so that downsampled data smooths like the full data. NaN until the first finite value.
    """
    steps, values = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if span <= 0 or len(values) == 0:
        return values.copy()
    decay = np.exp(-np.diff(steps, prepend=steps[:1]) / span)
    known = np.isfinite(values)
    out = np.full(len(values), np.nan)
    total = weight = 0.0
    for i, (factor, value, is_known) in enumerate(zip(decay.tolist(), values.tolist(), known.tolist(), strict=True)):
        total *= factor
        weight *= factor
        if is_known:
            total += value
            weight += 1.0
        if weight > 0:
            out[i] = total / weight
    return out


def curves(
    lines: Sequence[Line],
    *,
    uirevision: str,
    title: str = "",
    y_title: str = "",
    marks: Sequence[Mark] = (),
    references: Sequence[Reference] = (),
    span: float = 0.0,
    log_x: bool = False,
    log_y: bool = False,
    height: int = 260,
    value_format: str = ".4~g",
    y_range: tuple[float, float] | None = None,
    message: str = "No data yet.",
) -> Figure:
    """Lines over steps.

    span: memory of the smoothing in steps, 0 for none · log_x, log_y: logarithmic axes (what is ≤ 0 is left out) ·
    y_range: fixed limits of a linear y axis · message: shown when no line has a point. Inputs are not changed.
    """
    if all(np.size(line.y) == 0 for line in lines):
        return empty_figure(message, height=height, uirevision=uirevision, title=title)
    layout = base_layout(height=height, uirevision=uirevision, title=title)
    layout["xaxis"] |= {"type": "log" if log_x else "linear", "uirevision": f"{uirevision}:{log_x}"}
    layout["yaxis"] |= {
        "type": "log" if log_y else "linear",
        "uirevision": f"{uirevision}:{log_y}:{y_title}",
        "title": {"text": label(y_title), "standoff": 6},
    }
    if log_x and max(np.max(line.x, initial=0) for line in lines) >= 10:
        layout["xaxis"]["dtick"] = 1  # decades only: the digits between them crowd a small chart
    if log_y:
        layout["yaxis"] |= {"dtick": "D2", "minor": {"ticks": ""}}
    if y_range is not None and not log_y:
        layout["yaxis"]["range"] = list(y_range)
    layout["showlegend"] = len(lines) > 1
    layout["yaxis2"] = {"overlaying": "y", "range": [0, 1], "fixedrange": True, "visible": False}
    traces = [_mark_trace(marks)]
    for index, line in enumerate(lines):
        style = line.style or line_style(index)
        traces += _line_traces(_shown(line, log_x, log_y), style, span if line.smooth else 0.0, value_format)
    if references:
        layout |= _reference_layout(lines, references, log_y, height)
        layout["margin"]["r"] = 68
    return Figure(traces, layout)


def _shown(line: Line, log_x: bool, log_y: bool) -> Line:
    """The line without what a logarithmic axis cannot show: values ≤ 0 become gaps, steps ≤ 0 are left out."""
    x, y = np.asarray(line.x), np.asarray(line.y, dtype=np.float64)
    if log_y:
        y = np.where(y > 0, y, np.nan)
    return replace(line, x=x[x > 0], y=y[x > 0]) if log_x else replace(line, x=x, y=y)


def _line_traces(line: Line, style: dict[str, Any], span: float, value_format: str) -> list[dict[str, Any]]:
    x, y = np.asarray(line.x), np.asarray(line.y)
    smooth = span > 0 and len(y) > 2
    mode = "lines+markers" if len(y) <= MARKERS_UP_TO else "lines"
    common = {"type": "scatter", "name": label(line.name), "legendgroup": line.name, "marker": {"size": 4}}
    hover = {"hovertemplate": f"%{{y:{value_format}}}"}
    raw = common | {
        "x": x,
        "y": y,
        "mode": "lines" if smooth else mode,
        "line": {"width": 1 if smooth else 2} | style,
        "opacity": 0.3 if smooth else 1.0,
        "showlegend": not smooth and len(y) > 0,
        **({"hoverinfo": "skip"} if smooth else hover),
    }
    averaged: dict[str, Any] = common | {
        "x": x if smooth else [],
        "y": ema(x, y, span) if smooth else [],
        "mode": "lines",
        "line": {"width": 2} | style,
        "showlegend": smooth,
        **hover,
    }
    return [raw, averaged]


def _mark_trace(marks: Sequence[Mark]) -> dict[str, Any]:
    """Vertical lines on the axis from 0 to 1; marks at the same step share a line and its hover text."""
    texts: dict[int, list[str]] = {}
    for mark in marks:
        texts.setdefault(mark.step, []).append(label(mark.text))
    x: list[int | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for step, lines in sorted(texts.items()):
        shown = "<br>".join(lines if len(lines) <= 6 else [*lines[:5], f"… and {len(lines) - 5} more"])
        x += [step] * len(_EVENT_HEIGHTS) + [None]
        y += [*_EVENT_HEIGHTS, None]
        text += [shown] * len(_EVENT_HEIGHTS) + [""]
    return {
        "type": "scatter",
        "name": "changes",
        "x": x,
        "y": y,
        "text": text,
        "yaxis": "y2",
        "mode": "lines",
        "line": {"color": PURPLE, "width": 1.5, "dash": "dot"},
        "hovertemplate": "%{text}<extra></extra>",
        "showlegend": False,
    }


def _reference_layout(
    lines: Sequence[Line], references: Sequence[Reference], log_y: bool, height: int
) -> dict[str, list[dict[str, Any]]]:
    """Dashed lines over the whole width, named in the right margin; names closer than a text line are pushed apart."""
    ordered = sorted((ref for ref in references if ref.value > 0 or not log_y), key=lambda ref: ref.value)
    position = [float(np.log10(ref.value)) if log_y else ref.value for ref in ordered]
    shapes = [
        {
            "type": "line",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "yref": "y",
            "y0": ref.value,
            "y1": ref.value,
            "layer": "below",
            "line": {"color": GREY, "width": 1, "dash": "dash"},
        }
        for ref in ordered
    ]
    annotations = [
        {
            "text": label(ref.name),
            "hovertext": label(ref.hint or f"{ref.name}: {ref.value:.4g}"),
            "xref": "paper",
            "x": 1,
            "xanchor": "left",
            "yref": "y",
            "y": at,
            "yanchor": "middle",
            "yshift": shift,
            "xshift": 3,
            "showarrow": False,
            "bgcolor": CLEAR,
            "font": {"size": LABEL_SIZE},
        }
        for ref, at, shift in zip(ordered, position, _label_shifts(lines, position, log_y, height), strict=True)
    ]
    return {"shapes": shapes, "annotations": annotations}


def _label_shifts(lines: Sequence[Line], position: list[float], log_y: bool, height: int) -> list[float]:
    """Pixels to push each label up (the list is ascending) so that labels stay a text line apart before any zoom."""
    seen = [np.asarray(line.y, dtype=np.float64).ravel() for line in lines]
    values = np.concatenate([*seen, np.zeros(0)])
    values = values[np.isfinite(values) & (values > 0 if log_y else True)]
    extent = np.concatenate([np.log10(values) if log_y else values, np.asarray(position)])
    spread = float(extent.max() - extent.min()) if len(extent) else 0.0
    pixels = (height - 90) / spread if spread > 0 else 0.0
    shifts: list[float] = []
    last = -np.inf
    for at in position:
        place = max(at * pixels, last + LABEL_SIZE + 2)
        shifts.append(round(place - at * pixels, 1))
        last = place
    return shifts
