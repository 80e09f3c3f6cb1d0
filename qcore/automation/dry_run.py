"""A dry run: what schedule, rules and autopilot would have done to a run, from its recorded series and findings.

Open loop: the curves are those of the run as it was, so it says when automatic changes would have been made and to
what, not what would have come of them; that is what a fork is for. A resolved finding has no remedies any more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcore.automation.planned_rates import reached_value
from qcore.automation.policy import Automation, held_back
from qcore.config import ConfigError, RunConfig, ScheduledChange, check_schedule, find_control, normal_name, short_repr
from qcore.detect import Verdict, role_of
from qcore.runs.control_changes import changes_that_hold
from qcore.store import RunReader

SCHEDULE = "schedule"
AUTOMATIC = ("schedule", "rules", "limits", "autopilot", "autopilot_patience")
_PEOPLE_LEFT_OUT = ("rule", "autopilot", SCHEDULE)


@dataclass(frozen=True)
class DryChange:
    """One thing that would have been done.

    Attributes:
        name: the control, or a verb (restore, pause, checkpoint) without values.
    """

    step: int
    author: str
    reason: str
    name: str
    old: Any
    new: Any


@dataclass(frozen=True)
class HeldBack:
    """A finding that the autopilot would have left alone, and why.

    Attributes:
        step: at which it was raised.
        finding: its id.
    """

    step: int
    finding: str
    title: str
    reason: str


@dataclass(frozen=True)
class _Recorded:
    """What a run has recorded that automation reads, by step.

    Args:
        by_hand: what people changed, in order: name and value.
        values: measured series.
        verdicts: step at which each finding was raised, and the finding.
    """

    by_hand: Mapping[int, list[tuple[str, Any]]]
    values: Mapping[int, dict[str, float]]
    verdicts: list[tuple[int, Verdict]]

    @classmethod
    def of(cls, config: RunConfig, reader: RunReader) -> _Recorded:
        by_hand: dict[int, list[tuple[str, Any]]] = {}
        for event in changes_that_hold(config, reader.events()):
            name, new = event.payload["name"], event.payload["new"]
            if event.author not in _PEOPLE_LEFT_OUT and name not in AUTOMATIC:
                by_hand.setdefault(event.step, []).append((name, new))
        values: dict[int, dict[str, float]] = {}
        for name, series in reader.scalars_of(reader.names()).items():
            for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True):
                values.setdefault(step, {})[name] = value
        return cls(by_hand, values, [_verdict(config, vars(finding)) for finding in reader.findings()])

    def active(self, step: int) -> list[Verdict]:
        """The findings that stand at a step."""
        return [verdict for raised, verdict in self.verdicts if raised <= step and _is_active_at(verdict, step)]


class _Rehearsal:
    """One walk over a run's recorded steps, in which automation moves a board of its own."""

    def __init__(self, config: RunConfig, board: dict[str, Any]) -> None:
        self._config, self._board = config, board
        self._automation = Automation(config.kind)
        self._schedule, self._total = check_schedule(board["schedule"], config.kind), int(board["steps"])
        self._points: dict[int, list[ScheduledChange]] = {}
        for point in self._schedule.changes:
            self._points.setdefault(point.step(self._total), []).append(point)
        self.found: list[DryChange] = []

    def planned_steps(self) -> set[int]:
        """Steps at which the schedule does something, whether or not they were made."""
        return {*self._points, *(step for ramp in self._schedule.ramps for step in ramp.span(self._total))}

    def step(
        self, step: int, by_hand: Sequence[tuple[str, Any]], values: dict[str, float], active: list[Verdict]
    ) -> None:
        # In the trainer's order: a person's word first, then the schedule, then what is measured and what answers it.
        for name, value in by_hand:
            self._board[name] = value
        self._follow_schedule(step)
        self._automation.observe(values)
        for proposal in self._automation.proposals(step, self._board, active):
            self.found += [DryChange(step, proposal.author, proposal.reason, verb, "", "") for verb in proposal.verbs]
            for name, value in proposal.changes.items():
                self._change(step, proposal.author, proposal.reason, name, value)

    def _follow_schedule(self, step: int) -> None:
        for point in self._points.get(step, ()):
            with contextlib.suppress(ConfigError):  # the run warns of a line that its model has nothing for
                name, checked = self._config.check_change(point.name, point.value)
                self._change(step, SCHEDULE, point.stage or "a point of the schedule", name, checked)
        for ramp in self._schedule.ramps:
            start, end = ramp.span(self._total)
            name = find_control(ramp.name, self._config.kind).name
            if start <= step <= end:
                reached = reached_value(ramp, step, self._total, self._config.kind)
                # A ramp moves its control at every step; only where it begins and ends is it told.
                if step in (start, end):
                    reason = f"a ramp of the schedule {'begins' if step == start else 'ends'}"
                    self._change(step, SCHEDULE, reason, name, reached)
                self._board[name] = reached

    def _change(self, step: int, author: str, reason: str, name: str, value: Any) -> None:
        if self._board[name] != value:
            self.found.append(DryChange(step, author, reason, name, self._board[name], value))
            self._board[name] = value
            self._automation.changed(step, name)


def dry_run(config: RunConfig, reader: RunReader, changes: Mapping[str, Any]) -> list[DryChange]:
    """What would have happened with other settings of automation, as far as the run's records tell.

    What people changed is kept; what was changed automatically is not.

    Args:
        config: as the run started.
        reader: of the run's records.
        changes: of the automatic controls (schedule, rules, limits, autopilot, autopilot_patience); those left out
            stay as the run started.

    Returns:
        Every change that would have been made, by step.

    Raises:
        ConfigError: for a text that cannot be read, or another control.
    """
    for name in changes:
        if normal_name(name) not in AUTOMATIC:
            raise ConfigError(
                f"{name} = {short_repr(changes[name])} is refused: a dry run varies {', '.join(AUTOMATIC)}"
            )
    board = config.live_values()
    board.update(config.check_change(name, value) for name, value in changes.items())
    recorded, rehearsal = _Recorded.of(config, reader), _Rehearsal(config, board)
    last = max(recorded.values, default=-1)
    # Where something is known, or due: a run that somebody copied here may have made its steps anywhere.
    for step in sorted({0, *recorded.values, *recorded.by_hand, *rehearsal.planned_steps()}):
        if 0 <= step <= last:
            by_hand, values = recorded.by_hand.get(step, ()), recorded.values.get(step, {})
            rehearsal.step(step, by_hand, values, recorded.active(step))
    return rehearsal.found


def held_back_findings(config: RunConfig, reader: RunReader) -> list[HeldBack]:
    """The findings of a run about which the autopilot would have done nothing, by step, each with the reason."""
    found = []
    for row in reader.findings():
        raised, verdict = _verdict(config, vars(row))
        reason = held_back(verdict)
        if verdict.state != "active" and role_of(verdict.name, verdict.evidence) == "cause":
            reason = "it is resolved, and has no remedies any more"
        if reason:
            found.append(HeldBack(raised, verdict.id, verdict.title, reason))
    return sorted(found, key=lambda one: (one.step, one.finding))


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


def _is_active_at(verdict: Verdict, step: int) -> bool:
    return verdict.state == "active" or step <= verdict.last_step
