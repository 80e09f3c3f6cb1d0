"""Runs that no trainer of ours made: a folder with a database that somebody wrote through `qcore.store`.

Such a run is known by what it lacks: it has no readable configuration of ours, no checkpoint, and its database names
none of our model families as its `kind`. It may have a `config.yaml` of `kind: external`
(`qcore.config.ExternalConfig`), one of its own program, or none. `ExternalRun` (`external_run.py`) makes one; a
`RunWriter` on a database in an empty folder does, too.

What it *has* is asked of its database, never of a name: pictures in its arrays, samples among its generations, series
that a probe declared, controls in its meta values. From these come its capabilities, and pages, command line and
protocol ask for nothing else. What needs a trainer of ours (resume, fork, rewind, replay, sample, effect, sweep,
automation, every change of a control) is refused with `NO_TRAINER`, and no page offers it.

Whether it is alive is known where its program holds the folder's lock, as `ExternalRun` does. Without one it is
believed for half a minute after its last heartbeat, or, when it has no status row, after its last scalar.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from qcore.base.run_states import RunState
from qcore.config import Capability, Control, ExternalConfig
from qcore.probes import catalog
from qcore.runs.info import ENDED, ControlState, Hold, RunInfo
from qcore.runs.layout import ACTIVE, BELIEVED_SECONDS, has_recent_heartbeat
from qcore.store import RunReader, StoreFormatError

CONTROLS = "declared_controls"
"""Meta value: the controls that another program has declared."""
NO_TRAINER = (
    "another program wrote it, and this lab has no trainer for it: it can be looked at, compared, exported and "
    "deleted; change, resume or sample it in the program that trains it"
)
LOSSES = (catalog.TRAIN_LOSS, "loss")
"""Series that are a run's loss, whoever wrote it; the first that it has."""
_TEXT_ARRAYS = ("tokens", "interference", "causality")
_GRADIENT_ARRAYS = ("gradients", "hidden", "modules", "spectrum")
_CONTROL_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")


def stored_capabilities(reader: RunReader, config: ExternalConfig) -> frozenset[Capability]:
    """What a run has to show, as its database says. The domain of its description counts as well: a run that says it
    makes text has a page for its tokens before the first ones are measured.
    """
    there = reader.arrays_among(("frames", "phase", "internals", *_TEXT_ARRAYS, *_GRADIENT_ARRAYS))
    made = reader.generations(limit=1)
    is_clip = any("pixels" in token for one in made for token in one.tokens)
    found: set[Capability] = set()
    if config.domain == "video" or "frames" in there or is_clip:
        found.add("clips")
    if config.domain == "text" or there.intersection(_TEXT_ARRAYS) or (made and not is_clip):
        found.add("text")
    if "phase" in there:
        found.add("phases")
    if "internals" in there:
        with contextlib.suppress(StoreFormatError):  # its page says that it is damaged
            if "angle" in (reader.arrays("internals") or (0, {}))[1]:
                found.add("discs")
    if made:
        found.add("samples")
    if there.intersection(_GRADIENT_ARRAYS) or catalog.stored_series(reader.meta()):
        found.add("gradients")
    return frozenset(found)


def external_info(run_dir: Path, reader: RunReader, config: ExternalConfig, hold: Hold) -> RunInfo:
    """The row of a run that another program writes or wrote, all of one snapshot. What it does not say stays empty."""
    with reader.moment():
        meta, status, newest = reader.meta(), reader.status(), reader.newest_step()
        capabilities = stored_capabilities(reader, config)
        info = RunInfo(
            run_dir.name,
            RunState.RECORDED,
            step=max(newest, 0),
            created=float(meta["created"]),
            kind=config.kind,
            family="video" if "clips" in capabilities else "text" if "text" in capabilities else "",
            capabilities=capabilities,
            preset=str(meta.get("preset", "")),
            parameters=int(meta.get("parameters", 0)),
            here=hold.here,
            source=config.source,
            **_newest_figures(reader),
        )
        lately = abs(time.time() - reader.newest_wall()) < BELIEVED_SECONDS
    if status is None:
        return replace(info, alive=bool(hold.held) or lately)
    extra, state, message, cause = status.extra, RunState(status.state), status.message, ""
    alive = bool(hold.held) or has_recent_heartbeat(state, status.heartbeat)
    if state in ACTIVE and not alive:
        state, cause = RunState.INTERRUPTED, ENDED
        message = "its program has not been heard of for half a minute: it may have ended"
    return replace(
        info,
        state=state,
        step=max(newest, status.step, 0),
        total_steps=status.total_steps,
        message=message,
        cause=cause,
        alive=alive,
        pid=status.pid,
        loss=info.loss if info.loss is not None else extra.get("loss"),
        tokens_per_second=extra.get("tokens_per_second"),
        frames_per_second=extra.get("frames_per_second"),
        seconds_left=extra.get("seconds_left") if state == RunState.RUNNING else None,
        seconds_trained=float(extra.get("seconds_trained") or 0.0),
        memory_mb=extra.get("memory_mb"),
        drops=status.drops,
    )


def _newest_figures(reader: RunReader) -> dict[str, Any]:
    """Loss, and loss on held-out data where it has one of ours."""
    losses = [found for name in LOSSES if (found := reader.last(name)) is not None]
    text, video = reader.last(catalog.EVAL_CE), reader.last(catalog.EVAL_FLOW)
    held_out = video or text
    return {
        "loss": losses[0][1] if losses else None,
        "eval_ce": text[1] if text else None,
        "eval_flow": video[1] if video else None,
        "held_out_step": held_out[0] if held_out else None,
    }


def declared_controls(meta: Mapping[str, Any]) -> dict[str, Control]:
    """Controls that another program has declared in its run, by name; those whose name no control may have are left
    out.
    """
    rows = meta.get(CONTROLS) or []
    return {row["name"]: _control(row) for row in rows if _CONTROL_NAME.fullmatch(row["name"])}


def _control(row: Mapping[str, Any]) -> Control:
    value, choices = row["value"], tuple(row.get("choices") or ())
    low, high = row.get("low"), row.get("high")
    kind: Any = (
        "choice"
        if choices
        else "bool"
        if isinstance(value, bool)
        else "int"
        if isinstance(value, int)
        else "float"
        if isinstance(value, float)
        else "texts"
        if isinstance(value, list)
        else "text"
    )
    is_number = kind in ("int", "float")
    return Control(
        name=row["name"],
        section="external",
        kind=kind,
        default=value,
        help=str(row.get("help") or ""),
        unit=str(row.get("unit") or ""),
        low=(-math.inf if low is None else float(low)) if is_number else None,
        high=(math.inf if high is None else float(high)) if is_number else None,
        scale="log" if row.get("scale") == "log" else "linear",
        choices=choices,
        live=True,
    )


def external_controls(reader: RunReader) -> dict[str, ControlState]:
    """The declared controls of a run, with what its control events made of them."""
    with reader.moment():
        declared, events = declared_controls(reader.meta()), reader.events()
    states = {name: ControlState(one, one.default, one.default, 0, None, "") for name, one in declared.items()}
    for event in events:
        old = states.get(str(event.payload.get("name"))) if event.kind == "control" else None
        if old is not None:
            states[old.control.name] = replace(
                old, value=event.payload.get("new"), version=old.version + 1, step=event.step, author=event.author
            )
    return states
