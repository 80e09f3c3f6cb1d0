"""What changes a run by itself: its schedule, its rules and the autopilot, carried out between two steps.

Every change takes the path of a person's: checked, kept as an event with author and reason, drawn on the curves. A
checkpoint is written before the first of a step, so that each can be undone. Between the ends of a ramp the control
moves without an event; its course is the series `control/<name>`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from qcore.config import (
    CHECKPOINT,
    PAUSE,
    RESTORE,
    ConfigError,
    Line,
    Ramp,
    Schedule,
    SetControl,
    check_schedule,
    find_control,
    live_controls,
)
from qcore.detect import Verdict
from qcore.store import Event, RunWriter
from qcore.train.automation import AUTOPILOT, RULE, Automation, Proposal
from qcore.train.board import ControlBoard
from qcore.train.folders import CheckpointError, checkpoint_folders, read_state

SCHEDULE = "schedule"
AUTOMATIC = (SCHEDULE, RULE, AUTOPILOT)
"""Authors of changes that nobody asked for one by one; a checkpoint is written before each."""
RECENT = 200
"""How many steps before a trouble a risky change is taken for its cause."""
AUTOMATIC_REASON = "automatic change"


def good_before(run_dir: Path, step: int, events: Sequence[Event], section: Mapping[str, Any]) -> Path:
    """The newest checkpoint from before a trouble that began at `step`: from before its likely cause, too, the newest
    risky change of a control in the 200 steps before it. section: of the model, which the checkpoint must fit.

    `ConfigError` when there is none.
    """
    controls = live_controls(str(section["kind"]))
    changes = [event for event in events if event.kind == "control" and step - RECENT <= event.step < step]
    risky = {name for name, control in controls.items() if control.risky}
    causes = [event.step for event in changes if event.payload.get("name") in risky]
    limit = max(causes, default=step - 1)
    for folder in reversed(checkpoint_folders(run_dir)):
        try:
            state = read_state(folder)
        except CheckpointError:
            continue
        if state.step <= limit and (not state.model or state.model == section):
            return folder
    raise ConfigError(f"there is no checkpoint from before step {step}: nothing can be put back")


class Hands(Protocol):
    """What a trainer lets others do to its run, all of it between two steps."""

    step: int

    def set_control(self, name: str, value: Any, author: str, reason: str) -> str:
        """Change a control with an event. `ConfigError` when it is refused."""

    def save(self, reason: str) -> None:
        """Write a checkpoint of now."""

    def restore_before(self, step: int, author: str, reason: str) -> str:
        """Put weights and moments of the newest good checkpoint before a step's trouble back, at the step of now."""

    def pause(self, author: str, reason: str) -> None:
        """Hold the run."""


class Steering:
    """Schedule, rules and autopilot of one run. Belongs to the training thread."""

    def __init__(self, hands: Hands, board: ControlBoard, events: Sequence[Event], writer: RunWriter) -> None:
        self.automation = Automation(board.kind)
        self._hands = hands
        self._board = board
        self._events = events
        self._writer = writer
        self._scheduled: tuple[int, list[str]] | None = None
        self._text: list[str] = []
        self._planned = Schedule()
        self._refused: set[str] = set()
        self._asked = -1
        self._saved = -1

    def schedule(self) -> None:
        """Make the changes that the schedule has for this step, once each; events tell which were made before a
        resume.
        """
        text, step = self._board["schedule"], self._hands.step
        if self._scheduled == (step, text):
            return
        self._scheduled = (step, text)
        if not text:
            return
        if self._text != text:
            self._text, self._planned = list(text), check_schedule(text, self._board.kind)
        total = int(self._board["steps"])
        for point in self._planned.changes:
            wanted = self._wanted(point.line, point.name, point.value) if point.step(total) == step else None
            if wanted is not None and not self._made(wanted.name, wanted.value):
                self._change(wanted.name, wanted.value, SCHEDULE, point.stage or "a point of the schedule")
        for ramp in self._planned.ramps:
            self._move(ramp, total)

    def _wanted(self, line: Line, name: str, value: Any) -> SetControl | None:
        """What a line of the schedule sets; None, and a warning once a line, where this model has nothing for it."""
        try:
            return self._board.check(name, value)
        except ConfigError as error:
            if line.text not in self._refused:
                self._refused.add(line.text)
                self._warn(SCHEDULE, line.refuse(str(error)))
        return None

    def act(self, active: Sequence[Verdict], muted: Sequence[str]) -> None:
        """Ask rules and autopilot once a step, and do what they want."""
        board, step = self._board, self._hands.step
        if self._asked == step or not (board["rules"] or board["autopilot"]):
            return
        self._asked = step
        for proposal in self.automation.proposals(step, board, active, muted):
            self._carry_out(proposal)

    def _carry_out(self, proposal: Proposal) -> None:
        author, reason = proposal.author, proposal.reason
        if self._happened(author, reason):  # made before a resume, and made again by its events
            for name in proposal.changes:
                self.automation.changed(self._hands.step, name)
            return
        if RESTORE in proposal.verbs:
            self._save()
            try:
                self._hands.restore_before(proposal.before, author, reason)
            except ConfigError as error:
                self._warn(author, error)
        if CHECKPOINT in proposal.verbs:
            self._save()
        for name, value in proposal.changes.items():
            self._change(name, value, author, reason)
        if PAUSE in proposal.verbs:
            self._hands.pause(author, reason)

    def _change(self, name: str, value: Any, author: str, reason: str) -> None:
        if self._board[name] == value:
            return
        self._save()
        try:
            self._hands.set_control(name, value, author, reason)
        except ConfigError as error:
            self._warn(author, error)
        else:
            self.automation.changed(self._hands.step, name)

    def _save(self) -> None:
        """The state before the first automatic change of a step."""
        if self._saved != self._hands.step:
            self._saved = self._hands.step
            self._hands.save(AUTOMATIC_REASON)

    def _happened(self, author: str, reason: str) -> bool:
        step = self._hands.step
        return any(
            event.step == step and event.author == author and event.payload.get("reason") == reason
            for event in self._events
        )

    def _made(self, name: str, value: Any) -> bool:
        return any(
            event.step == self._hands.step and event.payload.get("new") == value
            for event in self._changes(name, SCHEDULE)
        )

    def _changes(self, name: str, author: str = "") -> list[Event]:
        return [
            event
            for event in self._events
            if event.kind == "control" and event.payload.get("name") == name and author in ("", event.author)
        ]

    def _move(self, ramp: Ramp, total: int) -> None:
        """One step of a ramp. Who changes the control by hand on the way takes it over."""
        step, control = self._hands.step, find_control(ramp.name, self._board.kind)
        start, end = ramp.span(total)
        if not start <= step <= end:
            return
        since = [event for event in self._changes(control.name) if start <= event.step <= step]
        if any(event.author != SCHEDULE for event in since):
            return
        reached = round(ramp.value(step, total)) if control.kind == "int" else ramp.value(step, total)
        wanted = self._wanted(ramp.line, control.name, reached)
        if wanted is None:
            return
        value = wanted.value
        if not since or step == end:
            self._change(control.name, value, SCHEDULE, f"a way over steps {start} to {end}")
        else:
            self._board.set(control.name, value)
        self._writer.log_scalars(step, {f"control/{control.name}": float(value)})

    def _warn(self, author: str, error: Exception) -> None:
        self._writer.add_log(self._hands.step, "warning", f"{author}: {error}")
