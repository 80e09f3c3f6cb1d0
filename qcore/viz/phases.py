"""Figures of phases: the portrait on the unit circle, how angles are spread, coherence by layer, and the spectrum.

Angles are in radians, 0 to the right and growing anticlockwise, as in the complex plane. R = |mean e^{iψ}| is the order
parameter: 1 when all angles agree, near 0 when they are spread. Layer 0 is the phase encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from qcore.base.words import number_words
from qcore.viz.curves import NO_STEPS, Line, YAxis, curves
from qcore.viz.figure import Figure
from qcore.viz.heat import FAINT, TINT, Axis, Scale, add_scale, heat, one_sided_scale
from qcore.viz.theme import (
    BLUE,
    CLEAR,
    GREEN,
    GREY,
    LABEL_SIZE,
    ORANGE,
    PURPLE,
    base_layout,
    empty_figure,
    label,
    line_style,
)

WINDOWS = (1, 2, 4, 8, 16)
_ANGLES = {0: "0", 45: "π/4", 90: "π/2", 135: "3π/4", 180: "±π", 225: "−3π/4", 270: "−π/2", 315: "−π/4"}
_CIRCLE = np.arange(0, 361, 6, dtype=np.float32)
_POSITION_COLORS = [[0.0, BLUE], [0.5, PURPLE], [1.0, ORANGE]]
_ROW_PIXELS = 27
_MOST_NUMBERS = 14


def layer_name(layer: int) -> str:
    """`encoding` for layer 0, else `layer 3`."""
    return f"layer {layer}" if layer else "encoding"


def layer_style(layer: int) -> dict[str, Any]:
    """Line of a layer, the same in every chart: the encoding grey and dotted, the layers in the palette's order."""
    return line_style(layer - 1) if layer else {"color": GREY, "dash": "dot"}


def spread_layers(count: int, most: int = 8) -> list[int]:
    """At most `most` of the layers 0 … count − 1, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [index * (count - 1) // (most - 1) for index in range(most)]


def portrait(
    phase_S: ArrayLike,
    amplitude_S: ArrayLike,
    position_S: ArrayLike,
    *,
    uirevision: str,
    title: str = "",
    height: int = 440,
) -> Figure:
    """The wave z = a·e^{iψ} in the complex plane: a point for each of S samples, the unit circle, and the mean of
    e^{iψ}.

    position: place in the text, as colour. The arrow's length is R of the sample. Points that are not finite are
    left out; without any the figure says so.
    """
    phase, amplitude = np.asarray(phase_S, dtype=np.float64), np.asarray(amplitude_S, dtype=np.float64)
    known = np.isfinite(phase) & np.isfinite(amplitude)
    if not known.any():
        return empty_figure("This model keeps no wave to draw.", height=height, uirevision=uirevision, title=title)
    phase, amplitude, position = phase[known], amplitude[known], np.asarray(position_S)[known]
    resultant = complex(np.exp(1j * phase).mean())
    size, angle = abs(resultant), float(np.angle(resultant))
    layout = _polar_layout(height, uirevision, title)
    # Rounded up, so that the circle keeps its size from picture to picture.
    layout["polar"]["radialaxis"] |= {"range": [0, max(1.25, np.ceil(float(amplitude.max()) * 2.1) / 2)], "nticks": 4}
    low, high = float(position.min()), float(position.max())
    high = max(high, low + 1)
    points = {
        "type": "scatterpolar",
        "mode": "markers",
        "name": "z",
        "r": amplitude.astype(np.float32),
        "theta": np.degrees(phase).astype(np.float32),
        "customdata": position,
        "marker": {
            "size": 5,
            "opacity": 0.65,
            "color": position,
            "cmin": low,
            "cmax": high,
            "colorscale": _POSITION_COLORS,
        },
        "hovertemplate": "angle %{theta:.0f}° · amplitude %{r:.3f}<br>position %{customdata}<extra></extra>",
        "showlegend": False,
    }
    degrees = number_words(np.degrees(angle), places=0)
    arrow = {
        "type": "scatterpolar",
        "mode": "lines+markers",
        "name": f"mean direction, R = {number_words(size, places=2)}",
        "r": [0, size],
        "theta": [np.degrees(angle)] * 2,
        "line": {"color": GREEN, "width": 4},
        "marker": {"symbol": ["circle", "arrow"], "angleref": "previous", "size": [6, 18], "color": GREEN},
        "hovertemplate": f"R = {number_words(size, places=3)} at {degrees}°<extra></extra>",
        "showlegend": True,
    }
    traces = [points, _circle(1.0, "unit circle"), arrow]
    ends = {low: number_words(low, places=0), high: number_words(high, places=0)}
    left = add_scale(traces, layout, Scale(low, high, _POSITION_COLORS, "position in the text", ends))
    layout["polar"]["domain"] = {"y": [0, left - 0.05]}
    return Figure(traces, layout)


def rose(
    share_B: ArrayLike, *, uirevision: str, title: str = "", height: int = 440, message: str = "No angles measured."
) -> Figure:
    """How often each of B equal sectors from −π to π holds an angle; the dashed circle is an even spread."""
    share = np.asarray(share_B, dtype=np.float64)
    if not len(share) or not np.nansum(share) > 0:
        return empty_figure(message, height=height, uirevision=uirevision, title=title)
    width = 360 / len(share)
    layout = _polar_layout(height, uirevision, title)
    layout["polar"]["radialaxis"] |= {"tickformat": ".0%", "nticks": 4, "rangemode": "tozero"}
    layout["margin"]["t"] += 18  # on a level with the portrait, which has a scale above it
    bars = {
        "type": "barpolar",
        "name": "share of angles",
        "r": share,
        "theta": -180 + width * (np.arange(len(share)) + 0.5),
        "width": np.full(len(share), width),
        "marker": {"color": BLUE, "opacity": 0.8, "line": {"width": 0}},
        "hovertemplate": "%{theta:.0f}°: %{r:.1%} of the angles<extra></extra>",
    }
    return Figure([bars, _circle(1 / len(share), "even spread")], layout)


def coherence_map(
    head_LH: ArrayLike, window_LW: ArrayLike, *, uirevision: str, title: str = "", windows: Sequence[int] = WINDOWS
) -> Figure:
    """R of each layer's heads over the whole text, and of all its phases over causal windows of some tokens, side by
    side on the scale from 0 to 1.
    """
    heads = np.asarray(head_LH, dtype=np.float64)
    inside = np.asarray(window_LW, dtype=np.float64)
    layers, count = heads.shape
    table = np.concatenate([heads, np.full((layers, 1), np.nan), inside], axis=1)
    columns = [f"head {head + 1}" for head in range(count)] + [""]
    columns += [f"window of {windows[index]} tokens" for index in range(inside.shape[1])]
    every = -(-count // 12)
    ticks = {head: str(head + 1) for head in range(0, count, every)}
    ticks |= {count + 1 + index: str(windows[index]) for index in range(inside.shape[1])}
    names = [layer_name(layer) for layer in range(layers)]
    small = layers <= _MOST_NUMBERS and count <= _MOST_NUMBERS
    figure = heat(
        table,
        x=Axis("", ticks),
        y=Axis("", {layer: names[layer] for layer in spread_layers(layers, 16)}),
        scale=Scale(0, 1, one_sided_scale(strongest=TINT if small else 1), "R: spread → aligned", {0: "0", 1: "1"}),
        uirevision=uirevision,
        title=title,
        height=max(300, 140 + (_ROW_PIXELS if small else 14) * layers),
        numbers=".2f" if small else "",
        gap=1,
    )
    figure.data[0]["text"] = [[f"{name}, {column}" for column in columns] for name in names]
    figure.data[0]["hovertemplate"] = "%{text}<br>R %{z:.3f}<extra></extra>"
    # One axis title under each half.
    figure.layout["annotations"] = [
        {
            "text": text,
            "x": middle,
            "xref": "x",
            "y": 0,
            "yref": "paper",
            "yshift": -20,
            "yanchor": "top",
            "showarrow": False,
            "font": {"size": 12},
        }
        for text, middle in (("head", (count - 1) / 2), ("window, tokens", count + 1 + (inside.shape[1] - 1) / 2))
    ]
    return figure


def spectrum(power_LF: ArrayLike, *, uirevision: str, title: str = "", height: int = 300) -> Figure:
    """Share of the power of e^{iψ_t} at frequencies from 0 to ½ cycle a token, a line for each layer (at most 8)."""
    power = np.asarray(power_LF, dtype=np.float64)
    if power.ndim != 2 or not power.size:
        return empty_figure("No spectrum measured.", height=height, uirevision=uirevision, title=title)
    frequency = np.linspace(0, 0.5, power.shape[1])
    figure = curves(
        [Line(layer_name(layer), frequency, power[layer], layer_style(layer)) for layer in spread_layers(len(power))],
        uirevision=uirevision,
        title=title,
        y_title="share of power",
        x=NO_STEPS,
        y=YAxis(log=True, format=".2~p"),
        height=height,
    )
    figure.layout["xaxis"] |= {
        "title": {"text": "frequency, cycles per token", "standoff": 8},
        "unifiedhovertitle": {"text": "%{x:.3f} cycles per token"},
    }
    figure.layout["yaxis"] |= {"dtick": 1, "tickformat": "~%"}
    return figure


def _circle(radius: float, name: str) -> dict[str, Any]:
    return {
        "type": "scatterpolar",
        "mode": "lines",
        "name": name,
        "r": np.full(len(_CIRCLE), radius, dtype=np.float32),
        "theta": _CIRCLE,
        "line": {"color": GREY, "width": 1.5, "dash": "dash"},
        "hoverinfo": "skip",
        "showlegend": True,
    }


def _polar_layout(height: int, uirevision: str, title: str) -> dict[str, Any]:
    layout = base_layout(height=height, uirevision=uirevision, title=title)
    del layout["xaxis"], layout["yaxis"]
    layout["hovermode"] = "closest"
    layout["dragmode"] = False
    layout["margin"] = {"l": 30, "r": 30, "t": 44 if title else 20, "b": 52}
    layout["legend"] |= {"y": -0.09}
    axis = {"gridcolor": FAINT, "linecolor": FAINT, "tickfont": {"size": LABEL_SIZE}}
    layout["polar"] = {
        "bgcolor": CLEAR,
        "bargap": 0,
        "angularaxis": axis | {"tickvals": list(_ANGLES), "ticktext": [label(text) for text in _ANGLES.values()]},
        "radialaxis": axis | {"angle": 22.5, "tickangle": 22.5, "showline": False, "ticks": ""},
    }
    return layout
