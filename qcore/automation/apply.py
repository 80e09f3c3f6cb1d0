"""What changes a run by itself: its schedule, its rules and the autopilot, carried out between two steps.

Every change takes the path of a person's: checked, kept as an event with author and reason, drawn on the curves. A
checkpoint is written before the first of a step, so that each can be undone. Between the ends of a ramp the control
moves without an event; its course is the series `control/<name>`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from qcore.automation.control_board import ControlBoard
from qcore.automation.policy import AUTOPILOT, RULE, Automation, Proposal
from qcore.config import (
    CHECKPOINT,
    PAUSE,
    RESTORE,
    ConfigError,
    Ramp,
    ScheduledChange,
    SetControl,
    TextLine,
    check_schedule,
    find_control,
)
from qcore.detect import Verdict
from qcore.probes import catalog
from qcore.store import Event, RunWriter

SCHEDULE = "schedule"
AUTOMATIC = (SCHEDULE, RULE, AUTOPILOT)
"""Authors of changes that nobody asked for one by one; a checkpoint is written before each."""
AUTOMATIC_REASON = "automatic change"


class TrainerActions(Protocol):
    """What a trainer lets others do to its run, all of it between two steps."""

    step: int

    def set_control(self, name: str, value: Any, author: str, reason: str) -> str:
        """Change a control with an event.

        Raises:
            ConfigError: when it is refused.
        """

    def save(self, reason: str) -> None:
        """Write a checkpoint of now."""

    def state_before(self, step: int) -> Any:
        """The checkpoint to put back: the newest good one from before a trouble.

        Raises:
            ConfigError: when there is none.
        """

    def put_back(self, state: Any, author: str, reason: str) -> str:
        """Put weights and moments of a checkpoint back, at the step of now."""

    def pause(self, author: str, reason: str) -> None:
        """Hold the run."""


class _Plan:
    """What a schedule does at which step of a run of `total` steps, found without a look at its other lines."""

    def __init__(self, text: list[str], total: int, kind: str) -> None:
        self.text, self.total = text, total
        schedule = check_schedule(text, kind)
        self._points: dict[int, list[ScheduledChange]] = {}
        for point in schedule.changes:
            self._points.setdefault(point.step(total), []).append(point)
        self._ramps = [(*ramp.span(total), ramp) for ramp in schedule.ramps]
        # The ramps that are under way change where one begins, and a step after one ends.
        self._edges = sorted({edge for start, end, _ in self._ramps for edge in (start, end + 1)})
        self._since, self._under_way = -1, list[tuple[int, int, Ramp]]()

    def points(self, step: int) -> Sequence[ScheduledChange]:
        """Changes at exactly this step."""
        return self._points.get(step, ())

    def ramps(self, step: int) -> Sequence[tuple[int, int, Ramp]]:
        """First step, last step and ramp of those under way, in the order of their lines."""
        since = bisect_right(self._edges, step)
        if since != self._since:
            self._since = since
            self._under_way = [found for found in self._ramps if found[0] <= step <= found[1]]
        return self._under_way


class Steering:
    """Schedule, rules and autopilot of one run. Belongs to the training thread."""

    def __init__(self, hands: TrainerActions, board: ControlBoard, events: Sequence[Event], writer: RunWriter) -> None:
        self.automation = Automation(board.kind)
        self._trainer = hands
        self._board = board
        self._events = events
        self._writer = writer
        self._scheduled: tuple[int, list[str]] | None = None
        self._plan: _Plan | None = None
        self._refused: set[str] = set()
        self._places: dict[str, list[int]] = {}
        self._indexed = 0
        self._asked = -1
        self._saved = -1

    def restore(self, state: Mapping[str, Any], step: int) -> None:
        """Take what rules and autopilot remembered in a checkpoint of `step`. What is damaged of it is left aside, and
        the run's log says so: no run ends because its rules have forgotten something.
        """
        try:
            self.automation.restore(state)
        except ValueError as error:
            self._writer.add_log(step, "warning", f"{error}: they start from scratch")

    def schedule(self) -> None:
        """Make the changes that the schedule has for this step, once each; events tell which were made before a
        resume.
        """
        text, step = self._board["schedule"], self._trainer.step
        if self._scheduled == (step, text):
            return
        self._scheduled = (step, text)
        if not text:
            return
        total = int(self._board["steps"])
        if self._plan is None or self._plan.text is not text or self._plan.total != total:
            self._plan = _Plan(text, total, self._board.kind)
        plan = self._plan
        for point in plan.points(step):
            wanted = self._scheduled_change(point.line, point.name, point.value)
            if wanted is not None and not self._has_set(wanted.name, wanted.value):
                self._change(wanted.name, wanted.value, SCHEDULE, point.stage or "a point of the schedule")
        for start, end, ramp in plan.ramps(step):
            self._move(ramp, start, end, total)

    def _scheduled_change(self, line: TextLine, name: str, value: Any) -> SetControl | None:
        """What a line of the schedule sets; None, and a warning once a line, where this model has nothing for it."""
        try:
            return self._board.check(name, value)
        except ConfigError as error:
            self._warn_once(SCHEDULE, line.refuse(str(error)), line.text)
        return None

    def act(self, active: Sequence[Verdict], muted: Sequence[str]) -> None:
        """Ask rules and autopilot once a step, and do what they want."""
        board, step = self._board, self._trainer.step
        if self._asked == step or not (board["rules"] or board["autopilot"]):
            return
        self._asked = step
        for proposal in self.automation.proposals(step, board, active, muted):
            self._carry_out(proposal)

    def _carry_out(self, proposal: Proposal) -> None:
        author, reason = proposal.author, proposal.reason
        if self._has_happened(author, reason):  # made before a resume, and made again by its events
            for name in proposal.changes:
                self.automation.changed(self._trainer.step, name)
            return
        if RESTORE in proposal.verbs:
            try:
                state = self._trainer.state_before(proposal.before)
            except ConfigError as error:
                self._warn_once(author, error, reason)
            else:
                self._save()
                self._trainer.put_back(state, author, reason)
        if CHECKPOINT in proposal.verbs:
            self._save()
        for name, value in proposal.changes.items():
            self._change(name, value, author, reason)
        if PAUSE in proposal.verbs:
            self._trainer.pause(author, reason)

    def _change(self, name: str, value: Any, author: str, reason: str) -> None:
        try:
            wanted = self._board.check(name, value)
        except ConfigError as error:
            self._warn_once(author, error, f"{name} {reason}")
            return
        if self._board[wanted.name] != wanted.value:
            self._save()
            self._trainer.set_control(wanted.name, wanted.value, author, reason)
            self.automation.changed(self._trainer.step, wanted.name)

    def _save(self) -> None:
        """The state before the first automatic change of a step."""
        if self._saved != self._trainer.step:
            self._saved = self._trainer.step
            self._trainer.save(AUTOMATIC_REASON)

    def _has_happened(self, author: str, reason: str) -> bool:
        step = self._trainer.step
        return any(
            event.step == step and event.author == author and event.payload.get("reason") == reason
            for event in self._events
        )

    def _has_set(self, name: str, value: Any) -> bool:
        return any(
            event.step == self._trainer.step and event.payload.get("new") == value
            for event in self._changes(name, SCHEDULE)
        )

    def _changes(self, name: str, author: str = "") -> list[Event]:
        """Of one control; an event that has been taken back since is a control's no more."""
        for place in range(self._indexed, len(self._events)):
            if (event := self._events[place]).kind == "control":
                self._places.setdefault(str(event.payload.get("name")), []).append(place)
        self._indexed = len(self._events)
        found = [self._events[place] for place in self._places.get(name, ())]
        return [event for event in found if event.kind == "control" and author in ("", event.author)]

    def _move(self, ramp: Ramp, start: int, end: int, total: int) -> None:
        """One step of a ramp. Who changes the control by hand on the way takes it over."""
        step, control = self._trainer.step, find_control(ramp.name, self._board.kind)
        since = [event for event in self._changes(control.name) if start <= event.step <= step]
        if any(event.author != SCHEDULE for event in since):
            return
        reached = round(ramp.value(step, total)) if control.kind == "int" else ramp.value(step, total)
        wanted = self._scheduled_change(ramp.line, control.name, reached)
        if wanted is None:
            return
        value = wanted.value
        if not since or step == end:
            self._change(control.name, value, SCHEDULE, f"a ramp over steps {start} to {end}")
        else:
            self._board.take(wanted)
        self._writer.log_scalars(step, {catalog.control(control.name): float(value)})

    def _warn_once(self, author: str, error: Exception, about: str) -> None:
        """Say why something cannot be done, once for each line, rule or finding, as it is tried again and again."""
        if about in self._refused:
            return
        self._refused.add(about)
        self._writer.add_log(self._trainer.step, "warning", f"{author}: {error}")
