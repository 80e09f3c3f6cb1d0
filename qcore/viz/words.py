"""Names, values and events in words, the same on pages, in reports and on the lines of charts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def name_words(name: str) -> str:
    """`learning_rate` → `learning rate`."""
    return name.replace("_", " ")


def value_words(value: object) -> str:
    """A control's value for a person: short, without losing digits that matter."""
    if isinstance(value, list):
        return f"{len(value)} line{'' if len(value) == 1 else 's'}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def event_words(kind: str, payload: Mapping[str, Any]) -> str:
    """An event without its author and step, such as `diversity weight 0 → 0.3`."""
    if kind == "control":
        return f"{name_words(payload['name'])} {value_words(payload['old'])} → {value_words(payload['new'])}"
    details = ", ".join(f"{name_words(key)} {value_words(value)}" for key, value in payload.items())
    return f"{kind} ({details})" if details else kind
