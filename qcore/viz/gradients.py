"""Figures of gradients: which term pulls how hard and against whom, which weights are dead, how far each module
moves.

A term keeps its colour and dash in every chart (`term_style`). Grey means nothing to see; vermillion means that
something stands still which should move.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from qcore.base.words import number_words, percent_words
from qcore.viz.curves import NO_STEPS, Line, YAxis, curves
from qcore.viz.figure import Figure
from qcore.viz.heat import TINT, Axis, Scale, heat, two_sided_scale
from qcore.viz.theme import (
    BLUE,
    CLEAR,
    GREY,
    VERMILLION,
    base_layout,
    empty_figure,
    label,
    line_style,
)

GUIDE = 1e-3
"""Update-to-weight ratio of one step that bars start from, to compare modules with; no rule judges by it."""
MOST_MODULES = 36
_ROW_PIXELS = 19
_ALIVE, _DEAD = (0x66, 0x72, 0x80), (0xD5, 0x5E, 0x00)


def term_style(index: int) -> dict[str, Any]:
    """Line of the term with this index in the run's list of terms."""
    return line_style(index)


def term_bars(
    names: Sequence[str],
    norm_K: ArrayLike,
    pull_K: ArrayLike,
    indices: Sequence[int],
    *,
    uirevision: str,
    title: str = "",
    main: str = "cross-entropy",
) -> Figure:
    """How hard each of K terms pulls: its weight × gradient norm ÷ that of the `main` term, hardest at the top.

    Args:
        names: of the K terms.
        norm_K: of the unweighted gradients, named beside the bars; 0 is spelled out.
        pull_K: NaN where unknown; when all are, the bars are the norms.
        indices: place of each term in the run's list, for its colour.
    """
    norm, pull = np.asarray(norm_K, dtype=np.float64), np.asarray(pull_K, dtype=np.float64)
    if not len(norm):
        return empty_figure("No term has a weight.", uirevision=uirevision, title=title)
    relative = bool(np.isfinite(pull).any())
    length = np.nan_to_num(pull if relative else norm, posinf=0.0)
    order = np.argsort(-length, kind="stable")
    layout = _bar_layout(len(norm), uirevision, title)
    about = f"weight × gradient norm, {label(main)} = 1" if relative else "norm of the unweighted gradient (L2)"
    layout["xaxis"] |= {"title": {"text": about, "standoff": 4}}
    # Room for the words behind the longest bar.
    layout["xaxis"]["range"] = [0, float(length.max(initial=0.0)) * 1.45 or 1.0]
    layout["yaxis"] |= _bar_labels([names[place].replace("_", " ") for place in order])
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": length[order],
        "y": np.arange(len(norm)),
        "text": [_pull_text(norm[place], length[place]) for place in order],
        "textposition": "outside",
        "cliponaxis": False,
        "customdata": norm[order],
        "marker": {
            "color": [term_style(indices[place])["color"] for place in order],
            # What is dashed in the curves is hatched here.
            "pattern": {"shape": ["/" if term_style(indices[place])["dash"] != "solid" else "" for place in order]},
        },
        "hovertemplate": "%{y}: %{x:.4~g}<br>norm of the unweighted gradient %{customdata:.4~g}<extra></extra>",
    }
    return Figure([bars], layout)


def _pull_text(norm: float, pull: float) -> str:
    return "no gradient" if norm == 0 else number_words(pull if np.isfinite(pull) else None, 3)


def cosine_matrix(names: Sequence[str], cosine_KK: ArrayLike, *, uirevision: str, title: str = "") -> Figure:
    """Cosine of each pair of terms' gradients, as colour and number; a term without gradient has none."""
    cosine = np.asarray(cosine_KK, dtype=np.float64)
    if not cosine.size:
        return empty_figure("No term has a weight.", uirevision=uirevision, title=title)
    shown = [name.replace("_", " ") for name in names]
    count = len(shown)
    figure = heat(
        cosine,
        x=Axis("", shown),
        y=Axis("", shown),
        scale=Scale(-1, 1, two_sided_scale(TINT), "opposed ← cosine → together", {-1: "−1", 0: "0", 1: "+1"}),
        uirevision=uirevision,
        title=title,
        hover="cosine %{z:.3f}",
        height=190 + 30 * count,
        numbers=".2f" if count <= 10 else "",
        gap=1,
    )
    figure.layout["xaxis"]["tickangle"] = -35 if count > 2 else 0
    figure.data[0]["hovertemplate"] = "%{y} and %{x}<br>cosine %{z:.3f}<extra></extra>"
    return figure


def module_tree(
    names: Sequence[str],
    parameters_M: ArrayLike,
    dead_share_M: ArrayLike,
    *,
    uirevision: str,
    title: str = "",
    height: int = 420,
) -> Figure:
    """Modules as nested rectangles: area is the number of weights, colour the share without gradient.

    A module that owns weights beside its children gets a part `own`. A parent's share is that of all weights in it;
    unknown shares (NaN) leave a part colourless.

    Args:
        names: dotted paths of modules that own weights.
    """
    sizes, dead = np.asarray(parameters_M, dtype=np.float64), np.asarray(dead_share_M, dtype=np.float64)
    if not len(names) or not sizes.sum() > 0:
        return empty_figure("No module has weights.", height=height, uirevision=uirevision, title=title)
    owners = {f"model.{name}".rstrip(".") for name in names}
    # who owns weights and children at once needs a leaf for its own, since the areas of a treemap are its leaves
    parents = {path for owner in owners for path in _ancestors(owner)}
    total: dict[str, float] = {}
    without: dict[str, float] = {}
    known: dict[str, float] = {}
    for name, size, share in zip(names, sizes.tolist(), dead.tolist(), strict=True):
        path = f"model.{name}".rstrip(".")
        leaf = f"{path}.own" if path in parents else path
        for part in (leaf, *_ancestors(leaf)):
            total[part] = total.get(part, 0.0) + size
            # the unknown counts in neither sum: as 0 it would make its parents look alive
            if np.isfinite(share):
                without[part] = without.get(part, 0.0) + size * share
                known[part] = known.get(part, 0.0) + size
    # sorted, so that a refresh never moves a rectangle
    ids = sorted(total)
    shares = [without[part] / known[part] if known.get(part) else float("nan") for part in ids]
    tree = {
        "type": "treemap",
        "ids": ids,
        "labels": [label(part.rpartition(".")[2]) for part in ids],
        "parents": [part.rpartition(".")[0] for part in ids],
        "values": [total[part] for part in ids],
        "text": [f"{percent_words(share, places=0)} dead" if share > 0 else "" for share in shares],
        "customdata": [
            f"{label(part)}<br>{_module_text(total[part], share)}" for part, share in zip(ids, shares, strict=True)
        ],
        "branchvalues": "total",
        "marker": {
            "colors": [_dead_color(share) for share in shares],
            "line": {"width": 1.5, "color": "rgba(255,255,255,0.75)"},
            "pad": {"t": 22, "l": 3, "r": 3, "b": 3},
        },
        "textinfo": "label+text",
        "textfont": {"size": 12, "color": "#FFFFFF"},
        "insidetextfont": {"color": "#FFFFFF"},
        "tiling": {"packing": "squarify", "pad": 2},
        "pathbar": {"visible": True, "thickness": 20, "textfont": {"size": 12, "color": "#FFFFFF"}},
        "maxdepth": 4,
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    layout = base_layout(height=height, uirevision=uirevision, title=title)
    del layout["xaxis"], layout["yaxis"]
    layout["hovermode"] = "closest"
    layout["margin"] = {"l": 2, "r": 2, "t": 38 if title else 4, "b": 4}
    layout["uniformtext"] = {"minsize": 10, "mode": "hide"}
    return Figure([tree], layout)


def update_bars(
    names: Sequence[str], ratio_M: ArrayLike, *, uirevision: str, title: str = "", most: int = MOST_MODULES
) -> Figure:
    """‖Δw‖ ÷ ‖w‖ of one step for each module on a logarithmic axis, as bars from the guide line at 1e-3.

    Left of the line a module moves less than a thousandth of its size, right of it more. One that does not move at all
    is vermillion. When there are more than `most`, those farthest from the line stay, in the model's order.
    """
    ratio = np.asarray(ratio_M, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(ratio))
    if not len(known):
        return empty_figure("No update measured yet.", uirevision=uirevision, title=title)
    distance = np.abs(np.log10(np.maximum(ratio[known], 1e-12) / GUIDE))
    # chosen by distance from the line, drawn in the model's order: a list sorted by size would jump at every step
    kept = np.sort(known[np.argsort(-distance, kind="stable")[:most]])
    moving = ratio[kept][ratio[kept] > 0]
    # the axis holds its usual range when it can: two steps are compared by eye
    low = min(1e-5, 10 ** np.floor(np.log10(moving.min()))) if len(moving) else 1e-5
    high = max(1e-1, 10 ** np.ceil(np.log10(moving.max()))) if len(moving) else 1e-1
    value = np.maximum(ratio[kept], low)
    layout = _bar_layout(len(kept), uirevision, title)
    layout["xaxis"] |= {
        "type": "log",
        "dtick": 1,
        "range": [float(np.log10(low)), float(np.log10(high))],
        "title": {"text": "‖step‖ ÷ ‖weights‖", "standoff": 4},
        "exponentformat": "power",
    }
    layout["yaxis"] |= _bar_labels([_tail(names[place]) for place in kept])
    layout["shapes"] = [
        {
            "type": "line",
            "x0": GUIDE,
            "x1": GUIDE,
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "line": {"color": GREY, "width": 1.5, "dash": "dash"},
        }
    ]
    bars = {
        "type": "bar",
        "orientation": "h",
        "base": np.full(len(kept), GUIDE),
        "x": value - GUIDE,
        "y": np.arange(len(kept)),
        "customdata": ratio[kept],
        "text": [label(names[place]) for place in kept],
        "textposition": "none",
        "marker": {"color": [BLUE if number > 0 else VERMILLION for number in ratio[kept].tolist()]},
        "hovertemplate": "%{text}: %{customdata:.3~g}<extra></extra>",
    }
    return Figure([bars], layout)


def eigenvalues(value_K: ArrayLike, *, uirevision: str, title: str = "", height: int = 300) -> Figure:
    """Shares of the hidden states' variance along their principal directions, largest first, logarithmic."""
    value = np.asarray(value_K, dtype=np.float64)
    figure = curves(
        [Line("share of variance", np.arange(1, len(value) + 1), value)],
        uirevision=uirevision,
        title=title,
        y_title="share of variance",
        x=NO_STEPS,
        y=YAxis(log=True, format=".3~p"),
        height=height,
        message="No spectrum measured yet.",
    )
    if figure.data:
        figure.layout["xaxis"] |= {
            "title": {"text": "direction, largest first", "standoff": 8},
            "unifiedhovertitle": {"text": "direction %{x}"},
        }
        figure.layout["yaxis"] |= {"dtick": 1, "tickformat": "~%"}
    return figure


def _ancestors(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _module_text(size: float, share: float) -> str:
    known = (
        "not measured"
        if np.isnan(share)
        else f"{percent_words(share, places=1)} without gradient"
        if share
        else "all learn"
    )
    return f"{number_words(size, places=0)} weights, {known}"


def _dead_color(share: float) -> str:
    if np.isnan(share):
        return CLEAR
    # Any dead share shows: the scale starts a fifth of the way.
    toward = 0.0 if share <= 0 else 0.2 + 0.8 * min(share, 1.0)
    return "#" + "".join(f"{round(low + (high - low) * toward):02X}" for low, high in zip(_ALIVE, _DEAD, strict=True))


def _tail(name: str, longest: int = 34) -> str:
    """A long dotted path without its middle."""
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"


def _bar_layout(count: int, uirevision: str, title: str) -> dict[str, Any]:
    layout = base_layout(height=max(240, 100 + _ROW_PIXELS * count), uirevision=uirevision, title=title)
    layout["hovermode"] = "closest"
    layout["bargap"] = 0.3
    layout["showlegend"] = False
    layout["margin"] |= {"r": 16}
    layout["xaxis"] = {"automargin": False}
    return layout


def _bar_labels(names: Sequence[str]) -> dict[str, Any]:
    return {
        "tickvals": np.arange(len(names)),
        "ticktext": [label(name) for name in names],
        "range": [len(names) - 0.5, -0.5],
        "automargin": True,
        "showgrid": False,
        "tickfont": {"size": 11},
    }
