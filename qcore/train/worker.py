"""The worker: one named thread that trains one run, from opening the data to the last checkpoint.

It holds the run's lock for its whole life, answers to `stop`, is joined, and keeps the traceback of anything
unforeseen in the run's log with the state `failed`. It knows nothing of the page that started it, so it outlives
reloads and page switches.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from dataclasses import replace
from pathlib import Path

from qcore.runs.assignment import Assignment
from qcore.runs.failures import folder_gone_error
from qcore.runs.last_words import Failure, release_reserve, store_failure
from qcore.runs.layout import RunLock
from qcore.runs.replay_plan import ReplayPlan
from qcore.runs.slots import Slots
from qcore.store import DATABASE_NAME, WriterReplacedError
from qcore.train.allocator import keep_freed_memory, release_freed_memory

logger = logging.getLogger(__name__)


class Worker:
    """Trains the run in `run_dir`. `start` returns at once; `stop` asks for a checkpoint and an end; `join` waits
    for it. ending: why it failed, whether or not that could be written. lock: of the run, when it is held already.
    """

    def __init__(
        self, run_dir: Path, slots: Slots, author: str, orders: ReplayPlan | None = None, lock: RunLock | None = None
    ) -> None:
        self.run_dir = run_dir
        self._assignment = Assignment(run_dir, slots, author, time.time(), orders or ReplayPlan())
        self.ending = self._assignment.ending
        self._lock = lock or RunLock(run_dir)
        # A daemon, because the interpreter would otherwise wait for it before the exit handlers that stop it run.
        self._thread = threading.Thread(target=self._main, name=f"train-{run_dir.name}", daemon=True)

    def hold(self) -> bool:
        """Take the run's lock; False when another worker holds the run."""
        self._assignment = replace(self._assignment, since=time.time())
        return self._lock.acquire()

    def start(self) -> None:
        """Start the thread of a run that is held. It queues now: runs train in the order of their start, whichever has
        opened its data first. Raises `OSError` when this process gets no further thread.
        """
        self._assignment.slots.request(self.run_dir.name)
        try:
            self._thread.start()
        except RuntimeError as error:
            self.let_go()
            raise OSError(errno.EAGAIN, str(error)) from error

    def let_go(self) -> None:
        """Give back what a worker holds that has not been started, or has ended."""
        self._assignment.slots.release(self.run_dir.name)
        self._lock.release()

    def nudge(self) -> None:
        """Tell a waiting worker that a command has arrived."""
        self._assignment.nudge.set()

    def stop(self) -> None:
        """Ask for an end with a checkpoint, between two steps; returns at once."""
        self._assignment.stopping.set()
        self._assignment.nudge.set()

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
            # Here and not above: torch takes seconds to import, and the page that starts a run should not wait for it.
            from qcore.train.session import train_run

            keep_freed_memory()
            train_run(self._assignment)
        except Exception as error:  # the thread's outer edge: what the run's own writer could not take
            logger.exception("the store of %s failed", self.run_dir.name)
            failure = self.ending.failed(error)
            if not isinstance(error, WriterReplacedError) and failure.cause != "folder gone":  # no longer ours to write
                store_failure(self.run_dir, failure)
        finally:
            first = self.ending.failure
            # A folder goes file by file: what broke first, while half of it was there, followed from that.
            if first is not None and not (self.run_dir / DATABASE_NAME).exists():
                gone = folder_gone_error(self.run_dir)
                self.ending.failure = Failure.of(gone, first.step, first.total_steps)
            release_reserve(self.run_dir)
            self.let_go()
            release_freed_memory()
