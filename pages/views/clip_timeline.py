"""The same seeds, sampled every so many steps: how the clips change while the model learns, playing side by side."""

from __future__ import annotations

import math

import streamlit as st

from pages.session import advice, phrases, read_cache
from pages.session.markdown_escape import escape_markdown
from pages.widgets import clip_player, sampler_line
from pages.widgets.chart import chart
from pages.widgets.frame_measures import MEASURES, MOTION, PICTURES
from qcore.lab import Lab, RunInfo
from qcore.probes import catalog
from qcore.viz import ClipRow, Line, Reference, curves, number_words

ROWS = 6
_PICTURES = tuple(name for name in PICTURES if name != "energy")


def options(lab: Lab, info: RunInfo) -> str | None:
    """Which of the fixed seeds to show; None before the first sample."""
    samples = read_cache.timeline(lab, read_cache.run_version(lab, info.name))
    labels = list(dict.fromkeys(sample.prompt for sample in samples))
    if not labels:
        return None
    return st.selectbox("Noise", labels, key=f"seed:{info.name}", width=260) if len(labels) > 1 else labels[0]


def draw(lab: Lab, info: RunInfo, chosen: str | None) -> None:
    """Clips at up to six steps, a row a step and the data below, then their measures over all steps."""
    state = read_cache.run_version(lab, info.name)
    samples = [sample for sample in read_cache.timeline(lab, state) if chosen is None or sample.prompt == chosen]
    if not samples:
        st.info(advice.why_nothing_to_show(lab, info, "clips from fixed seeds", "sample_every", done="drawn"))
        return
    by_step = {sample.step: sample for sample in samples}
    steps = read_cache.spread_steps(sorted(by_step), ROWS)
    reader = lab.reader(info.name)
    rows = []
    for step in steps:
        try:
            rows.append(ClipRow(f"step {step:,}", read_cache.clips(lab, state, by_step[step].id)))
        except ValueError as error:
            st.error(escape_markdown(f"step {step:,}: {error}"), icon=":material/error:")
    frames = reader.arrays("frames")
    if frames is not None:
        rows.append(
            ClipRow(
                f"data, {phrases.step_words(frames[0])}", frames[1]["data"], hint="clips that the model learns from"
            )
        )
    left, right = st.columns([3, 2], gap="large")
    with left:
        clip_player.film(rows, "chart:timeline", "Clips from the same noise at different steps, with the data")
        st.caption(
            f"{escape_markdown(samples[-1].prompt)}: a column is the same noise at every step. {len(steps)} of "
            f"{len(by_step)} steps are shown, evenly spread."
        )
        sampler_line.draw(lab, info, catalog.SAMPLER_VELOCITY_ERROR)
    with right:
        data: dict[str, float] = reader.meta().get("data_frames") or {}
        marks = phrases.marks(reader.events())
        for key, title, y_title, names in (
            ("motion", "Motion of the clips", "cosine · ÷ data's", tuple(MOTION)),
            ("pictures", "Frames of a clip", "RMS distance · cosine", _PICTURES),
        ):
            figure = curves(
                [
                    Line(
                        MEASURES[name].words.label.lower(),
                        [sample.step for sample in samples],
                        [sample.stats.get(name, math.nan) for sample in samples],
                        gaps=True,
                    )
                    for name in names
                ],
                uirevision=f"{info.name}:{chosen}",
                title=title,
                y_title=y_title,
                marks=marks,
                references=_references(names, data),
                height=300,
            )
            chart(figure, f"chart:{key}", f"{title} over steps", info.step)
        st.caption("Dashed: the data's own values. Coherence, change and variety must be right at once.")


def _references(names: tuple[str, ...], data: dict[str, float]) -> list[Reference]:
    """The data's own values; 1 for what is ÷ the data's."""
    found = [
        Reference(
            MEASURES[name].words.label.lower(),
            value,
            f"{MEASURES[name].words.heading} of the data: {number_words(value, 3)}",
        )
        for name in names
        if (value := data.get(name)) is not None and not MEASURES[name].ratio
    ]
    ratios = [MEASURES[name].words.label.lower() for name in names if MEASURES[name].ratio]
    return [*found, Reference("data = 1", 1.0, f"{' and '.join(ratios)} of the data")] if ratios else found
