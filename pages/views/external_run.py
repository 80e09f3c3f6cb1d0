"""The control room's view of a run that another program wrote: what its database holds, and nothing that would need a
trainer of ours.

Its series are drawn under the names that they have; one that the catalogue or the run itself declares takes its words
from there. What it lacks is said once, in words: no button here stands for something that cannot be done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import streamlit as st

from pages.session import looks, phrases, selection
from pages.session.markdown_escape import escape_markdown
from pages.session.page_list import FINDINGS
from pages.widgets import live_fragment, metric_row, run_heading, share_dialog
from pages.widgets.chart import with_last_step
from pages.widgets.live_panel import PanelBlock, blocks_json, panel, progress_html, table_html
from qcore.config import ExternalConfig
from qcore.lab import Lab, RunInfo
from qcore.probes.catalog import Declared, declared_as_named, stored_series
from qcore.runs.external import LOSSES, external_controls
from qcore.server.live import View
from qcore.viz import Line, XAxis, YAxis, curves, event_words, number_words, value_words

CHARTS = 6
MOST_CHARTS = 24
MAX_POINTS = 600
SHOWN_NUMBERS = 8
LOGS = ("Events", "Log", "Off")
LOG_LINES = 200
LONGEST = 500
"""Letters of a setting's value that are shown."""


def watch(lab: Lab, info: RunInfo) -> None:
    """What is known of the run, then its series beside its controls and settings."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        share_dialog.show_share(lab, info)
        st.caption(_whose(info))
    charts, side = st.columns([2, 1], gap="large")
    with side:
        _controls(lab, info)
        _settings(lab, info)
    with charts:
        offered = lab.reader(info.name).names()
        look = _options(info, offered)
        if selection.has_findings(lab, info.name):
            FINDINGS.link("Evidence and remedies")
        view = partial(_view, lab, info.name, look, _staleness(lab, info))
        panel("external", lab, view, selection.follow_seconds(info))
        live_fragment.mark_followed()
        run_heading.refresh_button(info)


def _whose(info: RunInfo) -> str:
    by = f"**{escape_markdown(info.source)}**" if info.source else "Another program"
    return (
        f"{by} {'writes' if info.alive else 'wrote'} this run. It is shown as it was recorded; there is no trainer for "
        "it here, so it is changed, resumed and sampled where it is trained."
    )


def _staleness(lab: Lab, info: RunInfo) -> Callable[[RunInfo], bool]:
    """Whether what is drawn around the panel has changed by then: state, findings, a control, a new series."""
    name = info.name

    def around() -> Any:
        states = external_controls(lab.reader(name)).values()
        return selection.shared_state(lab, name), sum(one.version for one in states), tuple(lab.reader(name).names())

    shown = around()
    return lambda _: around() != shown


def usual(names: Sequence[str]) -> list[str]:
    """Series to begin with: the loss, then those with a declaration, then the others, at most six."""

    def rank(name: str) -> tuple[int, str]:
        if name in LOSSES or name.rpartition("/")[2] == LOSSES[-1]:
            return 0, name
        return 1 if declared_as_named(name).title != name else 2, name

    return sorted(names, key=rank)[:CHARTS]


def _options(info: RunInfo, offered: Sequence[str]) -> dict[str, Any]:
    """What the charts show: all but the series is in the URL. Without any series there is nothing to choose of them."""
    look: dict[str, Any] = {}
    chosen: list[str] = []
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        if offered:
            look["span"] = metric_row.smoothing_slider()
            with st.popover("Charts", icon=":material/tune:"):
                log_y = st.toggle("Logarithmic values", key="log_y", bind="query-params")
                log_x = st.toggle("Logarithmic steps", key="log_x", bind="query-params")
                look |= {"x": XAxis(log=log_x), "y": YAxis(log=log_y), "extremes": looks.axis_choices()}
        log = st.segmented_control("Log", LOGS, key="own_log", default=LOGS[0], required=True, bind="query-params")
    if offered:
        chosen = st.multiselect(
            "Series",
            offered,
            usual(offered),
            key=f"own_series:{info.name}",
            max_selections=MOST_CHARTS,
            persist_state="session",
            help="A chart each. Every series that the run has is offered.",
        )
    return {**look, "names": chosen, "log": log}


def _view(lab: Lab, run: str, look: dict[str, Any], is_stale: Callable[[RunInfo], bool]) -> View:
    """Figures of now, charts and log. Called in other threads, too: nothing here touches the session."""
    info, reader = lab.info(run), lab.reader(run)
    tag = f"{info.step}-{info.state}-{reader.version()}"
    return View(tag, partial(_body, lab, info, look), is_stale(info))


def _body(lab: Lab, info: RunInfo, options: dict[str, Any]) -> str:
    reader = lab.reader(info.name)
    look = dict(options)
    log, names = look.pop("log"), look.pop("names")
    latest, events = reader.latest(), reader.events()
    own = {one.name: one for one in stored_series(reader.meta())}
    series = reader.scalars_of(names, max_points=MAX_POINTS)
    marks = phrases.marks(events)
    blocks = [*_progress(info), _numbers(info, [own.get(name) or declared_as_named(name) for name in names], latest)]
    if not latest:
        blocks.append(PanelBlock("empty", '<p class="none">No series was recorded so far.</p>'))
    for name in names:
        words = own.get(name) or declared_as_named(name)
        figure = curves(
            [Line.of(words.title, series[name])],
            **_titles(words, name),
            uirevision=f"{info.name}:{name}",
            marks=marks,
            **look,
        )
        blocks.append(
            PanelBlock(f"chart:{name}", figure=with_last_step(figure, info.step), alt=f"{name} over steps", half=True)
        )
    if log == LOGS[0]:
        blocks.append(PanelBlock("log", _events(events)))
    elif log == LOGS[1]:
        blocks.append(PanelBlock("log", _log(reader.log(limit=LOG_LINES))))
    return blocks_json(blocks)


def _titles(words: Declared, name: str) -> dict[str, Any]:
    """Title and axis; a name that nobody has declared stands as it is, its letters too."""
    return {"title": name, "y_title": ""} if words.title == name else words.titles


def _progress(info: RunInfo) -> list[PanelBlock]:
    state = selection.state_word(info)
    moment = f'<div data-state="{state}" data-step="{info.step}">'
    if info.total_steps:
        bar = progress_html(min(1.0, info.step / info.total_steps), f"Step {info.step:,} of {info.total_steps:,}")
    else:
        bar = f"<p>Step {info.step:,}</p>"
    return [PanelBlock("progress", f"{moment}{bar}</div>")]


def _numbers(info: RunInfo, declared: Sequence[Declared], latest: dict[str, tuple[int, float]]) -> PanelBlock:
    """State, and the newest number of each series that is drawn; one of another step says which."""
    cells = [("State", str(selection.state_word(info)), selection.state_word(info).about)]
    for words in declared[:SHOWN_NUMBERS]:
        step, value = latest.get(words.name, (info.step, None))
        label = words.title if words.title == words.name else words.label
        cells.append((label if step == info.step else f"{label}, step {step:,}", number_words(value), words.meaning))
    return PanelBlock("strip", metric_row.metric_row_html(cells))


def _controls(lab: Lab, info: RunInfo) -> None:
    """Controls as their program declared and changed them; read only."""
    states = lab.controls(info.name)
    if not states:
        return
    st.header("Controls", anchor=False, help="As its program has declared them. They are changed there, not here.")
    looks.table(
        {
            "control": list(states),
            "value": [_valued(one.value, one.control.unit) for one in states.values()],
            "from": [value_words(one.default) for one in states.values()],
            "range": [_range(one.control) for one in states.values()],
            "changed": [
                "never" if one.step is None else f"step {one.step:,} by {one.author}" for one in states.values()
            ],
        },
        key="own_controls",
        height="content",
    )


def _valued(value: Any, unit: str) -> str:
    return f"{value_words(value)} {unit}".strip()


def _range(control: Any) -> str:
    if control.choices:
        return ", ".join(control.choices)
    if control.low is None:
        return ""
    return f"{number_words(control.low)} to {number_words(control.high)}".replace("not finite", "…")


def _settings(lab: Lab, info: RunInfo) -> None:
    """What the description beside the database says, and the references that the run holds."""
    found = lab.description(info.name)
    assert isinstance(found, ExternalConfig)
    meta = lab.reader(info.name).meta()
    rows = {
        **found.settings,
        **{f"reference: {key}": value for key, value in (meta.get("references") or {}).items() if value is not None},
    }
    st.header("Settings", anchor=False, help="What its program says of itself in config.yaml.")
    if found.note:
        st.caption(escape_markdown(found.note))
    if rows:
        looks.table(
            {"setting": list(rows), "value": [value_words(value)[:LONGEST] for value in rows.values()]},
            key="own_settings",
        )
    elif not found.note:
        st.caption("It says none.")


def _events(events: list[Any]) -> str:
    return table_html(
        "Events",
        ("step", "time", "author", "what"),
        (
            (event.step, phrases.clock(event.wall), event.author, event_words(event.kind, event.payload))
            for event in events[: -LOG_LINES - 1 : -1]
        ),
        "It has recorded no events.",
    )


def _log(lines: list[Any]) -> str:
    return table_html(
        "Log",
        ("step", "time", "level", "message"),
        ((line.step, phrases.clock(line.wall), line.level, line.message) for line in lines[::-1]),
        "It has logged nothing.",
    )
