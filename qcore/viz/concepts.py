"""Figures of the phase model's switches: alignment of translations, chosen widths, languages, load of the experts.

Alignment is drawn with its chance level and a band of two standard errors around it: what lies inside proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from qcore.base.words import number_words
from qcore.viz.curves import SHARE, Line, curves
from qcore.viz.figure import Figure
from qcore.viz.heat import TINT, Axis, Scale, heat, one_sided_scale, rgba
from qcore.viz.theme import GREY, base_layout, empty_figure, label, line_style

WIDTHS = ("D", "1.5 D", "2.25 D")
_BAND = 2.0
_MOST_NUMBERS = 16


def alignment_curve(
    steps: ArrayLike, agreement: ArrayLike, chance: ArrayLike, error: ArrayLike, *, uirevision: str, **shared: Any
) -> Figure:
    """Share of translation pairs with one concept over steps, chance, and chance ± 2 standard errors as a band.

    The four arrays have one value a measurement; NaN where unknown.

    Args:
        shared: as of `curves`.
    """
    x = np.asarray(steps)
    level, spread = np.asarray(chance, dtype=np.float64), _BAND * np.asarray(error, dtype=np.float64)
    figure = curves(
        [
            Line("same concept", x, np.asarray(agreement, dtype=np.float64), smooth=False),
            Line("chance", x, level, {"color": GREY, "dash": "dot"}, smooth=False),
        ],
        uirevision=uirevision,
        title="Translations that share a concept",
        y_title="share of pairs",
        y=SHARE,
        message="No translations measured yet.",
        **shared,
    )
    if not len(x):
        return figure
    edge = {"type": "scatter", "mode": "lines", "x": x, "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    band = [
        edge | {"name": "chance, low", "y": np.clip(level - spread, 0, 1)},
        edge
        | {
            "name": "chance ± 2 standard errors",
            "y": np.clip(level + spread, 0, 1),
            "fill": "tonexty",
            "fillcolor": rgba(GREY, 0.25),
            "showlegend": True,
        },
    ]
    return Figure([*figure.data, *band], figure.layout)


@dataclass(frozen=True)
class ConceptTokens:
    """What one concept holds: the tokens that have it first, the surest first."""

    concept: int
    tokens: list[int]


def concept_tokens(top_V: ArrayLike, share_V: ArrayLike) -> list[ConceptTokens]:
    """Tokens of each concept, the fullest concept first; −1 in `top` is a token without concepts."""
    top, share = np.asarray(top_V), np.asarray(share_V)
    concepts, counts = np.unique(top[top >= 0], return_counts=True)
    found = []
    for concept in concepts[np.argsort(-counts, kind="stable")].tolist():
        tokens = np.flatnonzero(top == concept)
        found.append(ConceptTokens(concept, tokens[np.argsort(-share[tokens], kind="stable")].tolist()))
    return found


def common_steps(*series: tuple[ArrayLike, ArrayLike]) -> tuple[np.ndarray, ...]:
    """Steps that all (steps, values) have, and the values of each there."""
    columns = [
        dict(zip(np.asarray(steps).tolist(), np.asarray(values).tolist(), strict=True)) for steps, values in series
    ]
    steps = sorted(set.intersection(*(set(column) for column in columns)))
    return np.array(steps, dtype=np.int64), *(np.array([column[step] for step in steps]) for column in columns)


def stacked_shares(
    share_TN: ArrayLike, names: Sequence[str], *, uirevision: str, title: str = "", height: int = 280
) -> Figure:
    """What each token of a text chose: N shares that sum to 1, stacked over the positions."""
    share = np.asarray(share_TN, dtype=np.float32)
    if share.ndim != 2 or share.shape[1] != len(names):
        raise ValueError(f"shares of shape {share.shape} for {len(names)} names: pass [tokens, {len(names)}]")
    if not len(share):
        return empty_figure("No tokens measured.", height=height, uirevision=uirevision, title=title)
    layout = base_layout(height=height, uirevision=uirevision, title=title)
    layout["xaxis"] |= {"title": {"text": "position in the text", "standoff": 8}}
    layout["xaxis"]["unifiedhovertitle"] = {"text": "position %{x}"}
    layout["yaxis"] |= {"range": [0, 1], "title": {"text": "share", "standoff": 6}}
    place = np.arange(len(share), dtype=np.int32)
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": label(name),
            "x": place,
            "y": share[:, index],
            "stackgroup": "shares",
            "line": {"width": 0.5} | line_style(index),
            "hovertemplate": "%{y:.2f}",
        }
        for index, name in enumerate(names)
    ]
    return Figure(traces, layout)


def expert_load(load_LE: ArrayLike, *, uirevision: str, title: str = "") -> Figure:
    """Share of the tokens' choices that each expert of each layer takes; 1/E is even. Rows sum to 1."""
    load = np.asarray(load_LE, dtype=np.float64)
    layers, experts = load.shape
    even = 1 / experts
    high = max(2 * even, float(np.nanmax(load, initial=even)))
    return heat(
        load,
        x=Axis("expert", {expert: str(expert + 1) for expert in range(0, experts, -(-experts // 16))}, "expert"),
        y=Axis("", [f"layer {layer + 1}" for layer in range(layers)]),
        scale=Scale(
            0,
            high,
            one_sided_scale(strongest=TINT),
            "share of choices",
            {0: "0", even: "even", high: number_words(high, 2)},
        ),
        uirevision=uirevision,
        title=title,
        hover="takes %{z:.1%} of the choices",
        height=max(220, 130 + 30 * layers),
        numbers=".2f" if experts <= _MOST_NUMBERS else "",
        gap=1,
    )
