"""Depth against time: one measurement of every layer or module as a map, its rows in the model's order.

Columns are measurements, not steps: they are as wide wherever they were taken. Sizes that span powers of ten are
coloured by their logarithm, shares from none to all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from qcore.base.words import number_words
from qcore.probes.catalog import Declared
from qcore.viz.figure import Figure
from qcore.viz.heat import Axis, Scale, heat, one_sided_scale
from qcore.viz.theme import BLUE, GREY, VERMILLION, empty_figure

_TICKS = 6
_ROW_PIXELS, _LEAST_PIXELS, _MOST_PIXELS = 16, 240, 720
_LONGEST_NAME = 26


@dataclass(frozen=True)
class LayerValues:
    """One measurement of M layers or modules at S steps.

    Raises:
        ValueError: for values that do not fit names and steps.
    """

    names: Sequence[str]
    steps: Sequence[int]
    value_MS: ArrayLike

    def __post_init__(self) -> None:
        shape = np.shape(self.value_MS)
        if shape != (len(self.names), len(self.steps)):
            raise ValueError(f"the map has {shape} values for {len(self.names)} layers at {len(self.steps)} steps")


def layer_values(names: Sequence[str], steps: Sequence[int], columns: Sequence[ArrayLike]) -> LayerValues:
    """Values of one step after the other; a model that has grown has fewer layers in earlier columns."""
    value_MS = np.full((len(names), len(steps)), np.nan)
    for place, column in enumerate(columns):
        known = np.asarray(column, dtype=np.float64)[: len(names)]
        value_MS[: len(known), place] = known
    return LayerValues(names, steps, value_MS)


def layer_map(values: LayerValues, words: Declared, *, uirevision: str, shown: int | None = None) -> Figure:
    """A map of the values.

    Args:
        words: of the series that is shown for each layer.
        shown: the step that the rest of the page shows, framed.
    """
    names, steps, value = values.names, values.steps, np.asarray(values.value_MS, dtype=np.float64)
    if not np.isfinite(value).any():
        return empty_figure("Nothing measured yet.", uirevision=uirevision, title=words.heading)
    is_share = words.form.endswith("%")
    z, scale, hover = _shares(value, words) if is_share else _sizes(value, words)
    places = np.linspace(0, len(steps) - 1, min(_TICKS, len(steps))).astype(int).tolist()
    ticks = {place: f"{steps[place]:,}" for place in places}
    figure = heat(
        z,
        x=Axis("step", ticks, "measurement"),
        y=Axis("", [_shorten(name) for name in names], "layer", size=10),
        scale=scale,
        uirevision=uirevision,
        title=words.heading,
        hover=hover,
        height=int(np.clip(110 + _ROW_PIXELS * len(names), _LEAST_PIXELS, _MOST_PIXELS)),
    )
    cells = figure.data[0]
    cells["customdata"] = np.broadcast_to(np.asarray(steps, dtype=np.int32), value.shape)
    cells["text"] = [[number_words(one, 3) for one in row] for row in value.tolist()]
    cells["hovertemplate"] = "%{y}, step %{customdata:,}<br>%{text}<extra></extra>"
    frame = _frame(steps, shown, len(names))
    return Figure(figure.data, figure.layout | {"shapes": [*figure.layout.get("shapes", []), *frame]})


def _shares(value: np.ndarray, words: Declared) -> tuple[np.ndarray, Scale, str]:
    ticks = {0.0: "none", 0.5: "half", 1.0: "all"}
    return value, Scale(0, 1, one_sided_scale(VERMILLION), words.unit, ticks), "%{z:.1%}"


def _sizes(value: np.ndarray, words: Declared) -> tuple[np.ndarray, Scale, str]:
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.log10(np.where(value > 0, value, np.nan))
    known = z[np.isfinite(z)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    # at least a power of ten, so that rounding does not look like a change
    low, high = (low, high) if high - low >= 1 else ((low + high) / 2 - 0.5, (low + high) / 2 + 0.5)
    ticks = {low: number_words(10**low, 2), high: number_words(10**high, 2)}
    return z, Scale(low, high, one_sided_scale(BLUE), words.unit, ticks), "10^%{z:.2f}"


def _frame(steps: Sequence[int], shown: int | None, rows: int) -> list[dict[str, object]]:
    """A frame around the newest measurement up to a step; none where there is no step or no such measurement."""
    earlier = [place for place, step in enumerate(steps) if shown is not None and step <= shown]
    if not earlier:
        return []
    place = earlier[-1]
    line = {"color": GREY, "width": 1.5}
    corners = {"x0": place - 0.5, "x1": place + 0.5, "y0": -0.5, "y1": rows - 0.5}
    return [{"type": "rect", "xref": "x", "yref": "y", **corners, "line": line}]


def _shorten(name: str) -> str:
    half = (_LONGEST_NAME - 1) // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half:]}"
