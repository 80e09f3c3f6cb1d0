"""Runs that are steered at exact steps: paused before their first step, moved by counted steps, changed in between."""

from __future__ import annotations

from typing import Any

from qcore.config import Continue, Pause, RunConfig, SetControl, Step, Stop
from qcore.lab import Lab
from tests.support.configs import eventually, small_config

Points = dict[str, list[tuple[int, bytes]]]
CLOCKS = ("cost/", "train/step_ms", "train/memory_mb", "train/tokens_per_second", "train/frames_per_second")


def applied(lab: Lab, name: str, command: Any, **more: Any) -> Any:
    """Send a command and wait until it is applied."""
    row = lab.outcome(name, lab.command(name, command, **more), timeout=20)
    assert row.status == "applied", row.message
    return row


def running(lab: Lab, name: str) -> None:
    """Wait until the run has made a step."""
    eventually(lambda: lab.info(name).step > 0 and lab.info(name).state == "running")


def steered(lab: Lab, config: RunConfig, name: str, changes: dict[int, dict[str, Any]]) -> str:
    """A run with live changes after the given steps. It queues behind another until it is paused, so that every step
    can be hit."""
    blocker = lab.start(small_config(steps=100_000), name=f"blocker-of-{name}")
    running(lab, blocker)
    lab.start(config, name=name)
    applied(lab, name, Pause())
    applied(lab, blocker, Stop())
    lab.wait(blocker, 60)
    lab.delete(blocker)
    for step, values in sorted(changes.items()):
        advance(lab, name, step)
        for key, value in values.items():
            applied(lab, name, SetControl(key, value))
    applied(lab, name, Continue())
    return name


def advance(lab: Lab, name: str, step: int) -> None:
    """Move a paused run to a step."""
    if missing := step - lab.info(name).step:
        applied(lab, name, Step(missing))
    eventually(lambda: lab.info(name).step == step and lab.info(name).state == "paused")


def points(lab: Lab, name: str, after: int = -1) -> Points:
    """Every series that no clock decides: its steps and the bits of its values, after a step."""
    reader = lab.reader(name)
    names = [key for key in reader.names() if not key.startswith(CLOCKS)]
    found = {}
    for key, series in reader.scalars_of(names, start=after + 1).items():
        if len(series):
            pairs = zip(series.steps.tolist(), series.values, strict=True)
            found[key] = [(step, value.tobytes()) for step, value in pairs]
    return found


def first_difference(ours: Points, theirs: Points) -> int:
    """First step at which a series that both have is not the same."""
    steps = []
    for key in ours.keys() & theirs.keys():
        there = dict(theirs[key])
        steps += [step for step, value in ours[key] if step in there and there[step] != value]
    return min(steps)
