"""Figures of the Tokens page: histograms, statistics over steps, the race of the leading tokens, special tokens."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.session import looks, phrases, read_cache
from pages.widgets.chart import chart
from pages.widgets.healthy_lines import healthy_lines
from qcore.lab import Lab, RunInfo
from qcore.probes import catalog
from qcore.viz import Line, XAxis, YAxis, curves, histogram, race, series_words, shares

RACE_STEPS = 60
MAX_POINTS = 600
_CURVES: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        "Largest share of one token",
        series_words(catalog.TOKENS_TOP1_SHARE).meaning,
        {catalog.TOKENS_TOP1_SHARE: "predicted", catalog.TOKENS_TARGET_TOP1_SHARE: "target"},
    ),
    ("", "", {catalog.TOKENS_COVERAGE: "coverage"}),
    (
        "Entropy",
        "Of one prediction on average, and of the average prediction.",
        {catalog.TOKENS_MEAN_ENTROPY: "one prediction", catalog.TOKENS_MARGINAL_ENTROPY: "average prediction"},
    ),
    ("", "", {catalog.TOKENS_MUTUAL_INFORMATION: "mutual information"}),
    ("", "", {catalog.TOKENS_KL_TARGET: "KL"}),
    ("", "", {catalog.TOKENS_ACCURACY: "accuracy"}),
)
"""Title and caption of a chart, and what its lines are called; a chart of one series has the series' own."""

_PERPLEXITY = {
    catalog.PERPLEXITY_TEACHER_FORCED: "teacher-forced",
    catalog.PERPLEXITY_STRICT: "strict",
    catalog.PERPLEXITY_COHERENT: "coherent third",
    catalog.PERPLEXITY_INCOHERENT: "incoherent third",
    catalog.PERPLEXITY_COHERENCE_WEIGHTED: "weighted by coherence",
}


def draw(lab: Lab, info: RunInfo, chosen: int | None, *, log_x: bool) -> None:
    """Everything below the controls, for one step (None: the newest)."""
    reader = lab.reader(info.name)
    found = reader.arrays("tokens", chosen)
    if found is None:
        return
    step, arrays = found
    labels = lab.token_labels(info.name)
    marks = phrases.marks(reader.events())
    left, right = st.columns([5, 6], gap="large")
    with left:
        _histograms(info, step, arrays, labels)
        _special_token_table(reader.meta().get("special_tokens") or {}, arrays)
    with right:
        _statistics(reader, info, marks, log_x)
        _perplexity(reader, info, marks, log_x)
    steps = read_cache.spread_steps(reader.array_steps("tokens"), RACE_STEPS)
    state = read_cache.run_version(lab, info.name)
    figure = race(
        steps,
        [read_cache.predicted_counts(lab, state, at) for at in steps],
        labels,
        uirevision=info.name,
        title="Leading tokens over steps",
        marks=marks,
        x=XAxis(log=log_x),
    )
    chart(figure, "chart:race", "Predicted share of the leading tokens over steps", info.step)
    st.caption(
        "Every token that was among the five most predicted at some step (real positions). In healthy runs one or two "
        "tokens lead in the first steps, then many share; one line that rises and stays is a collapse."
    )


def _histograms(info: RunInfo, step: int, arrays: dict[str, Any], labels: list[str]) -> None:
    real, padding = arrays["tokens/target"], arrays["tokens/target_padding"]
    figure = histogram(
        arrays["tokens/predicted"],
        real,
        labels,
        uirevision=info.name,
        title=f"Real positions, step {step:,}",
    )
    chart(figure, "chart:real", f"Predicted and target shares of tokens at step {step}")
    if padding.sum():
        figure = histogram(
            arrays["tokens/predicted_padding"],
            padding,
            labels,
            uirevision=info.name,
            title=f"Padding, step {step:,}",
            top=8,
        )
        chart(figure, "chart:padding", f"Predicted and target shares at padding positions at step {step}")
        st.caption("Padding is masked: it is in no loss, and what the model says there means nothing.")
    else:
        st.caption("No padding positions in this batch; packed rows never have any.")


def _special_token_table(special: dict[str, int], arrays: dict[str, Any]) -> None:
    if not special:
        return
    kinds = ("predicted", "target", "predicted_padding")
    share = {kind: shares(arrays[catalog.member(catalog.TOKENS, kind)]) for kind in kinds}
    table: dict[str, Any] = {"token": list(special), "id": list(special.values())}
    for kind, title in zip(kinds, ("predicted", "target", "predicted at padding"), strict=True):
        if arrays[catalog.member(catalog.TOKENS, kind)].sum():
            table[title] = [float(share[kind][token]) for token in special.values()]
    st.markdown("**Special tokens**")
    looks.table(
        table,
        key="specials",
        column_config={
            title: st.column_config.NumberColumn(format="percent") for title in table if title not in ("token", "id")
        },
    )


def _perplexity(reader: Any, info: RunInfo, marks: list[Any], log_x: bool) -> None:
    series = reader.scalars_of(list(_PERPLEXITY), max_points=MAX_POINTS)
    figure = curves(
        [Line.of(shown, series[name]) for name, shown in _PERPLEXITY.items()],
        uirevision=info.name,
        title="Perplexity, strict and by coherence",
        y_title="per token",
        marks=marks,
        x=XAxis(log=log_x),
        y=YAxis(log=True),
        message="Not measured so far.",
    )
    chart(
        figure,
        "chart:perplexity",
        "Strict and teacher-forced perplexity, and by phase coherence, over steps",
        info.step,
    )
    st.caption(
        "Strict: each word from its prefix alone; it must lie on the teacher-forced curve, or the future leaks. "
        "Thirds: by the phase coherence of the last 8 tokens, where there are phases. A few rows, so they scatter."
    )


def _statistics(reader: Any, info: RunInfo, marks: list[Any], log_x: bool) -> None:
    names = [name for *_, lines in _CURVES for name in lines]
    series = reader.scalars_of(names, max_points=MAX_POINTS)
    for index, (title, about, lines) in enumerate(_CURVES):
        words = series_words(next(iter(lines)))
        figure = curves(
            [Line.of(shown, series[name]) for name, shown in lines.items()],
            uirevision=info.name,
            title=title or words.heading,
            y_title=words.unit,
            references=healthy_lines(words.name) if len(lines) == 1 else [],
            marks=marks,
            x=XAxis(log=log_x),
            height=230,
            y=YAxis(least=catalog.least_height(words.unit)),
        )
        if index % 2 == 0:
            columns = st.columns(2)
        with columns[index % 2]:
            chart(figure, f"chart:{words.name}", f"{title or words.heading} over steps", info.step)
            st.caption(about or words.meaning)
