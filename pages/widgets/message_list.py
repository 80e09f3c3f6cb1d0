"""The messages that callbacks left, shown, and what has become of the commands that are on their way."""

from __future__ import annotations

import streamlit as st

from pages.session import messages, phrases, selection
from pages.session.lab import open_lab
from pages.session.markdown_escape import escape_markdown
from pages.widgets import boxes
from qcore.lab import LabError, StoreBusyError

TOAST_SECONDS = 3


def show_messages() -> None:
    """Show the messages that callbacks left, and what is on its way: until the page's moment has the answer to it."""
    sent: dict[tuple[str, int], str] = st.session_state.get(selection.SENT, {})
    for (run, identity), what in list(sent.items()):
        if (answer := _answer(run, identity, what)) is None:
            said = f"… {what} is sent to {phrases.short_name(run)}, which applies it before its next step"
            boxes.caption(f"sent:{run}:{identity}", escape_markdown(said))
            continue
        del sent[run, identity]
        messages.note(*answer)
    for kind, text in st.session_state.pop("notes", []):
        match kind:
            case "error":
                st.error(escape_markdown(text), icon=":material/block:")
            case "kept":
                st.info(escape_markdown(text), icon=":material/schedule:")
            case _:
                st.toast(escape_markdown(text), icon=":material/check:", duration=TOAST_SECONDS)


def _answer(run: str, identity: int, what: str) -> tuple[str, str] | None:
    """What became of a command, as a note; None while it is on its way."""
    try:
        row = open_lab().outcome(run, identity)
        if row.status != "pending":
            return messages.outcome_note(open_lab(), run, row, what)
        return None if selection.listed_run(open_lab(), run).alive else phrases.unanswered_note(run, row.kind, what)
    except StoreBusyError:
        return None
    except (LabError, OSError) as error:
        return "error", f"{phrases.capitalize(what)}: {error}"
