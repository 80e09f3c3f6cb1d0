"""Ablations: what each loss term and mechanism changes against plain cross-entropy, as a table and a forest plot.

An ablation trains in a process of its own: it goes on when the app is closed, and every finished run of it is kept.
"""

from __future__ import annotations

import streamlit as st

from pages.session import looks, messages, phrases, roles, selection
from pages.session.markdown_escape import escape_markdown
from pages.widgets import message_list
from pages.widgets.chart import chart
from qcore.base.words import number_words
from qcore.config import LANGUAGE_KINDS, PRESETS, ConfigError
from qcore.config.ablation_variants import BASE, variants_of
from qcore.experiments.ablation import HELPS, STRETCH, VariantRow, base_config
from qcore.experiments.ablation_store import (
    Ablation,
    ablations,
    cancel_ablation,
    failure_text,
    is_training,
    plan_ablation,
    start_ablation,
)
from qcore.lab import Lab, LabError
from qcore.viz.ablation import ForestRow, forest

PACE = 3.0
_SMALL = "small model"


def show_ablation(lab: Lab) -> None:
    """The whole view: the chosen ablation, live while it trains, and a form to start one."""
    st.markdown(
        "Every term and mechanism is compared, seed by seed, with **plain cross-entropy**: held-out loss after equal "
        "steps, and what it takes to reach the loss that plain cross-entropy ends with. A variant that costs more "
        "has to be worth it."
    )
    message_list.show_messages()
    kept = ablations(lab.runs_dir)
    if kept:
        _choose_ablation(lab, kept)
    else:
        st.info("Nothing has been compared yet. Choose a model below and press **Compare**, or run `qcore ablate`.")
    with st.expander("Compare something", icon=":material/science:", expanded=not kept):
        _form(lab)


def _choose_ablation(lab: Lab, kept: list[Ablation]) -> None:
    """Choose one of them; it is in the URL."""
    names = [ablation.name for ablation in kept]
    wanted = st.session_state.get("ablation", st.query_params.get("ablation"))
    place = names.index(wanted) if wanted in names else 0
    key = selection.widget_key("ablation")
    name = st.selectbox(
        "Ablation",
        names,
        place,
        key=key,
        format_func=lambda one: _title(kept[names.index(one)]),
        help="Newest first. The same base continues where it was, with more seeds or variants.",
        on_change=selection.store_choice,
        args=("ablation", key),
    )
    st.query_params["ablation"] = name
    alive = is_training(lab.runs_dir, name)
    st.fragment(lambda: _progress_and_table(lab, name, alive), run_every=PACE if alive else None)()


def _title(ablation: Ablation) -> str:
    return f"{ablation.name} · {ablation.config.kind}, {ablation.config.value('steps')} steps, {ablation.seeds} seeds"


def _progress_and_table(lab: Lab, name: str, was_alive: bool) -> None:
    ablation = next((one for one in ablations(lab.runs_dir) if one.name == name), None)
    alive = is_training(lab.runs_dir, name)
    if ablation is None or alive != was_alive:
        st.rerun()
    _progress(lab, ablation, alive)
    rows = ablation.rows
    judged = [row for row in rows if row.difference is not None]
    effects = [_effect(row) for row in sorted(judged, key=lambda row: row.difference.mean if row.difference else 0.0)]
    chart(
        forest(effects, uirevision=name, title="Held-out loss after equal steps"),
        "chart:ablation",
        "Difference of each variant to its base in held-out loss, with its confidence interval",
    )
    _table(rows)
    if len(judged) > 1:
        st.caption(
            f"{len(judged)} comparisons at 95 %: by chance alone {number_words(len(judged) / 20, places=1)} of "
            "them would look like "
            "an effect. A verdict near the threshold needs more seeds: the table says how many."
        )


def _progress(lab: Lab, ablation: Ablation, alive: bool) -> None:
    done, total = len(ablation.results), ablation.total
    if alive:
        left = _seconds_left(ablation)
        st.progress(done / total, f"{done} of {total} runs{f' · about {phrases.duration(left)} left' if left else ''}")
        roles.button(
            "End it",
            icon=":material/stop:",
            key="ablation:end",
            help="Finished runs are kept; it can continue later.",
            on_click=_end,
            args=(lab, ablation.name),
        )
    elif done < total:
        st.warning(
            f"It stopped after {done} of {total} runs. {escape_markdown(failure_text(lab.runs_dir, ablation.name))}"
        )
        roles.button(
            "Go on",
            icon=":material/play_arrow:",
            key="ablation:on",
            help="Train what is missing, two runs at a time.",
            on_click=_start,
            args=(lab, ablation, 2),
        )


def _seconds_left(ablation: Ablation) -> float | None:
    """Seconds to go with two runs at a time, from the mean of those that ended."""
    seconds = [case.seconds for case in ablation.results]
    return (ablation.total - len(seconds)) * sum(seconds) / len(seconds) / 2 if seconds else None


def _table(rows: list[VariantRow]) -> None:
    looks.table(
        {
            "change": [row.variant.title for row in rows],
            "verdict": ["the base" if row.variant.name == BASE else row.verdict for row in rows],
            "held out": [row.held_out for row in rows],
            "difference": [row.difference.mean if row.difference else None for row in rows],
            "95 % interval": [_interval(row) for row in rows],
            "seeds needed": [row.difference.needed if row.difference else None for row in rows],
            "steps to the base's loss": [row.steps for row in rows],
            "reached by": [f"{row.reached} of {row.pairs}" for row in rows],
            "time to it ÷ base": [row.seconds_ratio.text if row.seconds_ratio else "" for row in rows],
            "time a step ÷ base": [row.cost_ratio for row in rows],
            "parameters ÷ base": [row.parameters_ratio for row in rows],
            "repetition": [row.repetition for row in rows],
            "distinct-2": [row.distinct_2 for row in rows],
            "weight and why": [row.variant.why for row in rows],
        },
        key="ablation_table",
        height="content",
        column_config={
            "change": st.column_config.TextColumn(pinned=True),
            "held out": st.column_config.NumberColumn(
                format="%.4f", help="Cross-entropy after equal steps, nats per token."
            ),
            "difference": st.column_config.NumberColumn(
                format="%+.4f", help="Difference to the base, mean over seeds. Below 0: the change helps."
            ),
            "seeds needed": st.column_config.NumberColumn(
                help="To detect a difference of this size with a power of 80 %, at 95 % confidence."
            ),
            "steps to the base's loss": st.column_config.NumberColumn(
                format="%.0f",
                help=f"Until the base's final held-out loss; at most {STRETCH:g} times its steps are tried.",
            ),
            "time to it ÷ base": st.column_config.TextColumn(
                help="Seconds to the base's final loss, divided by the base's own; below 1 the change pays."
            ),
            "time a step ÷ base": st.column_config.NumberColumn(format="%.2f"),
            "parameters ÷ base": st.column_config.NumberColumn(format="%.2f"),
            "repetition": st.column_config.NumberColumn(format="%.2f", help="Share of repeated tokens in samples."),
            "distinct-2": st.column_config.NumberColumn(format="%.2f", help="Different pairs of tokens ÷ pairs."),
        },
    )


def _effect(row: VariantRow) -> ForestRow:
    assert row.difference is not None
    found = row.difference
    needed = "" if found.needed is None else f"{found.needed} seeds would show a difference of this size"
    pays = "reaches the base's loss in less time" if row.verdict == HELPS and row.earns else ""
    hint = " · ".join(part for part in (needed, pays) if part)
    return ForestRow(row.variant.title, found.mean, found.low, found.high, row.verdict, hint)


def _interval(row: VariantRow) -> str:
    if row.difference is None or row.difference.n < 2:
        return ""
    low, high = (number_words(end, places=4, signed=True) for end in (row.difference.low, row.difference.high))
    return f"{low} … {high}"


def _form(lab: Lab) -> None:
    presets = [
        name for name, preset in PRESETS.items() if preset.config.kind in LANGUAGE_KINDS and not preset.config.fault
    ]
    left, right = st.columns(2)
    with left:
        start = st.selectbox(
            "Start from",
            [_SMALL, *presets],
            key="ablation:start",
            persist_state="session",
            format_func=lambda one: one if one == _SMALL else PRESETS[one].title,
            help="The small model is made for this; a preset keeps its sizes and data.",
        )
        kind = st.segmented_control(
            "Model family",
            list(LANGUAGE_KINDS),
            key="ablation:kind",
            persist_state="session",
            default=next(iter(LANGUAGE_KINDS)),
            required=True,
            disabled=start != _SMALL,
            help="Each family has mechanisms of its own; the loss terms are shared.",
        )
        if start != _SMALL:
            kind = PRESETS[start].config.kind
        known = {variant.name: variant for variant in variants_of(kind) if variant.name != BASE}
        only = st.multiselect(
            "Variants",
            list(known),
            key=f"ablation:only:{kind}",
            persist_state="session",
            format_func=lambda name: known[name].title,
            placeholder="all of them",
            help="What is switched on, or off, one at a time. Empty: all variants.",
        )
    with right:
        steps = st.number_input(
            "Steps", 30, 1_000_000, 300, 30, key="ablation:steps", help="Of each run.", persist_state="session"
        )
        seeds = st.number_input(
            "Seeds",
            1,
            100,
            3,
            key="ablation:seeds",
            help="Runs of each; at least three for a verdict.",
            persist_state="session",
        )
        jobs = st.number_input(
            "Processes",
            1,
            64,
            2,
            key="ablation:jobs",
            help="Runs at a time, one core each.",
            persist_state="session",
        )
    try:
        base = base_config(None if start == _SMALL else PRESETS[start].config, kind=kind, steps=int(steps))
        plan = plan_ablation(lab.runs_dir, base, only or None, int(seeds))
    except (ConfigError, LabError) as error:
        st.error(escape_markdown(str(error)), icon=":material/block:")
        return
    missing = plan.total - len(plan.results)
    roles.button(
        "Compare",
        type="primary",
        icon=":material/play_arrow:",
        key="ablation:go",
        disabled=missing == 0,
        help="Trains in the background; what has finished is kept.",
        on_click=_start,
        args=(lab, plan, int(jobs)),
    )
    st.caption(
        f"{len(plan.variants)} variants × {plan.seeds} seeds of {int(steps):,} steps: {missing} runs to train"
        f"{f', {len(plan.results)} kept' if plan.results else ''}."
    )


def _start(lab: Lab, plan: Ablation, jobs: int) -> None:
    if why := roles.viewer_refusal():
        messages.note("error", why)
        return
    try:
        name = start_ablation(lab.runs_dir, plan, jobs)
    except (LabError, OSError) as error:
        messages.note("error", str(error))
        return
    selection.remember_choice("ablation", name)


def _end(lab: Lab, name: str) -> None:
    if why := roles.viewer_refusal():
        messages.note("error", why)
        return
    try:
        cancel_ablation(lab.runs_dir, name)
    except LabError as error:
        messages.note("error", str(error))
