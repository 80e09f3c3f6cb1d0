"""Data of the control room's charts: read from a run, at most 1,000 points a trace, and turned into figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qcore.config import ObjectiveConfig
from qcore.viz import LINE_COLORS, UNIT_LABELS, Figure, Line, Mark, Reference, Unit, convert, curves

MAX_POINTS = 1000
TERMS = tuple(name.removesuffix("_weight") for name in ObjectiveConfig.model_fields if name.endswith("_weight"))
DEFAULT_TERMS = ("diversity", "dominance", "unlikelihood")
_LOSSES = {
    "term/ce": ("cross-entropy, training", {"color": LINE_COLORS[0]}),
    "eval/ce": ("cross-entropy, held out", {"color": LINE_COLORS[1]}),
    "train/loss": ("weighted total", {"color": LINE_COLORS[2], "dash": "dot"}),
}
_SMALL = {
    "train/lr": ("Learning rate", "", ".3~g"),
    "train/grad_norm": ("Gradient norm", "L2, before clipping", ".3~g"),
    "train/tokens_per_second": ("Speed", "tokens/s", ",.0f"),
    "train/step_ms": ("Step time", "ms", ".3~g"),
}
_ORIGINS = {
    "uniform": "every token equally likely",
    "unigram": "token frequencies only",
    "bigram": "one token of context (Witten–Bell)",
    "trigram": "two tokens of context (Witten–Bell)",
    "generator": "exact entropy of the text's generator: a loss below it proves a leak",
}


def names(terms: Sequence[str]) -> list[str]:
    """Series that the figures need."""
    return [*_LOSSES, *_SMALL, *(f"term/{term}" for term in terms)]


def figures(
    series: Mapping[str, Any],
    meta: dict[str, Any],
    marks: Sequence[Mark],
    *,
    run: str,
    unit: Unit,
    terms: Sequence[str],
    **look: Any,
) -> dict[str, Figure]:
    """Every figure by its key, the loss first. look: span, log_x, log_y of `viz.curves`; log_y is for the loss."""
    log_y = look.pop("log_y")
    shared: dict[str, Any] = {"uirevision": run, "marks": marks, **look}
    found = {"loss": _loss(series, meta, unit, log_y=log_y, **shared)}
    found["terms"] = curves(
        [Line(term.replace("_", " "), *_points(series[f"term/{term}"])) for term in terms],
        title="Terms, unweighted",
        y_title="value",
        message="Choose terms above." if not terms else "Not measured yet.",
        **shared,
    )
    for name, (title, y_title, value_format) in _SMALL.items():
        line = Line(title, *_points(series[name]), smooth=name != "train/lr")
        found[name] = curves([line], title=title, y_title=y_title, value_format=value_format, **shared)
    return found


def _loss(series: Mapping[str, Any], meta: dict[str, Any], unit: Unit, **shared: Any) -> Figure:
    """Losses with the references. The weighted total is a code length in no other unit: only nats show it.

    While the total is the cross-entropy itself, one curve stands for both.
    """
    per_token = float(meta.get("bytes_per_token") or 1.0)
    lines = []
    for name, (shown, style) in _LOSSES.items():
        steps, nats = _points(series[name])
        is_plain = name == "train/loss" and nats.tobytes() == series["term/ce"].values.tobytes()
        if is_plain or (name == "train/loss" and unit != "nats"):
            steps, nats = steps[:0], nats[:0]
        lines.append(Line(shown, steps, convert(nats, unit, per_token), style, smooth=name != "eval/ce"))
    references = [
        Reference(name, value, f"{name}: {value:.4g} {UNIT_LABELS[unit]} · {_ORIGINS.get(name, '')}")
        for name, nats in (meta.get("references") or {}).items()
        if nats is not None
        for value in [float(convert(nats, unit, per_token))]
    ]
    return curves(
        lines,
        title="Loss",
        y_title=UNIT_LABELS[unit],
        references=references,
        height=380,
        message="The first step is on its way.",
        **shared,
    )


def _points(series: Any) -> tuple[Any, Any]:
    return series.steps, series.values
