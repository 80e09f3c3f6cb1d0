"""Events in words, the same on pages, in reports, on charts and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcore.base.words import change_words, changes_words, name_words, value_words


def event_words(kind: str, payload: Mapping[str, Any]) -> str:
    """An event without its author and step, such as `diversity weight 0 → 0.3` or `checkpoint written: requested`."""
    reason = str(payload.get("reason") or "")
    # what follows is a table; a kind that it lacks, of another version's run, is put into words by its own fields
    match kind:
        case "control":
            return change_words(str(payload["name"]), payload.get("old"), payload.get("new"))
        case "refused":
            return f"{name_words(str(payload.get('name')))} could not be set again: {reason}"
        case "grow":
            return f"grown: {changes_words(payload.get('new') or {}, payload.get('old') or {})}"
        case "start":
            return "started"
        case "resume":
            return "resumed"
        case "checkpoint":
            return f"checkpoint written: {reason}" if reason else "checkpoint written"
        case "pause":
            return f"paused: {reason}" if reason else "paused"
        case "continue":
            return "continued"
        case "step":
            count = payload.get("count", 1)
            return f"ran {value_words(count)} step{'' if count == 1 else 's'}"
        case "stop":
            return "stopped"
        case "finish":
            return "finished"
        case "failed":
            return f"failed: {payload.get('message') or 'a number is not finite'}"
        case "restore":
            return f"weights of step {value_words(payload.get('from_step'))} restored"
        case "rewind":
            gone, kept = value_words(payload.get("from_step")), payload.get("branch")
            return f"rewound from step {gone}" + (f"; {kept} keeps what came after" if kept else "")
        case "fork":
            parent, changes = payload.get("parent"), payload.get("changes") or {}
            words = f"forked from {parent}" if parent else "forked"
            return f"{words}: {changes_words(changes)}" if changes else words
    details = ", ".join(f"{name_words(key)} {value_words(value)}" for key, value in payload.items())
    return f"{name_words(kind)}: {details}" if details else name_words(kind)
