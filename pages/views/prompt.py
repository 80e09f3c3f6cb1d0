"""Ask a model to continue a prompt, watch the text grow, and look back at what was asked before."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.session import phrases, roles, selection
from pages.session.looks import table
from pages.session.markdown_escape import escape_markdown
from pages.session.moment import fragment
from pages.views import sampling_rules
from pages.widgets import control_widgets, error_boundary
from pages.widgets.token_text import generation_html
from qcore.base.words import number_words, percent_words
from qcore.config import SamplingConfig
from qcore.lab import Lab, RunInfo
from qcore.probes import catalog
from qcore.probes.catalog import series_words

HISTORY = 30
LIVE = "live model"
_STATISTICS = ("distinct_1", "distinct_2", "distinct_3", "repetition", "mean_entropy")


@fragment
@error_boundary.with_errors_shown
def prompt_panel(lab: Lab, info: RunInfo) -> None:
    """Prompt, model, settings, and the answer. A fragment of its own: nothing else redraws while text grows."""
    name = info.name
    models = sources(lab, info)
    left, right = st.columns([3, 2], gap="large")
    with left:
        prompt = st.text_area("Prompt", key=f"prompt:{name}", height=108, placeholder="Once a", persist_state="session")
    with right:
        source = pick_source(info, models)
        with st.container(horizontal=True, vertical_alignment="center"):
            asked = roles.button(
                "Generate",
                type="primary",
                icon=":material/edit_note:",
                disabled=not models,
                on_click=selection.remember_choice,
                args=("past", None),
            )
            with st.popover("Sampling", icon=":material/tune:"):
                chosen = control_widgets.fields(
                    SamplingConfig, lab.config(name).sampling.model_dump(), f"sampling:{name}"
                )
        compared = sampling_rules.comparison_toggle()
    settings = SamplingConfig(**chosen)
    if not models:
        explain_no_model(lab, name)
    if compared and not sampling_rules.can_compare(settings):
        st.info(sampling_rules.NOTHING)
    if asked and source:
        rules = sampling_rules.rules(settings) if compared else {"": settings}
        _answer(lab, name, prompt or "", rules, models[source])
    _earlier_samples(lab, name, compared)
    if compared and source and sampling_rules.can_compare(settings):
        sampling_rules.measure(lab, name, prompt or "", settings, models[source])


def sources(lab: Lab, info: RunInfo) -> dict[str, int | None]:
    """Models that can be asked: label → step of the checkpoint, None for the living one. Newest first."""
    found: dict[str, int | None] = {LIVE: None} if info.alive else {}
    for saved in lab.checkpoints(info.name)[::-1]:
        found[f"checkpoint of step {saved.step:,} ({saved.reason})"] = saved.step
    return found


def explain_no_model(lab: Lab, name: str) -> None:
    """Say that there is no model to ask, and how to come to one."""
    way = "start *New run from this one*" if lab.stranded_steps(name) else "resume it"
    st.info(f"This run has no checkpoint and no live model: {way} in the control room, then prompt it here.")


def pick_source(info: RunInfo, models: dict[str, int | None]) -> str | None:
    """Choose one of them; None when there is none."""
    return st.selectbox(
        "Model",
        list(models),
        key=f"source:{info.name}:{info.alive}",
        placeholder="no checkpoint yet",
        help="The live model answers between two steps, also while paused; a checkpoint is as it was saved.",
    )


def newest_finished(lab: Lab, run: str) -> str | None:
    """Id of the newest finished generation: a new one, also from elsewhere, asks for a new page."""
    found = [item.id for item in lab.reader(run).generations("prompt", limit=2) if item.status != "running"]
    return found[-1] if found else None


def _answer(lab: Lab, name: str, prompt: str, rules: dict[str, SamplingConfig], checkpoint: int | None) -> None:
    """Show the text of each rule as it grows, one after the other, side by side; then they are among the past ones."""
    places = [column.empty() for column in st.columns(len(rules), gap="large")]
    for place, settings in zip(places, rules.values(), strict=True):
        place.caption("Waiting for the end of the step …" if checkpoint is None else "Opening the checkpoint …")
        try:
            for generation in lab.sample(name, prompt, settings, checkpoint=checkpoint):
                place.html(generation_html(prompt, generation.tokens, running=generation.status == "running"))
        except ValueError as error:
            place.error(escape_markdown(str(error)), icon=":material/block:")
            return
    for place in places:
        place.empty()


def _earlier_samples(lab: Lab, name: str, compared: bool) -> None:
    """One finished generation, the newest unless another is chosen; with `compared`, beside its plain or aware twin."""
    reader = lab.reader(name)
    past = {item.id: item for item in reader.generations("prompt", limit=HISTORY)[::-1] if item.status != "running"}
    if not past:
        st.caption("Nothing generated yet. Write a prompt above, or leave it empty, and press *Generate*.")
        return
    key = f"{selection.widget_key('past')}:{name}"
    item = past[st.selectbox("Generation", list(past), key=key, format_func=lambda chosen: _title(past[chosen]))]
    shown = sampling_rules.pair_with_twin(item, past.values()) if compared else [item]
    if compared and len(shown) == 1:
        st.caption(sampling_rules.NO_TWIN)
    for column, one in zip(st.columns(len(shown), gap="large"), shown, strict=True):
        with column:
            if compared:
                st.markdown(f"**{sampling_rules.rule_of(one)}**")
            st.html(generation_html(one.prompt, one.tokens))
            _statistics(one)
            with st.expander("Tokens as a table", icon=":material/table:"):
                _table(one.tokens)


def _title(item: Any) -> str:
    prompt = phrases.short_name(" ".join(item.prompt.split())) or "(empty prompt)"
    return f"{phrases.clock(item.wall)} · step {item.step:,} · {item.settings.get('source', '')} · {prompt}"


def _statistics(item: Any) -> None:
    if item.status == "failed":
        reason = str(item.stats.get("error", "the model failed while sampling"))
        st.error(escape_markdown(reason), icon=":material/error:")
    parts = [f"{len(item.tokens)} tokens", f"temperature {item.settings.get('temperature', 0):g}"]
    for name in _STATISTICS:
        if name in item.stats:
            words = series_words(catalog.member(catalog.GENERATION, name))
            parts.append(f"{words.label.lower()} {number_words(item.stats[name], places=2)}")
    if unknown := item.stats.get("unknown_prompt_tokens"):
        parts.append(f"{unknown} prompt tokens are unknown to the tokenizer")
    st.caption(" · ".join(parts))


def _table(tokens: list[dict[str, Any]]) -> None:
    table(
        {
            "token": [token["label"] for token in tokens],
            "probability": [token["probability"] for token in tokens],
            "rank": [token["rank"] for token in tokens],
            "entropy (nats)": [token["entropy"] for token in tokens],
            "top 5": [
                ", ".join(f"{name} {percent_words(share, places=1)}" for name, share in token["top"])
                for token in tokens
            ],
        },
        hide_index=True,
        height=280,
        column_config={
            "probability": st.column_config.NumberColumn(format="percent"),
            "entropy (nats)": st.column_config.NumberColumn(format="%.2f"),
            "top 5": st.column_config.TextColumn(width="large"),
        },
    )
