"""The worker: one named thread that trains one run, from opening the data to the last checkpoint.

It holds the run's lock for its whole life, answers to `stop`, is joined, and keeps the traceback of anything
unforeseen in the run's log with the state `failed`. It knows nothing of the page that started it, so it outlives
reloads and page switches.
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

import torch

from qcore.config import RunConfig
from qcore.data import Dataset, open_dataset
from qcore.models import parameter_count
from qcore.store import DATABASE_NAME, CommandReader, RunReader, RunWriter, Status
from qcore.train.engine import Engine
from qcore.train.files import LABELS_FILE, TOKENIZER_FILE, RunLock, read_config
from qcore.train.slots import Slots
from qcore.train.trainer import Trainer

logger = logging.getLogger(__name__)


class Worker:
    """Trains the run in `run_dir`. `start` returns at once; `stop` asks for a checkpoint and an end; `join` waits
    for it.
    """

    def __init__(self, run_dir: Path, slots: Slots, author: str) -> None:
        self.run_dir = run_dir
        self._slots = slots
        self._author = author
        self._stopping = threading.Event()
        self._nudge = threading.Event()
        self._lock = RunLock(run_dir)
        self._since = 0.0
        # A daemon, because the interpreter would otherwise wait for it before the exit handlers that stop it run.
        self._thread = threading.Thread(target=self._main, name=f"train-{run_dir.name}", daemon=True)

    def hold(self) -> bool:
        """Take the run's lock; False when another worker holds the run."""
        self._since = time.time()
        return self._lock.acquire()

    def start(self) -> None:
        """Start the thread of a run that is held."""
        self._thread.start()

    def nudge(self) -> None:
        """Tell a waiting worker that a command has arrived."""
        self._nudge.set()

    def stop(self) -> None:
        """Ask for an end with a checkpoint, between two steps; returns at once."""
        self._stopping.set()
        self._nudge.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread's end; True when it has ended."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def holds(self) -> bool:
        """Whether the run is held: from `hold` to the end of the thread."""
        return self._lock.held

    def _main(self) -> None:
        try:
            writer = RunWriter(self.run_dir / DATABASE_NAME)
            try:
                self._train(writer)
            finally:
                writer.close()
        except Exception:
            logger.exception("the store of %s failed", self.run_dir.name)
        finally:
            self._slots.release(self.run_dir.name)
            self._lock.release()

    def _train(self, writer: RunWriter) -> None:
        trainer: Trainer | None = None
        total = 0
        try:
            config = read_config(self.run_dir)
            total = config.optim.steps
            writer.set_status(_status("queued", 0, total, "opening the data"))
            dataset = open_dataset(config.data, config.model.context, self.run_dir.parent / ".cache")
            engine = Engine(config, dataset)
            self._describe(writer, config, dataset, engine)
            with RunReader(self.run_dir / DATABASE_NAME) as reader:
                events = reader.events()
            with contextlib.closing(CommandReader(self.run_dir / DATABASE_NAME)) as commands:
                trainer = Trainer(
                    self.run_dir,
                    config,
                    engine,
                    writer,
                    commands,
                    events=events,
                    slots=self._slots,
                    stopping=self._stopping,
                    nudge=self._nudge,
                    since=self._since,
                )
                trainer.run(self._author)
        except Exception as error:  # noqa: BLE001 - the thread's outer edge: kept in the log, shown as the run's state
            logger.warning("run %s failed: %s", self.run_dir.name, error)
            step = trainer.step if trainer else 0
            writer.add_log(step, "error", traceback.format_exc())
            writer.set_status(_status("failed", step, total, f"{type(error).__name__}: {error}"))

    def _describe(self, writer: RunWriter, config: RunConfig, dataset: Dataset, engine: Engine) -> None:
        tokenizer = dataset.tokenizer
        path = self.run_dir / TOKENIZER_FILE
        if not path.exists():
            path.write_text(tokenizer.to_json(), encoding="utf-8")
            labels = [tokenizer.token_text(token) for token in range(tokenizer.vocab_size)]
            (self.run_dir / LABELS_FILE).write_text(json.dumps(labels, ensure_ascii=False), encoding="utf-8")
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
