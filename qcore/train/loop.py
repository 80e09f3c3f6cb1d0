"""The training loop of one run: commands once before a step, one update, measurements, duties, and again.

The loop never waits for disk or browser: telemetry goes to the store's writer thread. Work between two steps
(samples, checkpoints) is a queue of generators that are advanced piece by piece, so that a command is taken within a
tenth of a second even while a long text is being sampled. Nothing here knows Streamlit, and nothing but this thread
touches the model.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from qcore.automation.apply import AUTOMATIC, AUTOMATIC_REASON, Steering
from qcore.automation.control_board import ControlBoard
from qcore.automation.events import EventLog
from qcore.config import ConfigError, RunConfig, command_from_row
from qcore.config import commands as requests
from qcore.runs.checkpoint_folders import (
    FORK,
    KEPT_REASONS,
    RISKY,
    CheckpointError,
    folder_name,
    prune_checkpoints,
    recover_interrupted,
)
from qcore.runs.last_words import Ending
from qcore.runs.layout import check_present, place_of
from qcore.runs.replay_plan import Orders
from qcore.runs.slots import Slots
from qcore.store import Command, CommandReader, Event, RunWriter
from qcore.train.allocator import release_seldom
from qcore.train.checkpoint import WATCH_FILE, Checkpoint, Weights, load_checkpoint, put_back, save_checkpoint, snapshot
from qcore.train.engine import NonFiniteError
from qcore.train.monitor import Monitor
from qcore.train.samples import Samples
from qcore.train.states import before_trouble, decoding, newest_good, restore_scaler
from qcore.train.workload import Workload

IDLE_SECONDS = 0.02
OF_THE_MODEL = (requests.Grow.kind, requests.Restore.kind)
logger = logging.getLogger(__name__)


class Trainer:
    """One run's loop. `run` ends with the state finished, stopped or failed in the run's status.

    drawn: how many samples of the timeline are whole, by step, of the newest · ending: told at once why it failed.
    """

    def __init__(
        self,
        run_dir: Path,
        config: RunConfig,
        workload: Workload,
        writer: RunWriter,
        commands: CommandReader,
        *,
        events: list[Event],
        slots: Slots,
        stopping: threading.Event,
        nudge: threading.Event,
        since: float,
        orders: Orders,
        drawn: Mapping[int, int],
        ending: Ending,
    ) -> None:
        self.name = run_dir.name
        self.step = 0
        self._run_dir = run_dir
        self._place = place_of(run_dir)
        self._config = config
        self._workload = workload
        self._engine = workload.engine
        self._writer = writer
        self._commands = commands
        self._history = EventLog(events, writer)
        self._slots = slots
        self._stopping = stopping
        self._nudge = nudge
        self._since = since
        self._board = ControlBoard(config)
        self._orders = orders
        self._recording = orders.recording
        self._drawn = drawn
        self._note_failure = ending.failed
        self._monitor = Monitor(workload, writer, self._board, self._recording)
        self._samples = Samples(workload, writer, self._monitor, self._board, self._must_end)
        self._tasks: deque[Iterator[object]] = deque()
        self._waiting: list[Command] = []
        self._paused = False
        self._steps_to_go = 0
        self._ending = False
        self._end_author = "trainer"
        self._closing_step = -1
        self._measured_step = -1
        self._undoable = -1
        self._steering = Steering(self, self._board, self._history.events, writer)
        self._monitor.detectors.listener = self._steering.automation.observe
        self._passed: dict[int, Weights] = {}

    def run(self, author: str) -> str:
        """Restore the newest good checkpoint, if there is one, and train until the end, a stop or a failure; the state
        in which it ended."""
        try:
            state, message = self._run(author)
        finally:
            self._slots.release(self.name)
        self._writer.flush()
        self._publish(state, message, force=True, cause="numeric" if state == "failed" else "")
        return state

    def _run(self, author: str) -> tuple[str, str]:
        resumed = self._restore()
        if not self._orders.catching_up:
            self._refuse_leftovers()
            kind = "resume" if self._history.happened("start", "resume") else "start"
            self._add_event(kind, {"from_step": self.step}, author)
        self._set_threads()
        try:
            if resumed:
                self._draw_again()
            elif self._recording is None or self._recording.opened:
                self._measure_held_out(self._recording is None or 0 in self._recording.evaluations)
                self._monitor.begin()
            while not self._advance():
                pass
        except NonFiniteError as error:
            return self._fail(error)
        return ("stopped" if self.step < self._board["steps"] else "finished"), ""

    def _advance(self) -> bool:
        """One turn of the loop; True when the run is over."""
        if not self._orders.catching_up or not self._arrived:
            self._keep_weights()
            if not self._tasks:
                self._repeat_changes()
            self._steering.schedule()
        if not self._orders.catching_up:
            if self._recording is None and not self._tasks:
                self._steering.act(self._monitor.detectors.active, self._history.muted)
            self._take_commands()
        if self._tasks:
            self._publish(self._state)
            if next(self._tasks[0], self._tasks) is self._tasks:
                self._tasks.popleft()
            return False
        done = self.step >= self._board["steps"]
        for due, reason in ((self._must_end(), "stop"), (self._arrived, "until"), (done, "finish")):
            if due:
                self._close_with(reason)
                return not self._tasks
        if self._paused and not self._steps_to_go:
            self._idle("paused")
        elif not self._slots.request(self.name):
            self._idle("queued")
        else:
            self._train_one()
        return False

    def _train_one(self) -> None:
        started = time.perf_counter()
        result = self._engine.step(self.step + 1, self._board)
        self.step += 1
        self._steps_to_go = max(0, self._steps_to_go - 1)
        if self._paused and not self._steps_to_go:
            self._slots.release(self.name)
        self._monitor.record(self.step, result, time.perf_counter() - started)
        self._publish(self._state)
        board, recording = self._board, self._recording
        if recording is not None:
            self._measure_held_out(self.step in recording.evaluations)
            if self.step in recording.samples:
                self._tasks.extend(self._samples.timeline(self.step))
            return
        self._measure_held_out(self.step % board["eval_every"] == 0)
        if self.step % board["sample_every"] == 0:
            self._tasks.extend(self._samples.timeline(self.step))
        if self.step % board["checkpoint_every"] == 0:
            self._tasks.append(self._saving("interval"))

    def _measure_held_out(self, due: bool) -> None:
        if due:
            self._monitor.evaluate(self.step)
            self._measured_step = self.step

    def _draw_again(self) -> None:
        """The samples of this step, where an end cut one of them short."""
        if self.step in self._drawn:
            tasks = self._samples.timeline(self.step)
            if self._drawn[self.step] < len(tasks):
                self._tasks.extend(tasks)

    def _close_with(self, kind: str) -> None:
        """Queue what belongs at the end of a run, once a step: last evaluation and sample, event, checkpoint."""
        if self._closing_step == self.step:
            return
        self._closing_step = self.step
        if self._recording is not None:
            return
        if self._orders.catching_up and kind == "until":
            self._tasks.append(self._saving(FORK))
            return
        if kind != "stop":
            self._measure_held_out(self._measured_step != self.step)
        if kind == "finish" and self.step % self._board["sample_every"]:
            self._tasks.extend(self._samples.timeline(self.step))
        event = "finish" if kind == "finish" else "stop"
        self._tasks.append(self._saving("end of run" if kind == "finish" else "stopped", then=event))

    def _fail(self, error: NonFiniteError) -> tuple[str, str]:
        self._note_failure(error, self.step, int(self._board["steps"]))  # first: the disk may take nothing more
        self._writer.add_log(self.step, "error", str(error))
        self._monitor.detectors.failed(error.step, error.terms, str(error))
        if not (self._run_dir / folder_name(self.step)).exists() and self._recording is None:
            self.save("last good state")
        self._add_event("failed", {"message": str(error), "terms": error.terms, "at_step": error.step}, "trainer")
        return "failed", str(error)

    # commands

    def _take_commands(self) -> None:
        self._nudge.clear()
        waiting, self._waiting = self._waiting, []
        for row in [*waiting, *self._commands.pending()]:
            if self._tasks and row.kind in OF_THE_MODEL:  # a sample is being drawn from the model as it is
                self._waiting.append(row)
                continue
            try:
                message = self._apply(row)
            except ConfigError as error:
                self._writer.resolve_command(row.id, "refused", self.step, str(error))
            else:
                self._writer.resolve_command(row.id, "applied", self.step, message)

    def _refuse_leftovers(self) -> None:
        """Commands from before this worker: a change of a control or of a finding still holds, a "stop" does not.

        A command that has an event was obeyed by a worker that was killed before it could say so.
        """
        obeyed = {event.command_id: event for event in self._history.events}
        for row in self._commands.pending():
            if event := obeyed.get(row.id):
                self._writer.resolve_command(row.id, "applied", event.step, f"at step {event.step}")
            elif row.kind in requests.KEPT_KINDS or row.created >= self._since:
                self._waiting.append(row)
            else:
                message = "the run's worker ended before it could answer"
                self._writer.resolve_command(row.id, "refused", self.step, message)

    def _apply(self, row: Command) -> str:
        """Obey one command and say what happened. Raises `ConfigError` when it is refused."""
        match command_from_row(row.kind, row.payload):
            case requests.SetControl(name, value):
                return self.set_control(name, value, row.author, command=row.id)
            case requests.Pause():
                self._paused, self._steps_to_go = True, 0
                self._slots.release(self.name)
            case requests.Continue():
                if not self._paused:
                    raise ConfigError("the run is not paused")
                self._paused, self._steps_to_go = False, 0
            case requests.Step(count):
                if not self._paused:
                    raise ConfigError("the run is not paused: pause it before stepping")
                self._steps_to_go += count
            case requests.Stop():
                self._ending, self._end_author = True, row.author
                return f"stopping at step {self.step}"
            case requests.SaveCheckpoint():
                self.save("requested", row)
                return f"checkpoint of step {self.step}"
            case requests.Acknowledge() | requests.Mute():
                pass  # the row itself is what readers go by
            case requests.Restore(before):
                return self.put_back(self.state_before(before), row.author, "", row.id)
            case requests.Grow(changes):
                return self._grow(changes, row.author, row.id)
            case requests.Sample(generation, prompt, settings):
                chosen = self._workload.settings(settings)
                self._tasks.append(self._samples.asked(generation, self.step, prompt, chosen, row.id))
                return f"sampling at step {self.step}"
        self._add_event(row.kind, row.payload, row.author, row.id)
        self._publish(self._state, force=True)
        return f"at step {self.step}"

    def set_control(self, name: str, value: Any, author: str, reason: str = "", command: int | None = None) -> str:
        """Change a control with an event; what happened, in words. `ConfigError` when it is refused."""
        wanted = self._board.check(name, value)
        name, value = wanted.name, wanted.value
        old = self._board[name]
        if value == old:
            return f"{name} is {old} already"
        if self._board.is_risky(name) and author not in AUTOMATIC:
            self.save(RISKY)
        self._history.supersede(self.step, name)
        self._board.take(wanted)
        payload = {"name": name, "old": old, "new": value, **({"reason": reason} if reason else {})}
        self._add_event("control", payload, author, command)
        self._control_changed(payload)
        return f"{name} {old} → {value} after step {self.step}"

    def _grow(self, changes: dict[str, Any], author: str, command: int | None) -> str:
        old, section = self._workload.section, self._workload.grown(changes)
        self.save(RISKY)
        self._workload.grow(section)
        payload = {"old": {name: old[name] for name in changes}, "new": dict(changes), "model": section}
        self._add_event("grow", payload, author, command)
        self._monitor.resized()
        sizes = ", ".join(f"{name} {old[name]} → {value}" for name, value in changes.items())
        return f"{sizes} after step {self.step}"

    # what changes a run by itself: see `Steering`

    def state_before(self, step: int) -> Checkpoint:
        """The newest good checkpoint from before a step's trouble. `ConfigError` when there is none."""
        return before_trouble(self._run_dir, step, self._history.events, self._engine, self._workload.section)

    def put_back(self, state: Checkpoint, author: str, reason: str, command: int | None = None) -> str:
        """Put weights and moments of a checkpoint back; the count of steps, the controls and all curves go on."""
        self._put_back(state)
        from_step = state.state.step
        payload = {"from_step": from_step, **({"reason": reason} if reason else {})}
        self._add_event("restore", payload, author, command)
        return f"weights of step {from_step} at step {self.step}"

    def pause(self, author: str, reason: str) -> None:
        """Hold the run."""
        self._paused, self._steps_to_go = True, 0
        self._slots.release(self.name)
        self._add_event("pause", {"reason": reason}, author)

    def _keep_weights(self) -> None:
        """Keep the weights of a step that a change ahead will put back."""
        if self.step in self._history.states_ahead and self.step not in self._passed:
            engine = self._engine
            self._passed[self.step] = snapshot(engine.saved, engine.model, engine.optimizer)

    def _put_back(self, weights: Weights) -> None:
        put_back(self._engine.saved, self._engine.model, self._engine.optimizer, weights)

    def _control_changed(self, payload: dict[str, Any]) -> None:
        name = payload["name"]
        self._monitor.control_changed(self.step, payload)
        if name == "torch_threads":
            self._set_threads()
        if name == "keep_checkpoints":
            prune_checkpoints(self._run_dir, self._board["keep_checkpoints"])

    def _set_threads(self) -> None:
        torch.set_num_threads(self._board["torch_threads"])

    # checkpoints and resume

    def _restore(self) -> bool:
        """Load the newest good checkpoint; the control changes made after it are applied again at their steps.

        Raises `CheckpointError` when there are checkpoints and none can be used: a fresh start would throw work away.
        """
        recover_interrupted(self._run_dir)
        configured = self._workload.section
        checkpoint = newest_good(self._run_dir, self._take, self._refused)
        if checkpoint is None:
            self._plan_repeat(0)
            return self._history.happened("start", "resume")
        state = checkpoint.state
        self._history.settle(self._board, self._board.restore(state.controls), state.step, state.event_seq)
        self.step = state.step
        self._monitor.seconds_trained = state.seconds_trained
        ending = self._history.last_of("failed", "resume")
        if ending is not None and ending.kind == "failed":
            payload, terms = ending.payload, ending.payload["terms"]
            named = [str(term) for term in terms] if isinstance(terms, list) else []
            self._monitor.detectors.failed(payload["at_step"], named, payload["message"])
        self._measured_step = self._closing_step = -1
        self._undoable = self.step if state.reason == RISKY else -1
        self._plan_repeat(state.event_seq)
        if self._workload.section != configured:
            self._monitor.resized()
        return True

    def _take(self, checkpoint: Checkpoint) -> None:
        """Take weights, moments and what was remembered. `CheckpointError` for what this run cannot use."""
        folder, state = checkpoint.folder, checkpoint.state
        with decoding(folder, "model"):
            self._workload.resize(state.model)
        self._put_back(checkpoint)
        restore_scaler(self._engine, state.scaler, folder)
        with decoding(folder, WATCH_FILE):
            self._monitor.detectors.restore(checkpoint.watch, state.step)
            self._steering.automation.restore(checkpoint.watch.get("automation", {}))

    def _refused(self, error: CheckpointError) -> None:
        logger.warning("%s", error)
        self._writer.add_log(self.step, "warning", str(error))

    def _plan_repeat(self, event_seq: int) -> None:
        self._writer.truncate_after(self.step, event_seq=event_seq)
        self._history.plan(self.step, event_seq)

    def _repeat_changes(self) -> None:
        """Make the changes again that the state we went on from does not hold."""
        for event in self._history.due(self.step):
            try:
                if event.kind == "grow":
                    self._workload.grow(event.payload["model"])
                    self._monitor.resized()
                elif event.kind == "restore":
                    step = event.payload["from_step"]
                    self._put_back(self._passed.get(step) or load_checkpoint(self._run_dir / folder_name(step)))
                else:
                    self._change_again(event)
            except ValueError as error:  # a state or a size that there is no more
                if self._orders.catching_up:  # a fork that went another way would be no fork
                    raise
                self._history.refuse(self.step, event, str(error))

    def _change_again(self, event: Event) -> None:
        """A change of a control that cannot be made any more is refused; the run goes on with the value before it."""
        if (wanted := self._history.made_again(self.step, event, self._board)) is not None:
            self._control_changed({**event.payload, "name": wanted.name})

    def _saving(self, reason: str, then: str = "") -> Iterator[None]:
        if then:
            self._add_event(then, {}, self._end_author if then == "stop" else "trainer")
        self.save(reason)
        yield

    def save(self, reason: str, row: Command | None = None) -> None:
        """Write a checkpoint of now. Telemetry goes to disk first, so that nothing before a checkpoint can be lost.

        A checkpoint from before a risky or automatic change at this step stays as it is, so that the change can be
        undone; who goes on from it makes the change again.
        """
        if self._undoable != self.step:
            self._write(reason)
        if reason in (RISKY, AUTOMATIC_REASON):
            self._undoable = self.step
        if reason in KEPT_REASONS:
            author, identity = (row.author, row.id) if row else ("trainer", None)
            self._add_event("checkpoint", {"step": self.step, "reason": reason}, author, identity)

    def _write(self, reason: str) -> None:
        self._writer.flush()
        save_checkpoint(
            self._run_dir,
            self._engine.saved,
            self._engine.model,
            self._engine.optimizer,
            step=self.step,
            reason=reason,
            controls=self._board,
            event_seq=self._history.seq_at(self.step),
            seconds_trained=self._monitor.seconds_trained,
            scaler=self._engine.scaler.state_dict(),
            watch={**self._monitor.detectors.state(), "automation": self._steering.automation.state()},
            section=self._workload.section,
        )
        prune_checkpoints(self._run_dir, self._board["keep_checkpoints"])
        release_seldom()

    @property
    def _arrived(self) -> bool:
        """Whether the run is where it was ordered to stop."""
        return self._orders.until is not None and self.step >= self._orders.until

    def _must_end(self) -> bool:
        return self._ending or self._stopping.is_set()

    # status

    def figures(self) -> dict[str, Any]:
        """See `Monitor.figures`."""
        return self._monitor.figures()

    @property
    def _state(self) -> str:
        return "paused" if self._paused and not self._steps_to_go else "running"

    def _idle(self, state: str) -> None:
        self._publish(state)
        self._nudge.wait(IDLE_SECONDS)

    def _publish(self, state: str, message: str = "", *, force: bool = False, cause: str = "") -> None:
        if self._monitor.publish(state, self.step, int(self._board["steps"]), message, force=force, cause=cause):
            check_present(self._run_dir, self._place)

    def _add_event(self, kind: str, payload: dict[str, Any], author: str, command: int | None = None) -> None:
        self._history.add(self.step, kind, payload, author, command)
