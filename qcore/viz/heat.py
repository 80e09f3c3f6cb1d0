"""Heat maps that read on dark and on light pages: colour fades into the page where the value is 0.

Scales hold one hue (0 to a limit) or two (blue above 0, vermillion below, apart for every kind of colour blindness),
both transparent at 0, so that nothing needs to know the page's theme. Numbers in cells are drawn as text of the
page's own colour over a tint that leaves them their contrast. Unknown values (NaN) stay empty. The first row is at
the top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qcore.base.words import number_words
from qcore.viz.figure import Figure
from qcore.viz.theme import BLUE, GREY, LABEL_SIZE, VERMILLION, base_layout, label

TINT = 0.62
"""Opacity of the strongest colour under numbers."""
FAINT = "rgba(128,136,144,0.35)"
_SCALE_PIXELS, _BAR_PIXELS, _BAR_CELLS = 32, 9, 96


@dataclass(frozen=True)
class Scale:
    """Colours of values from `low` to `high`.

    Attributes:
        title: unit, over the bar of colours.
        ticks: value → text at the bar.
    """

    low: float
    high: float
    colors: list[list[Any]]
    title: str = ""
    ticks: dict[float, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Axis:
    """One side of a map.

    Attributes:
        title: beside the axis.
        ticks: label of every row or column, or of some by place.
        name: in hover texts.
    """

    title: str = ""
    ticks: Sequence[str] | dict[int, str] = ()
    name: str = ""
    size: int = LABEL_SIZE


def rgba(color: str, opacity: float) -> str:
    """`#RRGGBB` with an opacity from 0 to 1."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def one_sided_scale(color: str = BLUE, strongest: float = 1.0) -> list[list[Any]]:
    """Colour scale of values from 0 up: clear, then one hue."""
    return [[0.0, rgba(color, 0)], [1.0, rgba(color, strongest)]]


def two_sided_scale(strongest: float = 1.0) -> list[list[Any]]:
    """Colour scale around 0: vermillion below, clear at 0, blue above."""
    return [
        [0.0, rgba(VERMILLION, strongest)],
        [0.5, rgba(VERMILLION, 0)],
        [0.5, rgba(BLUE, 0)],
        [1.0, rgba(BLUE, strongest)],
    ]


def limit_of(values: ArrayLike, share: float = 0.97) -> float:
    """A limit that `share` of the values' magnitudes other than 0 stay below; 1 when there is none.

    A few large cells then do not fade all others; they take the strongest colour.
    """
    size = np.abs(np.asarray(values, dtype=np.float64))
    size = size[np.isfinite(size) & (size > 0)]
    return float(np.quantile(size, share)) if len(size) else 1.0


def heat(
    z_RC: ArrayLike,
    *,
    x: Axis,
    y: Axis,
    scale: Scale,
    uirevision: str,
    title: str = "",
    hover: str = "%{z:.3~g}",
    height: int = 300,
    numbers: str = "",
    gap: int = 0,
) -> Figure:
    """A map of R rows and C columns, its colours explained above.

    Args:
        hover: Plotly template of a cell's value.
        numbers: format of the numbers in the cells (`.2f`), none if empty.
        gap: pixels between cells.

    Raises:
        ValueError: for values that are not a matrix.
    """
    z = np.asarray(z_RC)
    if z.ndim != 2:
        raise ValueError(f"a map needs a matrix, not {z.ndim} dimensions: pick one layer and head")
    layout = base_layout(height=height, uirevision=uirevision, title=title)
    layout["hovermode"] = "closest"
    layout["showlegend"] = False
    layout["xaxis"] = _axis(x) | {"range": [-0.5, z.shape[1] - 0.5]}
    layout["yaxis"] = _axis(y) | {"range": [z.shape[0] - 0.5, -0.5]}
    cell = f"{y.name or label(y.title)} %{{y}} · {x.name or label(x.title)} %{{x}}"
    traces: list[dict[str, Any]] = [
        {
            "type": "heatmap",
            "z": np.asarray(z, dtype=np.float32),
            "zmin": scale.low,
            "zmax": scale.high,
            "colorscale": scale.colors,
            "showscale": False,
            "xgap": gap,
            "ygap": gap,
            "hoverongaps": False,
            "hovertemplate": f"{cell}<br>{hover}<extra></extra>",
        }
    ]
    if numbers:
        traces.append(_numbers(z, numbers))
    layout["yaxis"]["domain"] = [0, add_scale(traces, layout, scale)]
    return Figure(traces, layout)


def add_scale(traces: list[dict[str, Any]], layout: dict[str, Any], scale: Scale) -> float:
    """Put a colour scale over the right of the plot, on axes of its own; returns the height that is left, as a share.

    Plotly's own colour bar would push the figure's title out of sight (plotly.js 4.1).
    """
    layout["margin"]["t"] += _SCALE_PIXELS
    inside = max(60, layout["height"] - layout["margin"]["t"] - layout["margin"]["b"])
    ticks = scale.ticks or {scale.low: number_words(scale.low, 2), scale.high: number_words(scale.high, 2)}
    bar = {"anchor": "y9", "domain": [0.3, 0.97], "side": "top", "fixedrange": True, "showgrid": False}
    layout["xaxis9"] = bar | {
        "range": [scale.low, scale.high],
        "zeroline": False,
        "title": {"text": label(scale.title), "font": {"size": LABEL_SIZE}, "standoff": 2},
        "tickvals": list(ticks),
        "ticktext": [label(text) for text in ticks.values()],
        "tickfont": {"size": LABEL_SIZE},
        "automargin": False,
    }
    layout["yaxis9"] = {
        "anchor": "x9",
        "domain": [1 - _BAR_PIXELS / inside, 1],
        "range": [0, 1],
        "fixedrange": True,
        "showticklabels": False,
        "showgrid": False,
        "zeroline": False,
        "ticks": "",
        "showline": True,
        "mirror": True,
        "linecolor": FAINT,
    }
    values = np.linspace(scale.low, scale.high, _BAR_CELLS, dtype=np.float32)
    traces.append(
        {
            "type": "heatmap",
            "z": values[None, :],
            "x": values,
            "y": [0.5],
            "zmin": scale.low,
            "zmax": scale.high,
            "colorscale": scale.colors,
            "showscale": False,
            "xaxis": "x9",
            "yaxis": "y9",
            "hoverinfo": "skip",
        }
    )
    return 1 - (_BAR_PIXELS + 8) / inside


def with_cursor(figure: Figure, step: int | None) -> Figure:
    """Curves over steps with a line at the step that the rest of the page shows; None: unchanged."""
    if step is None or not figure.data or (step <= 0 and figure.layout["xaxis"].get("type") == "log"):
        return figure
    line = {
        "type": "line",
        "xref": "x",
        "x0": step,
        "x1": step,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": GREY, "width": 1.5},
    }
    return Figure(figure.data, figure.layout | {"shapes": [*figure.layout.get("shapes", []), line]})


def _axis(axis: Axis) -> dict[str, Any]:
    places = dict(axis.ticks) if isinstance(axis.ticks, dict) else dict(enumerate(axis.ticks))
    ticks: dict[str, Any] = {}
    if places:
        ticks = {"tickvals": list(places), "ticktext": [label(text) for text in places.values()]}
    return {
        "title": {"text": label(axis.title), "standoff": 6},
        "automargin": True,
        "showgrid": False,
        "zeroline": False,
        "ticks": "",
        "tickfont": {"size": axis.size},
        **ticks,
    }


def _numbers(z_RC: NDArray[Any], form: str) -> dict[str, Any]:
    rows, columns = np.nonzero(np.isfinite(z_RC))
    return {
        "type": "scatter",
        "mode": "text",
        "x": columns.astype(np.int32),
        "y": rows.astype(np.int32),
        "text": [format(value, form).replace("-", "−") for value in z_RC[rows, columns].tolist()],
        "textfont": {"size": LABEL_SIZE},
        "hoverinfo": "skip",
    }
