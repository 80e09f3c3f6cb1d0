"""Figures of video runs: similarity of frames, what a path mixes at every time, the anchor, spectra, the exact flow.

Times run from 1 (noise, left) to 0 (data, right), as a sampler goes. Data, denoised and generated clips keep their
colour in every chart (`source_style`). Frames are counted from 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from qcore.base.words import number_words
from qcore.viz.curves import NO_STEPS, Line, YAxis, curves
from qcore.viz.figure import Figure
from qcore.viz.heat import FAINT, Axis, Scale, heat, limit_of, one_sided_scale, two_sided_scale
from qcore.viz.theme import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION, empty_figure, label

SOURCES = ("data", "denoised", "generated")
_COLORS = {"data": GREEN, "denoised": BLUE, "generated": VERMILLION}
_BINS = 25
_MOST_TICKS = 12
_RUG_POINTS = 200


def source_style(source: str) -> dict[str, Any]:
    """Line of data, denoised or generated clips, the same in every chart."""
    return {"color": _COLORS[source], "dash": "dot" if source == "data" else "solid"}


def similarity_map(similarity_FF: ArrayLike, *, uirevision: str, title: str = "", height: int = 330) -> Figure:
    """Mean cosine of every pair of frames, always on the scale from −1 to 1, so that maps can be compared."""
    similarity = np.asarray(similarity_FF, dtype=np.float64)
    if not similarity.size:
        return empty_figure("Not measured so far.", height=height, uirevision=uirevision, title=title)
    ticks = frame_ticks(len(similarity))
    figure = heat(
        similarity,
        x=Axis("frame", ticks),
        y=Axis("frame", ticks),
        scale=Scale(-1, 1, two_sided_scale(), "opposed ← cosine → same picture", {-1: "−1", 0: "0", 1: "1"}),
        uirevision=uirevision,
        title=title,
        height=height,
        gap=1,
    )
    names = [str(frame + 1) for frame in range(len(similarity))]
    figure.data[0]["text"] = [[f"frames {row} and {column}" for column in names] for row in names]
    figure.data[0]["hovertemplate"] = "%{text}<br>cosine %{z:.3f}<extra></extra>"
    return figure


def frame_ticks(count: int) -> dict[int, str]:
    """Place → number of at most twelve of `count` frames."""
    every = -(-count // _MOST_TICKS)
    return {place: str(place + 1) for place in range(0, count, every)}


def path_weights(
    t_S: ArrayLike,
    weights: Mapping[str, ArrayLike],
    *,
    sampled: ArrayLike = (),
    jumps: Sequence[float] = (),
    uirevision: str,
    title: str = "",
    height: int = 340,
) -> Figure:
    """α, β and γ over t with the times that the newest batch drew, as bars and ticks, and a line at every jump.

    Args:
        weights: name → values at the times `t`; a weight that is 0 throughout is left out.
    """
    t = np.asarray(t_S, dtype=np.float64)
    if not t.size:
        return empty_figure("Not measured so far.", height=height, uirevision=uirevision, title=title)
    about = {"alpha": ("α: noise", GREY), "beta": ("β: anchor", ORANGE), "gamma": ("γ: frames of the data", GREEN)}
    lines = [
        Line(about[name][0], t, values, {"color": about[name][1]})
        for name, values in weights.items()
        if np.any(np.asarray(values) != 0)
    ]
    figure = curves(
        lines,
        uirevision=uirevision,
        title=title,
        y_title="weight",
        x=NO_STEPS,
        y=YAxis(format=".3f"),
        height=height,
        message="Every weight of this path is 0.",
    )
    if not figure.data:
        return figure
    _set_time_axis(figure)
    times = np.asarray(sampled, dtype=np.float64).ravel()
    figure.layout["showlegend"] = True
    figure.layout["shapes"] = [_time_marker(float(jump)) for jump in jumps]
    figure.layout["annotations"] = [_jump_label(float(jump)) for jump in jumps]
    if times.size:
        figure.data.extend(_drawn_times(times))
        share = np.histogram(times, _BINS, (0.0, 1.0))[0].max() / times.size
        figure.layout["yaxis3"] = {"overlaying": "y", "range": [0, share * 4], "fixedrange": True, "visible": False}
    return figure


def tomography(
    t_S: ArrayLike, spectrum_SF: ArrayLike, *, uirevision: str, title: str = "", height: int = 330
) -> Figure:
    """Singular spectrum of the frames of z_t at every time of sampling, each column ÷ its sum.

    All of the weight in the first row: the frames are one picture. Even rows: they are independent noise.
    """
    t, spectrum = np.asarray(t_S, dtype=np.float64), np.asarray(spectrum_SF, dtype=np.float64)
    if not spectrum.size:
        return empty_figure("No clips sampled yet.", height=height, uirevision=uirevision, title=title)
    order = np.argsort(-t, kind="stable")
    t, spectrum = t[order], spectrum[order]
    total = spectrum.sum(1, keepdims=True)
    share = np.divide(spectrum, total, out=np.zeros_like(spectrum), where=total > 0)
    every = max(1, (len(t) - 1) // 8)
    places = sorted({*range(0, len(t), every), len(t) - 1})
    # The last two labels would touch when the last step is a short one.
    places = [place for place in places if place == len(t) - 1 or len(t) - 1 - place >= every / 2 or place == 0]
    figure = heat(
        share.T,
        x=Axis("t: noise → data", {place: number_words(t[place], 2) for place in places}),
        y=Axis("singular value", frame_ticks(share.shape[1])),
        scale=Scale(0, 1, one_sided_scale(PURPLE), "share of the sum", {0: "0", 1: "1: one picture"}),
        uirevision=uirevision,
        title=title,
        height=height,
    )
    figure.data[0]["customdata"] = np.tile(t.astype(np.float32), (share.shape[1], 1))
    figure.data[0]["hovertemplate"] = "t %{customdata:.3f} · value %{y}<br>share %{z:.1%}<extra></extra>"
    return figure


def frame_spectrum(spectra: Mapping[str, ArrayLike], *, uirevision: str, title: str = "", height: int = 330) -> Figure:
    """Singular values of the frames, ÷ their sum, of data, denoised and generated clips; a name → [F] each."""
    lines = []
    for source, values in spectra.items():
        spectrum = np.asarray(values, dtype=np.float64)
        total = spectrum.sum()
        share = spectrum / total if total > 0 else spectrum
        lines.append(Line(source, np.arange(1, len(share) + 1), share, source_style(source)))
    figure = curves(
        lines,
        uirevision=uirevision,
        title=title,
        y_title="share of the sum",
        x=NO_STEPS,
        y=YAxis(log=True, format=".2~p"),
        height=height,
        message="Not measured so far.",
    )
    if figure.data:
        _count_along(figure, lines, "singular value of the frames", "singular value %{x}")
        figure.layout["yaxis"] |= {"dtick": 1, "tickformat": "~%"}
    return figure


def lag_changes(changes: Mapping[str, ArrayLike], *, uirevision: str, title: str = "", height: int = 290) -> Figure:
    """RMS change between frames that are 1, 2, … F − 1 apart, of data, denoised and generated clips; [F − 1] each.

    Motion grows with the distance of the frames, flicker is as large over one frame as over many.
    """
    lines = [
        Line(source, np.arange(1, np.size(values) + 1), values, source_style(source))
        for source, values in changes.items()
    ]
    figure = curves(
        lines,
        uirevision=uirevision,
        title=title,
        y_title="RMS, standardised pixels",
        x=NO_STEPS,
        y=YAxis(format=".3f"),
        height=height,
        message="Not measured so far.",
    )
    if figure.data:
        _count_along(figure, lines, "frames apart", "%{x} frames apart")
        figure.layout["yaxis"]["rangemode"] = "tozero"
    return figure


def _count_along(figure: Figure, lines: Sequence[Line], title: str, hover: str) -> None:
    """An x axis of whole numbers from 1, with at most some eight ticks."""
    figure.layout["xaxis"] |= {
        "title": {"text": title, "standoff": 8},
        "unifiedhovertitle": {"text": hover},
        "dtick": max(1, max(np.size(line.x) for line in lines) // 8),
    }


def anchor_spread(spread_HW: ArrayLike, *, uirevision: str, title: str = "", height: int = 330) -> Figure:
    """Standard deviation of the anchor at every pixel, standardised pixels, from 0 up."""
    spread = np.asarray(spread_HW, dtype=np.float64)
    if not spread.size:
        return empty_figure("This path has no anchor.", height=height, uirevision=uirevision, title=title)
    high = limit_of(spread, 1.0)
    figure = heat(
        spread,
        x=Axis("pixel", frame_ticks(spread.shape[1])),
        y=Axis("pixel", frame_ticks(spread.shape[0])),
        scale=Scale(0, high, one_sided_scale(ORANGE), "spread, standardised pixels"),
        uirevision=uirevision,
        title=title,
        height=height,
        gap=1 if max(spread.shape) <= 32 else 0,
    )
    figure.data[0]["hovertemplate"] = "row %{y}, column %{x}<br>spread %{z:.3f}<extra></extra>"
    return figure


def curves_over_time(
    lines: Sequence[Line], *, uirevision: str, title: str = "", y_title: str = "", height: int = 300
) -> Figure:
    """Lines over the time t of sampling, noise on the left."""
    figure = curves(lines, uirevision=uirevision, title=title, y_title=y_title, height=height, x=NO_STEPS)
    if figure.data:
        _set_time_axis(figure)
    return figure


def _set_time_axis(figure: Figure) -> None:
    figure.layout["xaxis"] |= {
        "title": {"text": "t: noise → data", "standoff": 8},
        "range": [1.0, 0.0],
        "unifiedhovertitle": {"text": "t = %{x:.3f}"},
    }


def _time_marker(time: float) -> dict[str, Any]:
    return {
        "type": "line",
        "xref": "x",
        "x0": time,
        "x1": time,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": PURPLE, "width": 1.5, "dash": "dot"},
    }


def _jump_label(time: float) -> dict[str, Any]:
    return {
        "text": label(f"jump at t = {number_words(time, 3)}"),
        "x": time,
        "xref": "x",
        "y": 1,
        "yref": "paper",
        "xanchor": "right" if time < 0.5 else "left",
        "yanchor": "top",
        "xshift": -4 if time < 0.5 else 4,
        "showarrow": False,
        "font": {"size": 11},
    }


def _drawn_times(times: Any) -> list[dict[str, Any]]:
    """How often each part of the time axis was drawn, low behind the lines, and a tick for each of up to 200 times."""
    counts, edges = np.histogram(times, _BINS, (0.0, 1.0))
    bars = {
        "type": "bar",
        "name": f"{times.size} times drawn",
        "x": (edges[:-1] + edges[1:]) / 2,
        "y": counts / times.size,
        "yaxis": "y3",
        "width": np.full(_BINS, 1.0 / _BINS),
        "marker": {"color": FAINT, "line": {"width": 0}},
        "hovertemplate": "%{y:.1%} of the times drawn<extra></extra>",
    }
    shown = np.sort(times)[:: -(-times.size // _RUG_POINTS)]
    rug = {
        "type": "scatter",
        "mode": "markers",
        "name": "times drawn",
        "x": shown,
        "y": np.zeros(len(shown)),
        "yaxis": "y2",
        "marker": {"symbol": "line-ns-open", "size": 9, "color": GREY},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    return [bars, rug]
