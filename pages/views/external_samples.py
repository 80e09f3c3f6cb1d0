"""Samples that another program has recorded in its run: one of them whole, all of them in a table, and what was
measured of them over steps. Nothing can be asked for here.
"""

from __future__ import annotations

import math
from typing import Any

import streamlit as st

from pages.session import family_words, looks, phrases, read_cache
from pages.session.markdown_escape import escape_markdown
from pages.widgets import clip_player
from pages.widgets.chart import chart
from pages.widgets.live_panel import html_element
from pages.widgets.token_text import generation_html
from qcore.lab import Lab, RunInfo
from qcore.viz import ClipRow, Line, curves, name_words

SHOWN = 200
MOST_CURVES = 6
ROWS = 6


def draw(lab: Lab, info: RunInfo) -> None:
    """The samples, the newest first; without any, that there is none."""
    made = [one for one in lab.reader(info.name).generations(limit=SHOWN) if one.status != "running"]
    if not made:
        family_words.elsewhere(info, "This run has recorded no samples.")
        return
    st.caption("What its program has sampled. This lab has no model of it that could be asked for more.")
    texts = [one for one in made if not _is_clip(one)]
    clips = [one for one in made if _is_clip(one)]
    if clips:
        _film(lab, info, clips)
    if texts:
        _texts(info, texts)
    _statistics(info, made)


def _is_clip(one: Any) -> bool:
    return any("pixels" in token for token in one.tokens)


def _film(lab: Lab, info: RunInfo, made: list[Any]) -> None:
    rows = []
    for one in made[-ROWS:]:
        try:
            rows.append(
                ClipRow(f"step {one.step:,}", read_cache.clips(lab, read_cache.run_version(lab, info.name), one.id))
            )
        except ValueError as error:
            st.error(escape_markdown(f"step {one.step:,}: {error}"), icon=":material/error:")
    if rows:
        clip_player.film(rows, "chart:own_clips", "Clips that the run has recorded, a row a sample")


def _texts(info: RunInfo, made: list[Any]) -> None:
    prompts = list(dict.fromkeys(one.prompt for one in made))
    prompt: str | None = prompts[-1]
    if len(prompts) > 1:
        prompt = st.selectbox(
            "Prompt",
            prompts,
            len(prompts) - 1,
            key=f"own_prompt:{info.name}",
            format_func=lambda text: phrases.short_name(text) or "(empty prompt)",
            width=360,
        )
    shown = [one for one in made if one.prompt == prompt]
    newest = shown[-1]
    if newest.status == "failed":
        st.error(
            escape_markdown(str(newest.stats.get("error", "it failed while it was made"))), icon=":material/error:"
        )
    html_element(
        "own_sample", f"<b>Step {newest.step:,}</b>{generation_html(newest.prompt, newest.tokens, text=newest.text)}"
    )
    looks.table(
        {"step": [one.step for one in shown[::-1]], "text": [one.text for one in shown[::-1]]},
        key="own_samples",
        column_config={
            "step": st.column_config.NumberColumn(format="localized", width="small"),
            "text": st.column_config.TextColumn(width="large"),
        },
    )


def _statistics(info: RunInfo, made: list[Any]) -> None:
    """A chart for each number that was kept with the samples."""
    names = list(dict.fromkeys(name for one in made for name, value in one.stats.items() if _is_number(value)))
    columns = st.columns(2) if names else []
    for index, name in enumerate(names[:MOST_CURVES]):
        values = [_number(one.stats.get(name)) for one in made]
        line = Line(name_words(name), [one.step for one in made], values, gaps=True)
        figure = curves([line], uirevision=f"{info.name}:{name}", title=name_words(name), height=250)
        with columns[index % 2]:
            chart(figure, f"own_stat:{name}", f"{name_words(name)} of the samples over steps", info.step)


def _number(value: Any) -> float:
    return float(value) if _is_number(value) else math.nan


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
