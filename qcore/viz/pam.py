"""Figures of a phase-associative memory: how long each head remembers, how full its state is, and Re against Im.

A head that decays by γ at a token has a memory of 1/(1−γ) tokens there. Singular values are those of the final state of
one text; equal ones mean that every direction of the state is in use.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from qcore.base.words import number_words, percent_words
from qcore.viz.curves import NO_STEPS, SHARE, Line, YAxis, curves
from qcore.viz.figure import Figure
from qcore.viz.heat import Axis, Scale, heat, one_sided_scale
from qcore.viz.phases import layer_name, layer_style, spread_layers
from qcore.viz.theme import BLUE, GREY, LINE_COLORS, base_layout, empty_figure

_OCTAVES = 12
"""Memories from 1 token to 2¹² tokens, in half octaves; longer ones fall into the last column."""
_MOST_ROWS = 48


def decay_spectrum(decay_LHT: ArrayLike, *, uirevision: str, title: str = "") -> Figure:
    """How often each head has which memory along a text: a row for each head, columns of half an octave of 1/(1−γ).

    γ in (0, 1) of every layer, head and token; a row's shares sum to 1. Heads beyond 48 are thinned evenly.
    """
    decay = np.asarray(decay_LHT, dtype=np.float64)
    if decay.ndim != 3 or not decay.size:
        return empty_figure("No decays measured.", uirevision=uirevision, title=title)
    layers, heads, tokens = decay.shape
    memory = np.log2(1 / np.maximum(1 - decay, 2.0 ** -(_OCTAVES + 1))).reshape(layers * heads, tokens)
    column = np.clip(np.floor(2 * memory), 0, 2 * _OCTAVES).astype(int)
    share = np.stack([np.bincount(row, minlength=2 * _OCTAVES + 1) for row in column]) / tokens
    kept = np.linspace(0, len(share) - 1, min(len(share), _MOST_ROWS)).round().astype(int)
    names = [f"{layer_name(1 + row // heads)}, head {1 + row % heads}" for row in kept.tolist()]
    every = -(-len(kept) // 16)
    most = float(share.max())
    figure = heat(
        share[kept],
        x=Axis("memory 1/(1−γ), tokens", {2 * power: f"{2**power:,}" for power in range(0, _OCTAVES + 1, 2)}),
        y=Axis("", {place: names[place] for place in range(0, len(kept), every)}),
        scale=Scale(0, most, one_sided_scale(), "share of tokens", {0: "0", most: percent_words(most, places=0)}),
        uirevision=uirevision,
        title=title,
        height=max(260, 130 + 14 * len(kept)),
    )
    bins = [
        f"{number_words(2 ** (place / 2), 3)} to {number_words(2 ** ((place + 1) / 2), 3)} tokens"
        for place in range(2 * _OCTAVES)
    ]
    bins.append(f"over {2**_OCTAVES:,} tokens")
    figure.data[0]["text"] = [[f"{name}<br>{of}" for of in bins] for name in names]
    figure.data[0]["hovertemplate"] = "%{text}: %{z:.1%} of the tokens<extra></extra>"
    return figure


def decay_course(decay_HT: ArrayLike, *, uirevision: str, title: str = "") -> Figure:
    """γ of one layer's heads at each token of a text, a line a head (at most 8)."""
    decay = np.asarray(decay_HT, dtype=np.float64)
    shown = spread_layers(len(decay)) if decay.ndim == 2 and decay.size else []
    place = np.arange(decay.shape[-1]) if shown else np.zeros(0)
    figure = curves(
        [Line(f"head {head + 1}", place, decay[head]) for head in shown],
        uirevision=uirevision,
        title=title,
        y_title="decay γ",
        x=NO_STEPS,
        y=replace(SHARE, format=".3f"),
        height=300,
        message="No decays measured.",
    )
    return _with_x_axis(figure, "position in the text, tokens", "position %{x}")


def state_spectrum(singular_LHr: ArrayLike, *, uirevision: str, title: str = "") -> Figure:
    """Singular values of the final state ÷ the largest, mean over a layer's heads, a line for each layer (at most 8).

    A head whose state is 0 counts as 0 everywhere.
    """
    singular = np.asarray(singular_LHr, dtype=np.float64)
    lines = []
    if singular.ndim == 3 and singular.size:
        largest = singular[..., :1]
        relative = np.divide(singular, largest, out=np.zeros_like(singular), where=largest > 0).mean(1)
        place = np.arange(1, singular.shape[2] + 1)
        lines = [
            Line(layer_name(layer + 1), place, relative[layer], layer_style(layer + 1))
            for layer in spread_layers(len(relative))
        ]
    figure = curves(
        lines,
        uirevision=uirevision,
        title=title,
        y_title="÷ the largest",
        x=NO_STEPS,
        y=YAxis(log=True, format=".2~p"),
        height=300,
        message="No state measured.",
    )
    return _with_x_axis(figure, "singular value, largest first", "direction %{x}")


def channel_balance(energy_L2: ArrayLike, *, uirevision: str, title: str = "") -> Figure:
    """Share of the imaginary part in the energy of what each layer reads, 0 to 1, with a line at ½: both alike."""
    energy = np.asarray(energy_L2, dtype=np.float64)
    total = energy.sum(-1) if energy.ndim == 2 and energy.size else np.zeros(0)
    if not (total > 0).any():
        return empty_figure("No reads measured.", uirevision=uirevision, title=title)
    share = np.divide(energy, total[:, None], out=np.full_like(energy, np.nan), where=total[:, None] > 0)
    names = [layer_name(layer + 1) for layer in range(len(energy))]
    layout = base_layout(height=300, uirevision=uirevision, title=title)
    layout |= {"barmode": "stack", "bargap": 0.35, "hovermode": "closest"}
    every = -(-len(names) // 12)
    layout["xaxis"] = {"tickvals": np.arange(0, len(names), every), "ticktext": names[::every], "showgrid": False}
    layout["yaxis"] |= {"range": [0, 1], "tickformat": "~%", "title": {"text": "share of the energy", "standoff": 6}}
    layout["shapes"] = [_half_line()]
    return Figure(
        [
            _bars("real part", share[:, 0], BLUE, names),
            _bars("imaginary part", share[:, 1], LINE_COLORS[1], names),
        ],
        layout,
    )


def _bars(name: str, share_L: np.ndarray, color: str, layers: list[str]) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": name,
        "x": np.arange(len(share_L)),
        "y": share_L,
        "text": layers,
        "textposition": "none",
        "marker": {"color": color},
        "hovertemplate": f"%{{text}}: %{{y:.1%}} {name}<extra></extra>",
    }


def _half_line() -> dict[str, Any]:
    line = {"color": GREY, "width": 1.5, "dash": "dash"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0.5, "y1": 0.5, "line": line}


def _with_x_axis(figure: Figure, title: str, hover: str) -> Figure:
    """Curves over something else than steps."""
    if figure.data:
        figure.layout["xaxis"] |= {"title": {"text": title, "standoff": 8}, "unifiedhovertitle": {"text": hover}}
    return figure
