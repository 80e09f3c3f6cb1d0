"""The bounded queue between the training thread and the writer thread.

One deque keeps the order in which things were said, so that whoever sees an event also sees the scalars before it.
Over its limit it is thinned to three quarters: first arrays, then log lines, then scalar rows, each kind evenly over
its whole length, so that a curve loses resolution and not its end. Everything else is never dropped. Drops are counted.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from qcore.store.records import Record

ARRAY_BYTES = 256 * 2**20  # arrays waiting beyond this are dropped as they come: they would eat the trainer's memory
MIN_LIMIT = 16


class Scalars(NamedTuple):
    """A row of scalars: `values` are float64 in the order of `names`."""

    step: int
    wall: float
    names: tuple[str, ...]
    values: bytes


class Arrays(NamedTuple):
    """Named arrays of one probe at one step."""

    step: int
    wall: float
    name: str
    arrays: dict[str, np.ndarray]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())


class LogWrite(NamedTuple):
    """A line of the log: (wall, step, level, message)."""

    parameters: tuple[Any, ...]


class Write(NamedTuple):
    """A statement that must be executed."""

    sql: str
    parameters: tuple[Any, ...]


class Row(NamedTuple):
    """A record that replaces the one with its key: of several that wait, the last one alone is written."""

    sql: str
    record: Record


class Truncate(NamedTuple):
    """A rewind: forget telemetry after `step`."""

    step: int
    event_seq: int


@dataclass
class Marker:
    """Set when everything queued before it is committed, or when an attempt to do so failed for good reason."""

    reached: threading.Event
    failure: BaseException | None = None


Item = Scalars | Arrays | LogWrite | Write | Row | Truncate | Marker


class Backlog:
    """The queue. Every method may be called from any thread; none waits for the disk."""

    def __init__(self, limit: int, last_wall: float) -> None:
        if limit < MIN_LIMIT:
            raise ValueError(f"queue_limit is {limit}: it must be at least {MIN_LIMIT}")
        self._limit = limit
        self._thin_above = limit
        self._lock = threading.Lock()
        self.whole = threading.RLock()
        """Held by who queues things that belong together: nothing is taken meanwhile, so they share a commit."""
        self._items: deque[Item] = deque()
        self._rows: dict[str, Row] = {}
        self._array_bytes = 0
        self._last_wall = last_wall
        self._drops = 0

    def __len__(self) -> int:
        return len(self._items) + len(self._rows)

    @property
    def drops(self) -> int:
        """How many arrays, log lines and scalar rows were given up."""
        return self._drops

    def add_scalars(self, step: int, names: tuple[str, ...], values: bytes) -> None:
        """Queue a row. Its wall time is made strictly increasing, so that it tells the order of writing."""
        wall = time.time()
        with self._lock:
            if wall <= self._last_wall:
                # clocks stand still or go back; at equal steps readers keep the row written last
                wall = math.nextafter(self._last_wall, math.inf)
            self._last_wall = wall
            self._items.append(Scalars(step, wall, names, values))
            if len(self._items) > self._thin_above:
                self._thin()

    def add(self, item: Item) -> None:
        """Queue anything else."""
        with self._lock:
            if isinstance(item, Arrays):
                if self._array_bytes + item.nbytes > ARRAY_BYTES:
                    # arrays are pictures: the next probe brings newer ones, and memory must not grow with a slow disk
                    self._drops += 1
                    return
                self._array_bytes += item.nbytes
            if isinstance(item, Truncate):  # what is said after it must not come back with what was said before
                self._items.extend(self._rows.values())
                self._rows.clear()
            self._items.append(item)
            if len(self._items) > self._thin_above:
                self._thin()

    def put(self, key: str, row: Row) -> None:
        """Queue a record in the place of the one with its key that waits, if there is one."""
        with self._lock:
            self._rows[key] = row

    def drop(self, key: str) -> None:
        """Forget the record with this key that waits, if there is one."""
        with self._lock:
            self._rows.pop(key, None)

    def take(self) -> deque[Item]:
        """All that waits, oldest first; the queue is empty afterwards."""
        with self.whole, self._lock:
            items, self._items = self._items, deque()
            # last, as they are the newest state of what they say
            items.extend(self._rows.values())
            self._rows.clear()
            self._array_bytes = 0
            self._thin_above = self._limit
        return items

    def put_back(self, items: deque[Item]) -> None:
        """Return what could not be written, before all that has come since."""
        with self._lock:
            items.extend(self._items)
            self._items = items
            self._array_bytes = _array_bytes(items)
            if len(items) > self._thin_above:
                self._thin()

    def _thin(self) -> None:
        goal = self._limit * 3 // 4
        # by what is missed least: pictures, then lines of the log, then points of curves; a person's words never
        for kind in (Arrays, LogWrite, Scalars):
            excess = len(self._items) - goal
            if excess <= 0:
                break
            self._items = self._drop_evenly(kind, excess)
        self._array_bytes = _array_bytes(self._items)
        # When what remains may not be dropped, the next pass waits until a quarter more has come.
        self._thin_above = max(self._limit, len(self._items) + self._limit // 4)

    def _drop_evenly(self, kind: type[Item], excess: int) -> deque[Item]:
        """The queue without `excess` items of `kind` (or all of them), chosen evenly, the newest last to go."""
        count = sum(isinstance(item, kind) for item in self._items)
        drop = min(excess, count)
        kept: deque[Item] = deque()
        index = 0
        for item in self._items:
            if isinstance(item, kind):
                # spread evenly: a curve with every fourth point is a curve, one with a hole is not
                dropped = index * drop // count > (index - 1) * drop // count
                index += 1
                if dropped:
                    continue
            kept.append(item)
        self._drops += drop
        return kept


def _array_bytes(items: Iterable[Item]) -> int:
    return sum(item.nbytes for item in items if isinstance(item, Arrays))
