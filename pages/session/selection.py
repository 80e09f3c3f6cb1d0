"""What is selected: the run, the view, the refresh interval; and what every page says of the selected run.

The selected run is one value of the session, mirrored in the URL as `?run=`, so that a link or a reload shows the same.
Nothing read from a run is kept in the session.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Literal

import streamlit as st

from qcore.base.run_states import RunState
from qcore.lab import FindingInfo, Lab, LabError, RunInfo

INTERVALS = {"off": 0.0, "0.5": 0.5, "1": 1.0, "2": 2.0, "5": 5.0}
REFRESH = "2"  # asking for news is cheap, and where drawing is dear the browser asks more rarely
ALARM_SECONDS = 5.0
SENT = "sent"
Color = Literal["red", "orange", "yellow", "blue", "green", "violet", "gray", "grey", "primary"]
COLORS: dict[RunState, Color] = {
    RunState.QUEUED: "gray",
    RunState.RUNNING: "green",
    RunState.PAUSED: "orange",
    RunState.FINISHED: "blue",
    RunState.STOPPED: "gray",
    RunState.FAILED: "red",
    RunState.INTERRUPTED: "orange",
    RunState.RECORDED: "gray",
    RunState.UNREADABLE: "red",
}
"""Of a state's badge; its word and its sentence are the state's own."""


def remember_choice(name: str, value: Any) -> None:
    """Set a remembered choice (`run`, `view`) from a callback.

    The widget gets a new key instead of a new value: a value written under a widget that the browser is about to report
    again would be taken for a person's change, and the two would chase each other.
    """
    st.session_state[name] = value
    st.session_state[f"{name}:nonce"] = st.session_state.get(f"{name}:nonce", 0) + 1


def widget_key(name: str) -> str:
    """Key of the widget that shows a remembered choice."""
    return f"{name}:{st.session_state.get(f'{name}:nonce', 0)}"


def store_choice(name: str, key: str) -> None:
    """Callback of that widget: remember what was chosen."""
    st.session_state[name] = st.session_state[key]


def shared_state(lab: Lab, run: str) -> Hashable:
    """What every page says of a run around its own part: a page drawn from another value is stale."""
    info = listed_run(lab, run)
    return (
        info.state,
        info.alive,
        tuple((one.id, one.since_step, one.needs_attention, one.grade) for one in active_findings(lab, run)),
    )


def command_statuses(lab: Lab, run: str, sent: tuple[int, ...]) -> Hashable:
    """What became of commands that the page says are on their way."""
    return tuple(lab.outcome(run, one).status for one in sent)


def pending_commands(run: str) -> tuple[int, ...]:
    """This session's commands to a run that the page says are on their way."""
    return tuple(identity for name, identity in st.session_state.get(SENT, {}) if name == run)


def has_findings(lab: Lab, run: str) -> bool:
    """Whether something is wrong with a run now that nobody has muted."""
    return bool(active_findings(lab, run))


def active_findings(lab: Lab, run: str) -> list[FindingInfo]:
    """Findings of a run that are not resolved, muted ones aside; none where they cannot be read."""
    try:
        return [one for one in lab.findings(run) if one.state == "active" and not one.muted]
    except (LabError, OSError):
        return []


def selected_run(lab: Lab) -> RunInfo | None:
    """The selected run, or None when there is none."""
    name = st.session_state.get("run")
    return listed_run(lab, name) if name else None


def wanted(lab: Lab) -> RunInfo | None:
    """The run that the session or the URL asks for, else the newest one; None when there is none."""
    runs = lab.runs()
    asked = st.session_state.get("run", st.query_params.get("run"))
    return next((one for one in runs if one.name == asked), next(iter(runs), None))


def listed_run(lab: Lab, name: str) -> RunInfo:
    """State of a run, `unreadable` when it cannot be read."""
    return lab.listed(name)


def refresh_interval() -> float:
    """Seconds between refreshes; 0 is off."""
    return INTERVALS[st.session_state.get("refresh") or REFRESH]


def follow_seconds(info: RunInfo) -> float:
    """Seconds between refreshes of this run's page; 0 when it is not alive, or nothing is to be refreshed."""
    return refresh_interval() if info.alive else 0.0


def state_word(info: RunInfo) -> RunState:
    """The one word for a run's state, wherever it is shown."""
    return info.state
