"""Token figures: what the model predicts against what the data holds, and how the leading tokens change over steps.

Shares are of positions. Real and padding positions are never mixed: a caller passes one kind at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qcore.base.words import percent_words
from qcore.viz.curves import Line, Mark, XAxis, YAxis, curves
from qcore.viz.figure import Figure
from qcore.viz.theme import BLUE, ORANGE, base_layout, empty_figure, label

ROW_PIXELS = 19


def shares(counts_V: ArrayLike) -> NDArray[np.float64]:
    """Counts ÷ their sum; all zeros when there is no count."""
    counts = np.asarray(counts_V, dtype=np.float64)
    total = counts.sum()
    return counts / total if total > 0 else np.zeros_like(counts)


def leading_tokens(counts_AV: Sequence[ArrayLike], top: int) -> list[int]:
    """Ids with the largest share in any of the histograms, largest first; at most `top`, and none with share 0."""
    best_V = np.max([shares(counts) for counts in counts_AV], axis=0)
    order = np.argsort(-best_V, kind="stable")[:top]
    return [int(token) for token in order if best_V[token] > 0]


def histogram(
    predicted_V: ArrayLike,
    target_V: ArrayLike,
    labels: Sequence[str],
    *,
    uirevision: str,
    title: str = "",
    top: int = 30,
    message: str = "No positions of this kind.",
) -> Figure:
    """Paired bars, predicted (argmax) and target, of the `top` tokens by the larger of their two shares.

    What the chosen tokens leave out is named under the axis, so that nothing is hidden: those two shares and the bars
    account for all positions. `labels` holds one text for each of the V tokens.
    """
    predicted, target = shares(predicted_V), shares(target_V)
    chosen = leading_tokens([predicted, target], top)
    if not chosen:
        return empty_figure(message, uirevision=uirevision, title=title)
    axis_title = f"share of {int(np.sum(target_V)):,} positions"
    rest = [1 - float(part[chosen].sum()) for part in (predicted, target)]
    if any(share > 5e-4 for share in rest):
        predicted_rest, target_rest = (percent_words(share, places=1) for share in rest)
        axis_title += f"<br>all other tokens:<br>{predicted_rest} predicted, {target_rest} target"
    layout = base_layout(height=130 + ROW_PIXELS * len(chosen), uirevision=uirevision, title=title)
    layout["title"]["font"] = {"size": 13}
    layout["hovermode"] = "y unified"
    layout["barmode"] = "group"
    layout["bargap"] = 0.25
    layout["bargroupgap"] = 0
    layout["legend"] |= {"y": 1, "yanchor": "bottom", "x": 1, "xanchor": "right"}
    layout["margin"] |= {"t": 58, "b": 72}
    layout["xaxis"] = {
        "title": {"text": axis_title, "standoff": 4},
        "tickformat": ".0%",
        "rangemode": "tozero",
    }
    place = np.arange(len(chosen))
    layout["yaxis"] = {
        "tickvals": place,
        "ticktext": [label(labels[token]) for token in chosen],
        "range": [len(chosen) - 0.5, -0.5],
        "automargin": True,
        "showgrid": False,
        "tickfont": {"size": 12},
    }
    names = [label(f"{labels[token]} (id {token})") for token in chosen]
    bars = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "x": part[chosen],
            "y": place,
            "customdata": names,
            "marker": {"color": color},
            "hovertemplate": f"{name} %{{x:.2%}}<extra>%{{customdata}}</extra>",
        }
        for name, part, color in (("predicted", predicted, BLUE), ("target", target, ORANGE))
    ]
    return Figure(bars, layout)


def race(
    steps: Sequence[int],
    predicted_SV: Sequence[ArrayLike],
    labels: Sequence[str],
    *,
    uirevision: str,
    title: str = "",
    marks: Sequence[Mark] = (),
    top: int = 5,
    most: int = 12,
    x: XAxis = XAxis(),
    height: int = 380,
) -> Figure:
    """Predicted share over steps of every token that was among the `top` at some step, at most `most` of them.

    Tokens are ordered by id, so that a refresh that brings a new leader moves as few colours as it can; the ones with
    the largest share at any step stay when there are more than `most`.
    """
    share_SV = np.array([shares(counts) for counts in predicted_SV])
    if share_SV.size == 0 or not share_SV.any():
        return empty_figure("No token histograms yet.", height=height, uirevision=uirevision, title=title)
    leaders = {token for share_V in share_SV for token in leading_tokens([share_V], top)}
    kept = sorted(sorted(leaders, key=lambda token: -share_SV[:, token].max())[:most])
    lines = [Line(labels[token], np.asarray(steps), share_SV[:, token]) for token in kept]
    figure = curves(
        lines,
        uirevision=uirevision,
        title=title,
        y_title="share of predictions",
        marks=marks,
        x=x,
        y=YAxis(format=".1%"),
        height=height,
    )
    figure.layout["yaxis"] |= {"tickformat": ".0%", "rangemode": "tozero"}
    figure.layout["showlegend"] = True
    return figure
