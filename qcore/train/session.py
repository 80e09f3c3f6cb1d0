"""One worker's life, seen from inside: open the data, build the model, train, and keep whatever goes wrong.

What nobody foresaw ends the run with the state `failed`, the error as its message and the traceback in its log.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from qcore.base.stopping import StopAskedError, stoppable
from qcore.config import RunConfig, Stop
from qcore.runs.checkpoint_folders import checkpoint_folders, newest_state, read_state
from qcore.runs.failures import RunError, cause_of, sentence
from qcore.runs.last_words import Ending, forget_words, keep_reserve, release_reserve
from qcore.runs.layout import (
    CATCH_UP,
    CONFIG_FILE,
    ORIGIN_FILE,
    TOKENIZER_FILE,
    check_present,
    place_of,
    read_config,
    stored_config,
)
from qcore.runs.replay_plan import Orders
from qcore.runs.slots import Slots
from qcore.store import DATABASE_NAME, Command, CommandReader, RunReader, RunWriter, Status
from qcore.train.loop import Trainer
from qcore.train.open import open_workload
from qcore.train.workload import Workload

NEWEST_SAMPLES = 64
_STOPPED = "stopped while the data was being opened"
logger = logging.getLogger(__name__)


def train_run(
    run_dir: Path,
    slots: Slots,
    author: str,
    stopping: threading.Event,
    nudge: threading.Event,
    since: float,
    orders: Orders,
    ending: Ending,
) -> None:
    """Train the run until its end, a stop or a failure; the caller holds its lock since `since` (epoch seconds).

    A run that was put at a step between two checkpoints first goes there, as the run that it comes from went. ending:
    told what ends the run, before anything is written of it: the disk may take nothing more. Raises what could not be
    written.
    """
    place = place_of(run_dir)
    keep_reserve(run_dir)
    with RunWriter(run_dir / DATABASE_NAME) as writer:
        trainer: Trainer | None = None
        with RunReader(run_dir / DATABASE_NAME) as reader:
            before, meta = reader.status(), reader.meta()
        step, total = (before.step, before.total_steps) if before else (0, 0)
        forget_words(run_dir)

        def made(config: RunConfig, orders: Orders) -> Trainer:
            with stoppable(stop_asked):
                workload = open_workload(config, run_dir.parent, run_dir / TOKENIZER_FILE)
            _check_same_data(meta, workload)
            _describe(run_dir, writer, workload, first="data_fingerprint" not in meta)
            writer.flush()
            with RunReader(run_dir / DATABASE_NAME) as reader:
                events, newest = reader.events(), reader.generations("timeline", limit=NEWEST_SAMPLES)
            drawn: Counter[int] = Counter()
            for sample in newest:
                drawn[sample.step] += sample.status == "done"
            commands = closing.enter_context(contextlib.closing(CommandReader(run_dir / DATABASE_NAME)))
            return Trainer(
                run_dir,
                config,
                workload,
                writer,
                commands,
                events=events,
                slots=slots,
                stopping=stopping,
                nudge=nudge,
                since=since,
                orders=orders,
                drawn=drawn,
                ending=ending,
            )

        with contextlib.ExitStack() as closing:
            waiting = closing.enter_context(contextlib.closing(CommandReader(run_dir / DATABASE_NAME)))
            asked: list[Command] = []

            def stop_asked() -> bool:
                """Whether the lab, or a command of now, wants the run to end while its data are opened."""
                asked.extend(row for row in waiting.pending() if row.kind == Stop.kind and row.created >= since)
                return bool(asked) or stopping.is_set()

            try:
                config, refused = stored_config(run_dir)
                for key, why in refused.items():
                    writer.add_log(step, "warning", f"{CONFIG_FILE}: {why}; the run takes the default of {key}")
                total = total or config.optim.steps
                named = getattr(config.data, "hub_name", "") if config.data.source == "huggingface" else ""  # type: ignore[attr-defined]
                writer.set_status(_status("queued", step, total, f"opening the data {named}".rstrip()))
                goal = meta.get(CATCH_UP)
                if goal is not None and not _is_there(run_dir, goal):
                    way = read_config(run_dir, ORIGIN_FILE) if (run_dir / ORIGIN_FILE).exists() else config
                    trainer = made(way, Orders(until=goal, catching_up=True))
                    if trainer.run(author) == "failed" or stopping.is_set():
                        return
                    if way != config:
                        meta.pop("data_fingerprint", None)  # the fork may be on other data
                        _cut_way_back(run_dir, goal)
                trainer = made(config, orders)
                trainer.run(author)
            except StopAskedError:
                for row in asked:
                    writer.resolve_command(row.id, "applied", step, _STOPPED)
                writer.add_log(step, "info", _STOPPED)
                writer.set_status(_status("stopped", step, total, _STOPPED))
            except Exception as error:  # noqa: BLE001 - the thread's outer edge: kept in the log, shown as the run's state
                logger.warning("run %s failed: %s", run_dir.name, error)
                told = _explained(error, run_dir, place)
                first = ending.failure
                failure = ending.failed(told, trainer.step if trainer else step, total, opening=trainer is None)
                if cause_of(told) == "disk":
                    release_reserve(run_dir)
                writer.add_log(failure.step, "error", failure.details)
                if first is not None:  # and what then kept the trainer from saying so itself
                    writer.add_log(failure.step, "error", sentence(told))
                writer.set_status(failure.status(figures=trainer.figures() if trainer else None))


def _explained(error: Exception, run_dir: Path, place: tuple[int, int]) -> Exception:
    """The error, or that the run's folder is gone, from which it follows."""
    try:
        check_present(run_dir, place)
    except RunError as gone:
        return gone.with_traceback(error.__traceback__)
    return error


def _is_there(run_dir: Path, goal: int) -> bool:
    """Whether the run has a checkpoint of the step that it was put at, or has gone beyond."""
    state = newest_state(run_dir)
    return state is not None and state.step >= goal


def _cut_way_back(run_dir: Path, goal: int) -> None:
    """Forget how a fork came to its first step: from here on its own configuration holds."""
    (run_dir / ORIGIN_FILE).unlink()
    for folder in checkpoint_folders(run_dir):
        if read_state(folder).step < goal:
            shutil.rmtree(folder)


def _check_same_data(meta: dict[str, Any], workload: Workload) -> None:
    """Raise `RunError` when a run that goes on would see other data than it started with."""
    if meta.get("data_fingerprint", workload.fingerprint) != workload.fingerprint:
        raise RunError(
            "data",
            "the data of this run has changed since it started, so it cannot go on as the same run: restore it, or "
            "start a new run on what there is now",
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


def _status(state: str, step: int, total: int, message: str) -> Status:
    return Status(state, step, total, time.time(), os.getpid(), os.uname().nodename, message)
