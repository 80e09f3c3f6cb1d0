"""The selected run: commands, live figures, charts and logs."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import streamlit as st

from pages import _charts, _families, _knobs, _parts, _roles, _share
from pages._live import live
from pages._plot import chart
from qcore.config import Continue, Pause, SaveCheckpoint, Step, Stop
from qcore.lab import Lab, LabError, RunInfo
from qcore.viz import UNITS

LOGS = ("Events", "Trainer log", "Off")
LOG_LINES = 200
SHOWN_FINDINGS = 3
_ACTIVE = ("queued", "running", "paused")
_TO_KNOBS = """<style>.to-knobs{display:none;color:inherit}#knobs{scroll-margin-top:4rem}
@media(max-width:640px){.to-knobs{display:inline}}</style>
<a class="to-knobs" href="#knobs">Controls are below the charts ↓</a>"""


def watch(lab: Lab, info: RunInfo) -> None:
    """Buttons, then charts beside knobs."""
    _buttons(lab, info)
    if info.state == "unreadable":
        return
    charts, side = st.columns([2, 1], gap="large")
    with side:
        _knobs.knobs(lab, info.name)
    with charts:
        options = _options(info)
        live(lab, info, lambda now: _draw(lab, now, options))
        st.html('<span id="knobs"></span>')  # on a phone, the knobs come next


def _buttons(lab: Lab, info: RunInfo) -> None:
    state, name = info.state, info.name
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        for label, icon, states, command, about in (
            ("Pause", "pause", ("running", "queued"), Pause(), "Wait before the next step; controls and prompts work."),
            ("Continue", "play_arrow", ("paused",), Continue(), "Go on training."),
        ):
            _button(label, icon, state in states, about, lambda command=command: _parts.send(lab, name, command))
        with st.popover("Step", icon=":material/skip_next:", disabled=state != "paused"):
            count = st.number_input(
                "Steps", 1, 100_000, 1, key=f"steps:{name}", help="Train so many steps, then pause again."
            )
            _button("Go", "skip_next", state == "paused", "", lambda: _parts.send(lab, name, Step(int(count))))
        _button(
            "Save checkpoint",
            "save",
            state in _ACTIVE,
            "Written before the next step, and kept.",
            lambda: _parts.send(lab, name, SaveCheckpoint()),
        )
        _button(
            "Stop",
            "stop",
            state in _ACTIVE,
            "Write a checkpoint and end; it can be resumed.",
            lambda: _parts.send(lab, name, Stop()),
        )
        if not info.alive and state != "unreadable":
            _resume(lab, info)
        _share.show_share(lab, info)
        if state != "unreadable":
            st.html(_TO_KNOBS)


def _button(label: str, icon: str, enabled: bool, about: str, act: Any) -> None:
    _roles.button(
        label, icon=f":material/{icon}:", key=f"do:{label}", disabled=not enabled, help=about or None, on_click=act
    )


def _resume(lab: Lab, info: RunInfo) -> None:
    with st.popover("Resume", icon=":material/restart_alt:", type="primary"):
        least = info.step + 1 if info.state == "finished" else max(info.step, 1)
        goal = max(info.total_steps, least) if info.state != "finished" else info.step + max(100, info.total_steps // 2)
        steps = st.number_input("Train until step", least, 10_000_000, goal, key=f"resume:{info.name}:{info.step}")
        changed = int(steps) != info.total_steps
        _button(
            "Resume now",
            "play_arrow",
            True,
            "From the newest checkpoint.",
            lambda: _go_on(lab, info.name, int(steps) if changed else None),
        )


def _go_on(lab: Lab, name: str, steps: int | None) -> None:
    try:
        lab.resume(name, steps=steps)
    except LabError as error:
        _parts.note("error", str(error))


def _options(info: RunInfo) -> dict[str, Any]:
    """What the charts show: all of it is in the URL."""
    is_video = _families.is_video(info)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        unit = UNITS[0]
        if not is_video:
            unit = st.segmented_control(
                "Unit of the loss", UNITS, key="unit", default=unit, required=True, bind="query-params"
            )
        smooth = _parts.smoothing()
        with st.popover("Charts", icon=":material/tune:"):
            log_y = st.toggle("Logarithmic loss", key="log_y", bind="query-params")
            log_x = st.toggle("Logarithmic steps", key="log_x", bind="query-params")
            terms = st.multiselect(
                "Terms",
                _charts.VIDEO_TERMS if is_video else _charts.TERMS,
                _charts.DEFAULT_VIDEO_TERMS if is_video else _charts.DEFAULT_TERMS,
                # A widget for each set of choices: one that is kept would hold terms that the other family lacks.
                key="flow_terms" if is_video else "terms",
                bind="query-params",
                help=_families.words(info).terms_help,
            )
            log = st.segmented_control("Log", LOGS, key="log", default="Events", required=True, bind="query-params")
    return {"unit": unit, "span": smooth, "log_y": log_y, "log_x": log_x, "terms": terms, "log": log}


def _draw(lab: Lab, info: RunInfo, options: dict[str, Any]) -> Hashable:
    """Figures of now, charts, logs; returns what the rest of the page depends on."""
    _findings(lab, info.name)
    reader = lab.reader(info.name)
    look = dict(options)
    log = look.pop("log")
    words = _families.words(info)
    series = reader.scalars_of(_charts.names(words, look["terms"]), max_points=_charts.MAX_POINTS)
    events = reader.events()
    _progress(info, {name: float(line.values[-1]) for name, line in series.items() if len(line)})
    found = _charts.figures(series, reader.meta(), _parts.marks(events), words=words, run=info.name, **look)
    for key, alt in (("loss", "Loss over steps with its references"), ("terms", "Unweighted terms over steps")):
        chart(found.pop(key), f"chart:{key}", alt)
    columns = st.columns(2)
    for index, (key, figure) in enumerate(found.items()):
        with columns[index % 2]:
            chart(figure, f"chart:{key}", f"{key} over steps")
    if log == "Events":
        _events(events)
    elif log == "Trainer log":
        _log(reader.log(limit=LOG_LINES))
    return _knobs.outdated(lab, info.name, lab.controls(info.name))


def _findings(lab: Lab, run: str) -> None:
    """What calls for attention, above all else: a line a finding, and the way to its evidence."""
    calling = [finding for finding in lab.findings(run) if finding.calls]
    if not calling:
        return
    lines = [f"**Step {finding.since_step:,}** · {_parts.plain(finding.title)}" for finding in calling[:SHOWN_FINDINGS]]
    more = len(calling) - SHOWN_FINDINGS
    with st.container(key="calling"):
        st.error("  \n".join([*lines, *([f"and {more} more"] if more > 0 else [])]), icon=":material/emergency_home:")
        st.page_link("pages/findings.py", label="Evidence and remedies", icon=":material/troubleshoot:")


def _progress(info: RunInfo, last: dict[str, float]) -> None:
    left = f" · {_parts.duration(info.seconds_left)} left" if info.seconds_left is not None else ""
    share = min(1.0, info.step / info.total_steps) if info.total_steps else 0.0
    words = _families.words(info)
    st.progress(share, f"Step {info.step:,} of {info.total_steps:,}{left}")
    _parts.strip(
        (
            ("State", info.state, "What the run does now."),
            ("Loss", _figure(last.get("train/loss"), ".3f"), f"Weighted total of the newest step, {words.loss}."),
            ("Held out", _figure(_families.held_out(info), ".3f"), f"{words.held_words}, {words.held_unit}."),
            ("Learning rate", _figure(last.get("train/lr"), ".3g"), "Of the newest step, schedule included."),
            (words.units_words, _figure(_families.speed(info), ",.0f"), "In training, running mean."),
            (
                "Step time",
                _figure(last.get("train/step_ms"), ",.0f", " ms"),
                "Of the newest step, without measurements.",
            ),
            (
                "Memory",
                _figure(info.memory_mb, ",.0f", " MB"),
                "Resident set of the trainer's process; on CUDA its peak.",
            ),
            ("Trained", _parts.duration(info.seconds_trained), "Time spent in training, over all resumptions."),
        )
    )


def _figure(value: float | None, spec: str, unit: str = "") -> str:
    return "–" if value is None else f"{value:{spec}}{unit}"


def _events(events: list[Any]) -> None:
    if not events:
        st.caption("No events yet: the run's start, changes of controls and checkpoints will be listed here.")
        return
    newest = events[: -LOG_LINES - 1 : -1]
    st.dataframe(
        {
            "step": [event.step for event in newest],
            "time": [_parts.clock(event.wall) for event in newest],
            "author": [event.author for event in newest],
            "what": [_parts.describe(event) for event in newest],
        },
        key="events",
        hide_index=True,
        height=240,
        column_config={"what": st.column_config.TextColumn(width="large")},
    )


def _log(lines: list[Any]) -> None:
    if not lines:
        st.caption("The trainer has logged nothing: no warnings, no errors.")
        return
    st.dataframe(
        {
            "step": [line.step for line in lines[::-1]],
            "time": [_parts.clock(line.wall) for line in lines[::-1]],
            "level": [line.level for line in lines[::-1]],
            "message": [line.message for line in lines[::-1]],
        },
        key="log_lines",
        hide_index=True,
        height=240,
        column_config={"message": st.column_config.TextColumn(width="large")},
    )
