"""Forest plot of an ablation: a dot and an interval for each change, and a line where nothing changes.

Left of the line the loss fell. One change that ruins a model would squeeze all others together, so the axis ends at a
few times the usual reach; what lies beyond is said in numbers at the edge, and a double click shows it all.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from qcore.base.words import number_words, percent_words
from qcore.viz.figure import Figure
from qcore.viz.theme import GREEN, GREY, LABEL_SIZE, VERMILLION, base_layout, empty_figure, label

REACH = 6.0
"""The axis ends at so many times the median reach of an interval, unless everything fits."""
_ROW_PIXELS = 26
_COLORS = {"helps": GREEN, "hurts": VERMILLION}


@dataclass(frozen=True)
class ForestRow:
    """One change.

    Attributes:
        mean: difference to its base.
        low, high: confidence interval, infinite for a single seed.
        verdict: its colour is that of `helps`, `hurts`, or grey.
        hint: shown on hover.
    """

    name: str
    mean: float
    low: float
    high: float
    verdict: str = ""
    hint: str = ""


def forest(
    effects: Sequence[ForestRow],
    *,
    uirevision: str,
    title: str = "",
    unit: str = "nats per token",
    confidence: float = 0.95,
) -> Figure:
    """Differences to the base with their intervals, the first at the top; those without a finite mean are left out."""
    shown = [effect for effect in effects if math.isfinite(effect.mean)]
    if not shown:
        return empty_figure("No comparison has finished yet.", uirevision=uirevision, title=title)
    places = list(range(len(shown) - 1, -1, -1))
    limit = _limit(shown)
    layout = base_layout(height=110 + _ROW_PIXELS * len(shown), uirevision=uirevision, title=title)
    layout["hovermode"] = "closest"
    layout["showlegend"] = False
    layout["xaxis"] = {
        "title": {"text": f"held-out loss − base, {label(unit)} · better ← 0 → worse", "standoff": 8},
        "range": [-limit, limit],
        "zeroline": False,
    }
    layout["yaxis"] |= {
        "tickvals": places,
        "ticktext": [label(effect.name) for effect in shown],
        "range": [-0.7, len(shown) - 0.3],
        "fixedrange": True,
    }
    layout["shapes"] = [
        {
            "type": "line",
            "x0": 0,
            "x1": 0,
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "line": {"color": GREY, "width": 1.5, "dash": "dash"},
        }
    ]
    layout["annotations"] = [
        {
            "text": f"{number_words(effect.mean, 3, signed=True)} →"
            if effect.mean > 0
            else f"← {number_words(effect.mean, 3, signed=True)}",
            "x": math.copysign(limit, effect.mean),
            "y": place,
            "xanchor": "right" if effect.mean > 0 else "left",
            "showarrow": False,
            "font": {"size": LABEL_SIZE},
        }
        for effect, place in zip(shown, places, strict=True)
        if abs(effect.mean) > limit
    ]
    percent = percent_words(confidence, places=0)
    dots = {
        "type": "scatter",
        "mode": "markers",
        "name": "difference",
        "x": [effect.mean for effect in shown],
        "y": places,
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [_whisker(effect.high - effect.mean) for effect in shown],
            "arrayminus": [_whisker(effect.mean - effect.low) for effect in shown],
            "thickness": 1.5,
            "width": 5,
            "color": GREY,
        },
        "marker": {"size": 9, "color": [_COLORS.get(effect.verdict, GREY) for effect in shown]},
        "text": [_hover(effect, unit, percent) for effect in shown],
        "hovertemplate": "%{text}<extra></extra>",
    }
    return Figure([dots], layout)


def _limit(effects: Sequence[ForestRow]) -> float:
    reaches = [
        max(abs(edge) for edge in (effect.mean, effect.low, effect.high) if math.isfinite(edge)) for effect in effects
    ]
    furthest, usual = max(reaches), statistics.median(reaches)
    return (min(furthest, REACH * usual) or 1.0) * 1.08


def _whisker(length: float) -> float:
    return length if math.isfinite(length) else 0.0


def _hover(effect: ForestRow, unit: str, percent: str) -> str:
    low, high = (number_words(end, places=4, signed=True) for end in (effect.low, effect.high))
    interval = f"{percent} interval {low} … {high}"
    lines = [
        f"{effect.name}: {number_words(effect.mean, places=4, signed=True)} {unit}",
        interval if math.isfinite(effect.low) else "one seed: no interval",
        effect.verdict,
        effect.hint,
    ]
    return "<br>".join(label(line) for line in lines if line)
