"""Training slots: several runs of one process queue, and a limited number train at a time, first come, first served."""

from __future__ import annotations

import threading


class Slots:
    """A queue with `limit` places at the front. A paused or ended run gives its place up; a run asks again to go on."""

    def __init__(self, limit: int = 1) -> None:
        if limit < 1:
            raise ValueError(f"limit = {limit} is refused: at least one run must be able to train")
        self.limit = limit
        self._queue: list[str] = []
        self._changed = threading.Condition()

    def request(self, run: str, timeout: float = 0.0) -> bool:
        """Queue `run` if it is not yet, and tell whether it has a place; wait up to `timeout` seconds for one."""
        with self._changed:
            if run not in self._queue:
                self._queue.append(run)
            return self._changed.wait_for(lambda: self._has_place(run), timeout)

    def release(self, run: str) -> None:
        """Leave the queue; the next run takes the place."""
        with self._changed:
            if run in self._queue:
                self._queue.remove(run)
                self._changed.notify_all()

    def position(self, run: str) -> int:
        """Runs ahead of `run` before it has a place; 0 when it has one or is not queued."""
        with self._changed:
            return max(0, self._queue.index(run) - self.limit + 1) if run in self._queue else 0

    def waiting(self, run: str) -> tuple[tuple[str, ...], int]:
        """Runs that hold the places which `run` waits for, and its own place among those that wait, from 1; empty and 0
        when it waits for none.
        """
        with self._changed:
            if run not in self._queue or self._has_place(run):
                return (), 0
            return tuple(self._queue[: self.limit]), self._queue.index(run) - self.limit + 1

    def _has_place(self, run: str) -> bool:
        return run in self._queue[: self.limit]
