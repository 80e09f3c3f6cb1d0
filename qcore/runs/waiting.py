"""For whom a queued run waits, in words: the same on the run's page, in the table of runs and in the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from qcore.base.run_states import RunState
from qcore.base.words import number_words
from qcore.runs.info import RunInfo


def runs_ahead_of(info: RunInfo, infos: Iterable[RunInfo]) -> list[RunInfo]:
    """The runs that hold the places for which a queued run waits; empty for any other run.

    The process that trains it knows; another process tells by the process that both runs belong to.
    """
    if info.state != RunState.QUEUED:
        return []
    if info.waits_for:
        return [one for one in infos if one.name in info.waits_for]
    return [one for one in infos if one.pid == info.pid != 0 and one.state == RunState.RUNNING]


def progress_text(info: RunInfo) -> str:
    """How far a run is: `NAME (step 120 of 400, about 27 min left)`."""
    left = f", about {_time_text(info.seconds_left)} left" if info.seconds_left is not None else ""
    return f"{info.name} (step {info.step:,} of {info.total_steps:,}{left})"


def waiting_words(info: RunInfo, infos: Iterable[RunInfo], *, short: bool = False) -> str:
    """`queued: waits for NAME (step 120 of 400, about 27 min left), place 2; pause or stop it to go first`; empty for a
    run that does not wait.

    Args:
        short: the name alone, for a table.
    """
    known = list(infos)
    ahead = runs_ahead_of(info, known)
    if not ahead:
        return ""
    if short:
        return f"queued: waits for {', '.join(one.name for one in ahead)}"
    queued = [
        one for one in known if one.state == RunState.QUEUED and one.pid == info.pid and one.created < info.created
    ]
    place = info.place or 1 + len(queued)
    whom = "it" if len(ahead) == 1 else "one of them"
    names = ", ".join(map(progress_text, ahead))
    return f"queued: waits for {names}, place {place}; pause or stop {whom} to go first"


def _time_text(seconds: float) -> str:
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{number_words(seconds / 3600, places=1)} h"
