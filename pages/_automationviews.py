"""Views of the Automation page: texts that change controls by themselves, a dry run of them, and their log.

A text is sent as a change of its control, so it is checked, logged and marked like any other. The dry run reads the
recorded series only: it says when something would have been done, and a fork says what would have come of it.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages import _parts, _roles
from pages._live import live
from pages._plot import chart
from qcore.config import CURRICULA, ConfigError, SetControl, find_control
from qcore.lab import DryChange, Lab, LabError, RunInfo, dry_run, planned
from qcore.viz import Line, Mark, curves, event_words, name_words, value_words

VIEWS = ("Texts", "Dry run", "What was done")
TEXTS = {
    "schedule": ("Schedule", "120: coherence_weight = 0.02\n100 .. 300: learning_rate = 0.003 -> 0.0003 log"),
    "rules": (
        "Rules",
        "when T1 is active: diversity_weight = 0.3\n"
        "when train/grad_norm > 5 for 20 steps: learning_rate *= 0.5; every 100 steps; at most 3 times",
    ),
    "limits": ("Limits", "learning_rate: 1e-5 .. 0.01, change x2, every 50 steps"),
}
AUTOMATIC = ("schedule", "rule", "autopilot")
_SHOWN_CHARTS = 6
_HEIGHT = 130


def page(lab: Lab, info: RunInfo) -> None:
    """One view of the page; which one is in the URL."""
    _parts.flash()
    view = st.segmented_control(
        "View",
        VIEWS,
        key="automation",
        default=VIEWS[0],
        required=True,
        bind="query-params",
        label_visibility="collapsed",
    )
    if view == "Texts":
        _texts(lab, info)
    elif view == "Dry run":
        _dry(lab, info)
    else:
        _done(lab, info)
        live(lab, info, "records")
        _undo_form(lab, info)


def _now(lab: Lab, info: RunInfo) -> dict[str, Any]:
    return {name: state.value for name, state in lab.controls(info.name).items()}


def _texts(lab: Lab, info: RunInfo) -> None:
    values = _now(lab, info)
    left, right = st.columns([1, 1], gap="large")
    with left:
        _autopilot(lab, info, values)
        for name, (title, example) in TEXTS.items():
            _text(lab, info, name, title, example, values[name])
    with right:
        st.subheader("Planned", anchor=False, help="What the schedule in force makes of each number it moves.")
        started = {name: state.default for name, state in lab.controls(info.name).items()}
        _plan(info, {**started, "schedule": values["schedule"], "steps": values["steps"]})


def _autopilot(lab: Lab, info: RunInfo, values: dict[str, Any]) -> None:
    control = find_control("autopilot", info.kind)
    st.toggle(
        "Autopilot",
        values["autopilot"],
        key=f"autopilot:{info.name}:{values['autopilot']}",
        **{"help": control.help, **_roles.locked()},
        on_change=lambda: _send(lab, info, "autopilot", not values["autopilot"]),
    )
    if values["autopilot"]:
        st.caption(
            f"It applies a finding's remedies one after the other and gives each {values['autopilot_patience']} steps. "
            "Muted findings are left alone."
        )


def _text(lab: Lab, info: RunInfo, name: str, title: str, example: str, lines: list[str]) -> None:
    key = f"text:{info.name}:{name}:{hash(tuple(lines))}"
    st.text_area(
        title, "\n".join(lines), key=key, height=_HEIGHT, placeholder=example, help=find_control(name, info.kind).help
    )
    with st.container(horizontal=True, gap="small"):
        _roles.button(
            "Apply",
            key=f"apply:{name}",
            icon=":material/check:",
            help="Checked at once; in force before the next step, or when the run goes on.",
            on_click=lambda: _send(lab, info, name, st.session_state[key].split("\n")),
        )
        if name == "schedule" and info.kind == "phase_lm":
            for curriculum, stages in CURRICULA.items():
                _roles.button(
                    curriculum.capitalize().replace("-", " "),
                    key=f"stages:{curriculum}",
                    icon=":material/school:",
                    help="Write this curriculum into the schedule: " + " · ".join(stages),
                    on_click=_send,
                    args=(lab, info, name, stages),
                )


def _send(lab: Lab, info: RunInfo, name: str, value: Any) -> None:
    _parts.send(lab, info.name, SetControl(name, value))


def _plan(info: RunInfo, values: dict[str, Any]) -> None:
    found = planned(values["schedule"], values, info.kind)
    if not found:
        st.info("The schedule moves no number yet. Write a line on the left; its course is drawn here.")
        return
    here = [Mark(info.step, f"the run is at step {info.step:,}")]
    for name, (steps, numbers) in list(found.items())[:_SHOWN_CHARTS]:
        line = Line(name_words(name), steps, numbers, smooth=False)
        unit = find_control(name, info.kind).unit
        title = find_control(name, info.kind).label
        chart(
            curves([line], title=title, y_title=unit, marks=here, height=180, uirevision=f"plan:{info.name}:{name}"),
            f"plan:{name}",
            f"Planned {name_words(name)} over steps",
        )
    if len(found) > _SHOWN_CHARTS:
        st.caption(f"and {len(found) - _SHOWN_CHARTS} more")


def _dry(lab: Lab, info: RunInfo) -> None:
    st.caption(
        "What these texts would have done to the run as it was recorded: when, and to what. What would have come of it "
        "is for a fork to show. People's own changes are kept; a finding that was resolved has no remedies any more."
    )
    values = _now(lab, info)
    with st.form("dry"):
        columns = st.columns(len(TEXTS))
        changes: dict[str, Any] = {}
        for column, (name, (title, example)) in zip(columns, TEXTS.items(), strict=True):
            text = column.text_area(
                title,
                "\n".join(values[name]),
                key=f"dry:{info.name}:{name}",
                height=_HEIGHT,
                placeholder=example,
                help=find_control(name, info.kind).help,
            )
            changes[name] = text.split("\n")
        changes["autopilot"] = st.toggle(
            "Autopilot",
            values["autopilot"],
            key=f"dry:{info.name}:autopilot",
            help=find_control("autopilot", info.kind).help,
        )
        asked = st.form_submit_button("Try on the recorded run", icon=":material/science:", type="primary")
    if not asked:
        return
    try:
        found = dry_run(lab.config(info.name), lab.reader(info.name), changes)
    except (ConfigError, LabError) as error:
        st.error(_parts.plain(str(error)), icon=":material/block:")
        return
    if not found:
        st.info("Nothing would have been done: no step was reached, and no condition held long enough.")
        return
    _markers(lab, info, found)
    _table(
        [one.step for one in found],
        [one.author for one in found],
        [_change_words(one.name, one.old, one.new) for one in found],
        [one.reason for one in found],
        "dry_table",
    )


def _markers(lab: Lab, info: RunInfo, found: list[DryChange]) -> None:
    series = lab.reader(info.name).scalars("train/loss", max_points=1000)
    marks = [Mark(one.step, f"{one.author}: {_change_words(one.name, one.old, one.new)}") for one in found]
    line = Line("loss as recorded", series.steps, series.values)
    chart(
        curves(
            [line], title="Loss as recorded, with what would have been done", marks=marks, uirevision="dry", span=10
        ),
        "dry_loss",
        "Recorded loss with automatic changes marked",
    )


def _change_words(name: str, old: Any, new: Any) -> str:
    if old == new == "":
        return name
    return f"{name_words(name)} {value_words(old)} → {value_words(new)}"


def _done(lab: Lab, info: RunInfo) -> None:
    """Every automatic change with its reason, newest first, and the way back behind it."""
    events = [event for event in lab.reader(info.name).events() if event.author in AUTOMATIC]
    if not events:
        st.info(
            "Nothing has been changed automatically. Write a schedule or a rule, or switch the autopilot on, under "
            "*Texts*; each of their actions will be listed here with its reason, and can be undone."
        )
        return
    newest = events[::-1]
    _table(
        [event.step for event in newest],
        [event.author for event in newest],
        [event_words(event.kind, event.payload) for event in newest],
        [str(event.payload.get("reason", "")) for event in newest],
        "done_table",
    )


def _undo_form(lab: Lab, info: RunInfo) -> None:
    """One click takes the run back to before an action; what came after is kept as a branch, and the actor is off."""
    actions = [
        event
        for event in lab.reader(info.name).events()[::-1]
        if event.author in ("rule", "autopilot") and event.kind in ("control", "restore", "pause")
    ]
    if not actions:
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        place = st.selectbox(
            "Undo from",
            range(len(actions)),
            key=f"undo:{info.name}:{len(actions)}",
            format_func=lambda one: _parts.describe(actions[one]),
            help="The run goes back to before this action; what came after it is kept as a run of its own.",
        )
        event = actions[place]
        what = "the autopilot is switched off" if event.author == "autopilot" else "its rule is taken out"
        _roles.button(
            "Undo",
            key="undo",
            icon=":material/undo:",
            help=f"Rewind to step {event.step:,}, and {what}, so that it is not done again.",
            on_click=_undo,
            args=(lab, info, event),
        )


def _undo(lab: Lab, info: RunInfo, event: Any) -> None:
    try:
        branch = lab.rewind(info.name, event.step, start=False)
        change = SetControl("autopilot", False)
        if event.author == "rule":
            rules = [line for line in _now(lab, info)["rules"] if line.strip() != event.payload.get("reason")]
            change = SetControl("rules", rules)
        lab.command(info.name, change)
        if info.alive:
            lab.resume(info.name)
    except (LabError, ConfigError) as error:
        _parts.note("error", str(error))
        return
    _parts.note("done", f"Back at step {event.step:,}; {branch} keeps what came after")


def _table(steps: list[int], authors: list[str], what: list[str], why: list[str], key: str) -> None:
    st.dataframe(
        {"step": steps, "author": authors, "what": what, "why": why},
        key=key,
        hide_index=True,
        column_config={
            "what": st.column_config.TextColumn(width="medium"),
            "why": st.column_config.TextColumn(width="large"),
        },
    )
