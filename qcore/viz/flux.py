"""Figures of Quantum Flux: states on a disc, what one token resembles and reads, thresholds along the text.

Angles are in radians in each token's own frame, so that the position does not turn them; radii lie in [0, 1]. Layer 0
is the encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qcore.base.words import number_words
from qcore.viz.curves import NO_STEPS, SHARE, Line, curves
from qcore.viz.figure import Figure
from qcore.viz.heat import FAINT
from qcore.viz.phases import portrait
from qcore.viz.theme import BLUE, GREY, ORANGE, VERMILLION, base_layout, empty_figure, label

_FLOW_COLOR = FAINT
_LONGEST_LABEL = 12
_TICKS_UP_TO = 24


def disc(
    angle_LT: ArrayLike,
    radius_LT: ArrayLike,
    labels: Sequence[str],
    *,
    layer: int,
    token: int | None = None,
    uirevision: str,
    title: str = "",
    height: int = 440,
) -> Figure:
    """States of all tokens on one plane after `layer`, the paths on which they came there from the encoding, and a ring
    about the chosen token. The arrow is the mean direction.

    Raises:
        ValueError: for a layer that is not there.
    """
    angle, radius = np.asarray(angle_LT, dtype=np.float64), np.asarray(radius_LT, dtype=np.float64)
    if not 0 <= layer < len(angle):
        raise ValueError(f"layer {layer} is not there: choose one from 0 to {len(angle) - 1}")
    position = np.arange(angle.shape[1])
    figure = portrait(angle[layer], radius[layer], position, uirevision=uirevision, title=title, height=height)
    if not figure.data:
        return figure
    points = next(trace for trace in figure.data if trace["mode"] == "markers")
    points["text"] = [label(labels[place]) for place in points["customdata"].tolist()]
    points["hovertemplate"] = "%{text}<br>angle %{theta:.0f}° · radius %{r:.3f} · position %{customdata}<extra></extra>"
    points["marker"]["size"] = 9
    polar: dict[str, Any] = {"type": "scatterpolar", "hoverinfo": "skip", "showlegend": False}
    if layer:
        figure.data.insert(0, polar | _paths(angle[: layer + 1], radius[: layer + 1]))
    if token is not None:
        figure.data.append(
            polar
            | {
                "mode": "markers",
                "r": radius[layer, token : token + 1],
                "theta": np.degrees(angle[layer, token : token + 1]),
                "marker": {"size": 18, "symbol": "circle-open", "line": {"width": 3}, "color": VERMILLION},
            }
        )
    return figure


def _paths(angle_LT: NDArray[Any], radius_LT: NDArray[Any]) -> dict[str, Any]:
    """One broken line through the layers of every token."""
    gap = np.full((1, angle_LT.shape[1]), np.nan)
    return {
        "mode": "lines",
        "r": np.concatenate((radius_LT, gap)).T.ravel().astype(np.float32),
        "theta": np.degrees(np.concatenate((angle_LT, gap))).T.ravel().astype(np.float32),
        "line": {"color": _FLOW_COLOR, "width": 1},
        "connectgaps": False,
    }


def past_figure(
    similarity_T: ArrayLike,
    connection_T: ArrayLike,
    threshold: float,
    labels: Sequence[str],
    *,
    uirevision: str,
    title: str = "",
    height: int = 440,
) -> Figure:
    """One token's past: how much it resembles each token up to itself, its threshold, and with what weight it reads
    each.

    similarity and connection: of positions 0 … t, the token itself last.
    """
    similarity, connection = np.asarray(similarity_T, dtype=np.float64), np.asarray(connection_T, dtype=np.float64)
    if not similarity.size:
        return empty_figure("No tokens measured.", height=height, uirevision=uirevision, title=title)
    place = np.arange(len(similarity), dtype=np.int32)
    above = similarity >= threshold
    layout = base_layout(height=height, uirevision=uirevision, title=title)
    layout["hovermode"] = "closest"
    layout["barmode"] = "overlay"
    layout["xaxis"] |= _text_axis(labels[: len(similarity)])
    layout["yaxis"] |= {
        "title": {"text": "likeness, 0 to 1", "standoff": 6},
        "range": [-0.03, 1.03],
        "domain": [0.42, 1],
    }
    layout["yaxis2"] = {
        "title": {"text": "weight", "standoff": 6},
        "automargin": True,
        "rangemode": "tozero",
        "domain": [0, 0.34],
        "anchor": "x",
    }
    layout["xaxis"]["anchor"] = "y2"
    words = [label(labels[at]) for at in place.tolist()]
    traces: list[dict[str, Any]] = []
    for name, chosen, color in (("above the threshold", above, BLUE), ("below", ~above, GREY)):
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": place[chosen],
                "y": similarity[chosen],
                "text": [words[at] for at in place[chosen].tolist()],
                "marker": {"color": color, "size": 8},
                "hovertemplate": "%{text}<br>likeness %{y:.3f}<extra></extra>",
            }
        )
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"threshold {number_words(threshold, places=2)}",
            "x": [-0.5, len(similarity) - 0.5],
            "y": [threshold, threshold],
            "line": {"color": ORANGE, "dash": "dash", "width": 2},
            "hoverinfo": "skip",
        }
    )
    traces.append(
        {
            "type": "bar",
            "name": "weight",
            "x": place,
            "y": connection,
            "yaxis": "y2",
            "text": words,
            "textposition": "none",
            "marker": {"color": BLUE},
            "showlegend": False,
            "hovertemplate": "%{text}<br>weight %{y:.3f}<extra></extra>",
        }
    )
    return Figure(traces, layout)


def measures_along_text(
    lines: Sequence[tuple[str, ArrayLike]],
    labels: Sequence[str],
    *,
    uirevision: str,
    title: str = "",
    y_title: str = "",
) -> Figure:
    """Measures of every token between 0 and 1, one line each, with the text below."""
    place = np.arange(len(labels))
    figure = curves(
        [Line(name, place, np.asarray(values, dtype=np.float64)) for name, values in lines],
        uirevision=uirevision,
        title=title,
        y_title=y_title,
        x=NO_STEPS,
        y=replace(SHARE, format=".3f"),
        height=300,
        message="No tokens measured.",
    )
    if figure.data:
        figure.layout["xaxis"] |= _text_axis(labels)
    return figure


def _text_axis(labels: Sequence[str]) -> dict[str, Any]:
    every = -(-len(labels) // _TICKS_UP_TO)
    shown = range(0, len(labels), every)
    return {
        "title": {"text": "", "standoff": 6},
        "tickvals": list(shown),
        "ticktext": [label(labels[at][:_LONGEST_LABEL]) for at in shown],
        "tickangle": -60,
        "automargin": True,
        "unifiedhovertitle": {"text": "position %{x:,d}"},
        "range": [-0.5, len(labels) - 0.5],
    }
