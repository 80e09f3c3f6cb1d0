"""Views of the Automation page: texts that change controls by themselves, a dry run of them, and their log.

A text is sent as a change of its control, so it is checked, logged and marked like any other. The dry run reads the
recorded series only: it says when something would have been done, and a fork says what would have come of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.session import messages, phrases, roles
from pages.session.looks import table
from pages.session.markdown_escape import escape_markdown
from pages.widgets import message_list
from pages.widgets.chart import chart
from pages.widgets.live_fragment import rerun_when_changed
from qcore.automation.planned_rates import RATE, dry_run_rates, planned_courses
from qcore.config import CURRICULA, ConfigError, SetControl, find_control
from qcore.lab import DryChange, HeldBack, Lab, LabError, RunInfo, dry_run, held_back_findings
from qcore.probes import catalog
from qcore.runs.control_changes import changes_that_hold
from qcore.viz import Line, Mark, change_words, curves, event_words, name_words, spell_out_numbers

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


@dataclass(frozen=True)
class DryRunResult:
    """A dry run and what came of it.

    Attributes:
        changes: the texts that were tried.
        step: up to which the run was recorded then.
        held_back: findings that the autopilot would have left alone, where it was on.
        error: why it could not be tried, empty when it could.
    """

    changes: dict[str, Any]
    step: int
    found: tuple[DryChange, ...] = ()
    held_back: tuple[HeldBack, ...] = ()
    error: str = ""


def page(lab: Lab, info: RunInfo) -> None:
    """One view of the page; which one is in the URL."""
    message_list.show_messages()
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
        _dry_run_form(lab, info)
    else:
        _automatic_changes(lab, info)
        rerun_when_changed(lab, info, "records")
        _undo_form(lab, info)


def _current_values(lab: Lab, info: RunInfo) -> dict[str, Any]:
    return {name: state.value for name, state in lab.controls(info.name).items()}


def _texts(lab: Lab, info: RunInfo) -> None:
    values = _current_values(lab, info)
    left, right = st.columns([1, 1], gap="large")
    with left:
        _autopilot(lab, info, values)
        for name, (title, example) in TEXTS.items():
            _text(lab, info, name, title, example, values[name])
    with right:
        st.header(
            "Planned",
            anchor=False,
            help="The learning rate, and each scheduled number, under the current policy and schedule.",
        )
        _plan(lab, info)


def _autopilot(lab: Lab, info: RunInfo, values: dict[str, Any]) -> None:
    control = find_control("autopilot", info.kind)
    st.toggle(
        "Autopilot",
        values["autopilot"],
        key=f"autopilot:{info.name}:{values['autopilot']}",
        **{"help": control.help, **roles.viewer_lock()},
        on_change=lambda: _send(lab, info, "autopilot", not values["autopilot"]),
    )
    if values["autopilot"]:
        st.caption(
            f"It applies a finding's remedies one after the other and gives each {values['autopilot_patience']} steps: "
            "of causes only, and only remedies that helped where the fault was planted. Muted findings are ignored."
        )


def _text(lab: Lab, info: RunInfo, name: str, title: str, example: str, lines: list[str]) -> None:
    key = f"text:{info.name}:{name}:{hash(tuple(lines))}"
    st.text_area(
        title,
        "\n".join(lines),
        key=key,
        height=_HEIGHT,
        placeholder=example,
        help=find_control(name, info.kind).help,
        persist_state="session",
    )
    with st.container(horizontal=True, gap="small"):
        roles.button(
            "Apply",
            key=f"apply:{name}",
            icon=":material/check:",
            help="Checked immediately; applied before the next step, or when the run resumes.",
            on_click=lambda: _send(lab, info, name, st.session_state[key].split("\n")),
        )
        if name == "schedule" and "curricula" in info.capabilities:
            for curriculum, stages in CURRICULA.items():
                roles.button(
                    curriculum.capitalize().replace("-", " "),
                    key=f"stages:{curriculum}",
                    icon=":material/school:",
                    help="Write this curriculum into the schedule: " + " · ".join(stages),
                    on_click=_send,
                    args=(lab, info, name, stages),
                )


def _send(lab: Lab, info: RunInfo, name: str, value: Any) -> None:
    messages.send(lab, info.name, SetControl(name, value))


def _plan(lab: Lab, info: RunInfo) -> None:
    """The rate that is used, past and planned, and what the schedule moves; rules and people may still change it."""
    reader = lab.reader(info.name)
    names = [RATE, *(name for name in reader.names() if catalog.in_group(name, catalog.CONTROL))]
    recorded = {
        name: (line.steps.tolist(), line.values.tolist()) for name, line in lab.history(info.name, names, 4000).items()
    }
    try:
        found = planned_courses(lab.config(info.name), reader.events(), info.step, recorded)
    except ConfigError as error:
        st.error(escape_markdown(str(error)), icon=":material/block:")
        return
    here = [Mark(info.step, f"the run is at step {info.step:,}; what follows is planned")]
    for name, course in list(found.items())[: _SHOWN_CHARTS + 1]:
        title, unit, what = _describe_number(info.kind, name)
        line = Line(what, course.steps, course.values, smooth=False)
        chart(
            curves([line], title=title, y_title=unit, marks=here, height=180, uirevision=f"plan:{info.name}:{name}"),
            f"plan:{name}",
            f"Planned {what} over steps",
        )
    if len(found) == 1:
        st.caption("The schedule changes no number yet. Write a line on the left; its values are plotted here.")
    elif len(found) > _SHOWN_CHARTS + 1:
        st.caption(f"and {len(found) - _SHOWN_CHARTS - 1} more")


def _describe_number(kind: str, name: str) -> tuple[str, str, str]:
    """Title, unit and words of a planned number."""
    if name == RATE:
        return "Learning rate as it is used (policy × controls)", "", "learning rate"
    return find_control(name, kind).label, find_control(name, kind).unit, name_words(name)


def _dry_run_form(lab: Lab, info: RunInfo) -> None:
    st.caption(
        "What these texts would have done to the run as it was recorded: when, and to what. To see what would have "
        "followed, "
        "fork the run. Manual changes are kept; a resolved finding has no remedies any more."
    )
    values = _current_values(lab, info)
    with st.container(border=True):
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
                persist_state="session",
            )
            changes[name] = text.split("\n")
        changes["autopilot"] = st.toggle(
            "Autopilot",
            values["autopilot"],
            key=f"dry:{info.name}:autopilot",
            help=find_control("autopilot", info.kind).help,
            persist_state="session",
        )
        asked = st.button("Try on the recorded run", key="do:dry", icon=":material/science:", type="primary")
    key = f"dried:{info.name}:{info.created}"
    if asked:
        st.session_state[key] = _try_texts(lab, info, changes)
    tried: DryRunResult | None = st.session_state.get(key)
    if tried is not None:
        _answer(lab, info, tried, tried.changes == changes)


def _try_texts(lab: Lab, info: RunInfo, changes: dict[str, Any]) -> DryRunResult:
    config, reader = lab.config(info.name), lab.reader(info.name)
    try:
        found = tuple(dry_run(config, reader, changes))
        left_alone = tuple(held_back_findings(config, reader)) if changes["autopilot"] else ()
        return DryRunResult(changes, info.step, found, left_alone)
    except (ConfigError, LabError) as error:
        return DryRunResult(changes, info.step, error=str(error))


def _answer(lab: Lab, info: RunInfo, tried: DryRunResult, same: bool) -> None:
    """The answer to the last question.

    Args:
        same: whether its texts are those above.
    """
    if tried.error:
        if same:
            st.error(escape_markdown(tried.error), icon=":material/block:")
        return
    st.caption(
        f"Tried on the first {tried.step:,} steps, as recorded then."
        + ("" if same else " The texts above have been changed since.")
    )
    _rates(lab, info, tried)
    if tried.held_back:
        lines = [
            f"- {escape_markdown(spell_out_numbers(one.title))} (step {one.step:,}): {escape_markdown(one.reason)}"
            for one in tried.held_back
        ]
        st.caption("\n".join(["The autopilot would have left alone:", "", *lines]))
    found = tried.found
    if not found:
        st.info("Nothing would have been done: no step was reached, and no condition held long enough.")
        return
    _markers(lab, info, tried)
    _table(
        [one.step for one in found],
        [one.author for one in found],
        [_change_words(one.name, one.old, one.new) for one in found],
        [one.reason for one in found],
        "dry_table",
    )


def _rates(lab: Lab, info: RunInfo, tried: DryRunResult) -> None:
    """The rate as it was used, and as it would have been."""
    config, reader, changes = lab.config(info.name), lab.reader(info.name), tried.changes
    series = reader.scalars(RATE, stop=tried.step + 1)
    automatic = {name: value for name, value in changes.items() if name != "autopilot"}
    by_hand = [
        (event.step, event.payload["name"], event.payload["new"])
        for event in changes_that_hold(config, reader.events())
        if event.step <= tried.step and event.author not in AUTOMATIC and event.payload["name"] not in automatic
    ]
    made = by_hand + [(one.step, one.name, one.new) for one in tried.found]
    steps, rates = dry_run_rates(config, sorted(made, key=lambda one: one[0]), changes["schedule"], tried.step)
    lines = [
        Line("as recorded", series.steps, series.values, smooth=False),
        Line("as it would have been", steps, rates, smooth=False),
    ]
    chart(
        curves(lines, title="Learning rate of each update", uirevision="dry:rate", height=220),
        "dry_rate",
        "Learning rate as recorded and as it would have been",
    )


def _markers(lab: Lab, info: RunInfo, tried: DryRunResult) -> None:
    series = lab.reader(info.name).scalars(catalog.TRAIN_LOSS, stop=tried.step + 1, max_points=1000)
    marks = [Mark(one.step, f"{one.author}: {_change_words(one.name, one.old, one.new)}") for one in tried.found]
    line = Line.of("loss as recorded", series)
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
    return change_words(name, old, new)


def _automatic_changes(lab: Lab, info: RunInfo) -> None:
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
            format_func=lambda one: phrases.describe(actions[one]),
            help="The run goes back to before this action; what came after it is kept as a separate run.",
        )
        event = actions[place]
        what = "the autopilot is switched off" if event.author == "autopilot" else "its rule is removed"
        with st.popover("Undo", icon=":material/undo:"):
            st.markdown(
                f"Take the run from step {info.step:,} back to step {event.step:,}, before this action? "
                f"{what.capitalize()}, so that it is not repeated. What came after is kept as a separate run."
            )
            roles.button(
                "Undo now",
                key="undo",
                icon=":material/undo:",
                type="primary",
                on_click=_undo,
                args=(lab, info, event),
            )


def _undo(lab: Lab, info: RunInfo, event: Any) -> None:
    try:
        branch = lab.rewind(info.name, event.step, start=False)
        change = SetControl("autopilot", False)
        if event.author == "rule":
            rules = [
                line for line in _current_values(lab, info)["rules"] if line.strip() != event.payload.get("reason")
            ]
            change = SetControl("rules", rules)
        lab.command(info.name, change)
        if info.alive:
            lab.resume(info.name)
    except (LabError, ConfigError) as error:
        messages.note("error", str(error))
        return
    messages.note("done", f"Back at step {event.step:,}; {branch} keeps what came after")


def _table(steps: list[int], authors: list[str], what: list[str], why: list[str], key: str) -> None:
    table(
        {"step": steps, "author": authors, "what": what, "why": why},
        key=key,
        hide_index=True,
        column_config={
            "what": st.column_config.TextColumn(width="medium"),
            "why": st.column_config.TextColumn(width="large"),
        },
    )
