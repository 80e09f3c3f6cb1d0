"""What all pages share: the lab, the selected run, the sidebar, states in words and colours.

The selected run is one value of the session, mirrored in the URL as `?run=`, so that a link or a reload shows the same.
What is read from a run is not kept in the session, but for what a person asked for: the answer to a question with the
step it was asked at, and the configuration of a run that another shall start from.
"""

from __future__ import annotations

import html
import math
import os
import time
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from pages import _advice, _looks, _moment, _roles, _words
from pages._panel import words
from pages._plain import plain
from pages._settle import settling
from qcore.config import KEPT_KINDS, Command, ConfigError, SetControl
from qcore.lab import FindingInfo, Lab, LabError, RunInfo, StoreBusyError, shared_lab
from qcore.viz import Mark, event_words, name_words, number_words, percent_words, prose

INTERVALS = {"off": 0.0, "0.5": 0.5, "1": 1.0, "2": 2.0, "5": 5.0}
REFRESH = "2"  # asking for news is cheap, and where drawing is dear the browser asks more rarely
COMMAND_SECONDS = 0.4
TOAST_SECONDS = 3
_COMMANDS = {
    "set": "the change",
    "pause": "the pause",
    "continue": "going on",
    "step": "the step",
    "stop": "the stop",
    "checkpoint": "the checkpoint",
    "restore": "putting the weights back",
    "grow": "the growth",
    "sample": "the sample",
}
"""Commands as what a message speaks of."""
ALARM_SECONDS = 5.0
_SENT = "sent"
Color = Literal["red", "orange", "yellow", "blue", "green", "violet", "gray", "grey", "primary"]
_STATES: dict[str, tuple[Color, str]] = {
    "queued": ("gray", "Waits until another run has ended or is paused."),
    "running": ("green", "Trains now."),
    "paused": ("orange", "Waits for you; it answers controls and prompts."),
    "finished": ("blue", "Reached its last step."),
    "stopped": ("gray", "Stopped by a person; it can be resumed."),
    "failed": ("red", "Broke off; the reason is on its page."),
    "interrupted": ("orange", "Its process ended without a goodbye; it can be resumed."),
    "unreadable": ("red", "The folder holds no run that can be read."),
}
_STRIP_STYLE = """<style>
.strip{display:grid;grid-template-columns:repeat(auto-fit,minmax(max(5.6rem,20%),1fr));gap:.6rem 1rem}
.strip div{display:flex;flex-direction:column;min-width:0}
.strip span{font-size:.8rem;color:var(--lab-faint);white-space:nowrap}
.strip b{font-size:1.15rem;font-weight:600;white-space:nowrap;font-variant-numeric:tabular-nums}</style>"""


def lab() -> Lab:
    """The lab of this process over the runs folder of the environment, as the person may use it. Where there is a
    login, the script ends here before it."""
    _roles.gate()
    shared = shared_lab(Path(os.environ.get("QCORE_RUNS", "checkpoints")))
    return _moment.seen(shared, _roles.lab_for(shared))


def switch(name: str, value: Any) -> None:
    """Set a remembered choice (`run`, `view`) from a callback.

    The widget gets a new key instead of a new value: a value written under a widget that the browser is about to report
    again would be taken for a person's change, and the two would chase each other.
    """
    st.session_state[name] = value
    st.session_state[f"{name}:nonce"] = st.session_state.get(f"{name}:nonce", 0) + 1


def widget_key(name: str) -> str:
    """Key of the widget that shows a remembered choice."""
    return f"{name}:{st.session_state.get(f'{name}:nonce', 0)}"


def take(name: str, key: str) -> None:
    """Callback of that widget: remember what was chosen."""
    st.session_state[name] = st.session_state[key]


def view_picker(views: tuple[str, ...]) -> str:
    """Choose a view of a page; remembered over page switches, and in the URL unless it is the first one."""
    wanted = st.session_state.get("view", st.query_params.get("view"))
    st.session_state["view"] = wanted if wanted in views else views[0]
    key = widget_key("view")
    st.segmented_control(
        "View",
        views,
        key=key,
        default=st.session_state["view"],
        required=True,
        label_visibility="collapsed",
        on_change=take,
        args=("view", key),
    )
    if st.session_state["view"] == views[0]:
        st.query_params.pop("view", None)
    else:
        st.query_params["view"] = st.session_state["view"]
    return st.session_state["view"]


def sidebar(lab: Lab) -> None:
    """Run picker, refresh interval and state badge; makes `st.session_state.run` valid and writes it to the URL."""
    _looks.style()
    _roles.badge()
    runs = {one.name: one for one in lab.runs()}
    wanted = st.session_state.get("run", st.query_params.get("run"))
    if wanted is not None and wanted not in runs:
        st.warning(f"There is no run {plain(short(wanted))} in {plain(str(lab.runs_dir))}; the newest one is shown.")
    name = wanted if wanted in runs else next(iter(runs), None)
    st.session_state["run"] = name
    with st.sidebar:
        key = widget_key("run")
        st.selectbox(
            "Run",
            list(runs),
            list(runs).index(name) if name in runs else None,
            key=key,
            format_func=short,
            placeholder="no run yet",
            help=plain(name) if name else None,
            on_change=take,
            args=("run", key),
        )
        if name in runs:
            st.query_params["run"] = name
            badge(info_of(lab, name))
            _alarm(lab, name)
        st.segmented_control(
            "Refresh (seconds)",
            list(INTERVALS),
            key="refresh",
            default=REFRESH,
            required=True,
            bind="query-params",
            help="How often the charts of a living run are drawn again. Each refresh takes a little of the machine.",
        )


def _alarm(lab: Lab, run: str) -> None:
    """Link to the findings of a run: red when one calls for attention, grey when all of the active ones are
    acknowledged, nothing without any. It names rules and no numbers, which would be those of an earlier look.
    """
    found = _active(lab, run)
    if found:
        calls = sum(one.calls for one in found)
        count = f"{len(found)} finding{'s' if len(found) > 1 else ''}"
        st.page_link(
            "pages/findings.py",
            label=f":{'red' if calls else 'gray'}-badge[:material/{'error' if calls else 'visibility'}: {count}]",
            help=" · ".join(name_words(one.name) for one in found[:3]) + (" · …" if len(found) > 3 else ""),
        )


def around(lab: Lab, run: str) -> Hashable:
    """What every page says of a run around its own part: a page drawn from another value is stale."""
    info = info_of(lab, run)
    return info.state, info.alive, tuple((one.id, one.since_step, one.calls) for one in _active(lab, run))


def fates(lab: Lab, run: str, sent: tuple[int, ...]) -> Hashable:
    """What became of commands that the page says are on their way."""
    return tuple(lab.outcome(run, one).status for one in sent)


def on_their_way(run: str) -> tuple[int, ...]:
    """This session's commands to a run that the page says are on their way."""
    return tuple(identity for name, identity in st.session_state.get(_SENT, {}) if name == run)


def has_findings(lab: Lab, run: str) -> bool:
    """Whether something is wrong with a run now that nobody has muted."""
    return bool(_active(lab, run))


def _active(lab: Lab, run: str) -> list[FindingInfo]:
    try:
        return [one for one in lab.findings(run) if one.state == "active" and not one.muted]
    except (LabError, OSError):
        return []


def selected(lab: Lab) -> RunInfo | None:
    """The selected run, or None when there is none."""
    name = st.session_state.get("run")
    return info_of(lab, name) if name else None


def info_of(lab: Lab, name: str) -> RunInfo:
    """State of a run, `unreadable` when it cannot be read."""
    return lab.listed(name)


def interval() -> float:
    """Seconds between refreshes; 0 is off."""
    return INTERVALS[st.session_state.get("refresh") or REFRESH]


def follow_seconds(info: RunInfo) -> float:
    """Seconds between refreshes of this run's page; 0 when it is not alive, or nothing is to be refreshed."""
    return interval() if info.alive else 0.0


def refresh_button(info: RunInfo) -> None:
    """Refresh by hand, where nothing else does."""
    if info.alive and not interval():
        st.button("Refresh now", icon=":material/refresh:", key="refresh_now")


def state_word(info: RunInfo) -> str:
    """The one word for a run's state, wherever it is shown."""
    return info.state if info.state in _STATES else "unreadable"


def badge(info: RunInfo) -> None:
    """State of a run as a coloured badge."""
    word = state_word(info)
    color, about = _STATES[word]
    words("state", _words.badge_html(word, color, about, state=word, run=info.name))


def hand_over() -> None:
    """A link to a page was the first visit since the server has started: Streamlit found the page by its folder and
    runs it alone. Any navigation ends that; the next run is app.py's, which opens the same link."""
    if "run" not in st.session_state and not st.session_state.get("handed_over"):
        st.session_state["handed_over"] = True
        st.navigation([st.Page(path) for path in sorted(Path(__file__).parent.glob("[a-z]*.py"))], position="hidden")
        st.rerun()


def open_run(lab: Lab, title: str) -> RunInfo | None:
    """Heading of a page about the selected run; None, after saying what to do, when there is nothing to show."""
    hand_over()
    info = selected(lab)
    if info is None:
        st.title(title)
        st.info("There is no run yet. Start one in the **Control room**: choose a preset and press *Start*.")
        st.page_link("pages/control_room.py", label="Open the control room", icon=":material/tune:")
        return None
    heading(title, info)
    trouble(lab, info)
    return None if info.state == "unreadable" else info


def heading(title: str, info: RunInfo) -> None:
    """Page title with the run's name beside it."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.title(title, anchor=False, width="content")
        st.text(short(info.name), width="content", help=plain(info.name))


def trouble(lab: Lab, info: RunInfo) -> None:
    """Say prominently what is wrong with a run, and what to do."""
    if info.state == "failed":
        remedy = _advice.remedy(info, lab.stranded(info.name))
        _words.says("trouble", "error", f"**The run failed at step {info.step:,}.** {plain(info.message)}\n\n{remedy}")
    elif info.state == "unreadable":
        _words.says(
            "trouble",
            "error",
            f"**This run cannot be read.** {plain(info.message)}\n\n{plain(info.remedy)} The other runs are not "
            "affected.",
        )
    elif info.state == "interrupted":
        _words.says(
            "trouble",
            "warning",
            f"The process of this run ended at step {info.step:,} without a goodbye. "
            + _advice.going_on(lab.stranded(info.name)),
        )
    if info.drops:
        st.warning(f"{info.drops:,} measurements were dropped because the disk was too slow; the curves have gaps.")


def send(lab: Lab, name: str, command: Command) -> int | None:
    """Send a command, after all that waits for the run, and note its outcome for `flash`; None when it was refused on
    entry.
    """
    settling.flush((name,))
    try:
        identity = lab.command(name, command)
    except (LabError, ConfigError) as error:
        note("error", str(error))
        return None
    about = f" of {name_words(command.name)}" if isinstance(command, SetControl) else ""
    what = f"{_spoken(command.kind)}{about}"
    row = lab.outcome(name, identity, COMMAND_SECONDS)
    if row.status == "pending":
        st.session_state.setdefault(_SENT, {})[name, identity] = what
    else:
        note(*_resolved(lab, name, row, what))
    return identity


def _spoken(kind: str) -> str:
    """A command as what a message speaks of."""
    return _COMMANDS.get(kind, name_words(kind))


def outcome_words(lab: Lab, run: str, row: Any) -> str:
    """What became of a command, in the words of its event: `diversity weight 0 → 0.2 at step 62`."""
    if row.status == "refused":
        return prose(row.message)
    event = next((one for one in reversed(lab.reader(run).events()) if one.command_id == row.id), None)
    if event is not None:
        words = event_words(event.kind, event.payload)
        return f"{words[:1].upper() + words[1:] if event.kind != 'control' else words} at step {event.step:,}"
    words = name_words(prose(row.message))
    return words[:1].upper() + words[1:]


def note(kind: str, text: str) -> None:
    """Keep a message for the next run of the script, from a callback."""
    st.session_state.setdefault("notes", []).append((kind, text))


def flash() -> None:
    """Show the messages that callbacks left, and what is on its way: until the page's moment has the answer to it."""
    sent: dict[tuple[str, int], str] = st.session_state.get(_SENT, {})
    for (run, identity), what in list(sent.items()):
        if (answer := _answer(run, identity, what)) is None:
            said = f"… {what} is sent to {short(run)}, which takes it before its next step"
            _words.caption(f"sent:{run}:{identity}", plain(said))
            continue
        del sent[run, identity]
        note(*answer)
    for kind, text in st.session_state.pop("notes", []):
        match kind:
            case "error":
                st.error(plain(text), icon=":material/block:")
            case "kept":
                st.info(plain(text), icon=":material/schedule:")
            case _:
                st.toast(plain(text), icon=":material/check:", duration=TOAST_SECONDS)


def _answer(run: str, identity: int, what: str) -> tuple[str, str] | None:
    """What became of a command, as a note; None while it is on its way."""
    try:
        row = lab().outcome(run, identity)
        if row.status != "pending":
            return _resolved(lab(), run, row, what)
        return None if info_of(lab(), run).alive else unanswered(run, row.kind, what)
    except StoreBusyError:
        return None
    except (LabError, OSError) as error:
        return "error", f"{_begun(what)}: {error}"


def unanswered(run: str, kind: str, what: str) -> tuple[str, str]:
    """What becomes of a command that no worker has taken, of a run that none holds, as a note."""
    if kind in KEPT_KINDS:
        return "kept", f"{_begun(what)} is kept: {short(run)} takes it when it is resumed"
    return "error", f"{_begun(what)} was not done: {short(run)} ended before it could answer"


def _resolved(lab: Lab, run: str, row: Any, what: str) -> tuple[str, str]:
    """What became of a command that was answered, as a note; it names the run where another one is shown."""
    other = "" if st.session_state.get("run") in (None, run) else f"{short(run)}: "
    if row.status == "refused":
        return "error", f"{other}{_begun(what)} was refused: {prose(row.message)}"
    return "done", f"{other}{outcome_words(lab, run, row)}"


def _begun(what: str) -> str:
    return f"{what[:1].upper()}{what[1:]}"


def strip(cells: Iterable[tuple[str, str, str]], key: str = "numbers") -> None:
    """A row of (label, value, help) that wraps on a narrow screen; one element, however many figures."""
    words(key, strip_html(cells))


def strip_html(cells: Iterable[tuple[str, str, str]]) -> str:
    """The same as HTML, all text escaped."""
    parts = [
        f'<div title="{html.escape(about)}"><span>{html.escape(label)}</span><b>{html.escape(value)}</b></div>'
        for label, value, about in cells
    ]
    return f'{_STRIP_STYLE}<div class="strip">{"".join(parts)}</div>'


def numbers(lab: Lab, run: str, step: int, shown: Iterable[tuple[str, str, str, str]]) -> None:
    """Scalars measured at a step in a row, each as (title, series, format, help): a dash for one that this step lacks,
    and none for what the run never measured.
    """
    reader = lab.reader(run)
    known = set(reader.names())
    shown = tuple(one for one in shown if one[1] in known)
    series = reader.scalars_of([name for _, name, _, _ in shown], start=step, stop=step + 1)
    strip(
        (title, _formatted(float(series[name].values[-1]) if len(series[name]) else None, form), about)
        for title, name, form, about in shown
    )


def _formatted(value: float | None, form: str) -> str:
    if value is None or not math.isfinite(value) or form.endswith("g"):
        return number_words(value, 3)
    return percent_words(value) if form.endswith("%") else format(value, form).replace("-", "−")


def step_words(at: int | None, asked: int | None = None) -> str:
    """The step of a picture for its title: `step 900`, or `step 900, newest before 960` where another step was asked
    for. at: None when there is no such picture yet.
    """
    if at is None:
        return "not measured yet" if asked is None else f"not measured by step {asked:,}"
    return f"step {at:,}" if asked is None or asked == at else f"step {at:,}, newest before {asked:,}"


def steps_words(at: Mapping[str, int], asked: int) -> str:
    """The same for a picture of several things: one step where all have it, else those of other steps by name."""
    other = [f"{name} {step_words(step)}" for name, step in at.items() if step != asked]
    if len(set(at.values())) <= 1:
        return step_words(next(iter(at.values()), None), asked)
    return f"{step_words(asked)} ({', '.join(other)})"


def smoothing() -> int:
    """Choose how many steps curves are averaged over; 0 is none."""
    return st.select_slider(
        "Smoothing",
        (0, 5, 10, 20, 50, 100, 200, 500),
        key="smooth",
        bind="query-params",
        width=150,
        format_func=lambda span: f"{span} steps" if span else "off",
        help="Memory of a moving average; the raw curve stays behind it.",
    )


def marks(events: list[Any]) -> list[Mark]:
    """Control changes and resumptions as marks of the charts; the step is said by the chart."""
    return [
        Mark(event.step, f"{event_words(event.kind, event.payload)} by {event.author}")
        for event in events
        if event.kind in ("control", "resume")
    ]


def describe(event: Any) -> str:
    """One event in words, with its step and author, each once: `diversity weight 0 → 0.3 at step 120 by person`."""
    return f"{event_words(event.kind, event.payload)} at step {event.step:,} by {event.author}"


def short(name: str, length: int = 36) -> str:
    """A long name with its middle left out."""
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"


def duration(seconds: float | None) -> str:
    """Seconds as 42 s, 3 min 5 s or 2 h 10 min; a dash when unknown."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def clock(wall: float) -> str:
    """Local time of an epoch second; with the date when it is not today."""
    then = time.localtime(wall)
    same_day = then[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M", then)
