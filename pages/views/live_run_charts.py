"""Data of the control room's charts: read from a run, at most 600 points a trace, and turned into figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pages.session.ancestors import Past
from pages.session.family_words import TEXT, Words
from qcore.config import ObjectiveConfig, VideoObjectiveConfig
from qcore.probes import catalog
from qcore.viz import (
    LINE_COLORS,
    UNIT_LABELS,
    Figure,
    Line,
    Mark,
    Reference,
    Unit,
    YAxis,
    convert,
    curves,
    number_words,
    series_words,
)
from qcore.viz.heat import rgba

MAX_POINTS = 600
_WEIGHT = "_weight"
TERMS = tuple(name.removesuffix(_WEIGHT) for name in ObjectiveConfig.model_fields if name.endswith(_WEIGHT))
DEFAULT_TERMS = ("diversity", "dominance", "unlikelihood")
VIDEO_TERMS = tuple(name.removesuffix(_WEIGHT) for name in VideoObjectiveConfig.model_fields if name.endswith(_WEIGHT))
DEFAULT_VIDEO_TERMS = ("orthogonality", "decoherence", "temporal")
_TOTAL = catalog.TRAIN_LOSS
_STYLES = ({"color": LINE_COLORS[0]}, {"color": LINE_COLORS[1]}, {"color": LINE_COLORS[2], "dash": "dot"})
_PALE = 0.45
_ORIGINS = {
    "uniform": "every token equally likely",
    "unigram": "token frequencies only",
    "bigram": "one token of context (Witten–Bell)",
    "trigram": "two tokens of context (Witten–Bell)",
    "generator": "exact entropy of the text's generator: a loss below it proves a leak",
}


def names(words: Words, terms: Sequence[str]) -> list[str]:
    """Series that the figures of a family need."""
    return [*_losses(words), *_small(words), *(catalog.term(term) for term in terms)]


def past_names(words: Words) -> tuple[str, ...]:
    """Series that a fork's figures need of the runs that it comes from."""
    return catalog.term(words.main), words.held


def _losses(words: Words) -> dict[str, tuple[str, dict[str, Any]]]:
    """Series of the loss chart, with name and style: the family's own loss in training and held out, and the total."""
    shown = (f"{words.main_words}, training", f"{words.main_words}, held out", "weighted total")
    return dict(zip((catalog.term(words.main), words.held, _TOTAL), zip(shown, _STYLES, strict=True), strict=True))


def _small(words: Words) -> dict[str, str]:
    """Series of the small charts, each with the format of a value."""
    return {
        catalog.TRAIN_LR: ",.3~r",
        catalog.TRAIN_GRAD_NORM: ",.3~r",
        words.units: ",.0f",
        catalog.TRAIN_STEP_MS: ",.3~r",
    }


def figures(
    series: Mapping[str, Any],
    meta: dict[str, Any],
    marks: Sequence[Mark],
    *,
    words: Words,
    run: str,
    unit: Unit,
    terms: Sequence[str],
    waiting: str = "",
    past: Past = (),
    **look: Any,
) -> dict[str, Figure]:
    """Every figure by its key, the loss first.

    Args:
        unit: of a language run's loss; others have one.
        waiting: said while there is no loss.
        past: series of `past_names` of the runs that a fork comes from, drawn paler.
        look: span, x, extremes of `viz.curves`, and log_y for the loss.
    """
    log_y = look.pop("log_y")
    shared: dict[str, Any] = {"uirevision": run, "marks": marks, **look}
    found = {"loss": _loss(series, meta, words, unit, waiting, past, y=YAxis(log=log_y), **shared)}
    found["terms"] = curves(
        [Line.of(term.replace("_", " "), series[catalog.term(term)]) for term in terms],
        title="Terms, unweighted",
        y_title="each in its own unit",
        message="Choose terms above." if not terms else words.no_terms,
        **shared,
    )
    for name, value_format in _small(words).items():
        said = series_words(name)
        line = Line.of(said.label, series[name], smooth=name != catalog.TRAIN_LR)
        found[name] = curves([line], title=said.heading, y_title=said.unit, y=YAxis(format=value_format), **shared)
    return found


def _loss(
    series: Mapping[str, Any], meta: dict[str, Any], words: Words, unit: Unit, waiting: str, past: Past, **shared: Any
) -> Figure:
    """Losses with the references. The weighted total is a code length in no other unit: only nats show it.

    While the total is the family's own loss itself, one curve stands for both. A fork goes on from where its parent's
    curves, paler and with its name, end.
    """
    is_text = words is TEXT
    per_token = float(meta.get("bytes_per_token") or 1.0)
    y_title = UNIT_LABELS[unit] if is_text else words.held_unit
    main = series[catalog.term(words.main)].values
    lines = []
    for name, (shown, style) in _losses(words).items():
        steps, values = _points(series[name])
        is_plain = name == _TOTAL and values.tobytes() == main.tobytes()
        if is_plain or (name == _TOTAL and is_text and unit != "nats"):
            steps, values = steps[:0], values[:0]
        if is_text:
            values = convert(values, unit, per_token)
        counted = getattr(series[name], "counted", None)
        lines.append(Line(shown, steps, values, style, smooth=name != words.held, counted=counted))
    for run, before in past:
        for name in past_names(words):
            shown, style = _losses(words)[name]
            steps, values = _points(before[name])
            if is_text:
                values = convert(values, unit, per_token)
            if len(steps):
                pale = style | {"color": rgba(style["color"], _PALE)}
                lines.append(Line(f"{run}: {shown}", steps, values, pale, smooth=name != words.held))
    references = [
        Reference(name, value, f"{name}: {number_words(value)} {y_title} · {_ORIGINS.get(name, '')}")
        for name, nats in (meta.get("references") or {}).items()
        if is_text and nats is not None
        for value in [float(convert(nats, unit, per_token))]
    ]
    return curves(
        lines,
        title="Loss",
        y_title=y_title,
        references=references,
        height=380,
        message=waiting,
        **shared,
    )


def _points(series: Any) -> tuple[Any, Any]:
    return series.steps, series.values
