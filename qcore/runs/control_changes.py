"""The changes of a run's controls that the run obeys, of all that its events tell.

An event may have been written by an earlier version or by a stranger, and a run goes on without a change that cannot be
made. So must whoever says what the run did, does, or would have done: all of them ask here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from qcore.config import ConfigError, RunConfig
from qcore.store import Event


def changes_that_hold(config: RunConfig, events: Iterable[Event]) -> Iterator[Event]:
    """The control events that can be made, in their order; name and new value in the form that the control declares.

    An old value of another kind than the new one is replaced by the value that the changes before have left.
    """
    board = config.live_values()
    for event in events:
        if event.kind != "control":
            continue
        try:
            name, new = config.check_change(event.payload.get("name"), event.payload.get("new"), stored=True)
        except ConfigError:
            continue
        old = event.payload.get("old")
        old = old if _is_alike(old, new) else board[name]
        yield replace(event, payload={**event.payload, "name": name, "old": old, "new": new})
        board[name] = new


def _is_alike(old: Any, new: Any) -> bool:
    if type(new) in (int, float):
        return type(old) in (int, float) and math.isfinite(old)
    return type(old) is type(new)
