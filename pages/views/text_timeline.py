"""The same prompts, sampled every so many steps: how the text changes while the model learns."""

from __future__ import annotations

import math

import streamlit as st

from pages.session import advice, looks, phrases, read_cache
from pages.widgets import sampler_line
from pages.widgets.chart import chart
from pages.widgets.live_panel import html_element
from pages.widgets.token_text import generation_html
from qcore.lab import Lab, RunInfo
from qcore.probes import catalog
from qcore.viz import SHARE, Line, curves, series_words

ROWS = 40
_EMPTY = "(empty prompt)"
_CURVES = {
    "Variety": (("distinct_1", "distinct_2", "distinct_3"), "share of n-grams"),
    "Repetition": (("repetition",), "share of tokens"),
}


def options(lab: Lab, info: RunInfo) -> tuple[str | None, int | None]:
    """Prompt and step to show; step None is the newest."""
    prompts = list(dict.fromkeys(lab.config(info.name).value("prompts")))
    samples = read_cache.timeline(lab, read_cache.run_version(lab, info.name))
    if not prompts:
        return None, None
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        prompt = st.selectbox(
            "Fixed prompt", prompts, key=f"fixed:{info.name}", format_func=lambda text: text or _EMPTY, width=260
        )
        follow = st.toggle("Newest sample", True, key="newest", bind="query-params")
        steps = [sample.step for sample in samples if sample.prompt == prompt]
        steps = sorted(set(steps))
        if follow or len(steps) < 2:
            return prompt, None
        return prompt, st.select_slider("Step", steps, steps[-1], key="sample_at", bind="query-params")


def draw(lab: Lab, info: RunInfo, prompt: str | None, step: int | None) -> None:
    """The chosen sample, then all samples of the prompt, newest first, and their statistics over steps."""
    if prompt is None:
        st.info("This run has no fixed prompts. Give some under *Probes and checkpoints* when you start the next one.")
        return
    samples = [
        sample for sample in read_cache.timeline(lab, read_cache.run_version(lab, info.name)) if sample.prompt == prompt
    ]
    if not samples:
        st.info(advice.why_nothing_to_show(lab, info, "samples of this prompt", "sample_every", done="written"))
        return
    reader = lab.reader(info.name)
    chosen = next((sample for sample in samples[::-1] if sample.step == step), samples[-1])
    whole = reader.generation(chosen.id)
    left, right = st.columns([3, 2], gap="large")
    with left:
        shown = generation_html(prompt, whole.tokens if whole else [])
        html_element("sample", f"<b>Step {chosen.step:,}</b>{shown}")
        sampler_line.draw(lab, info, catalog.SAMPLER_SCORE_ERROR)
        looks.table(
            {
                "step": [sample.step for sample in samples[: -ROWS - 1 : -1]],
                "text": [sample.text for sample in samples[: -ROWS - 1 : -1]],
            },
            key="samples",
            column_config={
                "step": st.column_config.NumberColumn(format="localized", width="small"),
                "text": st.column_config.TextColumn(width="large"),
            },
        )
    with right:
        marks = phrases.marks(reader.events())
        for title, (names, y_title) in _CURVES.items():
            figure = curves(
                [
                    Line(
                        series_words(catalog.member(catalog.GENERATION, name)).label.lower(),
                        [one.step for one in samples],
                        [one.stats.get(name, math.nan) for one in samples],
                        gaps=True,
                    )
                    for name in names
                ],
                uirevision=f"{info.name}:{prompt}",
                title=title,
                y_title=y_title,
                marks=marks,
                y=SHARE,
                height=250,
            )
            chart(figure, f"chart:{title}", f"{title} of the samples over steps", info.step)
