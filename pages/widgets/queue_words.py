"""Who trains now and who waits: one run of the app trains at a time, and whoever starts another should know before."""

from __future__ import annotations

import contextlib

import streamlit as st

from pages.session import phrases
from pages.session.markdown_escape import escape_markdown
from qcore.base.run_states import RunState
from qcore.config import Pause
from qcore.lab import Lab, LabError, RunInfo
from qcore.runs.waiting import progress_text

_FIRST = "new:first"


def runs_ahead(lab: Lab) -> list[RunInfo]:
    """Runs of this process that a new one would wait for, the one that trains first."""
    found = [info for info in lab.runs() if info.here and info.state in (RunState.RUNNING, RunState.QUEUED)]
    return sorted(found, key=lambda info: (info.state != RunState.RUNNING, info.created))


def warn_of_queue(lab: Lab) -> None:
    """Before a start: for whom the run will wait, and the choice to train it first."""
    waiting = runs_ahead(lab)
    if not waiting:
        return
    more = len(waiting) - 1
    behind = f", and then for {more} more" if more else ""
    st.info(f"It will wait for {escape_markdown(progress_text(waiting[0]))}{behind}.", icon=":material/schedule:")
    st.checkbox(
        f"Pause {escape_markdown(phrases.short_name(waiting[0].name))} and train this one now"
        if not more
        else f"Pause these {len(waiting)} runs and train this one now",
        key=_FIRST,
        persist_state="session",
        help="Paused runs keep their state and resume with Continue.",
    )


def pause_runs_ahead(lab: Lab, before: list[RunInfo]) -> None:
    """After a start: pause those that are ahead, if that was wanted. One that has just ended needs no pause."""
    if not st.session_state.get(_FIRST):
        return
    for info in before:
        with contextlib.suppress(LabError):
            lab.command(info.name, Pause())
    st.session_state[_FIRST] = False
