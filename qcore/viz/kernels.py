"""Who reads whom: kernels with the text on both axes, all heads at a glance, and the map of what a cut changed.

A kernel's entry (t, j) is the weight with which position t (row) reads position j (column). Interference has both
signs: blue adds (constructive), vermillion cancels (destructive). Attention is never negative and takes one hue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qcore.base.words import number_words
from qcore.viz.figure import Figure
from qcore.viz.heat import Axis, Scale, heat, limit_of, one_sided_scale, rgba, two_sided_scale
from qcore.viz.theme import BLUE, GREY, LABEL_SIZE, VERMILLION, empty_figure

_LONGEST_LABEL = 12
_OVERVIEW_CELLS = 150
_DECADES = 8


def kernel(
    weight_NN: ArrayLike,
    labels: Sequence[str],
    *,
    signed: bool,
    uirevision: str,
    title: str = "",
    limit: float | None = None,
    each_row: bool = False,
    height: int = 560,
) -> Figure:
    """One kernel with the text on both axes.

    Args:
        labels: one a token.
        limit: weight of the strongest colour, else one that 97 % of the cells stay below.
        each_row: every row ÷ its largest magnitude, so that late rows, whose weight is spread over many tokens, show
            their pattern too.
    """
    weight = np.asarray(weight_NN, dtype=np.float64)
    if each_row:
        largest = np.nanmax(np.abs(weight), axis=1, keepdims=True, initial=0.0)
        weight = weight / np.where(largest > 0, largest, 1.0)
        limit = 1.0
    limit = limit or limit_of(weight)
    unit = "weight ÷ the row's largest" if each_row else "weight"
    scale = (
        Scale(-limit, limit, two_sided_scale(), f"destructive ← {unit} → constructive", _signed_ticks(limit))
        if signed
        else Scale(0, limit, one_sided_scale(), unit, {0: "0", limit: number_words(limit, 2)})
    )
    return _text_heatmap(weight, labels, scale, uirevision, title, height, "weight %{z:.3f}")


def kernel_difference(
    now_NN: ArrayLike,
    before_NN: ArrayLike,
    labels: Sequence[str],
    *,
    uirevision: str,
    title: str = "",
    height: int = 560,
) -> Figure:
    """now − before: blue where the weight has grown, vermillion where it has fallen."""
    change = np.asarray(now_NN, dtype=np.float64) - np.asarray(before_NN, dtype=np.float64)
    limit = limit_of(change)
    scale = Scale(-limit, limit, two_sided_scale(), "less ← change of weight → more", _signed_ticks(limit))
    return _text_heatmap(change, labels, scale, uirevision, title, height, "change %{z:+.3f}")


def all_heads(weight_LHNN: ArrayLike, *, signed: bool, uirevision: str, title: str = "", height: int = 560) -> Figure:
    """Every kernel as a small picture: layers from top to bottom, heads from left to right, one colour scale.

    Large kernels are averaged over square blocks of cells, so that the figure stays small.
    """
    weight = np.asarray(weight_LHNN, dtype=np.float32)
    L, H, N, _ = weight.shape
    if not weight.size:
        return empty_figure("No kernels measured.", height=height, uirevision=uirevision, title=title)
    block = -(-N // max(4, min(24, _OVERVIEW_CELLS // max(L, H))))
    side = -(-N // block)
    # filled up to whole blocks, so that the mean of a block is one reshape
    padded = np.zeros((L, H, side * block, side * block), dtype=np.float32)
    padded[:, :, :N, :N] = weight
    small = padded.reshape(L, H, side, block, side, block).mean(axis=(3, 5))
    # a row of NaN between the pictures is the gap: one trace draws faster than hundreds
    canvas = np.full((L * (side + 1) - 1, H * (side + 1) - 1), np.nan, dtype=np.float32)
    for layer in range(L):
        for head in range(H):
            row, column = layer * (side + 1), head * (side + 1)
            canvas[row : row + side, column : column + side] = small[layer, head]
    limit = limit_of(small)
    middle = (side - 1) / 2
    figure = heat(
        canvas,
        x=Axis("head", {round(head * (side + 1) + middle): str(head + 1) for head in range(H)}),
        y=Axis("layer", {round(layer * (side + 1) + middle): str(layer + 1) for layer in range(L)}),
        scale=Scale(-limit, limit, two_sided_scale(), "destructive ← weight → constructive", _signed_ticks(limit))
        if signed
        else Scale(0, limit, one_sided_scale(), "weight", {0: "0", limit: number_words(limit, 2)}),
        uirevision=uirevision,
        title=title,
        height=height,
    )
    figure.data[0]["hoverinfo"] = "skip"
    del figure.data[0]["hovertemplate"]
    figure.layout["shapes"] = [
        _square_outline(column * (side + 1) - 0.5, row * (side + 1) - 0.5, side)
        for row in range(L)
        for column in range(H)
    ]
    return figure


def causality_map(
    cuts_C: ArrayLike,
    change_CT: ArrayLike,
    *,
    uirevision: str,
    early: str = "moved before the cut",
    title: str = "",
    height: int = 320,
) -> Figure:
    """log₁₀ of |Δlogits| by position (column) when all after a cut (row) was replaced; no colour where nothing moved.

    Left of a row's line nothing may move: a cell that did is vermillion and named.

    Args:
        early: what such a cell is called.
    """
    cuts, change = np.asarray(cuts_C), np.asarray(change_CT, dtype=np.float64)
    if not change.size:
        return empty_figure("No cut was probed.", height=height, uirevision=uirevision, title=title)
    order = np.argsort(cuts, kind="stable")
    cuts, change = cuts[order], change[order]
    early_CT = _cells_up_to(cuts, change.shape[1])
    moved = np.isfinite(change) & (change > 0)
    logs = np.log10(np.where(moved, change, 1.0))
    allowed = np.where(moved & ~early_CT, logs, np.nan)
    high = np.ceil(np.nanmax(allowed)) if (moved & ~early_CT).any() else 0.0
    low = max(np.floor(np.nanmin(allowed)), high - _DECADES) if (moved & ~early_CT).any() else -1.0
    low = min(low, high - 1)
    figure = heat(
        allowed,
        x=Axis("position", name="position"),
        y=Axis("cut after position", {row: str(cut) for row, cut in enumerate(cuts.tolist())}, name="cut after"),
        scale=Scale(
            float(low),
            float(high),
            [[0.0, rgba(BLUE, 0.15)], [1.0, rgba(BLUE, 1)]],
            "largest change of a logit",
            {float(end): f"10{_superscript(int(end))}" for end in (low, high)},
        ),
        uirevision=uirevision,
        title=title,
        hover="|Δlogit| 10^%{z:.1f}",
        height=height,
    )
    # not equal to 0 rather than above it: NaN before a cut is a leak, too
    leaks = early_CT & ~(change == 0)
    figure.data.append(
        {
            "type": "heatmap",
            "z": np.where(leaks, 1.0, np.nan).astype(np.float32),
            "text": [[number_words(value, 2) for value in row] for row in change.tolist()] if leaks.any() else [],
            "zmin": 0,
            "zmax": 1,
            "colorscale": [[0, VERMILLION], [1, VERMILLION]],
            "showscale": False,
            # the map below it answers where nothing leaks
            "hoverongaps": False,
            "hovertemplate": f"cut after %{{y}} · position %{{x}}<br>{early}: |Δlogit| %{{text}}<extra></extra>",
        }
    )
    figure.data.append(_stairs(cuts))
    if leaks.any():
        figure.layout["annotations"] = [_early_note(leaks, early)]
    return figure


def _stairs(last_R: NDArray[Any]) -> dict[str, Any]:
    """A line behind the last cell of each row that is not the future."""
    rows = np.arange(len(last_R))
    return {
        "type": "scatter",
        "mode": "lines",
        "x": np.repeat(last_R + 0.5, 2).astype(np.float32),
        "y": np.stack([rows - 0.5, rows + 0.5], axis=1).ravel().astype(np.float32),
        "line": {"color": GREY, "width": 1.5},
        "hoverinfo": "skip",
    }


def _early_note(leaks_CT: NDArray[np.bool_], text: str) -> dict[str, Any]:
    """The words beside the last leaking cell of the row that leaks most."""
    row = int(leaks_CT.sum(axis=1).argmax())
    column = int(np.flatnonzero(leaks_CT[row])[-1])
    return {
        "text": text,
        "x": column,
        "y": row,
        "xref": "x",
        "yref": "y",
        "ax": 0,
        "ay": 34 if row == 0 else -34,
        "arrowcolor": VERMILLION,
        "bgcolor": VERMILLION,
        "borderpad": 3,
        "font": {"color": "#FFFFFF", "size": 12},
    }


def _cells_up_to(cuts_C: ArrayLike, count: int) -> NDArray[np.bool_]:
    """Cells at or before the cut of their row, [C, T]."""
    return np.arange(count) <= np.asarray(cuts_C).reshape(-1, 1)


def _text_heatmap(
    z_NN: NDArray[np.float64],
    labels: Sequence[str],
    scale: Scale,
    uirevision: str,
    title: str,
    height: int,
    hover: str,
) -> Figure:
    count = len(z_NN)
    if not count:
        return empty_figure("No tokens in the probe's row.", height=height, uirevision=uirevision, title=title)
    size = LABEL_SIZE if count <= 24 else 10 if count <= 36 else 8
    shown = [_short(text) for text in labels[:count]]
    figure = heat(
        z_NN,
        x=Axis("token that is read, j", shown, size=size),
        y=Axis("token that reads, t", shown, size=size),
        scale=scale,
        uirevision=uirevision,
        title=title,
        height=height,
    )
    figure.layout["xaxis"] |= {"tickangle": -90}
    cell = "%{y} (position %{y:d})<br>reads %{x} (position %{x:d})"
    figure.data[0]["hovertemplate"] = f"{cell}<br>{hover}<extra></extra>"
    figure.data.append(_stairs(np.arange(count)))
    return figure


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + "…"


def _signed_ticks(limit: float) -> dict[float, str]:
    return {-limit: f"−{number_words(limit, 2)}", 0.0: "0", limit: f"+{number_words(limit, 2)}"}


def _superscript(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _square_outline(x: float, y: float, side: int) -> dict[str, Any]:
    return {
        "type": "rect",
        "xref": "x",
        "yref": "y",
        "x0": x,
        "x1": x + side,
        "y0": y,
        "y1": y + side,
        "line": {"color": rgba(GREY, 0.6), "width": 1},
    }
