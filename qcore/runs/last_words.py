"""How a worker says why it failed when the very disk that should keep the reason takes no more. No torch here.

While a run trains, a small file keeps some room in its folder; it goes when the disk is full, so that the reason can be
written in its place. What the database does not take goes to a file beside it, which readers know; the next worker of
the run deletes it. Earlier versions of this program see neither file.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qcore.base import plain_file, read_json
from qcore.base.run_states import RunState
from qcore.runs.failures import CAUSES, cause_of, sentence
from qcore.runs.layout import write_text
from qcore.store import DATABASE_NAME, RunReader, RunWriter, Status, shapes

WORDS_FILE, RESERVE_FILE = "last-words.json", ".reserve"
RESERVE_BYTES = 256 * 1024
_MOST_BYTES = 64 * 1024
_WORDS = shapes.record({"message": shapes.text, "cause": shapes.text, "wall": shapes.moment})


@dataclass(frozen=True)
class Failure:
    """Why a worker ended.

    Attributes:
        cause: of `CAUSES`.
        wall: epoch seconds.
        details: the traceback.
    """

    message: str
    cause: str
    step: int = 0
    total_steps: int = 0
    wall: float = field(default_factory=time.time)
    details: str = ""

    @classmethod
    def of(cls, error: BaseException, step: int = 0, total_steps: int = 0, *, opening: bool = False) -> Failure:
        """What an error means.

        Args:
            opening: data and model were being opened.
        """
        details = "".join(traceback.format_exception(error))
        return cls(sentence(error), cause_of(error, opening=opening), step, total_steps, time.time(), details)

    def status(self, before: Status | None = None, figures: Mapping[str, Any] | None = None) -> Status:
        """The status row of the failed run; what this worker did not come to know stands as it was before."""
        step = max(self.step, before.step) if before else self.step
        total = self.total_steps or (before.total_steps if before else 0)
        extra = {**(before.extra if before else {}), **(figures or {}), "cause": self.cause}
        return Status(
            RunState.FAILED, step, total, self.wall, os.getpid(), os.uname().nodename, self.message, extra=extra
        )


class Ending:
    """What ended a worker, known in its process before anything is written of it."""

    failure: Failure | None = None

    def failed(self, error: BaseException, step: int = 0, total_steps: int = 0, *, opening: bool = False) -> Failure:
        """Note why the worker ends; what comes after the first reason follows from it."""
        if self.failure is None:
            self.failure = Failure.of(error, step, total_steps, opening=opening)
        return self.failure


def keep_reserve(run_dir: Path) -> None:
    """Keep `RESERVE_BYTES` of the disk for the run's last words, where the disk has them."""
    with contextlib.suppress(OSError):
        descriptor = plain_file(run_dir / RESERVE_FILE, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            missing = RESERVE_BYTES - os.fstat(descriptor).st_size
            if missing > 0:
                os.lseek(descriptor, 0, os.SEEK_END)
                os.write(descriptor, os.urandom(missing))  # what a file system cannot pack or leave out
        finally:
            os.close(descriptor)


def release_reserve(run_dir: Path) -> None:
    """Give the room back."""
    with contextlib.suppress(OSError):
        (run_dir / RESERVE_FILE).unlink(missing_ok=True)


def store_failure(run_dir: Path, failure: Failure) -> None:
    """Write a failure that the run's own writer could not: into the database, else beside it, else nowhere."""
    release_reserve(run_dir)
    if not (run_dir / DATABASE_NAME).exists():
        return
    try:
        with RunReader(run_dir / DATABASE_NAME) as reader:
            before = reader.status()
        with RunWriter(run_dir / DATABASE_NAME) as writer:
            writer.add_log(failure.step, "error", failure.details)
            writer.set_status(failure.status(before))
    except (sqlite3.Error, OSError, ValueError, RuntimeError):
        with contextlib.suppress(OSError):
            write_words(run_dir, failure)


def write_words(run_dir: Path, failure: Failure) -> None:
    """Write a failure beside the database."""
    words = {**asdict(failure), "details": failure.details[-_MOST_BYTES // 8 :]}
    write_text(run_dir / WORDS_FILE, json.dumps(words))


def read_words(run_dir: Path) -> Failure | None:
    """The failure that lies beside the database; None when there is none, or none that can be read."""
    try:
        words = read_json(run_dir / WORDS_FILE, max_bytes=_MOST_BYTES)
        _WORDS(words, WORDS_FILE)
    except (OSError, ValueError):
        return None
    if words["cause"] not in CAUSES:
        return None
    return Failure(words["message"][:2000], words["cause"], wall=float(words["wall"]))


def forget_words(run_dir: Path) -> None:
    """A new worker has the run: what ended the last one is over."""
    with contextlib.suppress(OSError):
        (run_dir / WORDS_FILE).unlink(missing_ok=True)
