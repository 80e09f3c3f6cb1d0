"""What a change does: pairs of forks with and without it, or forks at several values, trained apart from the page."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.session import family_words, messages, phrases, roles
from pages.session.markdown_escape import escape_markdown
from pages.widgets.changes_text import changes_box, control_title, read_changes
from pages.widgets.chart import chart
from qcore.config import ConfigError, find_control, live_controls
from qcore.experiments import effect_job
from qcore.experiments.effect import effects, sweeps
from qcore.experiments.effect_job import EffectRequest
from qcore.lab import Lab, LabError, RunInfo
from qcore.probes import catalog
from qcore.viz import distinct_words, name_words, pairs, series_words, side_by_side, spell_out_numbers, value_words
from qcore.viz import sweep as sweep_figure

PACE = 2.0


def effect(lab: Lab, info: RunInfo) -> None:
    """Ask for the effect of a change, and see the answers that there are."""
    st.markdown(
        "Pairs of forks continue **from the same state**, with and without the change, each pair on batches of its "
        "own. "
        "The difference is given with its 95 % interval; *no detectable effect* is an answer."
    )
    _request_status(lab)
    with st.container(border=True):
        values = {name: state.value for name, state in lab.controls(info.name).items()}
        changes_box("The change", "effect_changes", info.kind, values, live_only=True)
        _shared_fields(info, lab)
        st.number_input(
            "Pairs",
            2,
            64,
            5,
            key="effect_forks",
            help="More pairs find smaller effects.",
            persist_state="session",
        )
        roles.button(
            "Measure it",
            key="do:effect",
            icon=":material/science:",
            type="primary",
            on_click=_submit,
            args=(lab, _effect_question, info),
        )
    found = effects(lab, info.name)
    if not found:
        st.info(
            _empty_text(
                lab, "No effect has been measured for this run yet. Write a change above and press *Measure it*."
            )
        )
        return
    place = st.selectbox(
        "Answer",
        range(len(found)),
        key=f"answer:{info.name}:{len(found)}",
        format_func=lambda one: (
            f"{_changes_text(found[one].changes)} · from step {found[one].step:,}, {found[one].steps} steps"
        ),
        help="Newest first.",
    )
    one = found[place]
    (st.success if one.detected else st.info)(
        escape_markdown(_verdict_text(one.verdict, one.metric)), icon=":material/science:"
    )
    left, right = st.columns(2)
    measured = series_words(one.metric)
    title = f"{measured.heading} after {one.steps:,} steps"
    with left:
        without, changed = [pair.without for pair in one.pairs], [pair.changed for pair in one.pairs]
        figure = pairs(without, changed, title=title, metric=one.metric, uirevision=one.id)
        chart(figure, "effect_pairs", "Each pair of forks, without and with the change")
    with right:
        curves = {key: (result.steps, result.values) for key, result in one.curves.items() if result.values}
        figure = side_by_side(
            curves, title=f"{measured.heading}, every fork", y_title=measured.unit, uirevision=one.id, height=300
        )
        chart(figure, "effect_curves", "The metric of every fork over steps")


def sweep(lab: Lab, info: RunInfo) -> None:
    """Ask for a sweep of one control, and see the answers that there are."""
    st.markdown("Forks of **one state** at several values of one control: what each value would have done.")
    _request_status(lab)
    with st.container(border=True):
        offered = {
            name: control
            for name, control in live_controls(info.kind).items()
            if control.kind not in ("text", "texts") and (not control.models or info.kind in control.models)
        }
        names = list(offered)
        control = st.selectbox(
            "Control",
            names,
            names.index("learning_rate") if "learning_rate" in offered else 0,
            key="sweep_control",
            format_func=lambda one: f"{control_title(offered[one])} · {one}" if one in offered else one,
            help="What the forks differ in.",
            persist_state="session",
        )
        text = st.text_input(
            "Values",
            key=f"sweep_values:{control}",
            placeholder="0.001, 0.003, 0.01",
            help="Separated by commas.",
            persist_state="session",
        )
        said = st.empty()
        _shared_fields(info, lab)
        st.number_input(
            "Forks for each value",
            1,
            16,
            1,
            key="sweep_forks",
            help="Each with a different batch order.",
            persist_state="session",
        )
        now = lab.controls(info.name)[control].value
        try:
            values = _sweep_values(control, text, info.kind) if text.strip() else []
            accepted = offered[control].range_text
            said.caption(
                f"{control_title(offered[control])}: {accepted}; now {escape_markdown(value_words(now))}."
                + (f" {len(values)} values." if values else "")
            )
        except ConfigError as error:
            values = None
            said.error(escape_markdown(str(error)), icon=":material/block:")
        roles.button(
            "Sweep",
            key="do:sweep",
            icon=":material/tune:",
            type="primary",
            disabled=values is None,
            on_click=_submit,
            args=(lab, _sweep_question, info),
        )
    found = sweeps(lab, info.name)
    if not found:
        st.info(_empty_text(lab, "Nothing has been swept from this run yet. Choose a control and its values above."))
        return
    place = st.selectbox(
        "Answer",
        range(len(found)),
        key=f"swept:{info.name}:{len(found)}",
        format_func=lambda one: (
            f"{name_words(found[one].control)} · from step {found[one].step:,}, {found[one].steps} steps"
        ),
        help="Newest first.",
    )
    one = found[place]
    measured = series_words(one.metric)
    values = [point.value if isinstance(point.value, int | float) else str(point.value) for point in one.points]
    figure = sweep_figure(
        values,
        [[result.value for result in point.results] for point in one.points],
        title=f"{measured.heading} after {one.steps:,} steps",
        metric=one.metric,
        log_x=find_control(one.control, info.kind).scale == "log",
        uirevision=one.id,
    )
    chart(figure, "sweep_values", f"{measured.heading} at each value of {name_words(one.control)}")
    columns = st.columns(3)
    for index, point in enumerate(one.points):
        with columns[index % 3]:
            lines = {result.key: (result.steps, result.values) for result in point.results if result.values}
            title = f"{name_words(one.control)} = {value_words(point.value)}"
            figure = side_by_side(lines, title=title, y_title=measured.text, uirevision=f"{one.id}:{index}", height=190)
            chart(figure, f"sweep:{index}", f"{measured.heading} over steps at {title}")


def _effect_question(info: RunInfo) -> EffectRequest:
    held = st.session_state
    changes = dict(read_changes(str(held.get("effect_changes") or ""), info.kind))
    if not changes:
        raise ConfigError("an effect needs a change to measure: choose a control and a value, and press Add")
    for name, value in changes.items():
        find_control(name, info.kind).check(value)
    return EffectRequest("effect", info.name, changes=changes, forks=int(held["effect_forks"]), **_shared_values(info))


def _sweep_question(info: RunInfo) -> EffectRequest:
    held = st.session_state
    control = str(held["sweep_control"])
    values = _sweep_values(control, str(held.get(f"sweep_values:{control}") or ""), info.kind)
    forks = int(held["sweep_forks"])
    return EffectRequest("sweep", info.name, control=control, values=values, forks=forks, **_shared_values(info))


def _sweep_values(control: str, text: str, kind: str) -> list[Any]:
    """The values of a sweep, each within the control's range. `ConfigError` names the one that is not, or is twice."""
    declared = find_control(control, kind)
    values = [declared.check(part.strip()) for part in text.split(",") if part.strip()]
    if not values:
        raise ConfigError(f"a sweep of {control} needs values, such as 0.001, 0.003, 0.01")
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    if twice:
        raise ConfigError(f"the value {value_words(twice[0])} is given twice: give each value once")
    return values


def _shared_fields(info: RunInfo, lab: Lab) -> None:
    """Fields that both questions have."""
    usual = family_words.words(info).held
    offered = [
        name
        for name in lab.reader(info.name).names()
        if not catalog.in_group(name, catalog.COST) and name != catalog.TRAIN_STEP_MS
    ]
    columns = st.columns(3)
    columns[0].number_input(
        "From step",
        0,
        max(1, info.step),
        max(0, info.step // 2),
        key=f"from_step:{info.name}",
        help="The state that all forks start from.",
        persist_state="session",
    )
    columns[1].number_input(
        "Steps",
        1,
        1_000_000,
        100,
        key="fork_steps",
        help="Of training in each fork.",
        persist_state="session",
    )
    place = offered.index(usual) if usual in offered else 0
    columns[2].selectbox(
        "Metric",
        offered,
        place,
        key=f"fork_metric:{info.family}",
        format_func=distinct_words(offered).__getitem__,
        help="What is compared: its value at the end.",
        persist_state="session",
    )


def _shared_values(info: RunInfo) -> dict[str, Any]:
    """What these fields hold."""
    held = st.session_state
    return {
        "step": int(held[f"from_step:{info.name}"]),
        "steps": int(held["fork_steps"]),
        "metric": held[f"fork_metric:{info.family}"],
    }


def _submit(lab: Lab, make: Any, info: RunInfo) -> None:
    """Begin to answer what the fields say now; what was typed stays when it is refused."""
    if why := roles.viewer_refusal():
        messages.note("error", why)
        return
    try:
        question = make(info)
        effect_job.submit(lab, question)
    except (LabError, ConfigError, OSError) as error:
        messages.note("error", str(error))


def _request_status(lab: Lab) -> None:
    """How the newest question stands, redrawn while it is being answered."""
    now = effect_job.status(lab)
    if now is None:
        return
    if not now.working:
        if now.error:
            st.error(f"The newest request failed: {escape_markdown(now.error[-400:])}", icon=":material/error:")
        return

    def show() -> None:
        state = effect_job.status(lab)
        if state is None or not state.working:
            st.rerun()
            return
        question = state.request
        what = _changes_text(question.changes) if question.kind == "effect" else question.control
        st.progress(
            state.done / max(1, state.total),
            f"{question.kind.capitalize()} of {escape_markdown(what)} on "
            f"{escape_markdown(phrases.short_name(question.run))}: "
            f"{state.done} of {state.total} forks",
        )

    st.fragment(show, run_every=PACE)()
    roles.button(
        "End it",
        icon=":material/stop:",
        key="end_question",
        on_click=_end,
        args=(lab,),
        help="Finished forks are kept.",
    )


def _empty_text(lab: Lab, words: str) -> str:
    """What stands in place of the answers while there are none."""
    now = effect_job.status(lab)
    return "The first result appears here when all forks have ended." if now is not None and now.working else words


def _end(lab: Lab) -> None:
    if why := roles.viewer_refusal():
        messages.note("error", why)
        return
    try:
        effect_job.cancel(lab)
    except LabError as error:
        messages.note("error", str(error))


def _changes_text(changes: dict[str, Any]) -> str:
    return ", ".join(f"{name_words(name)} = {value_words(value)}" for name, value in changes.items())


def _verdict_text(verdict: str, metric: str) -> str:
    """The stored verdict with the metric's title, and numbers that a person reads."""
    return spell_out_numbers(verdict.replace(metric, series_words(metric).title))
