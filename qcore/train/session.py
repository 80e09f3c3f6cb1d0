"""One worker's life, seen from inside: open the data, build the model, train, and keep whatever goes wrong.

Which family trains a run, and which one speaks from its checkpoints, is decided here alone.

What nobody foresaw ends the run with the state `failed`, the error as its message and the traceback in its log.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from qcore.automation.control_board import ControlBoard
from qcore.base.run_states import ACTIVE, RunState, RunStateMachine, Trigger
from qcore.base.stopping import StopAskedError, stoppable
from qcore.config import RunConfig, Stop, TextRunConfig, VideoRunConfig, check_root
from qcore.runs.assignment import Assignment
from qcore.runs.checkpoint_folders import (
    checkpoint_folders,
    delete_folder,
    newest_state,
    read_state,
    recover_interrupted,
)
from qcore.runs.failures import RunError, cause_of, sentence
from qcore.runs.last_words import forget_words, keep_reserve, release_reserve
from qcore.runs.layout import (
    CACHE_FOLDER,
    CATCH_UP,
    CONFIG_FILE,
    ORIGIN_FILE,
    TOKENIZER_FILE,
    check_present,
    folder_identity,
    read_config,
    stored_config,
)
from qcore.runs.replay_plan import ReplayPlan
from qcore.store import DATABASE_NAME, Command, CommandReader, RunReader, RunWriter, Status
from qcore.train.loop import RunDatabase, Trainer
from qcore.train.text_workload import TextWorkload, load_text
from qcore.train.video_workload import VideoWorkload, load_video
from qcore.train.workload import Sampler, Workload

NEWEST_SAMPLES = 64
_STOPPED = "stopped while the data was being opened"
logger = logging.getLogger(__name__)


def train_run(assignment: Assignment) -> None:
    """Train the run until its end, a stop or a failure; the caller holds its lock.

    A run that was put at a step between two checkpoints first goes there, as the run that it comes from went. Raises
    what could not be written.
    """
    run_dir, ending = assignment.run_dir, assignment.ending
    place = folder_identity(run_dir)
    recover_interrupted(run_dir)
    keep_reserve(run_dir)
    with RunWriter(run_dir / DATABASE_NAME) as writer:
        trainer: Trainer | None = None
        with RunReader(run_dir / DATABASE_NAME) as reader:
            before, meta = reader.status(), reader.meta()
        step, total = (before.step, before.total_steps) if before else (0, 0)
        states = _take_up(before)
        forget_words(run_dir)

        def make_trainer(config: RunConfig, orders: ReplayPlan) -> Trainer:
            with stoppable(stop_asked):
                workload = open_workload(config, run_dir.parent, run_dir / TOKENIZER_FILE)
            _check_same_data(meta, workload)
            _describe(run_dir, writer, workload, first=meta.get("data_fingerprint") is None)
            writer.flush()
            with RunReader(run_dir / DATABASE_NAME) as reader:
                events, newest = reader.events(), reader.generations("timeline", limit=NEWEST_SAMPLES)
            drawn: Counter[int] = Counter()
            for sample in newest:
                drawn[sample.step] += sample.status == "done"
            commands = closing.enter_context(contextlib.closing(CommandReader(run_dir / DATABASE_NAME)))
            database = RunDatabase(writer, commands, events, drawn)
            return Trainer(replace(assignment, orders=orders), config, workload, database, states)

        with contextlib.ExitStack() as closing:
            waiting = closing.enter_context(contextlib.closing(CommandReader(run_dir / DATABASE_NAME)))
            asked: list[Command] = []

            def stop_asked() -> bool:
                """Whether the lab, or a command of now, wants the run to end while its data are opened."""
                asked.extend(
                    row for row in waiting.pending() if row.kind == Stop.kind and row.created >= assignment.since
                )
                return bool(asked) or assignment.stopping.is_set()

            try:
                config, refused = stored_config(run_dir)
                for key, why in refused.items():
                    writer.add_log(step, "warning", f"{CONFIG_FILE}: {why}; the run takes the default of {key}")
                total = total or config.optim.steps
                named = getattr(config.data, "hub_name", "") if config.data.source == "huggingface" else ""  # type: ignore[attr-defined]
                writer.set_status(_status(states, step, total, f"opening the data {named}".rstrip()))
                goal = meta.get(CATCH_UP)
                way = read_config(run_dir, ORIGIN_FILE) if (run_dir / ORIGIN_FILE).exists() else config
                if goal is not None and not _has_reached(run_dir, goal):
                    trainer = make_trainer(way, ReplayPlan(until=goal, catching_up=True))
                    if trainer.run() == RunState.FAILED or assignment.stopping.is_set():
                        return
                    states.fire(Trigger.RESUME)  # the way there is over, and the run itself begins
                # Also where another worker came this far and went no further.
                if goal is not None and way != config:
                    meta["data_fingerprint"] = None
                    _forget_origin(run_dir, goal, writer)
                trainer = make_trainer(config, assignment.orders)
                trainer.run()
            except StopAskedError:
                states.fire(Trigger.STOP)
                for row in asked:
                    writer.resolve_command(row.id, "applied", step, _STOPPED)
                writer.add_log(step, "info", _STOPPED)
                writer.set_status(_status(states, step, total, _STOPPED))
            except Exception as error:  # noqa: BLE001 - the thread's outer edge: kept in the log, shown as the run's state
                logger.warning("run %s failed: %s", run_dir.name, error)
                states.fire(Trigger.FAIL)
                told = _explain_error(error, run_dir, place)
                first = ending.failure
                failure = ending.failed(told, trainer.step if trainer else step, total, opening=trainer is None)
                if cause_of(told) == "disk":
                    release_reserve(run_dir)
                writer.add_log(failure.step, "error", failure.details)
                if first is not None:  # and what then kept the trainer from saying so itself
                    writer.add_log(failure.step, "error", sentence(told))
                writer.set_status(failure.status(figures=trainer.figures() if trainer else None))


def open_workload(config: RunConfig, runs_dir: Path, tokenizer: Path | None = None) -> Workload:
    """Open the data and build the engine of a configuration. `ValueError` for data that cannot be used.

    Args:
        tokenizer: file of the one to use, so that token ids mean the same on other data; None makes one from the data.
    """
    check_root(config)
    if isinstance(config, VideoRunConfig):
        return VideoWorkload(config)
    assert isinstance(config, TextRunConfig)
    return TextWorkload(config, runs_dir / CACHE_FOLDER, tokenizer)


def load_sampler(config: RunConfig, run_dir: Path, folder: Path) -> tuple[Sampler, Mapping[str, Any]]:
    """A checkpoint's model on the CPU, ready to speak, and the controls it was saved with; what it lacks, or has with a
    value that is refused, is as the run started with it. `CheckpointError` for a bad folder, `ConfigError` where its
    weights lie outside of the root for data.
    """
    check_root(config)
    if isinstance(config, VideoRunConfig):
        speaker, saved = load_video(config, folder)
    else:
        assert isinstance(config, TextRunConfig)
        speaker, saved = load_text(config, run_dir, folder)
    board = ControlBoard(config)
    board.restore(saved)
    return speaker, board


def _take_up(before: Status | None) -> RunStateMachine:
    """The states of a run that its new worker takes up.

    Args:
        before: what its last one left of its state, if it had one.
    """
    if before is None:
        return RunStateMachine(RunState.QUEUED)
    states = RunStateMachine(RunState(before.state))
    if states.state in ACTIVE:  # whose worker is gone, as this one holds the lock: nobody could write how it ended
        states.fire(Trigger.KILL)
    states.fire(Trigger.RESUME)
    return states


def _explain_error(error: Exception, run_dir: Path, place: tuple[int, int]) -> Exception:
    """The error, or that the run's folder is gone, from which it follows."""
    try:
        check_present(run_dir, place)
    except RunError as gone:
        return gone.with_traceback(error.__traceback__)
    return error


def _has_reached(run_dir: Path, goal: int) -> bool:
    """Whether the run has a checkpoint of the step that it was put at, or has gone beyond."""
    state = newest_state(run_dir)
    return state is not None and state.step >= goal


def _forget_origin(run_dir: Path, goal: int, writer: RunWriter) -> None:
    """Forget how a fork came to its first step: from here on its own configuration holds, and its own data.

    The file goes last: whoever is killed before that does it again.
    """
    writer.set_meta("data_fingerprint", None)
    writer.flush()
    for folder in checkpoint_folders(run_dir):
        if read_state(folder).step < goal:
            delete_folder(folder)
    (run_dir / ORIGIN_FILE).unlink()


def _check_same_data(meta: dict[str, Any], workload: Workload) -> None:
    """Raise `RunError` when a run that goes on would see other data than it started with."""
    if meta.get("data_fingerprint") not in (None, workload.fingerprint):
        raise RunError(
            "data",
            "the data of this run has changed since it started, so it cannot continue as the same run: restore the "
            "data, or start a new run on the current data",
        )


def _describe(run_dir: Path, writer: RunWriter, workload: Workload, first: bool) -> None:
    engine = workload.engine
    facts = {
        **workload.describe(run_dir),
        "device": str(engine.device),
        "precision": engine.precision,
        "torch_version": torch.__version__,
        "data_fingerprint": workload.fingerprint,
    }
    for key, value in facts.items():
        writer.set_meta(key, value)
    if first:  # a run that goes on has said so before
        for said in facts.get("data_warnings", ()):
            writer.add_log(0, "warning", f"data: {said}")


def _status(states: RunStateMachine, step: int, total: int, message: str) -> Status:
    return Status(states.state.kept, step, total, time.time(), os.getpid(), os.uname().nodename, message)
