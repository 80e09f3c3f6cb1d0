"""What is kept of runs between two looks at the folder: readers, configurations, and facts about runs that lie still.

A folder of thousands of runs must neither take a descriptor each nor be read anew at each look. So readers are few, the
least recently used one is let go first (whoever holds it still reads from it), and what was learned of a run is kept
with the *stamp* of its files: while that is the same, the run is not opened.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

from qcore.runs.last_words import WORDS_FILE
from qcore.runs.layout import BELIEVED_SECONDS, CONFIG_FILE, lock_state
from qcore.store import DATABASE_NAME, RunReader

READERS = 16
"""Readers that are kept open: a page shows one run, a comparison a few."""
CONFIGS = 256
FACTS = 20_000
SETTLED_SECONDS = 2.0
"""Files that were written more recently may be written again within the same tick of the file system's clock."""

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LruMapping(OrderedDict[K, V]):
    """A mapping that keeps the entries used last; what falls out is handed to `let_go`."""

    def __init__(self, most: int, let_go: Callable[[V], None] = lambda _: None) -> None:
        super().__init__()
        self._most, self._let_go = most, let_go

    def use(self, key: K) -> V | None:
        """The value, now the one used last; None when it is not there."""
        if key not in self:
            return None
        self.move_to_end(key)
        return self[key]

    def keep(self, key: K, value: V) -> None:
        """Add a value, as the one used last."""
        self[key] = value
        self.move_to_end(key)
        while len(self) > self._most:
            self._let_go(self.popitem(last=False)[1])


def open_readers() -> LruMapping[str, RunReader]:
    """Readers by the name of their run."""
    return LruMapping(READERS, RunReader.release)


def file_identity(path: Path | str) -> tuple[int, int, int, int] | None:
    """What tells a file from what it was, or from another at its place; None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def files_stamp(run_dir: Path, here: bool) -> tuple[Any, ...] | None:
    """The state of a run's files and of its lock; None while they may change without it, there is no database, or the
    lock cannot be known.
    """
    database, alive = f"{run_dir}/{DATABASE_NAME}", here or lock_state(run_dir)
    names = (database, f"{database}-wal", f"{run_dir}/{CONFIG_FILE}", f"{run_dir}/{WORDS_FILE}")
    files = [file_identity(path) for path in names]
    if files[0] is None or alive is None or here:  # for whom a run of this process waits is in no file
        return None
    if files[1] is not None and not files[1][3]:
        files[1] = None  # nothing is in it: made by whoever only read
    written = max(file[2] for file in files if file is not None)
    if time.time_ns() - written < SETTLED_SECONDS * 1e9:
        return None
    # Who holds no lock is believed for a while, and then no more: by the clock, not by a file.
    return (*files, alive, time.time_ns() - written < BELIEVED_SECONDS * 1e9)


class FactCache:
    """Facts by run and kind, each with the stamp of the files that it was read from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: LruMapping[tuple[str, str], tuple[tuple[Any, ...], Any]] = LruMapping(FACTS)

    def get(self, name: str, kind: str, now: tuple[Any, ...] | None, read: Callable[[], T]) -> T:
        """The fact as it was read while the run had this stamp, or read now. What raises is not kept."""
        if now is None:
            return read()
        with self._lock:
            known = self._known.use((name, kind))
        if known is not None and known[0] == now:
            found: T = known[1]
            return found
        found = read()
        with self._lock:
            self._known.keep((name, kind), (now, found))
        return found
