"""Curves over steps: any number of lines, smoothing with the raw data behind, reference lines, and marks of events.

The order of traces follows the arguments alone (events, then raw and smooth of each line), so that a refresh with new
points never swaps two traces under a person's zoom or hidden legend entry. Event lines live on an axis of their own
from 0 to 1, so that they span the plot whatever the scale and carry hover text. What a chart cannot show, because it is
not finite, not positive on a logarithmic axis, or far outside (`viz.extent`), is said under its title.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qcore.base.words import number_words
from qcore.viz.extent import Curve, Extent, extent, nonfinite_text, outliers
from qcore.viz.figure import Figure
from qcore.viz.theme import CLEAR, GREY, LABEL_SIZE, PURPLE, base_layout, empty_figure, label, line_style

MARKERS_BELOW = 50
"""Markers are what drawing costs (a node a point): only short traces have them."""
NOTE_LETTERS, NOTE_PIXELS = 58, 15
NAME_PIXELS, LETTER_PIXELS = (68, 130), 6.5  # room for the names of reference lines at the right
LONGEST_TITLE, WIDE = 60, 320
"""Letters of a title with its unit in one row of a chart that is at least so high; half as many in lower ones."""
_EVENT_HEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


class StoredSeries(Protocol):
    """A stored series: its points, and how many of all its points are not finite."""

    @property
    def steps(self) -> Any:
        """Of the points."""

    @property
    def values(self) -> Any:
        """At these steps."""


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        x: steps.
        y: values.
        style: Plotly line attributes, else the palette's next.
        gaps: NaN means not measured there, and nothing is said of it.
        counted: how many values are not finite of how many, where the points are only a part of the series.
    """

    name: str
    x: ArrayLike
    y: ArrayLike
    style: dict[str, Any] | None = None
    smooth: bool = True
    gaps: bool = False
    counted: tuple[int, int] | None = None

    @classmethod
    def of(cls, name: str, series: StoredSeries, style: dict[str, Any] | None = None, *, smooth: bool = True) -> Line:
        """A stored series as a line."""
        return cls(name, series.steps, series.values, style, smooth, counted=getattr(series, "counted", None))


@dataclass(frozen=True)
class Reference:
    """A horizontal line with a name at its right end.

    Attributes:
        hint: shown on hover, such as its value and origin.
    """

    name: str
    value: float
    hint: str = ""


@dataclass(frozen=True)
class XAxis:
    """What runs along a chart.

    Args:
        log: a logarithmic axis; what is ≤ 0 is left out and counted.
        over_steps: x are steps, and the height of the first ones may be left out.
    """

    log: bool = False
    over_steps: bool = True


NO_STEPS = XAxis(over_steps=False)


@dataclass(frozen=True)
class YAxis:
    """How the values of a chart are shown.

    Args:
        log: a logarithmic axis; what is ≤ 0 is left out and counted.
        limits: fixed ends of a linear axis.
        least: least height of an axis without limits, in its unit.
        format: of a value on hover, as D3 writes formats.
    """

    log: bool = False
    limits: tuple[float, float] | None = None
    least: float = 0.0
    format: str = ",.5~r"


@dataclass(frozen=True)
class Extremes:
    """What becomes of values that would squeeze all others together.

    Args:
        whole: the axis reaches up to the first steps, however high they are.
        ignore_outliers: single values far from all around them are left out of the axis and of the smoothing.
    """

    whole: bool = False
    ignore_outliers: bool = False


SHARE = YAxis(limits=(-0.03, 1.03))
"""A share: from 0 to 1, with a little room, so that a line at either end is seen."""


@dataclass(frozen=True)
class Mark:
    """What happened at a step, such as `diversity weight 0 → 0.3 by person`."""

    step: int
    text: str


def ema(x: ArrayLike, y: ArrayLike, span: float) -> NDArray[np.float64]:
    """Exponential moving average along x, its memory `span` steps long, unbiased at the start.

    s_i = Σ_j≤i e^(−(x_i − x_j)/span) y_j / Σ_j≤i e^(−(x_i − x_j)/span) over finite y_j; the limit span → 0 is y itself.
    Uneven spacing is respected, so that downsampled data smooths like the full data. NaN until the first finite value.

    Example:
        >>> ema([0, 1, 2], [1.0, 0.0, 1.0], span=0).tolist()
        [1.0, 0.0, 1.0]
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
    x: XAxis = XAxis(),
    y: YAxis = YAxis(),
    extremes: Extremes = Extremes(),
    height: int = 260,
    message: str = "Nothing measured so far.",
) -> Figure:
    """Lines over steps. The lines themselves are not changed.

    Args:
        lines: the order of the traces is theirs.
        uirevision: what keeps a person's zoom; another one resets it.
        title: of the chart, in words.
        y_title: unit, added to the title.
        marks: what happened, as vertical lines.
        references: horizontal lines.
        span: memory of the smoothing in steps, 0 for none.
        x: what runs along the chart.
        y: how values are shown.
        extremes: what becomes of values that would squeeze all others together.
        height: in pixels.
        message: shown when no line has a point.

    Example:
        >>> figure = curves([Line("loss", [1, 2, 3], [3.0, 2.0, 1.5])], uirevision="run", title="Loss", y_title="nats")
        >>> heading(figure)
        'Loss, nats'
    """
    in_full = title_with_unit(title, y_title)
    if all(np.size(line.y) == 0 for line in lines):
        return empty_figure(message, height=height, uirevision=uirevision, title=in_full)
    layout = base_layout(height=height, uirevision=uirevision, title=in_full)
    if title and len(in_full) > (LONGEST_TITLE if height >= WIDE else LONGEST_TITLE // 2):
        # In two rows: a title does not wrap, and half of the page's width is not much.
        layout["title"]["text"] = f'{label(title)}<br><span style="font-size:13px">{label(y_title)}</span>'
        # Plotly puts the last row where a single one would stand.
        layout["title"]["pad"] = {"t": NOTE_PIXELS + 2}
        layout["margin"]["t"] += NOTE_PIXELS + 2
    layout["xaxis"] |= {"type": "log" if x.log else "linear", "uirevision": f"{uirevision}:{x.log}"}
    layout["yaxis"] |= {
        "type": "log" if y.log else "linear",
        "uirevision": f"{uirevision}:{y.log}:{y_title}",
        "title": {"text": "" if title else label(y_title), "standoff": 6},
        "exponentformat": "power",
        "minexponent": 6,
        "separatethousands": True,
    }
    if y.log:
        layout["yaxis"] |= {"tickformat": ",~g", "nticks": 4, "minor": {"ticks": ""}}
    shown = [_shown(line, x.log, y.log) for line in lines]
    if x.over_steps:
        layout["xaxis"] |= _step_axis(shown, x.log)
    layout["showlegend"] = len(lines) > 1 or any(_is_lost(line) for line in shown)
    layout["yaxis2"] = {"overlaying": "y", "range": [0, 1], "fixedrange": True, "visible": False}
    found = _curves_of(shown, y.log, extremes.ignore_outliers)
    if y.limits is not None and not y.log:
        layout["yaxis"]["range"] = list(y.limits)
        seen = Extent(at=y.limits)
    else:
        wanted = [(ref.name, ref.value) for ref in references if ref.value > 0 or not y.log]
        settled = x.over_steps and not extremes.whole
        seen = extent(found, wanted, log=y.log, settled=settled, least=y.least)
        if options := seen.options():
            layout["yaxis"]["autorangeoptions"] = options
    if all(_is_lost(line) for line in shown if np.size(line.y)):
        layout["yaxis"] |= {"showticklabels": False, "showgrid": False}
    traces = [_mark_trace(marks)]
    for index, (line, curve) in enumerate(zip(shown, found, strict=True)):
        style = line.style or line_style(index)
        traces += _line_traces(line, curve.outliers, style, span if line.smooth else 0.0, y.format)
    if references:
        layout |= _reference_layout(references, seen, y.log, height)
        longest = max((len(one["text"]) for one in layout["annotations"]), default=0)
        layout["margin"]["r"] = max(NAME_PIXELS[0], min(NAME_PIXELS[1], 8 + round(LETTER_PIXELS * longest)))
    say_notes(layout, _notes(lines, x.log, y.log) + seen.notes, bool(title))
    return Figure(traces, layout)


def heading(figure: Figure) -> str:
    """A figure's title in plain words, for who cannot see it; with what the chart says of points it leaves out."""
    text = html.unescape(re.sub(r"<br>", ", ", re.sub(r"</?span[^>]*>", "", str(figure.layout["title"]["text"]))))
    return ". ".join([text, *figure.layout.get("meta", {}).get("notes", [])])


def title_with_unit(title: str, unit: str) -> str:
    """A title in words with its unit: `Cross-entropy, nats per token`."""
    return f"{title}, {unit}" if title and unit and unit.lower() not in title.lower() else title


def _shown(line: Line, log_x: bool, log_y: bool) -> Line:
    """The line without what a logarithmic axis cannot show: values ≤ 0 become gaps, steps ≤ 0 are left out."""
    x, y = np.asarray(line.x), np.asarray(line.y, dtype=np.float64)
    if log_y:
        y = np.where(y > 0, y, np.nan)
    y = np.where(np.isfinite(y), y, np.nan)
    return replace(line, x=x[x > 0], y=y[x > 0]) if log_x else replace(line, x=x, y=y)


def _is_lost(line: Line) -> bool:
    """Whether a line has points and none that can be drawn."""
    y = np.asarray(line.y)
    return bool(y.size) and not np.isfinite(y).any()


def _step_axis(lines: Sequence[Line], log_x: bool) -> dict[str, Any]:
    """Ticks at whole steps, written out."""
    steps = np.concatenate([np.asarray(line.x, dtype=np.float64) for line in lines] or [np.zeros(0)])
    axis: dict[str, Any] = {"tickformat": ",~g" if log_x else ",.9~g"}
    if not len(steps):
        return axis
    first, last = float(steps.min()), float(steps.max())
    if first == last:
        return axis | {"tickvals": [first], "ticktext": [number_words(first, 9)]}
    if log_x:
        # Decades only: the digits between them crowd a small chart.
        return axis | ({"dtick": 1} if last >= 10 else {})
    return axis | ({"dtick": 1} if last - first < 6 else {})


def _curves_of(lines: Sequence[Line], log_y: bool, ignore: bool) -> list[Curve]:
    found = []
    for line in lines:
        x, y = np.asarray(line.x, dtype=np.float64), np.asarray(line.y, dtype=np.float64)
        judged = np.log10(y, out=np.full(len(y), np.nan), where=y > 0) if log_y else y
        found.append(Curve(x, y, outliers(judged) if ignore else np.zeros(len(y), dtype=bool)))
    return found


def _notes(lines: Sequence[Line], log_x: bool, log_y: bool) -> list[str]:
    """What is said of points that cannot be drawn."""
    notes, several = [], len(lines) > 1
    for line in lines:
        x, y = np.asarray(line.x, dtype=np.float64), np.asarray(line.y, dtype=np.float64)
        if not line.gaps and (said := nonfinite_text(line.name if several else "", x, y, line.counted)):
            notes.append(said)
    values = [np.asarray(line.y, dtype=np.float64) for line in lines]
    if log_y and (low := sum(int((y <= 0).sum()) for y in values)):
        notes.append(f"{low:,} point{'' if low == 1 else 's'} ≤ 0 left out of the logarithmic axis")
    if log_x and (early := sum(int((np.asarray(line.x) <= 0).sum()) for line in lines)):
        notes.append(f"{early:,} point{'' if early == 1 else 's'} at step 0 left out of the logarithmic axis")
    return notes


def say_notes(layout: dict[str, Any], notes: Sequence[str], titled: bool) -> None:
    """Notes in small letters between the title and the plot, which moves down for them."""
    if not notes:
        return
    rows = [row for note in [" · ".join(notes)] for row in wrap(note, NOTE_LETTERS)]
    layout["meta"] = {"notes": list(notes)}
    layout["margin"]["t"] += NOTE_PIXELS * len(rows) + (0 if titled else 6)
    layout.setdefault("annotations", [])
    layout["annotations"] = [
        *layout["annotations"],
        {
            "name": "notes",
            "text": "<br>".join(label(row) for row in rows),
            "xref": "paper",
            "x": 0,
            "xanchor": "left",
            "align": "left",
            "yref": "paper",
            "y": 1,
            "yanchor": "bottom",
            "yshift": 2,
            "showarrow": False,
            "font": {"size": LABEL_SIZE},
        },
    ]


def _line_traces(
    line: Line, aside: NDArray[np.bool_], style: dict[str, Any], span: float, value_format: str
) -> list[dict[str, Any]]:
    x, y = np.asarray(line.x), np.asarray(line.y)
    smooth = span > 0 and len(y) > 2
    mode = "lines+markers" if len(y) < MARKERS_BELOW else "lines"
    name = (
        f"{line.name}: NaN since step {number_words(float(x[0]), 9)}" if _is_lost(line) and not line.gaps else line.name
    )
    common = {"type": "scatter", "name": label(name), "legendgroup": line.name, "marker": {"size": 4}}
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
    alone = np.zeros(0, dtype=np.int64) if smooth or mode != "lines" else _isolated_points(y)
    averaged: dict[str, Any] = common | {
        "x": x if smooth else x[alone],
        "y": ema(x, np.where(aside, np.nan, y), span) if smooth else y[alone],
        "mode": "lines" if smooth or not len(alone) else "markers",
        "line": {"width": 2} | style,
        "showlegend": smooth,
        **hover,
    }
    if len(alone):
        averaged["marker"] = {"size": 4, "color": style.get("color")}
    return [raw, averaged]


def _isolated_points(y: NDArray[np.float64]) -> NDArray[np.int64]:
    """Places of finite values between two gaps: a line has no length there, and would not show them."""
    known = np.concatenate([[False], np.isfinite(y), [False]])
    return np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:])


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
    references: Sequence[Reference], seen: Extent, log_y: bool, height: int
) -> dict[str, list[dict[str, Any]]]:
    """Dashed lines over the whole width, named in the right margin; names closer than a text line are pushed apart.

    A line outside of the axis is there for who zooms out; its name stands with the notes.
    """
    ordered = sorted((ref for ref in references if ref.value > 0 or not log_y), key=lambda ref: ref.value)
    low, high = seen.low, seen.high
    named = [ref for ref in ordered if (low is None or ref.value >= low) and (high is None or ref.value <= high)]
    position = [float(np.log10(ref.value)) if log_y else ref.value for ref in named]
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
            "hovertext": label(ref.hint or f"{ref.name}: {number_words(ref.value)}"),
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
        for ref, at, shift in zip(named, position, _label_shifts(seen, position, log_y, height), strict=True)
    ]
    return {"shapes": shapes, "annotations": annotations}


def _label_shifts(seen: Extent, position: list[float], log_y: bool, height: int) -> list[float]:
    """Pixels to push each label up (the list is ascending) so that labels stay a text line apart before any zoom."""
    edges = [] if seen.at is None else [float(np.log10(edge)) if log_y else edge for edge in seen.at]
    ends = np.asarray([*edges, *position])
    spread = float(ends.max() - ends.min()) if len(ends) else 0.0
    pixels = (height - 90) / spread if spread > 0 else 0.0
    shifts: list[float] = []
    last = -np.inf
    for at in position:
        place = max(at * pixels, last + LABEL_SIZE + 2)
        shifts.append(round(place - at * pixels, 1))
        last = place
    return shifts
