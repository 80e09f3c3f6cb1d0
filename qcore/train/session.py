"""One worker's life, seen from inside: open the data, build the model, train, and keep whatever goes wrong.

What nobody foresaw ends the run with the state `failed`, the error as its message and the traceback in its log.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from qcore.store import DATABASE_NAME, CommandReader, RunReader, RunWriter, Status
from qcore.train.files import read_config
from qcore.train.slots import Slots
from qcore.train.trainer import Trainer
from qcore.train.workload import Workload, open_workload

logger = logging.getLogger(__name__)


def train_run(
    run_dir: Path, slots: Slots, author: str, stopping: threading.Event, nudge: threading.Event, since: float
) -> None:
    """Train the run until its end, a stop or a failure; the caller holds its lock since `since` (epoch seconds)."""
    with RunWriter(run_dir / DATABASE_NAME) as writer:
        trainer: Trainer | None = None
        with RunReader(run_dir / DATABASE_NAME) as reader:
            before, events, meta = reader.status(), reader.events(), reader.meta()
        step, total = (before.step, before.total_steps) if before else (0, 0)
        try:
            config = read_config(run_dir)
            total = total or config.optim.steps
            writer.set_status(_status("queued", step, total, "opening the data"))
            workload = open_workload(config, run_dir.parent)
            _check_same_data(meta, workload)
            _describe(run_dir, writer, workload)
            with contextlib.closing(CommandReader(run_dir / DATABASE_NAME)) as commands:
                trainer = Trainer(
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
                )
                trainer.run(author)
        except Exception as error:  # noqa: BLE001 - the thread's outer edge: kept in the log, shown as the run's state
            logger.warning("run %s failed: %s", run_dir.name, error)
            step = trainer.step if trainer else step
            writer.add_log(step, "error", traceback.format_exc())
            writer.set_status(_status("failed", step, total, f"{type(error).__name__}: {error}"))


def _check_same_data(meta: dict[str, Any], workload: Workload) -> None:
    """Raise `ValueError` when a run that goes on would see other data than it started with."""
    if meta.get("data_fingerprint", workload.fingerprint) != workload.fingerprint:
        raise ValueError(
            "the data of this run has changed since it started, so it cannot go on as the same run: restore it, or "
            "start a new run on what there is now"
        )


def _describe(run_dir: Path, writer: RunWriter, workload: Workload) -> None:
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


def _status(state: str, step: int, total: int, message: str) -> Status:
    return Status(state, step, total, time.time(), os.getpid(), os.uname().nodename, message)
