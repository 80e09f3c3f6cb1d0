"""Which part of a chart's values its axis shows, and what is said of the rest.

An axis that shows everything can hide all there is to see: the first steps of a loss, one outlier or a reference that
was left behind squeeze the rest into a line, and noise of a thousandth fills a whole chart. So the top of an axis comes
from the second half of its curves, outliers can be left out, an axis has a least height, and references far away are
named at the edge. Whatever is not shown is counted and said (`Extent.notes`); nothing is left out in silence.

The limits are Plotly's own options of an automatic range, not a range: a person's zoom outlives them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcore.base.words import number_words

FEWEST = 12
"""A curve of fewer points has no start that could squeeze the rest, and no outliers."""
LEAST_PART = 0.02
"""An axis is at least so high in parts of what it shows: less is noise."""
_SQUEEZE, _ROOM = 4.0, 2.0
"""The start is left out when the second half would get less than a 4th of the axis; it then gets about a half."""
_AROUND, _FAR = 21, 15.0
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Points as drawn, values NaN where there is nothing to draw.

    Attributes:
        outliers: which of them are, all False if unasked.
    """

    x: Values
    y: Values
    outliers: NDArray[np.bool_]


@dataclass
class Extent:
    """Limits of what is shown, None where everything is; values that the axis must hold; and what is to be said."""

    low: float | None = None
    high: float | None = None
    include: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    at: tuple[float, float] | None = None

    def options(self) -> dict[str, Any]:
        """As Plotly's `autorangeoptions`."""
        found: dict[str, Any] = {}
        if self.low is not None:
            found["clipmin"] = self.low
        if self.high is not None:
            found["clipmax"] = self.high
        if self.include:
            found["include"] = self.include
        return found


def outliers(y: Values) -> NDArray[np.bool_]:
    """Which values lie far from all around them: over 15 interquartile ranges from the median of 21 neighbours.

    A step, a slope, the steep start of a loss and noise of any usual kind are no outliers; up to five in a row are.
    Values that are not finite are none, and neither is any of a short series.
    """
    found = np.zeros(len(y), dtype=bool)
    known = np.flatnonzero(np.isfinite(y))
    if len(known) < FEWEST:
        return found
    values = y[known]
    width = min(_AROUND, len(values))
    windows = np.lib.stride_tricks.sliding_window_view(values, width)
    low, middle, high = np.quantile(windows, (0.25, 0.5, 0.75), axis=1)
    # at both ends the first and last whole window judge: a shorter one would call half of a slope far
    place = np.clip(np.arange(len(values)) - width // 2, 0, len(windows) - 1)
    # a constant stretch has no spread: rounding in the last digit would be far from it
    spread = np.maximum(high - low, 1e-3 * np.abs(middle))[place]
    is_far = np.abs(values - middle[place]) > _FAR * np.maximum(spread, 1e-300)
    first = int(np.argmin(is_far))
    if first > 2 and (np.diff(values[: first + 1]) < 0).all():
        is_far[:first] = False  # a fall in many steps is how a curve starts
    found[known] = is_far
    return found


def extent(
    curves: Sequence[Curve], references: Sequence[tuple[str, float]], *, log: bool, settled: bool, least: float
) -> Extent:
    """What the axis of these curves shows.

    Args:
        settled: the height of the first steps may be left out.
        least: height that the axis has at least, in its unit.
        references: name and value of lines that are wanted on it.
    """
    found = Extent()
    # one axis for all curves: what squeezes one of them squeezes the chart
    pooled = np.concatenate([curve.y[np.isfinite(curve.y) & ~curve.outliers] for curve in curves] or [np.zeros(0)])
    if not len(pooled):
        return found
    low, high = float(pooled.min()), float(pooled.max())
    # a logarithmic axis shows a steep start as it is
    if settled and not log:
        top = _settled_top(curves)
        if top is not None and top < high:
            start = high
            high = top
            found.notes.append(f"start ↑ {number_words(start, 2)}")
            found.high = high
    found.at = (low, high)
    aside = np.concatenate([curve.y[curve.outliers] for curve in curves] or [np.zeros(0)])
    # both sides are fixed: Plotly would otherwise find its limits from the outliers too
    if len(aside):
        found.low, found.high = low, high
        found.notes.append(_outlier_text(curves, aside))
    span = _span(low, high, log)
    # a run's first points lie far from every floor; leaving the floor out would hide where it is going
    if len(pooled) >= FEWEST and references:
        _place_references(found, references, low, high, log)
    if not log:
        wanted = max(least, LEAST_PART * max(abs(low), abs(high)), 1e-12)
        if span < wanted:
            middle = (low + high) / 2
            bottom, top = middle - wanted / 2, middle + wanted / 2
            # a share or a loss is never below 0: the room goes above
            if low >= 0 > bottom:
                bottom, top = 0.0, wanted
            found.include = [bottom, top]
            found.at = low, high = min(low, bottom), max(high, top)
    _pad(found, low, high, log)
    return found


def _settled_top(curves: Sequence[Curve]) -> float | None:
    """The top of an axis that leaves the curves' start out; None where the start squeezes nothing."""
    shown = [(curve.x[known], curve.y[known]) for curve in curves for known in [_drawable_points(curve)] if known.any()]
    if not shown or max(len(x) for x, _ in shown) < FEWEST:
        return None
    # by the steps, not by the count of points: downsampling leaves more of them where much happens
    middle = (min(float(x[0]) for x, _ in shown) + max(float(x[-1]) for x, _ in shown)) / 2
    whole = [y for _, y in shown]
    # a run that has ended before the middle has no later half: all of it counts
    late = [y[x > middle] if x[-1] > middle else y for x, y in shown]
    low = min(float(y.min()) for y in whole)
    room = max(float(y.max()) for y in late) - low
    room = max(room, LEAST_PART * max(abs(low), abs(low + room)))
    most = max(float(y.max()) for y in whole)
    if most - low <= _SQUEEZE * room:
        return None
    top = low + _ROOM * room
    for y in whole:
        under = np.flatnonzero(y <= top)
        if len(under):  # what rises above once more is no start: it is shown
            top = max(top, float(y[under[0] :].max()))
    return top if most - low > _SQUEEZE / _ROOM * (top - low) else None


def _drawable_points(curve: Curve) -> NDArray[np.bool_]:
    return np.isfinite(curve.y) & ~curve.outliers


def _outlier_text(curves: Sequence[Curve], aside: Values) -> str:
    furthest = float(aside[np.argmax(np.abs(aside))])
    step = next(
        float(curve.x[place])
        for curve in curves
        for place in np.flatnonzero(curve.outliers)
        if float(curve.y[place]) == furthest
    )
    count = f"{len(aside)} outlier{'' if len(aside) == 1 else 's'}"
    return f"{count} left out, up to {number_words(furthest, 3)} at {number_words(step, 9)}"


def _place_references(
    found: Extent, references: Sequence[tuple[str, float]], low: float, high: float, log: bool
) -> None:
    """Leave references that are far from the curves out of the axis, and name them at its edge."""
    span = max(_span(low, high, log), 0.05 if log else LEAST_PART * max(abs(low), abs(high)))
    above, below, inside = [], [], [low, high]
    for name, value in references:
        if _span(high, value, log) > span:
            above.append((value, f"{name} {number_words(value, 3)} ↑"))
        # twice as far below as above: a loss falls towards its floors, and a person wants to see how near it is
        elif _span(value, low, log) > 2 * span:
            below.append((value, f"{name} {number_words(value, 3)} ↓"))
        else:
            inside.append(value)
    if above:
        found.high = max(inside)
    if below:
        found.low = min(inside)
    if above or below:
        found.at = min(inside), max(inside)
        found.notes += [words for _, words in sorted(below + above)]


def _pad(found: Extent, low: float, high: float, log: bool) -> None:
    """A clipped side ends a little beyond its last value; the other keeps Plotly's own margin, in the same measure."""
    if found.low is None and found.high is None:
        return
    low, high = found.at or (low, high)
    if log:
        factor = (high / low) ** 0.04
        found.low, found.high = low / factor, high * factor
    else:
        edge = 0.04 * (high - low)
        found.low, found.high = low - edge, high + edge
    found.at = (low, high)


def _span(low: float, high: float, log: bool) -> float:
    return math.log10(high / low) if log else high - low


def nonfinite_text(name: str, x: Values, y: Values, counted: tuple[int, int] | None) -> str:
    """What a chart says of values that are not finite: `not finite at steps 40–90 (51 of 100 points)`; empty without.

    Args:
        counted: how many are not finite, of how many, where `y` is only a part of the series.
    """
    bad = np.flatnonzero(~np.isfinite(y))
    lost, of = counted or (len(bad), len(y))
    if not lost or not len(bad):
        return ""
    first, last = (number_words(float(x[place]), 9) for place in (bad[0], bad[-1]))
    where = f"step {first}" if first == last else f"steps {first}–{last}"
    subject = f"{name}: " if name else ""
    return f"{subject}not finite at {where} ({lost:,} of {of:,} points)"
