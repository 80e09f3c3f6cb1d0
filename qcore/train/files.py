"""The run folder: names of its files, the lock that says a worker lives, and reading its configuration.

`checkpoints/<run>/`: run.sqlite, config.yaml, tokenizer.json, labels.json, run.lock, step-NNNNNN/, and origin.yaml in
some forks. The lock is the operating system's (`flock`): it goes with the process that holds it, however that ends, so
a dead worker is never taken for a live one.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from qcore.config import BEFORE, RunConfig

CONFIG_FILE = "config.yaml"
TOKENIZER_FILE = "tokenizer.json"
LABELS_FILE = "labels.json"
LOCK_FILE = "run.lock"
CACHE_FOLDER = ".cache"
ORIGIN_FILE = "origin.yaml"
"""Configuration of the run that a fork comes from, where the fork's is another: how it goes to its first step."""
CATCH_UP = "catch_up"
"""Meta value: the step that a run was put at, to which it goes from an earlier checkpoint before anything else."""


class RunLock:
    """Exclusive hold on a run folder by one worker of one process."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / LOCK_FILE
        self._descriptor: int | None = None

    def acquire(self, timeout: float = 1.0) -> bool:
        """Take the lock; False when another worker, in this or another process, holds it.

        Tries for `timeout` seconds, because `is_held` of another process touches the lock for an instant.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    return False
                time.sleep(0.01)
            else:
                self._descriptor = descriptor
                return True

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def release(self) -> None:
        """Give the lock back; does nothing when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_held(run_dir: Path) -> bool:
    """Whether a worker of any process holds the run."""
    try:
        descriptor = os.open(run_dir / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def read_config(run_dir: Path, name: str = CONFIG_FILE) -> RunConfig:
    """The run's configuration. Raises `ConfigError` when the file holds something else, `OSError` when it is
    missing.
    """
    return RunConfig.from_yaml((run_dir / name).read_text(encoding="utf-8"), BEFORE)
