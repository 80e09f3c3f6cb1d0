"""Ask a video model for clips: how many, from which seed, by which solver, with how much shared noise; and see the
newest few answers playing beside each other.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.session import looks, phrases, read_cache, roles
from pages.session.markdown_escape import escape_markdown
from pages.session.moment import fragment
from pages.views import prompt
from pages.widgets import clip_player, control_widgets, error_boundary
from pages.widgets.frame_measures import MEASURES
from qcore.config import ClipSamplingConfig
from qcore.lab import Lab, RunInfo
from qcore.viz import ClipRow, number_words

SHOWN = 4
HISTORY = 12
newest = prompt.newest_finished
_FIRST = ("sampled_clips", "sample_seed", "solver", "solver_steps", "sample_noise_correlation")


@fragment
@error_boundary.with_errors_shown
def panel(lab: Lab, info: RunInfo) -> None:
    """Settings, model, and the answers. A fragment of its own: nothing else redraws while clips are made."""
    name = info.name
    models = prompt.sources(lab, info)
    settings, source, asked = _form(lab, info, models)
    if not models:
        prompt.explain_no_model(lab, name)
    if asked and source:
        _answer(lab, name, settings, models[source])
    _earlier_clips(lab, name)


def _form(lab: Lab, info: RunInfo, models: dict[str, int | None]) -> tuple[ClipSamplingConfig, str | None, bool]:
    """What to sample, from which model, and whether it was asked for."""
    name = info.name
    values: dict[str, Any] = lab.config(name).sampling.model_dump()
    chosen: dict[str, Any] = {}

    def field(one: str) -> None:
        chosen[one] = control_widgets.field(ClipSamplingConfig.control(one), values[one], f"clips:{name}:{one}")

    columns = st.columns(3, gap="medium")
    for index, one in enumerate(_FIRST):
        with columns[index % 3]:
            field(one)
    with columns[2]:
        source = prompt.pick_source(info, models)
    with st.container(horizontal=True, vertical_alignment="center"):
        asked = roles.button("Generate", type="primary", icon=":material/movie:", disabled=not models)
        with st.popover("More", icon=":material/tune:"):
            for one in ClipSamplingConfig.model_fields:
                if one not in _FIRST:
                    field(one)
    return ClipSamplingConfig(**chosen), source, asked


def _answer(lab: Lab, name: str, settings: ClipSamplingConfig, checkpoint: int | None) -> None:
    """Wait for the clips; they are then the newest among the past ones."""
    place = st.empty()
    place.caption("Waiting for the end of the step …" if checkpoint is None else "Opening the checkpoint …")
    try:
        for generation in lab.sample_clips(name, settings, checkpoint=checkpoint):
            place.caption(f"Following the velocity from noise to clips: {len(generation.tokens)} done")
    except ValueError as error:
        place.error(escape_markdown(str(error)), icon=":material/block:")
        return
    place.empty()


def _earlier_clips(lab: Lab, name: str) -> None:
    """The newest few generations, a row each: the same seed in another row is the same noise."""
    state = read_cache.run_version(lab, name)
    done = [item for item in lab.reader(name).generations("prompt", limit=HISTORY)[::-1] if item.status != "running"]
    if not done:
        st.caption("Nothing generated yet. Choose a seed and how much of the noise frames share, and press *Generate*.")
        return
    if done[0].status == "failed":
        reason = str(done[0].stats.get("error", "the model failed while sampling"))
        st.error(escape_markdown(reason), icon=":material/error:")
    rows, shown = [], []
    for item in [item for item in done if item.status == "done"][:SHOWN]:
        try:
            rows.append(
                ClipRow(_title(item), read_cache.clips(lab, state, item.id), hint=_settings_text(item.settings))
            )
            shown.append(item)
        except ValueError as error:
            st.error(escape_markdown(str(error)), icon=":material/error:")
    if rows:
        clip_player.film(rows, "chart:generations", "The newest generated clips, one row per request")
        _statistics(shown)


def _title(item: Any) -> str:
    return f"{phrases.clock(item.wall)} · step {item.step:,} · seed {item.settings.get('sample_seed', '–')}"


def _settings_text(settings: dict[str, Any]) -> str:
    shared = settings.get("sample_noise_correlation", -1)
    noise = "noise as in training" if shared < 0 else f"ρ = {number_words(shared)}"
    steps = "" if settings.get("solver") == "adaptive" else f", {settings.get('solver_steps')} steps"
    return f"{noise}, {settings.get('solver')}{steps}, {settings.get('source', 'live')}"


def _statistics(items: list[Any]) -> None:
    """Measures of each answer, newest first."""
    names = [name for name in MEASURES if any(name in item.stats for item in items)]
    if not names:
        return
    table: dict[str, list[Any]] = {"generation": [_title(item) for item in items]}
    for name in names:
        suffix = " ÷ data's" if MEASURES[name].ratio else ""
        table[MEASURES[name].words.label.lower() + suffix] = [item.stats.get(name) for item in items]
    looks.table(
        table,
        key="clip_statistics",
        column_config={title: st.column_config.NumberColumn(format="%.2f") for title in table if title != "generation"},
    )
    st.caption("With another share of common noise the same seed starts from other frames, so compare their movement.")
