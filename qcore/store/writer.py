"""The one writer of a run's telemetry: a thread that commits everything queued, by time.

The training thread only appends to a queue. The thread `store-<run>` commits every `commit_interval` seconds, and at
once for events, changes of state, command outcomes and rewinds. A commit that fails is rolled back whole and tried
again with the next, so a locked database or a full disk loses nothing while the queue has room; the exception is in
`error`.
Opening a second writer on a run takes it over: the first one then fails instead of writing into the other's blocks.
"""

import contextlib
import errno
import math
import sqlite3
import struct
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import safetensors.numpy

from qcore.store.appending import BlockWriter
from qcore.store.backlog import Arrays, Backlog, Item, LogWrite, Marker, Row, Scalars, Truncate, Write
from qcore.store.declared import MAX_NAMES
from qcore.store.errors import StoreTimeoutError, as_store_error, decoding_errors, store_errors
from qcore.store.records import (
    COMMAND_STATUSES,
    PUT_EVENT,
    PUT_FINDING,
    PUT_GENERATION,
    PUT_STATUS,
    Event,
    Finding,
    Generation,
    Status,
    check_int64,
    check_one_of,
    encode,
    meta_json,
    storable_text,
    to_json,
)
from qcore.store.schema import BUSY_SECONDS, OWN_META, is_locked, open_writer
from qcore.store.shapes import integer, moment

_INTEGERS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_ARRAY_TYPES = _INTEGERS | {"bool", "float16", "float32", "float64", "complex64"}


class WriterReplacedError(RuntimeError):
    """Another writer has opened this run since; this one may no longer write."""


class RunWriter:
    """Writes one run's database, creating it when there is none. Methods may be called from any thread.

    What SQLite says comes as one of the declared errors of `qcore.store.errors`; `error` keeps it as it was said.

    Raises:
        StoreFormatError: for a file that is not a run of this version.
        ValueError: for settings out of range.
        OSError: when this process gets no further thread; then nothing has changed.

    Example:
        >>> from qcore.store import RunReader
        >>> with RunWriter(folder / "written.sqlite") as writer:
        ...     writer.log_scalars(1, {"train/loss": 2.5})
        ...     writer.log_scalars(2, {"train/loss": 2.25})
        >>> with RunReader(folder / "written.sqlite") as reader:
        ...     reader.last("train/loss")
        (2, 2.25)
    """

    def __init__(self, path: Path, *, commit_interval: float = 0.5, queue_limit: int = 100_000) -> None:
        if not 0 < commit_interval <= 60:
            raise ValueError(f"commit_interval is {commit_interval}: it must be above 0 and at most 60 seconds")
        self.error: BaseException | None = None
        self._path = Path(path)
        self._interval = commit_interval
        self._owner = uuid.uuid4().hex
        self._packers: dict[tuple[str, ...], struct.Struct] = {}
        self._said = ("", "")
        self._wake = threading.Event()
        self._closing = False
        self._deadline = math.inf
        self._close_lock = threading.Lock()
        self._decided = threading.Event()
        """Set when it is known whether the run is this writer's: an event of its own, since `_wake` begins a commit."""
        self._opened = False
        self._thread = threading.Thread(target=self._run, name=f"store-{self._path.parent.name}", daemon=True)
        with store_errors(self._path), contextlib.ExitStack() as unless_refused:
            self._connection = open_writer(self._path)
            unless_refused.callback(self._connection.close)
            # Before the run is taken over: who gets no thread leaves it to the writer that has it.
            self._start()
            unless_refused.callback(self._let_run, False)
            self._blocks: BlockWriter | None = BlockWriter(self._connection)
            self._backlog = Backlog(queue_limit, self._claim(self._blocks))
            unless_refused.pop_all()
        self._let_run(True)

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def drops(self) -> int:
        """How many arrays, log lines and scalar rows were dropped in this run because the disk could not follow."""
        return self._earlier_drops + self._backlog.drops

    def log_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Queue one row of scalars. NaN and infinities are kept as they are; nothing waits, nothing wakes.

        Raises:
            ValueError: when a value is not a number or a name is not a non-empty string.
        """
        if not values:
            return
        names = tuple(values)
        packer = self._packers.get(names)
        if packer is None:
            packer = self._packer(names)
        try:
            row = packer.pack(*values.values())
        except (struct.error, TypeError, OverflowError, ValueError) as error:
            raise ValueError(f"scalars at step {step} must be real numbers: {error} in {dict(values)!r}") from error
        if self._closing:
            self._refuse()
        self._backlog.add_scalars(check_int64("step", step), names, row)

    def log_arrays(self, step: int, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Queue named arrays of one probe (copied here).

        Raises:
            ValueError: for a dtype that safetensors cannot hold.

        Example:
            >>> from qcore.store import RunReader
            >>> with RunWriter(folder / "arrays.sqlite") as writer:
            ...     writer.log_arrays(10, "spectrum", {"power": np.array([0.75, 0.25])})
            >>> with RunReader(folder / "arrays.sqlite") as reader:
            ...     step, arrays = reader.arrays("spectrum")
            >>> step, arrays["power"].tolist()
            (10, [0.75, 0.25])
        """
        copies = {}
        for key, value in arrays.items():
            copy = copies[key] = np.array(value, order="C")
            if copy.dtype.name not in _ARRAY_TYPES:
                allowed = ", ".join(sorted(_ARRAY_TYPES))
                raise ValueError(f"array {name}/{key} has dtype {copy.dtype}: use one of {allowed}")
        self._queue(Arrays(check_int64("step", step), time.time(), storable_text("name", name), copies))

    def add_log(self, step: int, level: str, message: str) -> None:
        """Queue a line of the log."""
        parameters = (
            time.time(),
            check_int64("step", step),
            storable_text("level", level),
            storable_text("message", message),
        )
        self._queue(LogWrite(parameters))

    def add_event(self, event: Event) -> None:
        """Record an event and commit at once. An event with a known `seq` (a replay) replaces the earlier row."""
        self._queue(Write(PUT_EVENT, encode(event)), now=True)

    def forget_events(self, seqs: Iterable[int]) -> None:
        """Delete events: those of a branch that was abandoned, and that another run keeps."""
        for seq in seqs:
            self._queue(Write("DELETE FROM events WHERE seq = ?", (check_int64("seq", seq),)), now=True)

    def put_generation(self, generation: Generation) -> None:
        """Insert a generation, or replace the one with the same id; at once where a person waits for it (a prompt)."""
        self._queue(Write(PUT_GENERATION, encode(generation)), now=generation.kind == "prompt")

    def put_finding(self, finding: Finding) -> None:
        """Insert a finding, or replace the one with the same id, with the next commit."""
        parameters = encode(finding)
        with self.whole:  # an earlier look that waits must not come after it
            self._backlog.drop(finding.id)
            self._queue(Write(PUT_FINDING, parameters))

    def update_finding(self, finding: Finding) -> None:
        """Replace a finding by what a later look at the same thing has shown; of many looks between two commits the
        last one alone is written. Its fields must be such as `put_finding` has taken before.
        """
        if self._closing:
            self._refuse()
        self._backlog.put(finding.id, Row(PUT_FINDING, finding))

    @property
    def whole(self) -> AbstractContextManager[object]:
        """Within it, all that this thread queues gets into one commit: readers see all of it or nothing. Be quick."""
        return self._backlog.whole

    def set_status(self, status: Status) -> None:
        """Replace the status row; its `drops` are filled in by the writer.

        At once when the state or the message is another one. A mere sign of life goes with the next commit, because
        each takes the interpreter from the training thread several times.
        """
        said = (status.state, status.message)
        self._queue(Write(PUT_STATUS, encode(status)), now=said != self._said)
        self._said = said

    def set_meta(self, key: str, value: Any) -> None:
        """Set one JSON value of the run (references, fingerprints …).

        Raises:
            ValueError: for the store's own keys.
        """
        if key in OWN_META:
            raise ValueError(f"meta key {key!r} belongs to the store: choose another")
        parameters = (storable_text("key", key), meta_json(key, value))
        self._queue(Write("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", parameters))

    def resolve_command(self, command_id: int, status: str, step: int, message: str = "") -> None:
        """Record what became of a command ('applied' or 'refused', at which step) and commit at once."""
        check_one_of("command outcome", status, COMMAND_STATUSES[1:])
        parameters = (
            status,
            check_int64("step", step),
            storable_text("message", message),
            time.time(),
            check_int64("command_id", command_id),
        )
        sql = "UPDATE commands SET status = ?, step = ?, message = ?, resolved = ? WHERE id = ?"
        self._queue(Write(sql, parameters), now=True)

    def truncate_after(self, step: int, *, event_seq: int) -> None:
        """Rewind: drop scalars, arrays and timeline generations with a greater step.

        Events are kept: those after `event_seq` (the last one before the checkpoint) are about to be replayed. The
        rewind is noted in the meta value `rewinds`, and readers holding a tail cursor are told to start again.
        """
        self._queue(Truncate(check_int64("step", step), check_int64("event_seq", event_seq)), now=True)

    def flush(self, timeout: float = 10.0) -> None:
        """Return when all that was queued before is committed.

        Raises the writer's exception as soon as an attempt fails (a locked database is tried again until the timeout),
        `StoreTimeoutError` otherwise. What could not be written stays queued.
        """
        marker = Marker(threading.Event())
        self._queue(marker, now=True)
        if not marker.reached.wait(timeout):
            raise self._failure() or StoreTimeoutError(self._path, timeout)
        if marker.failure is not None:
            raise self._failure(marker.failure) or marker.failure

    def close(self, timeout: float = 10.0) -> None:
        """Commit what is queued, fold the WAL into the database and join the thread; a second call does nothing.

        Raises the writer's exception when something remained unwritten, `StoreTimeoutError` when the thread did not
        end.
        """
        with self._close_lock:
            if self._closing:
                return
            self._deadline = time.monotonic() + timeout
            self._closing = True
        self._wake.set()
        self._thread.join(timeout + BUSY_SECONDS + self._interval)  # an attempt may have begun just before the deadline
        if self._thread.is_alive():
            raise self._failure() or StoreTimeoutError(self._path, timeout)
        if (failure := self._failure()) is not None:
            raise failure

    def _failure(self, error: BaseException | None = None) -> BaseException | None:
        """What went wrong in the thread, as a declared error where SQLite said it."""
        error = error or self.error
        return as_store_error(error, self._path) if isinstance(error, sqlite3.Error) else error

    def _queue(self, item: Item, *, now: bool = False) -> None:
        if self._closing:
            self._refuse()
        self._backlog.add(item)
        if now:
            self._wake.set()

    def _refuse(self) -> None:
        raise RuntimeError(f"the writer of {self._path} is closed: open a new one")

    def _packer(self, names: tuple[str, ...]) -> struct.Struct:
        for name in names:
            if not isinstance(name, str) or not name:
                raise ValueError(f"scalar name {name!r} must be a non-empty string")
        if len(names) > MAX_NAMES:
            raise ValueError(f"{len(names):,} scalars at one step are refused: at most {MAX_NAMES:,}")
        packer = self._packers[names] = struct.Struct(f"={len(names)}d")
        return packer

    def _claim(self, blocks: BlockWriter) -> float:
        """Take the run over from any earlier writer; returns the newest wall time it holds.

        Raises:
            DamagedRunError: when what is to be written on is damaged; everything is left as it is.
        """
        execute = self._connection.execute
        with self._connection, decoding_errors(self._path, "what another writer left"):
            execute("BEGIN IMMEDIATE")
            row = execute("SELECT drops FROM status").fetchone()
            newest: float = execute("SELECT coalesce(max(last_wall), 0) FROM blocks").fetchone()[0]
            integer(row[0] if row else 0, "status.drops")
            moment(newest, "blocks.last_wall")
            blocks.load()
            execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('writer', ?)", (to_json("writer", self._owner),))
        self._earlier_drops: int = row[0] if row else 0
        self._written_drops = self._earlier_drops
        return newest

    def _start(self) -> None:
        """Start the thread, which waits for `_let_run`.

        Raises:
            OSError: when this process gets no further one.
        """
        try:
            self._thread.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, str(error)) from error

    def _let_run(self, opened: bool) -> None:
        self._opened = opened
        self._decided.set()
        if not opened:
            self._thread.join()

    # -- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._decided.wait()
        if not self._opened:
            return
        while True:
            # an interval gathers the rows of many steps into one commit; what somebody waits for wakes it at once
            self._wake.wait(self._interval)
            self._wake.clear()
            closing = self._closing  # read before the queue is taken: what was queued before close() is in it
            self._attempt()
            # another process's lock passes, so close() waits for it; any other error comes again with every attempt
            hopeless = self.error is not None and not is_locked(self.error)
            if closing and (not len(self._backlog) or hopeless or time.monotonic() > self._deadline):
                break
        # folded in, a finished run is one file that can be copied and opened read-only
        if self.error is None:
            try:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                self.error = error
        self._connection.close()

    def _attempt(self) -> None:
        """Commit everything queued, or put it back."""
        items = self._backlog.take()
        # an idle run writes nothing: whoever watches the file takes a commit for news
        if not items and self.drops == self._written_drops:
            return
        markers = [item for item in items if isinstance(item, Marker)]
        try:
            self._commit(items)
        except Exception as error:  # noqa: BLE001  (the thread's outer edge: kept in `error`, raised by flush and close)
            # what the open blocks hold in memory may be ahead of the database now: they are read again
            self._blocks = None
            if self._connection.in_transaction:
                self._connection.rollback()
            self.error = error
            if is_locked(error):
                self._backlog.put_back(items)
                return
            # markers are not put back: whoever waits is told now, instead of after a time-out
            self._backlog.put_back(deque(item for item in items if not isinstance(item, Marker)))
            for marker in markers:
                marker.failure = error
                marker.reached.set()
            return
        self.error = None
        for marker in markers:
            marker.reached.set()

    def _commit(self, items: deque[Item]) -> None:
        execute = self._connection.execute
        self._connection.begin_work()
        execute("BEGIN IMMEDIATE")
        # inside the transaction, so that no other writer can take over between this look and the commit
        if execute("SELECT value FROM meta WHERE key = 'writer'").fetchone() != (to_json("writer", self._owner),):
            raise WriterReplacedError(f"{self._path} was opened by another writer: this one must be closed")
        if self._blocks is None:
            self._blocks = BlockWriter(self._connection)
            with decoding_errors(self._path, "open blocks"):
                self._blocks.load()
        rows: list[Scalars] = []
        drops = self.drops
        stale_drops = drops != self._written_drops
        for item in items:
            match item:
                case Scalars():
                    rows.append(item)
                case Arrays(step, wall, name, arrays):
                    data = safetensors.numpy.save(arrays)
                    execute("INSERT INTO arrays (step, wall, name, data) VALUES (?, ?, ?, ?)", (step, wall, name, data))
                case LogWrite(parameters):
                    execute("INSERT INTO log (wall, step, level, message) VALUES (?, ?, ?, ?)", parameters)
                case Row(sql, record):
                    execute(sql, encode(record))
                case Write(sql, parameters):
                    execute(sql, parameters)
                    stale_drops |= sql is PUT_STATUS
                # rows queued before the rewind come first: it must cut those too
                case Truncate(step, event_seq):
                    self._blocks.append(rows)
                    rows = []
                    with decoding_errors(self._path, "blocks"):
                        self._blocks.truncate_after(step)
                    self._forget_after(step, event_seq)
        self._blocks.append(rows)
        if stale_drops:
            execute("UPDATE status SET drops = ?", (drops,))
        execute("COMMIT")
        # after COMMIT: a count that was rolled back is written with the next attempt
        self._written_drops = drops

    def _forget_after(self, step: int, event_seq: int) -> None:
        execute = self._connection.execute
        execute("DELETE FROM arrays WHERE step > ?", (step,))
        execute("DELETE FROM findings WHERE since_step > ?", (step,))
        # what a person asked for is kept: it says at which step it was drawn, and cannot be drawn again
        execute("DELETE FROM generations WHERE kind = 'timeline' AND step > ?", (step,))
        # readers that follow the tail see by it that what they have is of another past
        execute("UPDATE meta SET value = value + 1 WHERE key = 'epoch'")
        note = to_json("rewinds", {"step": step, "event_seq": event_seq, "wall": time.time()})
        execute("UPDATE meta SET value = json_insert(value, '$[#]', json(?)) WHERE key = 'rewinds'", (note,))
