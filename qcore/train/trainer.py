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
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from qcore.config import ConfigError, RunConfig, Section, command_from_row, scheduled_changes
from qcore.config import commands as requests
from qcore.store import Command, CommandReader, Event, Generation, RunWriter
from qcore.train.base import NonFiniteError
from qcore.train.board import ControlBoard
from qcore.train.checkpoint import load_checkpoint, restore_model, restore_optimizer, save_checkpoint
from qcore.train.folders import (
    KEPT_REASONS,
    CheckpointError,
    checkpoint_folders,
    folder_name,
    prune_checkpoints,
    recover_interrupted,
)
from qcore.train.monitor import Monitor
from qcore.train.slots import Slots
from qcore.train.workload import Workload

IDLE_SECONDS = 0.01
SCHEDULE = "schedule"
KEPT_KINDS = (requests.SetControl.kind, requests.Acknowledge.kind, requests.Mute.kind)
logger = logging.getLogger(__name__)


class Trainer:
    """One run's loop. `run` ends with the state finished, stopped or failed in the run's status."""

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
    ) -> None:
        self.name = run_dir.name
        self.step = 0
        self._run_dir = run_dir
        self._config = config
        self._workload = workload
        self._engine = workload.engine
        self._writer = writer
        self._commands = commands
        self._events = events
        self._slots = slots
        self._stopping = stopping
        self._nudge = nudge
        self._since = since
        self._board = ControlBoard(config)
        self._monitor = Monitor(workload, writer, self._board)
        self._seq = max((event.seq for event in events), default=0)
        self._replay: deque[Event] = deque()
        self._tasks: deque[Iterator[object]] = deque()
        self._waiting: list[Command] = []
        self._paused = False
        self._steps_to_go = 0
        self._ending = False
        self._end_author = "trainer"
        self._closing_step = -1
        self._measured_step = -1
        self._scheduled: tuple[int, list[str]] | None = None

    def run(self, author: str) -> None:
        """Restore the newest good checkpoint, if there is one, and train until the end, a stop or a failure."""
        try:
            state, message = self._run(author)
        finally:
            self._slots.release(self.name)
        self._writer.flush()
        self._publish(state, message, force=True)

    def _run(self, author: str) -> tuple[str, str]:
        self._refuse_leftovers()
        resumed = self._restore()
        self._add_event("resume" if resumed else "start", {"from_step": self.step}, author)
        self._set_threads()
        try:
            if not resumed:
                self._measure_held_out()
                self._monitor.begin()
            while not self._advance():
                pass
        except NonFiniteError as error:
            return self._fail(error)
        return ("stopped" if self.step < self._board["steps"] else "finished"), ""

    def _advance(self) -> bool:
        """One turn of the loop; True when the run is over."""
        self._apply_replay()
        self._apply_schedule()
        self._take_commands()
        if self._tasks:
            self._publish(self._state)
            if next(self._tasks[0], self._tasks) is self._tasks:
                self._tasks.popleft()
            return False
        if self._must_end():
            self._close_with("stop")
            return not self._tasks
        if self.step >= self._board["steps"]:
            self._close_with("finish")
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
        board = self._board
        if self.step % board["eval_every"] == 0:
            self._measure_held_out()
        if self.step % board["sample_every"] == 0:
            self._sample_timeline()
        if self.step % board["checkpoint_every"] == 0:
            self._tasks.append(self._saving("interval"))

    def _measure_held_out(self) -> None:
        self._monitor.evaluate(self.step)
        self._measured_step = self.step

    def _close_with(self, kind: str) -> None:
        """Queue what belongs at the end of a run, once a step: last evaluation and sample, event, checkpoint."""
        if self._closing_step == self.step:
            return
        self._closing_step = self.step
        if kind == "finish" and self._measured_step != self.step:
            self._measure_held_out()
        if kind == "finish" and self.step % self._board["sample_every"]:
            self._sample_timeline()
        self._tasks.append(self._saving("end of run" if kind == "finish" else "stopped", then=kind))

    def _fail(self, error: NonFiniteError) -> tuple[str, str]:
        self._writer.add_log(self.step, "error", str(error))
        self._monitor.detectors.failed(error.step, error.terms, str(error))
        if not (self._run_dir / folder_name(self.step)).exists():
            self._save("last good state")
        self._add_event("failed", {"message": str(error), "terms": error.terms, "at_step": error.step}, "trainer")
        return "failed", str(error)

    # commands

    def _take_commands(self) -> None:
        self._nudge.clear()
        waiting, self._waiting = self._waiting, []
        for row in [*waiting, *self._commands.pending()]:
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
        obeyed = {event.command_id: event for event in self._events}
        for row in self._commands.pending():
            if event := obeyed.get(row.id):
                self._writer.resolve_command(row.id, "applied", event.step, f"at step {event.step}")
            elif row.kind in KEPT_KINDS or row.created >= self._since:
                self._waiting.append(row)
            else:
                message = "the run's worker ended before it could answer"
                self._writer.resolve_command(row.id, "refused", self.step, message)

    def _apply(self, row: Command) -> str:
        """Obey one command and say what happened. Raises `ConfigError` when it is refused."""
        match command_from_row(row.kind, row.payload):
            case requests.SetControl(name, value):
                return self._set_control(name, value, row.author, row.id)
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
                self._save("requested", row)
                return f"checkpoint of step {self.step}"
            case requests.Acknowledge() | requests.Mute():
                pass  # the row itself is what readers go by
            case requests.Sample(generation, prompt, settings):
                chosen = self._workload.settings(settings)
                self._tasks.append(self._speaking("prompt", generation, prompt, chosen, row.id))
                return f"sampling at step {self.step}"
        self._add_event(row.kind, row.payload, row.author, row.id)
        self._publish(self._state, force=True)
        return f"at step {self.step}"

    def _set_control(self, name: str, value: Any, author: str, command: int | None) -> str:
        old = self._board[name]
        if value == old:
            return f"{name} is {old} already"
        self._board.check(name, value)
        if self._board.is_risky(name):
            self._save("risky change")
        self._supersede(name)
        self._board.set(name, value)
        payload = {"name": name, "old": old, "new": value}
        self._add_event("control", payload, author, command)
        self._control_changed(payload)
        return f"{name} {old} → {value} after step {self.step}"

    def _apply_schedule(self) -> None:
        """Make the changes that the schedule has for this step, once each; events tell which were made before a
        resume."""
        text = self._board["schedule"]
        if self._scheduled == (self.step, text):
            return
        self._scheduled = (self.step, text)
        total = int(self._board["steps"])
        for change in scheduled_changes(text):
            if change.step(total) != self.step:
                continue
            wanted = self._board.check(change.name, change.value)
            if any(
                event.author == SCHEDULE and event.step == self.step and _made(event, wanted) for event in self._events
            ):
                continue
            try:
                self._set_control(wanted.name, wanted.value, SCHEDULE, None)
            except ConfigError as error:
                self._writer.add_log(self.step, "warning", f"the schedule was refused: {error}")

    def _control_changed(self, payload: dict[str, Any]) -> None:
        name = payload["name"]
        self._monitor.detectors.control_changed(self.step, payload)
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
        refusals = []
        for folder in reversed(checkpoint_folders(self._run_dir)):
            try:
                checkpoint = load_checkpoint(folder)
                restore_model(self._engine.saved, checkpoint)
                restore_optimizer(self._engine.model, self._engine.optimizer, checkpoint)
            except CheckpointError as error:
                logger.warning("%s", error)
                self._writer.add_log(self.step, "warning", str(error))
                refusals.append(str(error))
                continue
            state = checkpoint.state
            self._board.restore(state.controls)
            self._engine.scaler.load_state_dict(state.scaler)
            self.step = state.step
            self._monitor.seconds_trained = state.seconds_trained
            self._monitor.detectors.restore(checkpoint.watch)
            ending = next((event for event in reversed(self._events) if event.kind in ("failed", "resume")), None)
            if ending is not None and ending.kind == "failed":
                payload = ending.payload
                self._monitor.detectors.failed(payload["at_step"], payload["terms"], payload["message"])
            self._measured_step = self._closing_step = -1
            self._plan_replay(state.event_seq)
            return True
        if refusals:
            raise CheckpointError(
                f"none of the {len(refusals)} checkpoints can be used ({refusals[0]}); restore one from a copy, or "
                "start a new run"
            )
        self._plan_replay(0)
        return bool(self._events)

    def _plan_replay(self, event_seq: int) -> None:
        self._writer.truncate_after(self.step, event_seq=event_seq)
        later = [event for event in self._events if event.kind == "control" and event.seq > event_seq]
        self._replay.extend(sorted(later, key=lambda event: (event.step, event.seq)))

    def _apply_replay(self) -> None:
        while self._replay and self._replay[0].step <= self.step:
            payload = self._replay.popleft().payload
            self._board.set(payload["name"], payload["new"])
            self._control_changed(payload)

    def _supersede(self, name: str) -> None:
        """A new change of a control replaces the changes of it that an interruption left ahead of us."""
        for event in [event for event in self._replay if event.payload["name"] == name]:
            self._replay.remove(event)
            self._writer.add_event(replace(event, kind="superseded"))
            self._writer.add_log(
                self.step, "info", f"the change of {name} at step {event.step} was superseded before it was replayed"
            )

    def _saving(self, reason: str, then: str = "") -> Iterator[None]:
        if then:
            self._add_event(then, {}, self._end_author if then == "stop" else "trainer")
        self._save(reason)
        yield

    def _save(self, reason: str, row: Command | None = None) -> None:
        """Write a checkpoint of now. Telemetry goes to disk first, so that nothing before a checkpoint can be lost."""
        self._writer.flush()
        save_checkpoint(
            self._run_dir,
            self._engine.saved,
            self._engine.model,
            self._engine.optimizer,
            step=self.step,
            reason=reason,
            controls=self._board,
            event_seq=self._seq,
            seconds_trained=self._monitor.seconds_trained,
            scaler=self._engine.scaler.state_dict(),
            watch=self._monitor.detectors.state(),
        )
        prune_checkpoints(self._run_dir, self._board["keep_checkpoints"])
        if reason in KEPT_REASONS:
            author, identity = (row.author, row.id) if row else ("trainer", None)
            self._add_event("checkpoint", {"step": self.step, "reason": reason}, author, identity)

    # samples

    def _sample_timeline(self) -> None:
        samples = self._workload.timeline(self._board)
        for place, (prompt, settings) in enumerate(samples, 1):
            speaking = self._speaking("timeline", uuid.uuid4().hex, prompt, settings, None)
            self._tasks.append(self._heard(speaking, last=place == len(samples)))

    def _heard(self, speaking: Iterator[Generation], *, last: bool) -> Iterator[None]:
        """Pass a sample on, and tell the monitor when it is done."""
        step = self.step
        for grown in speaking:
            if grown.status != "running":
                self._monitor.heard(step, grown.stats, last=last)
            yield

    def _speaking(
        self, kind: str, generation: str, prompt: str, settings: Section, command: int | None
    ) -> Iterator[Generation]:
        draft = Generation(
            id=generation,
            step=self.step,
            wall=time.time(),
            kind=kind,
            prompt=prompt,
            settings={**settings.model_dump(), "source": "live", "step": self.step},
            text="",
            tokens=[],
            stats={},
            status="running",
            command_id=command,
        )
        for grown in self._workload.speak(draft, settings, self._board, self._must_end):
            self._writer.put_generation(grown)
            yield grown

    def _must_end(self) -> bool:
        return self._ending or self._stopping.is_set()

    # status

    @property
    def _state(self) -> str:
        return "paused" if self._paused and not self._steps_to_go else "running"

    def _idle(self, state: str) -> None:
        self._publish(state)
        self._nudge.wait(IDLE_SECONDS)

    def _publish(self, state: str, message: str = "", *, force: bool = False) -> None:
        self._monitor.publish(state, self.step, int(self._board["steps"]), message, force=force)

    def _add_event(self, kind: str, payload: dict[str, Any], author: str, command: int | None = None) -> None:
        self._seq += 1
        event = Event(self._seq, self.step, time.time(), author, kind, payload, command)
        self._events.append(event)
        self._writer.add_event(event)


def _made(event: Event, change: requests.SetControl) -> bool:
    return event.payload.get("name") == change.name and event.payload.get("new") == change.value
