"""A run's duties beside making steps, as callbacks with one small protocol.

Measuring, sampling, keeping checkpoints, and every change of a run are callbacks; the loop makes updates and calls
their hooks, always in the order that `qcore.train.loop.ORDER` declares. Every hook runs in the training thread and
between two updates, so that what it reads or changes stands still meanwhile. The run waits for it: what takes long (a
sample, a checkpoint) is queued (`LoopActions.queue`), and the loop advances it piece by piece with a look at the
commands in between. A hook that raises ends the run as failed: there is no duty that a run goes on without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from qcore.automation.apply import TrainerActions
from qcore.automation.control_board import ControlBoard
from qcore.automation.events import EventLog
from qcore.base.run_states import Trigger
from qcore.runs.replay_plan import ReplayPlan
from qcore.store import RunWriter
from qcore.train.engine import NonFiniteError, StepResult
from qcore.train.workload import Workload


class End(StrEnum):
    """Why a run comes to its end at a step."""

    STOP = "stop"
    """It was asked to, and is to end soon."""
    UNTIL = "until"
    """It was ordered to go just as far."""
    FINISH = "finish"
    """It has made its last step."""


class Callback:
    """One duty. Each hook does nothing unless a duty needs it. name: under which a checkpoint keeps its state."""

    name = ""

    def before_training(self, resumed: bool) -> None:
        """Runs once, when the state that the run goes on from is in place; may measure, log and queue work."""

    def before_step(self) -> None:
        """Runs in every turn of the loop, also while the run is paused, queued or at queued work; may change controls,
        weights (only where nothing is queued, as a sample is drawn of the model as it is) and the run's state.
        """

    def before_update(self) -> None:
        """Runs right before an update that is certain to be made; may look at the weights, and changes nothing."""

    def after_step(self, result: StepResult, seconds: float) -> None:
        """Runs after every update, with what it measured and how long it took; may measure, log and queue work."""

    def on_control_change(self, payload: Mapping[str, Any]) -> None:
        """Runs after a control has got another value, whoever changed it and also when a change of the past is made
        again; may measure and log.

        Args:
            payload: the event's.
        """

    def on_resize(self) -> None:
        """Runs after the model has got another size; may look at it anew."""

    def on_restore(self) -> None:
        """Runs after weights and moments of an earlier step have been put back, also when that is made again."""

    def at_end(self, end: End) -> None:
        """Runs once at a step at which the run is to end, before its state says so; may measure, and queues what the
        run does last. A control that is changed before that is done may still let the run go on.
        """

    def on_failure(self, error: NonFiniteError) -> None:
        """Runs once when a loss or gradient was not finite, with the weights still the last good ones; what it wants to
        keep it keeps at once, as queued work is not done any more.
        """

    def state_dict(self) -> dict[str, Any]:
        """What this duty must still know after a resume, JSON-able; taken whenever a checkpoint is written."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Takes that back from a checkpoint of `step`; empty where the checkpoint knows nothing of this duty."""


class LoopActions(TrainerActions, Protocol):
    """What the loop lets its callbacks do and see, beside what schedules and rules need (`TrainerActions`)."""

    end_author: str

    @property
    def is_busy(self) -> bool:
        """Whether queued work waits to be done."""

    @property
    def has_arrived(self) -> bool:
        """Whether the run is where it was ordered to stop."""

    @property
    def must_end(self) -> bool:
        """Whether the run is to end as soon as it can."""

    def queue(self, *work: Iterator[object]) -> None:
        """Do this between two steps, piece by piece, after what is queued already and before the next update."""

    def allows(self, trigger: Trigger) -> bool:
        """Whether this may happen to the run in its state."""

    def hold(self) -> None:
        """Pause the run; its place goes to the next one."""

    def go_on(self) -> None:
        """Let a paused run train on, as soon as it has a place."""

    def make_steps(self, count: int) -> None:
        """Let a paused run make so many steps more, and pause it again."""

    def end(self, author: str) -> None:
        """Stop the run, with a checkpoint."""

    def set_control(self, name: str, value: Any, author: str, reason: str = "", command: int | None = None) -> str:
        """Change a control with an event; what happened, in words. `ConfigError` when it is refused."""

    def put_back(self, state: Any, author: str, reason: str, command: int | None = None) -> str:
        """Put weights and moments of a checkpoint back, with an event; what happened, in words."""

    def save(self, reason: str, author: str = "trainer", command: int | None = None) -> None:
        """Write a checkpoint of now."""

    def grow(self, changes: dict[str, Any], author: str, command: int | None) -> str:
        """Make the model larger; what happened, in words. `ConfigError` when it cannot grow so."""

    def tell_control_change(self, payload: Mapping[str, Any]) -> None:
        """Call every callback's `on_control_change`."""

    def tell_resize(self) -> None:
        """Call every callback's `on_resize`."""

    def tell_restore(self) -> None:
        """Call every callback's `on_restore`."""

    def state_dicts(self) -> dict[str, dict[str, Any]]:
        """State of every callback that has one, by name."""

    def load_state_dicts(self, states: Mapping[str, Any], step: int) -> None:
        """Give every callback that has one its state of a checkpoint of `step`."""

    def add_event(self, kind: str, payload: dict[str, Any], author: str, command: int | None = None) -> None:
        """Something happened at the step of now."""

    def publish(self, *, force: bool = False) -> None:
        """Write the status row, if the state changed, half a second has passed, or by force."""


@dataclass(frozen=True)
class LoopContext:
    """What the callbacks of one run share.

    Attributes:
        board: values of its controls now.
        history: its events.
    """

    run_dir: Path
    workload: Workload
    writer: RunWriter
    board: ControlBoard
    history: EventLog
    orders: ReplayPlan
    loop: LoopActions
