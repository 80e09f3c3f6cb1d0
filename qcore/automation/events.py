"""The events of a run in the trainer's hands: what happened, what a resume must make happen again, what a new one is.

A change made after a checkpoint is not in it: a worker that goes on from there makes it again at its step. So does a
fork with the changes it was given, and a replay with all of them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from qcore.automation.control_board import ControlBoard
from qcore.config import ConfigError, SetControl, short_repr
from qcore.runs.replay_plan import changes_of
from qcore.store import Event, RunWriter
from qcore.store.records import REFUSED, UNTOLD


class EventLog:
    """Events of one run, kept in the store as they come. Only the trainer's thread touches it."""

    def __init__(self, events: Iterable[Event], writer: RunWriter) -> None:
        self._writer = writer
        self.events = [self._told(event) for event in events]
        self._last = max((event.seq for event in self.events), default=0)
        self._ahead: deque[Event] = deque()
        self.states_ahead: frozenset[int] = frozenset()
        """Steps whose weights changes that lie ahead will put back."""

    def add(self, step: int, kind: str, payload: dict[str, Any], author: str, command: int | None = None) -> None:
        """Something happened at a step."""
        self._last += 1
        event = Event(self._last, step, time.time(), author, kind, payload, command)
        self.events.append(event)
        self._writer.add_event(event)

    def plan(self, step: int, event_seq: int) -> None:
        """Everything that a state of `step`, saved after event `event_seq`, does not hold yet lies ahead."""
        changes = changes_of(self.events)
        self._ahead = deque(event for event in changes if event.seq > event_seq or event.step > step)
        self.states_ahead = frozenset(event.payload["from_step"] for event in self._ahead if event.kind == "restore")

    def due(self, step: int) -> Iterator[Event]:
        """Changes that are to be made again before the update after `step`, each once."""
        while self._ahead and self._ahead[0].step <= step:
            yield self._ahead.popleft()

    def seq_at(self, step: int) -> int:
        """The last event that a state of `step` saved now holds."""
        waiting = [event.seq for event in self._ahead if event.step <= step]
        return min(waiting, default=self._last + 1) - 1

    def supersede(self, step: int, name: str) -> None:
        """A new change of a control replaces the changes of it that an interruption left ahead."""
        for event in [event for event in self._ahead if event.payload.get("name") == name]:
            self._ahead.remove(event)
            gone = replace(event, kind="superseded")
            self.events[self.events.index(event)] = gone
            self._writer.add_event(gone)
            self._writer.add_log(
                step, "info", f"the change of {name} at step {event.step} was superseded before it was replayed"
            )

    def _told(self, event: Event) -> Event:
        """A change that the store could not read is written down as refused, once."""
        if event.kind != REFUSED or UNTOLD not in event.payload:
            return event
        gone = replace(event, payload={key: value for key, value in event.payload.items() if key != UNTOLD})
        self._writer.add_event(gone)
        self._writer.add_log(
            event.step, "warning", f"the change made at step {event.step} is left out: {gone.payload['reason']}"
        )
        return gone

    def refuse(self, step: int, event: Event, why: str) -> None:
        """A change of the past cannot be made: its event says so from now on, and nobody makes it again."""
        gone = replace(event, kind=REFUSED, payload={**event.payload, "reason": why})
        self.events[self.events.index(event)] = gone
        self._writer.add_event(gone)
        self._writer.add_log(step, "warning", f"the change made at step {event.step} is left out: {why}")

    def redo_change(self, step: int, event: Event, board: ControlBoard) -> SetControl | None:
        """Change a control as an event says; None, and the event is refused, where that cannot be done any more."""
        try:
            wanted = board.check(event.payload.get("name"), event.payload.get("new"), stored=True)
        except ConfigError as error:
            self.refuse(step, event, str(error))
            return None
        board.take(wanted)
        return wanted

    def settle(self, board: ControlBoard, refused: Mapping[str, str], step: int, event_seq: int) -> None:
        """Give controls whose saved value is refused the value before it: of the newest change up to event `event_seq`
        that can be made, else the one that the run started with.
        """
        for name, why in refused.items():
            made = [event for event in self.events if event.kind == "control" and event.payload.get("name") == name]
            for event in reversed([event for event in made if event.seq <= event_seq]):
                if self.redo_change(step, event, board) is not None:
                    break
            self._writer.add_log(step, "warning", f"{why}; the run continues with {name} = {short_repr(board[name])}")

    @property
    def muted(self) -> list[str]:
        """Findings that people have muted."""
        mutes = [event.payload for event in self.events if event.kind == "mute"]
        last = {str(payload.get("finding")): payload.get("muted") is True for payload in mutes}
        return [finding for finding, muted in last.items() if muted]

    def has_event(self, *kinds: str) -> bool:
        """Whether there is an event of one of these kinds."""
        return any(event.kind in kinds for event in self.events)

    def newest_event(self, *kinds: str) -> Event | None:
        """The newest event of these kinds."""
        return next((event for event in reversed(self.events) if event.kind in kinds), None)
