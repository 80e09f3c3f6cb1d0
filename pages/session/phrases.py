"""Steps, times, names, events and commands in the words that all pages use."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from qcore.config import KEPT_KINDS
from qcore.lab import Lab
from qcore.viz import Mark, author_words, event_words, name_words, spell_out_numbers

_COMMANDS = {
    "set": "the change",
    "pause": "the pause",
    "continue": "continuing",
    "step": "the step",
    "stop": "the stop",
    "checkpoint": "the checkpoint",
    "restore": "putting the weights back",
    "grow": "the growth",
    "sample": "the sample",
}
"""Commands as what a message speaks of."""


def command_words(kind: str) -> str:
    """A command as what a message speaks of."""
    return _COMMANDS.get(kind, name_words(kind))


def outcome_words(lab: Lab, run: str, row: Any) -> str:
    """What became of a command, in the words of its event: `diversity weight 0 → 0.2 at step 62`."""
    if row.status == "refused":
        return spell_out_numbers(row.message)
    event = next((one for one in reversed(lab.reader(run).events()) if one.command_id == row.id), None)
    if event is not None:
        words = event_words(event.kind, event.payload)
        return f"{words[:1].upper() + words[1:] if event.kind != 'control' else words} at step {event.step:,}"
    words = name_words(spell_out_numbers(row.message))
    return words[:1].upper() + words[1:]


def unanswered_note(run: str, kind: str, what: str) -> tuple[str, str]:
    """What becomes of a command that no worker has taken, of a run that none holds, as a note."""
    if kind in KEPT_KINDS:
        return "kept", f"{capitalize(what)} is kept: {short_name(run)} takes it when it is resumed"
    return "error", f"{capitalize(what)} was not done: {short_name(run)} ended before it could answer"


def capitalize(what: str) -> str:
    """A phrase with a capital letter first; the others stay as they are."""
    return f"{what[:1].upper()}{what[1:]}"


def step_words(at: int | None, asked: int | None = None) -> str:
    """The step of a picture for its title: `step 900`, or `step 900, newest before 960` where another step was asked
    for.

    Args:
        at: None when there is no such picture yet.
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


def marks(events: list[Any]) -> list[Mark]:
    """Control changes and resumptions as marks of the charts; the step is said by the chart."""
    return [
        Mark(event.step, f"{event_words(event.kind, event.payload)} by {author_words(event.author)}")
        for event in events
        if event.kind in ("control", "resume")
    ]


def describe(event: Any) -> str:
    """One event in words, with its step and author, each once: `diversity weight 0 → 0.3 at step 120 by user`."""
    return f"{event_words(event.kind, event.payload)} at step {event.step:,} by {author_words(event.author)}"


def short_name(name: str, length: int = 36) -> str:
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
