"""The selected run: commands, live figures, charts and logs."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import streamlit as st

from pages.session import advice, family_words, looks, messages, phrases, roles, selection
from pages.session.ancestors import ancestor_series
from pages.session.markdown_escape import escape_markdown
from pages.session.page_list import FINDINGS
from pages.views import live_run_charts, new_run
from pages.widgets import control_panel, finding_words, live_fragment, metric_row, run_heading, share_dialog
from pages.widgets.boxes import message_html
from pages.widgets.chart import with_last_step
from pages.widgets.live_panel import PanelBlock, blocks_json, panel, progress_html, table_html
from qcore.base.run_states import ACTIVE, RunState
from qcore.base.words import unit_words
from qcore.config import Continue, Pause, SaveCheckpoint, Step, Stop
from qcore.lab import FindingInfo, Lab, LabError, RunInfo
from qcore.probes import catalog
from qcore.runs.waiting import waiting_words
from qcore.server.live import View
from qcore.viz import UNITS, XAxis, author_words, event_words, number_words, series_words, spell_out_numbers

LOGS = ("Events", "Trainer log", "Off")
LOG_LINES = 200
SHOWN_FINDINGS = 3
_PAST_POINTS = 300
_TO_KNOBS = '<a class="to-knobs" href="#knobs">Controls are below the charts ↓</a>'


def watch(lab: Lab, info: RunInfo) -> None:
    """Buttons, then charts beside knobs."""
    _buttons(lab, info)
    if info.state == RunState.UNREADABLE:
        return
    charts, side = st.columns([2, 1], gap="large")
    with side:
        control_panel.knobs(lab, info.name)
    with charts:
        options = _options(info)
        if any(finding.needs_attention for finding in lab.findings(info.name)):
            FINDINGS.link("Evidence and remedies")
        view = partial(_view, lab, info.name, options, _staleness(lab, info))
        panel("watch", lab, view, selection.follow_seconds(info))
        live_fragment.mark_followed()
        run_heading.refresh_button(info)
        st.html('<span id="knobs"></span>')  # on a phone, the knobs come next


def _staleness(lab: Lab, info: RunInfo) -> Callable[[RunInfo], bool]:
    """Whether what is drawn around the panel, from the run of now, has changed by then."""
    name, sent = info.name, selection.pending_commands(info.name)

    def around() -> Hashable:
        return selection.shared_state(lab, name), selection.command_statuses(lab, name, sent)

    shown, turned = around(), control_panel.knob_state(name)

    def is_stale(now: RunInfo) -> bool:
        return around() != shown or turned.is_outdated(lab, now.name)

    return is_stale


def _buttons(lab: Lab, info: RunInfo) -> None:
    state, name = info.state, info.name
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        for label, icon, states, command, about in (
            (
                "Pause",
                "pause",
                (RunState.RUNNING, RunState.QUEUED),
                Pause(),
                "Wait before the next step; controls and prompts still work.",
            ),
            ("Continue", "play_arrow", (RunState.PAUSED,), Continue(), "Continue training."),
        ):
            _button(label, icon, state in states, about, lambda command=command: messages.send(lab, name, command))
        with st.popover("Step", icon=":material/skip_next:", disabled=state != RunState.PAUSED):
            count = st.number_input(
                "Steps",
                1,
                100_000,
                1,
                key=f"steps:{name}",
                help="Train this many steps, then pause again.",
                persist_state="session",
            )
            _button("Go", "skip_next", state == RunState.PAUSED, "", lambda: messages.send(lab, name, Step(int(count))))
        _button(
            "Save checkpoint",
            "save",
            state in ACTIVE,
            "Written before the next step, and kept.",
            lambda: messages.send(lab, name, SaveCheckpoint()),
        )
        _button(
            "Stop",
            "stop",
            state in ACTIVE,
            "Write a checkpoint and end; it can be resumed.",
            lambda: messages.send(lab, name, Stop()),
        )
        stranded = lab.stranded_steps(name) if not info.alive and state != RunState.UNREADABLE else 0
        if not info.alive and state != RunState.UNREADABLE:
            _resume(lab, info, stranded)
        new_run.new_run_button(lab, info, "do:new from")
        share_dialog.show_share(lab, info)
        if state != RunState.UNREADABLE:
            st.html(_TO_KNOBS)
    if stranded and state not in (RunState.FAILED, RunState.INTERRUPTED):  # of which the page says so already
        st.caption(advice.how_to_continue(stranded))


def _button(label: str, icon: str, enabled: bool, about: str, act: Any) -> None:
    roles.button(
        label, icon=f":material/{icon}:", key=f"do:{label}", disabled=not enabled, help=about or None, on_click=act
    )


def _resume(lab: Lab, info: RunInfo, stranded: int) -> None:
    """Choose until when, and go on.

    Args:
        stranded: as of `Lab.stranded_steps`; then nobody can.
    """
    with st.popover(
        "Resume",
        icon=":material/restart_alt:",
        type="primary" if advice.resume_helps(info) and not stranded else "secondary",
        disabled=bool(stranded),
        help="It has no checkpoint to resume from." if stranded else None,
    ):
        least = info.step + 1 if info.state == RunState.FINISHED else max(info.step, 1)
        goal = (
            max(info.total_steps, least)
            if info.state != RunState.FINISHED
            else info.step + max(100, info.total_steps // 2)
        )
        key = f"resume:{info.name}:{info.step}"
        steps = st.number_input("Train until step", least, 10_000_000, goal, key=key, persist_state="session")
        changed = int(steps) != info.total_steps
        _button(
            "Resume now",
            "play_arrow",
            not stranded,
            "From the newest checkpoint.",
            lambda: _resume_run(lab, info.name, int(steps) if changed else None),
        )


def _resume_run(lab: Lab, name: str, steps: int | None) -> None:
    try:
        lab.resume(name, steps=steps)
    except LabError as error:
        messages.note("error", str(error))


def _options(info: RunInfo) -> dict[str, Any]:
    """What the charts show: all of it is in the URL."""
    is_video = family_words.is_video(info)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        unit = UNITS[0]
        if not is_video:
            unit = st.segmented_control(
                "Unit of the loss", UNITS, key="unit", default=unit, required=True, bind="query-params"
            )
        smooth = metric_row.smoothing_slider()
        with st.popover("Charts", icon=":material/tune:"):
            log_y = st.toggle("Logarithmic loss", key="log_y", bind="query-params")
            log_x = st.toggle("Logarithmic steps", key="log_x", bind="query-params")
            extremes = looks.axis_choices()
            terms = st.multiselect(
                "Terms",
                live_run_charts.VIDEO_TERMS if is_video else live_run_charts.TERMS,
                live_run_charts.DEFAULT_VIDEO_TERMS if is_video else live_run_charts.DEFAULT_TERMS,
                # A widget for each set of choices: one that is kept would hold terms that the other family lacks.
                key="flow_terms" if is_video else "terms",
                bind="query-params",
                help=family_words.words(info).terms_help,
            )
            log = st.segmented_control("Log", LOGS, key="log", default="Events", required=True, bind="query-params")
    return {
        "unit": unit,
        "span": smooth,
        "log_y": log_y,
        "x": XAxis(log=log_x),
        "extremes": extremes,
        "terms": terms,
        "log": log,
    }


def _view(lab: Lab, run: str, options: dict[str, Any], is_stale: Callable[[RunInfo], bool]) -> View:
    """Figures of now, charts and logs. Called in other threads, too: nothing here touches the session."""
    info, reader = lab.info(run), lab.reader(run)
    events, findings = reader.events(), lab.findings(run)
    lines = reader.log(limit=LOG_LINES) if options["log"] == "Trainer log" else []
    seen_at = sum(one.last_step for one in findings)
    newest = lines[-1].id if lines else 0
    waits = waiting_words(info, lab.runs()) if info.state == RunState.QUEUED else ""
    body = partial(_body, lab, info, options, events, findings, lines, waits)
    return View(f"{info.step}-{info.state}-{len(events)}-{seen_at}-{newest}-{waits}", body, is_stale(info))


def _body(
    lab: Lab,
    info: RunInfo,
    options: dict[str, Any],
    events: list[Any],
    findings: list[FindingInfo],
    lines: list[Any],
    waits: str = "",
) -> str:
    reader = lab.reader(info.name)
    look = dict(options)
    log = look.pop("log")
    words = family_words.words(info)
    series = reader.scalars_of(live_run_charts.names(words, look["terms"]), max_points=live_run_charts.MAX_POINTS)
    waiting = advice.empty_chart_text(info, waits)
    marks = phrases.marks(events)
    before = [
        (phrases.short_name(run), found)
        for run, found in ancestor_series(lab, info, live_run_charts.past_names(words), _PAST_POINTS)
    ]
    said: dict[str, Any] = {"run": info.name, "waiting": waiting, "past": before}
    drawn = live_run_charts.figures(series, reader.meta(), marks, words=words, **said, **look)
    found = {key: with_last_step(figure, info.step) for key, figure in drawn.items()}
    last = {name: (int(line.steps[-1]), float(line.values[-1])) for name, line in series.items() if len(line)}
    blocks = [*_open_findings(findings), *_progress(info, waits, last)]
    for key, alt in (("loss", "Loss over steps with its references"), ("terms", "Unweighted terms over steps")):
        blocks.append(PanelBlock(f"chart:{key}", figure=found.pop(key), alt=alt))
    blocks += [
        PanelBlock(f"chart:{key}", figure=figure, alt=f"{key} over steps", half=True) for key, figure in found.items()
    ]
    if log == "Events":
        blocks.append(PanelBlock("log", _events(events)))
    elif log == "Trainer log":
        blocks.append(PanelBlock("log", _log(lines)))
    return blocks_json(blocks)


def _open_findings(findings: list[FindingInfo]) -> list[PanelBlock]:
    """What calls for attention, above all else: a line a finding."""
    calling = sorted((finding for finding in findings if finding.needs_attention), key=finding_words.urgency)
    if not calling:
        return []
    lines = [
        f"**Step {finding.since_step:,}, {finding.grade}** · {escape_markdown(spell_out_numbers(finding.title))}"
        for finding in calling[:SHOWN_FINDINGS]
    ]
    if len(calling) > 1:
        lines.insert(0, finding_words.count_words(calling))
    more = len(calling) - SHOWN_FINDINGS
    lines += [f"and {more} more"] if more > 0 else []
    kind = finding_words.BOX[finding_words.worst_grade(calling)]
    return [PanelBlock("calling", message_html(kind, "  \n".join(lines)))]


def _progress(info: RunInfo, waits: str, last: dict[str, tuple[int, float]]) -> list[PanelBlock]:
    """Bar and figures of the moment; a figure that is older than the moment's step says its own."""
    left = (
        f" · {waits}"
        if waits
        else f" · {phrases.duration(info.seconds_left)} left"
        if info.seconds_left is not None
        else ""
    )
    share = min(1.0, info.step / info.total_steps) if info.total_steps else 0.0
    words = family_words.words(info)
    state = selection.state_word(info)
    beside = {words.units: (info.step, family_words.speed(info))}
    beside[words.held] = (info.held_out_step or info.step, family_words.held_out(info))

    def cell(name: str, shown: Callable[[float | None], str]) -> tuple[str, str, str]:
        said = series_words(name)
        step, value = last.get(name) or beside.get(name, (info.step, None))
        return (said.label if step == info.step else f"{said.label}, step {step:,}", shown(value), said.meaning)

    memory = series_words(catalog.TRAIN_MEMORY_MB)
    strip = metric_row.metric_row_html(
        (
            ("State", state, "What the run is doing now."),
            cell(catalog.TRAIN_LOSS, _loss),
            cell(words.held, _loss),
            cell(catalog.TRAIN_LR, _rate),
            cell(words.units, _speed),
            cell(catalog.TRAIN_STEP_MS, _milliseconds),
            (memory.label, unit_words(info.memory_mb, "MB", places=0), memory.meaning),
            ("Trained", phrases.duration(info.seconds_trained), "Training time, including all earlier sessions."),
        )
    )
    bar = progress_html(share, f"Step {info.step:,} of {info.total_steps:,}{left}")
    moment = f'<div data-state="{state}" data-step="{info.step}">'
    return [PanelBlock("progress", f"{moment}{bar}</div>"), PanelBlock("strip", f"{moment}{strip}</div>")]


def _loss(value: float | None) -> str:
    return number_words(value, places=3)


def _rate(value: float | None) -> str:
    return number_words(value, 3)


def _speed(value: float | None) -> str:
    return number_words(value, places=0)


def _milliseconds(value: float | None) -> str:
    return unit_words(value, "ms", places=0)


def _events(events: list[Any]) -> str:
    return table_html(
        "Events",
        ("step", "time", "author", "what"),
        (
            (event.step, phrases.clock(event.wall), author_words(event.author), event_words(event.kind, event.payload))
            for event in events[: -LOG_LINES - 1 : -1]
        ),
        "No events yet: the run's start, changes of controls and checkpoints will be listed here.",
    )


def _log(lines: list[Any]) -> str:
    return table_html(
        "Trainer log",
        ("step", "time", "level", "message"),
        ((line.step, phrases.clock(line.wall), line.level, line.message) for line in lines[::-1]),
        "The trainer has logged nothing: no warnings, no errors.",
    )
