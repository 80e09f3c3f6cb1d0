"""Checkpoints as a duty: when one is written and which one a run goes back to, at a resume and from before a trouble.

A checkpoint may be whole by its hashes and still hold what this run cannot use, as it may come from elsewhere. Whatever
is wrong with one is a `CheckpointError`, and the next older one is tried.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qcore.automation.apply import AUTOMATIC_REASON
from qcore.config import ConfigError, live_controls
from qcore.runs.checkpoint_folders import (
    FORK,
    KEPT_REASONS,
    RISKY,
    CheckpointError,
    checkpoint_folders,
    folder_name,
    prune_checkpoints,
    read_state,
    recover_interrupted,
)
from qcore.store import Event
from qcore.store.shapes import integer, positive, record
from qcore.train.allocator import release_seldom
from qcore.train.callback import Callback, End, LoopContext
from qcore.train.checkpoint import (
    WATCH_FILE,
    Checkpoint,
    check_fits,
    checkpoint_errors,
    load_checkpoint,
    put_back,
    save_checkpoint,
)
from qcore.train.engine import BaseEngine, NonFiniteError
from qcore.train.monitor import Monitor

RECENT = 200
"""How many steps before a trouble a risky change is taken for its cause."""
_SCALER = record(
    {"scale": positive, "growth_factor": positive, "backoff_factor": positive, "growth_interval": integer}
    | {"_growth_tracker": integer}
)
logger = logging.getLogger(__name__)


class Checkpoints(Callback):
    """Writes the checkpoints of one run and takes its state back from one. monitor: what was measured until then."""

    def __init__(self, context: LoopContext, monitor: Monitor) -> None:
        self._context = context
        self._monitor = monitor
        self._undoable = -1
        """The step whose checkpoint is from before a change that is to be undone with it."""

    def after_step(self, result: object, seconds: float) -> None:
        board, orders, step = self._context.board, self._context.orders, self._context.loop.step
        if orders.recording is None and step % board["checkpoint_every"] == 0:
            self._context.loop.queue(self._save_later("interval"))

    def on_control_change(self, payload: Mapping[str, Any]) -> None:
        if payload["name"] == "keep_checkpoints":
            prune_checkpoints(self._context.run_dir, self._context.board["keep_checkpoints"])

    def at_end(self, end: End) -> None:
        if end is End.UNTIL and self._context.orders.catching_up:
            self._context.loop.queue(self._save_later(FORK))
        elif end is End.FINISH:
            self._context.loop.queue(self._save_later("end of run", then="finish"))
        else:
            self._context.loop.queue(self._save_later("stopped", then="stop"))

    def on_failure(self, error: NonFiniteError) -> None:
        context = self._context
        if not (context.run_dir / folder_name(context.loop.step)).exists() and context.orders.recording is None:
            self.save("last good state")

    def save(self, reason: str, author: str = "trainer", command: int | None = None) -> None:
        """Write a checkpoint of now. Telemetry goes to disk first, so that nothing before a checkpoint can be lost.

        A checkpoint from before a risky or automatic change at this step stays as it is, so that the change can be
        undone; who goes on from it makes the change again.
        """
        step = self._context.loop.step
        if self._undoable != step:  # else the folder of this step holds the state from before the change
            self._write(reason)
        if reason in (RISKY, AUTOMATIC_REASON):
            self._undoable = step
        if reason in KEPT_REASONS:
            self._context.loop.add_event("checkpoint", {"step": step, "reason": reason}, author, command)

    def restore(self) -> tuple[int, bool]:
        """Load the newest good checkpoint: its step, and whether the run goes on from something. The control changes
        made after it are planned, to be made again at their steps.

        Raises `CheckpointError` when there are checkpoints and none can be used: a fresh start would throw work away.
        """
        context, history = self._context, self._context.history
        recover_interrupted(context.run_dir)
        configured = context.workload.section  # before a checkpoint of a grown model gives it another
        checkpoint = load_newest_good(context.run_dir, self._take, self._warn)
        if checkpoint is None:
            self._plan_repeat(0, 0)
            return 0, history.has_event("start", "resume")
        state = checkpoint.state
        history.settle(context.board, context.board.restore(state.controls), state.step, state.event_seq)
        self._monitor.seconds_trained = state.seconds_trained
        # A resume that came after the failure has told it already; a failure that came last was never resumed from.
        ending = history.newest_event("failed", "resume")
        if ending is not None and ending.kind == "failed":
            self._monitor.tell_failure_again(ending.payload)
        self._undoable = state.step if state.reason == RISKY else -1
        self._plan_repeat(state.step, state.event_seq)
        if context.workload.section != configured:
            context.loop.tell_resize()
        return state.step, True

    def state_before(self, step: int) -> Checkpoint:
        """The newest good checkpoint from before a step's trouble. `ConfigError` when there is none."""
        workload, events = self._context.workload, self._context.history.events
        return checkpoint_before_trouble(self._context.run_dir, step, events, workload.engine, workload.section)

    def _save_later(self, reason: str, then: str = "") -> Iterator[None]:
        """Queued work: a checkpoint of the step at which the loop comes to it.

        Args:
            then: the event of the run's end.
        """
        if then:
            self._context.loop.add_event(then, {}, self._context.loop.end_author if then == "stop" else "trainer")
        self.save(reason)
        yield

    def _write(self, reason: str) -> None:
        context, engine, loop = self._context, self._context.workload.engine, self._context.loop
        # What a resume reads back (events, scalars) must be on disk before what it goes on from.
        context.writer.flush()
        save_checkpoint(
            context.run_dir,
            engine.saved,
            engine.model,
            engine.optimizer,
            step=loop.step,
            reason=reason,
            controls=context.board,
            event_seq=context.history.seq_at(loop.step),
            seconds_trained=self._monitor.seconds_trained,
            scaler=engine.scaler.state_dict(),
            watch=watch_document(loop.state_dicts()),
            section=context.workload.section,
        )
        prune_checkpoints(context.run_dir, context.board["keep_checkpoints"])
        release_seldom()

    def _take(self, checkpoint: Checkpoint) -> None:
        """Take weights, moments and what was remembered. `CheckpointError` for what this run cannot use."""
        folder, state, engine = checkpoint.folder, checkpoint.state, self._context.workload.engine
        with checkpoint_errors(folder, "model"):
            self._context.workload.resize(state.model)
        put_back(engine.saved, engine.model, engine.optimizer, checkpoint)
        restore_scaler(engine, state.scaler, folder)
        with checkpoint_errors(folder, WATCH_FILE):
            self._context.loop.load_state_dicts(callback_states(checkpoint.watch), state.step)

    def _warn(self, error: CheckpointError) -> None:
        logger.warning("%s", error)
        self._context.writer.add_log(0, "warning", str(error))

    def _plan_repeat(self, step: int, event_seq: int) -> None:
        self._context.writer.truncate_after(step, event_seq=event_seq)
        self._context.history.plan(step, event_seq)


def watch_document(states: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What `watch.json` holds of the callbacks' states, by name: each under its name, and the monitor's entries at the
    top, where they have stood since there were detectors. So a checkpoint of any version is one of every version.
    """
    others = {name: state for name, state in states.items() if name != Monitor.name}
    return {**states.get(Monitor.name, {}), **others}


def callback_states(watch: Mapping[str, Any]) -> dict[str, Any]:
    """Those states again. The monitor is given the whole document, of which it reads its own entries; a callback that
    the checkpoint does not know has none.
    """
    return {**watch, Monitor.name: watch}


def restore_scaler(engine: BaseEngine, state: Mapping[str, Any], folder: Path) -> None:
    """Take the loss scale of a checkpoint, where both have one: fp16 on a CPU has none. Raises `CheckpointError`."""
    if engine.scaler.is_enabled() and state:
        with checkpoint_errors(folder, "scaler"):
            _SCALER(state, "scaler")
            engine.scaler.load_state_dict(dict(state))


def load_newest_good(
    run_dir: Path, take: Callable[[Checkpoint], None], refused: Callable[[CheckpointError], None]
) -> Checkpoint | None:
    """The newest checkpoint that `take` takes; None when there are none.

    Raises `CheckpointError` when none can: a fresh start would throw work away.

    Args:
        refused: told of each that cannot be used.
    """
    first, count = None, 0
    for folder in reversed(checkpoint_folders(run_dir)):
        try:
            checkpoint = load_checkpoint(folder)
            take(checkpoint)
        except CheckpointError as error:
            refused(error)
            first, count = first or error, count + 1
        else:
            return checkpoint
    if first is None:
        return None
    raise CheckpointError(
        f"none of the {count} checkpoints can be used ({first}); restore one from a copy, or start a new run"
    )


def checkpoint_before_trouble(
    run_dir: Path, step: int, events: Sequence[Event], engine: BaseEngine, section: Mapping[str, Any]
) -> Checkpoint:
    """The newest good checkpoint from before a trouble that began at `step`: from before its likely cause, too, the
    newest risky change of a control in the 200 steps before it.

    `ConfigError` when there is none, with what is wrong with the last one that was tried.

    Args:
        section: of the model, which the checkpoint must fit.
    """
    controls = live_controls(str(section["kind"]))
    changes = [event for event in events if event.kind == "control" and step - RECENT <= event.step < step]
    risky = {name for name, control in controls.items() if control.risky}
    causes = [event.step for event in changes if event.payload.get("name") in risky]
    limit = max(causes, default=step - 1)
    reason = ""
    for folder in reversed(checkpoint_folders(run_dir)):
        if int(folder.name[5:]) > limit:
            continue
        try:
            state = read_state(folder)
            # a checkpoint from before a field was there says nothing of it, and is its run's all the same
            if {**section, **state.model} != section:
                continue
            checkpoint = load_checkpoint(folder)
            check_fits(engine.saved, engine.model, checkpoint)
        except CheckpointError as error:
            reason = str(error)
        else:
            return checkpoint
    if reason:
        raise ConfigError(f"no checkpoint from before step {step} can be restored: {reason}")
    raise ConfigError(f"there is no checkpoint from before step {step}: nothing can be restored")
