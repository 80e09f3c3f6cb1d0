"""One worker's life, seen from inside: open the data, build the model, train, and keep whatever goes wrong.

What nobody foresaw ends the run with the state `failed`, the error as its message and the traceback in its log.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from qcore.config import RunConfig
from qcore.data import Dataset, open_dataset
from qcore.models import parameter_count
from qcore.store import DATABASE_NAME, CommandReader, RunReader, RunWriter, Status
from qcore.train.engine import Engine, build_engine
from qcore.train.files import LABELS_FILE, TOKENIZER_FILE, read_config
from qcore.train.slots import Slots
from qcore.train.trainer import Trainer

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
            dataset = open_dataset(config.data, config.model.context, run_dir.parent / ".cache")
            _check_same_data(meta, dataset)
            engine = build_engine(config, dataset)
            _describe(run_dir, writer, config, dataset, engine)
            with contextlib.closing(CommandReader(run_dir / DATABASE_NAME)) as commands:
                trainer = Trainer(
                    run_dir,
                    config,
                    engine,
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


def _check_same_data(meta: dict[str, Any], dataset: Dataset) -> None:
    """Raise `ValueError` when a run that goes on would see other tokens than it started with."""
    if meta.get("data_fingerprint", dataset.fingerprint) != dataset.fingerprint:
        raise ValueError(
            "the text of this run has changed since it started, so it cannot go on as the same run: restore the text, "
            "or start a new run on what there is now"
        )


def _describe(run_dir: Path, writer: RunWriter, config: RunConfig, dataset: Dataset, engine: Engine) -> None:
    tokenizer = dataset.tokenizer
    path = run_dir / TOKENIZER_FILE
    if not path.exists():
        path.write_text(tokenizer.to_json(), encoding="utf-8")
        labels = [tokenizer.token_text(token) for token in range(tokenizer.vocab_size)]
        (run_dir / LABELS_FILE).write_text(json.dumps(labels, ensure_ascii=False), encoding="utf-8")
    optim = config.optim
    facts = {
        "parameters": parameter_count(engine.model),
        "vocab_size": tokenizer.vocab_size,
        "bytes_per_token": dataset.bytes_per_token,
        "tokens_per_step": optim.batch_size * optim.accumulation * config.model.context,
        "device": str(engine.device),
        "precision": engine.precision,
        "references": vars(dataset.references),
        "torch_version": torch.__version__,
        "corpus": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "special_tokens": {name: getattr(tokenizer, f"{name}_id") for name in ("pad", "bos", "eos", "unk")},
    }
    for key, value in facts.items():
        writer.set_meta(key, value)


def _status(state: str, step: int, total: int, message: str) -> Status:
    return Status(state, step, total, time.time(), os.getpid(), os.uname().nodename, message)
