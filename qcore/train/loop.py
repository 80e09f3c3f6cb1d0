"""The training loop of one run: commands once before a step, one update, measurements, duties, and again.

A `Trainer` makes steps, keeps the run's state and carries out what changes a run; everything else that a run does is a
callback (`qcore.train.callback`), called in `ORDER`. What the run is doing is one of `RunState`, and only `fire` of the
run's state machine changes it.

The loop never waits for disk or browser: telemetry goes to the store's writer thread. Work between two steps
(samples, checkpoints) is a queue of generators that are advanced piece by piece, so that a command is taken within a
tenth of a second even while a long text is being sampled. Nothing here knows Streamlit, and nothing but this thread
touches the model.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from qcore.automation.apply import AUTOMATIC
from qcore.automation.control_board import ControlBoard
from qcore.automation.events import EventLog
from qcore.base.run_states import RunState, RunStateMachine, Trigger
from qcore.config import RunConfig
from qcore.runs.assignment import Assignment
from qcore.runs.checkpoint_folders import RISKY
from qcore.runs.last_words import release_reserve
from qcore.runs.layout import check_present, folder_identity
from qcore.store import CommandReader, Event, RunWriter
from qcore.train.callback import Callback, End, LoopContext
from qcore.train.checkpoint import Checkpoint, put_back
from qcore.train.engine import NonFiniteError
from qcore.train.monitor import Monitor
from qcore.train.samples import Samples
from qcore.train.saving import Checkpoints
from qcore.train.steering import AutomaticChanges, Commands, RepeatedChanges
from qcore.train.workload import Workload

IDLE_SECONDS = 0.02

ORDER: tuple[type[Callback], ...] = (RepeatedChanges, AutomaticChanges, Commands, Monitor, Samples, Checkpoints)
"""The callbacks of every run, in the order in which each hook is called.

Before a step: what was changed before, then what changes by itself, then what people ask for, who so have the last
word. After it: first what was measured, as detectors and rules go by it; then samples, whose statistics are
measurements, too; last the checkpoint, which so holds all that is known of its step.
"""


@dataclass(frozen=True)
class RunDatabase:
    """A run's database as a trainer finds it.

    Attributes:
        commands: those not yet obeyed.
        events: all of the run's past.
        drawn: how many samples of the timeline are whole, by step, of the newest.
    """

    writer: RunWriter
    commands: CommandReader
    events: list[Event]
    drawn: Mapping[int, int]


class Trainer:
    """One run's loop. `run` ends with the state finished, stopped or failed in the run's status.

    states: the run's state machine, in a state of a run that a worker has taken up.
    """

    def __init__(
        self,
        assignment: Assignment,
        config: RunConfig,
        workload: Workload,
        database: RunDatabase,
        states: RunStateMachine,
    ) -> None:
        self.name = assignment.run_dir.name
        self.step = 0
        self.end_author = "trainer"
        self._assignment = assignment
        self._orders = assignment.orders
        self._place = folder_identity(assignment.run_dir)
        self._workload = workload
        self._engine = workload.engine
        self._writer = database.writer
        self._history = EventLog(database.events, database.writer)
        self._board = ControlBoard(config)
        self._states = states
        self._steps_to_go = 0
        self._ending = False
        self._closing_step = -1
        self._tasks: deque[Iterator[object]] = deque()
        context = LoopContext(
            assignment.run_dir, workload, self._writer, self._board, self._history, self._orders, loop=self
        )
        self._monitor = Monitor(context)
        samples = Samples(context, self._monitor, database.drawn)
        self._checkpoints = Checkpoints(context, self._monitor)
        made: tuple[Callback, ...] = (
            RepeatedChanges(context),
            AutomaticChanges(context, self._monitor),
            Commands(context, database.commands, samples, assignment.since),
            self._monitor,
            samples,
            self._checkpoints,
        )
        self.callbacks = tuple(sorted(made, key=lambda callback: ORDER.index(type(callback))))

    def run(self) -> RunState:
        """Restore the newest good checkpoint, if there is one, and train until the end, a stop or a failure; the state
        in which it ended.
        """
        try:
            failure = self._run()
        finally:
            self._assignment.slots.release(self.name)
        self._writer.flush()
        release_reserve(self._assignment.run_dir)  # first: no worker comes again to a run that is finished
        self.publish(failure, force=True, cause="numeric" if failure else "")
        return self._states.state

    def _run(self) -> str:
        """Why the run failed; empty when it did not."""
        self.step, resumed = self._checkpoints.restore()
        if not self._orders.catching_up:
            kind = "resume" if self._history.has_event("start", "resume") else "start"
            self.add_event(kind, {"from_step": self.step}, self._assignment.author)
        self._set_threads()
        try:
            for callback in self.callbacks:
                callback.before_training(resumed)
            while not self._advance():
                pass
        except NonFiniteError as error:
            self._fail(error)
            return str(error)
        self._states.fire(Trigger.STOP if self.step < self._board["steps"] else Trigger.FINISH)
        return ""

    def _advance(self) -> bool:
        """One turn of the loop; True when the run is over."""
        for callback in self.callbacks:
            callback.before_step()
        if self._tasks:
            self.publish()
            # One piece, then a look at the commands: a sample may take minutes, an answer may not.
            if next(self._tasks[0], self._tasks) is self._tasks:
                self._tasks.popleft()
            return False
        done = self.step >= self._board["steps"]
        # A stop comes first: it draws no last sample and makes no last measurement, so that a program can end soon.
        for due, end in ((self.must_end, End.STOP), (self.has_arrived, End.UNTIL), (done, End.FINISH)):
            if due:
                self._close_with(end)
                return not self._tasks
        if self._can_train():
            self._train_one()
        else:
            self.publish()
            self._assignment.nudge.wait(IDLE_SECONDS)
            # Cleared before the commands are read, never after: one that comes in between is then seen a turn early.
            self._assignment.nudge.clear()
        return False

    def _train_one(self) -> None:
        for callback in self.callbacks:
            callback.before_update()
        started = time.perf_counter()
        result = self._engine.step(self.step + 1, self._board)
        self.step += 1
        if self._states.state == RunState.STEPPING:
            self._steps_to_go -= 1
            if not self._steps_to_go:
                self._states.fire(Trigger.STEPPED)
                self._assignment.slots.release(self.name)
        seconds = time.perf_counter() - started
        for callback in self.callbacks:
            callback.after_step(result, seconds)

    def _close_with(self, end: End) -> None:
        """Let the callbacks queue what belongs at the end of a run, once a step; a replay keeps nothing of its end."""
        if self._closing_step == self.step:  # its work is queued or done; the next turn finds out which
            return
        self._closing_step = self.step
        if self._orders.recording is None:
            for callback in self.callbacks:
                callback.at_end(end)

    def _fail(self, error: NonFiniteError) -> None:
        self._states.fire(Trigger.FAIL)
        # First in this process's memory: the disk may take nothing more.
        self._assignment.ending.failed(error, self.step, int(self._board["steps"]))
        self._writer.add_log(self.step, "error", str(error))
        for callback in self.callbacks:
            callback.on_failure(error)
        self.add_event("failed", {"message": str(error), "terms": error.terms, "at_step": error.step}, "trainer")

    # the run's state

    def allows(self, trigger: Trigger) -> bool:
        """Whether this may happen to the run in its state."""
        return self._states.allows(trigger)

    def hold(self) -> None:
        """Pause the run; its place goes to the next one."""
        self._states.fire(Trigger.PAUSE)
        self._steps_to_go = 0
        self._assignment.slots.release(self.name)

    def go_on(self) -> None:
        """Let a paused run train on, as soon as it has a place."""
        self._states.fire(Trigger.CONTINUE)
        self._steps_to_go = 0
        self._can_train()

    def make_steps(self, count: int) -> None:
        """Let a paused run make so many steps more, and pause it again."""
        self._states.fire(Trigger.STEP)
        self._steps_to_go += count
        self._can_train()

    def end(self, author: str) -> None:
        """Stop the run, with a checkpoint."""
        self._ending, self.end_author = True, author

    def _can_train(self) -> bool:
        """Whether the run may make a step now; one that waits for a place asks for it."""
        if self.allows(Trigger.PLACE) and self._assignment.slots.request(self.name):
            self._states.fire(Trigger.PLACE)
        return self._states.state in (RunState.RUNNING, RunState.STEPPING)

    @property
    def is_busy(self) -> bool:
        """Whether queued work waits to be done."""
        return bool(self._tasks)

    @property
    def has_arrived(self) -> bool:
        """Whether the run is where it was ordered to stop."""
        return self._orders.until is not None and self.step >= self._orders.until

    @property
    def must_end(self) -> bool:
        """Whether the run is to end as soon as it can."""
        return self._ending or self._assignment.stopping.is_set()

    # what changes a run: see `LoopActions`

    def queue(self, *work: Iterator[object]) -> None:
        """Do this between two steps, piece by piece, after what is queued already."""
        self._tasks.extend(work)

    def set_control(self, name: str, value: Any, author: str, reason: str = "", command: int | None = None) -> str:
        """Change a control with an event; what happened, in words. `ConfigError` when it is refused."""
        wanted = self._board.check(name, value)
        name, value = wanted.name, wanted.value
        old = self._board[name]
        if value == old:
            return f"{name} is {old} already"
        if self._board.is_risky(name) and author not in AUTOMATIC:  # automation saves before each of its changes
            self.save(RISKY)
        self._history.supersede(self.step, name)
        self._board.take(wanted)
        payload = {"name": name, "old": old, "new": value, **({"reason": reason} if reason else {})}
        self.add_event("control", payload, author, command)
        self.tell_control_change(payload)
        return f"{name} {old} → {value} after step {self.step}"

    def grow(self, changes: dict[str, Any], author: str, command: int | None) -> str:
        """Make the model larger; what happened, in words. `ConfigError` when it cannot grow so."""
        old, section = self._workload.section, self._workload.section_after_growth(changes)
        self.save(RISKY)
        self._workload.grow(section)
        payload = {"old": {name: old[name] for name in changes}, "new": dict(changes), "model": section}
        self.add_event("grow", payload, author, command)
        self.tell_resize()
        sizes = ", ".join(f"{name} {old[name]} → {value}" for name, value in changes.items())
        return f"{sizes} after step {self.step}"

    def state_before(self, step: int) -> Checkpoint:
        """The newest good checkpoint from before a step's trouble. `ConfigError` when there is none."""
        return self._checkpoints.state_before(step)

    def put_back(self, state: Checkpoint, author: str, reason: str, command: int | None = None) -> str:
        """Put weights and moments of a checkpoint back; the count of steps, the controls and all curves go on."""
        self._states.fire(Trigger.REWIND)
        put_back(self._engine.saved, self._engine.model, self._engine.optimizer, state)
        from_step = state.state.step
        payload = {"from_step": from_step, **({"reason": reason} if reason else {})}
        self.add_event("restore", payload, author, command)
        self.tell_restore()
        return f"weights of step {from_step} at step {self.step}"

    def pause(self, author: str, reason: str) -> None:
        """Hold the run, with an event."""
        self.hold()
        self.add_event("pause", {"reason": reason}, author)

    def save(self, reason: str, author: str = "trainer", command: int | None = None) -> None:
        """Write a checkpoint of now; see `Checkpoints.save`."""
        self._checkpoints.save(reason, author, command)

    def add_event(self, kind: str, payload: dict[str, Any], author: str, command: int | None = None) -> None:
        """Something happened at the step of now."""
        self._history.add(self.step, kind, payload, author, command)

    # what callbacks are told, and what they remember

    def tell_control_change(self, payload: Mapping[str, Any]) -> None:
        """Call every callback's `on_control_change`."""
        for callback in self.callbacks:
            callback.on_control_change(payload)
        if payload["name"] == "torch_threads":
            self._set_threads()

    def tell_resize(self) -> None:
        """Call every callback's `on_resize`."""
        for callback in self.callbacks:
            callback.on_resize()

    def tell_restore(self) -> None:
        """Call every callback's `on_restore`."""
        for callback in self.callbacks:
            callback.on_restore()

    def state_dicts(self) -> dict[str, dict[str, Any]]:
        """State of every callback that has one, by name."""
        return {callback.name: callback.state_dict() for callback in self.callbacks if callback.name}

    def load_state_dicts(self, states: Mapping[str, Any], step: int) -> None:
        """Give every callback that has one its state of a checkpoint of `step`."""
        for callback in self.callbacks:
            if callback.name:
                callback.load_state_dict(states.get(callback.name, {}), step)

    def _set_threads(self) -> None:
        torch.set_num_threads(self._board["torch_threads"])

    # status

    def figures(self) -> dict[str, Any]:
        """See `Monitor.figures`."""
        return self._monitor.figures()

    def publish(self, message: str = "", *, force: bool = False, cause: str = "") -> None:
        """Write the status row when the state changed or half a second has passed. Raises `RunError` when the run's
        folder is gone, as everything written from then on would be lost.
        """
        state, total = self._states.state.kept, int(self._board["steps"])
        if self._monitor.publish(state, self.step, total, message, force=force, cause=cause):
            check_present(self._assignment.run_dir, self._place)
