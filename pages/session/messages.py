"""Messages that callbacks leave for the next run of the script, and commands whose answers they tell."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.session import phrases, selection
from pages.session.debounce import settling
from qcore.config import Command, ConfigError, SetControl
from qcore.lab import Lab, LabError
from qcore.viz import name_words, spell_out_numbers

COMMAND_SECONDS = 0.4


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
    what = f"{phrases.command_words(command.kind)}{about}"
    row = lab.outcome(name, identity, COMMAND_SECONDS)
    if row.status == "pending":
        st.session_state.setdefault(selection.SENT, {})[name, identity] = what
    else:
        note(*outcome_note(lab, name, row, what))
    return identity


def note(kind: str, text: str) -> None:
    """Keep a message for the next run of the script, from a callback."""
    st.session_state.setdefault("notes", []).append((kind, text))


def outcome_note(lab: Lab, run: str, row: Any, what: str) -> tuple[str, str]:
    """What became of a command that was answered, as a note; it names the run where another one is shown."""
    other = "" if st.session_state.get("run") in (None, run) else f"{phrases.short_name(run)}: "
    if row.status == "refused":
        return "error", f"{other}{phrases.capitalize(what)} was refused: {spell_out_numbers(row.message)}"
    return "done", f"{other}{phrases.outcome_words(lab, run, row)}"
