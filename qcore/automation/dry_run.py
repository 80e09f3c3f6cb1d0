"""A dry run: what schedule, rules and autopilot would have done to a run, from its recorded series and findings.

Open loop: the curves are those of the run as it was, so it says when automatic changes would have been made and to
what, not what would have come of them; that is what a fork is for. A resolved finding has no remedies any more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qcore.automation.planned_rates import reached_value
from qcore.automation.policy import Automation
from qcore.config import ConfigError, RunConfig, ScheduledChange, check_schedule, find_control, normal_name, shown
from qcore.detect import Verdict
from qcore.runs.control_changes import changes_that_hold
from qcore.store import RunReader

SCHEDULE = "schedule"
AUTOMATIC = ("schedule", "rules", "limits", "autopilot", "autopilot_patience")
_PEOPLE_LEFT_OUT = ("rule", "autopilot", SCHEDULE)


@dataclass(frozen=True)
class DryChange:
    """One thing that would have been done. name: the control, or a verb (restore, pause, checkpoint) without values."""

    step: int
    author: str
    reason: str
    name: str
    old: Any
    new: Any


def dry_run(config: RunConfig, reader: RunReader, changes: Mapping[str, Any]) -> list[DryChange]:
    """What would have happened with `changes` of the automatic controls (schedule, rules, limits, autopilot,
    autopilot_patience); those left out stay as the run started. What people changed is kept; what was changed
    automatically is not. `ConfigError` for a text that cannot be read.
    """
    for name in changes:
        if normal_name(name) not in AUTOMATIC:
            raise ConfigError(f"{name} = {shown(changes[name])} is refused: a dry run varies {', '.join(AUTOMATIC)}")
    board = config.live_values()
    board.update(config.check_change(name, value) for name, value in changes.items())
    by_hand: dict[int, list[tuple[str, Any]]] = {}
    for event in changes_that_hold(config, reader.events()):
        name, new = event.payload["name"], event.payload["new"]
        if event.author not in _PEOPLE_LEFT_OUT and name not in AUTOMATIC:
            by_hand.setdefault(event.step, []).append((name, new))
    values: dict[int, dict[str, float]] = {}
    for name, series in reader.scalars_of(reader.names()).items():
        for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True):
            values.setdefault(step, {})[name] = value
    verdicts = [_verdict(config, vars(finding)) for finding in reader.findings()]
    schedule, total = check_schedule(board["schedule"], config.kind), int(board["steps"])
    points: dict[int, list[ScheduledChange]] = {}
    for point in schedule.changes:
        points.setdefault(point.step(total), []).append(point)
    automation = Automation(config.kind)
    found: list[DryChange] = []

    def change(step: int, author: str, reason: str, name: str, value: Any) -> None:
        if board[name] != value:
            found.append(DryChange(step, author, reason, name, board[name], value))
            board[name] = value
            automation.changed(step, name)

    last = max(values, default=-1)
    ends = (step for ramp in schedule.ramps for step in ramp.span(total))
    # Where something is known, or due: a run that somebody copied here may have made its steps anywhere.
    for step in sorted({0, *values, *by_hand, *points, *ends}):
        if not 0 <= step <= last:
            continue
        for name, value in by_hand.get(step, ()):
            board[name] = value
        for point in points.get(step, ()):
            with contextlib.suppress(ConfigError):  # the run warns of a line that its model has nothing for
                name, checked = config.check_change(point.name, point.value)
                change(step, SCHEDULE, point.stage or "a point of the schedule", name, checked)
        for ramp in schedule.ramps:
            start, end = ramp.span(total)
            name = find_control(ramp.name, config.kind).name
            if start <= step <= end:
                reached = reached_value(ramp, step, total, config.kind)
                if step in (start, end):
                    change(
                        step, SCHEDULE, f"a ramp of the schedule {'begins' if step == start else 'ends'}", name, reached
                    )
                board[name] = reached
        automation.observe(values.get(step, {}))
        active = [verdict for raised, verdict in verdicts if raised <= step and _lasts(verdict, step)]
        for proposal in automation.proposals(step, board, active):
            found += [DryChange(step, proposal.author, proposal.reason, verb, "", "") for verb in proposal.verbs]
            for name, value in proposal.changes.items():
                change(step, proposal.author, proposal.reason, name, value)
    return found


def _verdict(config: RunConfig, row: Mapping[str, Any]) -> tuple[int, Verdict]:
    """Step at which a finding was raised, and the finding with those of its remedies that the run can take."""
    remedies = [remedy for remedy in row["remedies"] if _can_be_taken(config, remedy)]
    verdict = Verdict(**{name: row[name] for name in Verdict.__dataclass_fields__} | {"remedies": remedies})
    return int(verdict.evidence.get("raised_at", verdict.since_step)), verdict


def _can_be_taken(config: RunConfig, remedy: Mapping[str, Any]) -> bool:
    changes = remedy.get("changes")
    try:
        return changes is not None and all(config.check_change(name, value) for name, value in changes.items())
    except ConfigError:
        return False


def _lasts(verdict: Verdict, step: int) -> bool:
    return verdict.state == "active" or step <= verdict.last_step
