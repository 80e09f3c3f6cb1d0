"""Everything a page, a test or the CLI reads from a run; it never writes, and works on live and on finished runs.

An instance may be shared by threads: whoever reads borrows a connection for that while, so nobody waits for another
and no two can block each other; one idle connection is kept. Each method reads one snapshot, so its answer is a
consistent prefix of what the writer has committed; within `moment()` all methods read the same one. Values come back
bit for bit as they were logged, and what is not of its declared type is a `DamagedRunError`, whoever asks for it.
"""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from qcore.store.blocks import STEP, VALUE
from qcore.store.checks import SOUND, check_points, check_sound, check_step, checked_block, load_arrays, read_names
from qcore.store.declared import check_meta
from qcore.store.errors import StoreAccessError, database_name, decoding_errors, store_errors
from qcore.store.records import (
    COMMAND_STATUSES,
    MAX_META,
    Command,
    Event,
    Finding,
    Generation,
    LogLine,
    R,
    Status,
    check_one_of,
    column_list,
    decode,
    from_json,
)
from qcore.store.schema import open_reader
from qcore.store.series import Series, join_sorted
from qcore.store.shapes import moment

_Part = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class TailCursor:
    """Where a tail read ended. `reset` says that the read returned everything: replace what you hold, don't append."""

    reset: bool
    epoch: int
    names: tuple[str, ...] | None
    last_block: int
    open_rows: tuple[tuple[int, int], ...]  # (block id, rows seen) of the blocks that may still grow


# TOTAL(1), not COUNT(*): counting a whole table is one step to SQLite, which then looks at no limit.
_VERSION = """SELECT
    (SELECT MAX(id) FROM arrays), (SELECT MAX(seq) FROM events), (SELECT MAX(id) FROM log),
    (SELECT MAX(id) FROM commands), (SELECT COUNT(*) FROM commands WHERE status = 'pending'),
    (SELECT TOTAL(1) FROM findings), (SELECT TOTAL(last_step) FROM findings),
    (SELECT COUNT(*) FROM findings WHERE state = 'active'),
    (SELECT MAX(rowid) FROM generations),
    (SELECT status || length(text) FROM generations ORDER BY rowid DESC LIMIT 1)"""


class RunReader:
    """Reads a run's database.

    Raises:
        FileNotFoundError: when there is none and, as every method does, one of the declared errors of
            `qcore.store.errors`: `StoreFormatError` for a file that is not a run's, `DamagedRunError`,
            `StoreBusyError`, `StoreAccessError`.
    """

    def __init__(self, path: Path, patience: float | None = None) -> None:
        """Open the database of a run.

        Args:
            path: of the database, in the run's folder.
            patience: seconds to wait for a lock that another process holds; None waits `BUSY_SECONDS`.

        Raises:
            StoreError: when there is none, or it cannot be read.
        """
        self.path = Path(path)
        self._patience = patience
        self._lock = threading.Lock()
        self._kept = 1  # idle connections that wait for the next read
        self._closed = False
        self._own = threading.local()  # the connection of a thread that is within `moment()`
        with store_errors(self.path):
            self._idle = [open_reader(self.path, patience)]
        found = os.stat(self.path)
        self._identity = (found.st_dev, found.st_ino)

    def __enter__(self) -> "RunReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def is_of(self, path: Path) -> bool:
        """Whether this reads the file that lies at `path` now, not one that was there before."""
        try:
            found = os.stat(path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def close(self) -> None:
        """Close the connections, those in use after their reads; a second call does nothing. Later reads are refused
        with `StoreAccessError`.
        """
        self.release()
        with self._lock:
            self._closed = True

    def release(self) -> None:
        """Give all descriptors back and keep none from now on: each later read opens the file and closes it again.

        What a holder of many readers does with one that it lets go, while others may still be reading from it.
        """
        with self._lock:
            self._kept = 0
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Within it, everything that this thread reads is of one snapshot; other threads are not held up.

        May be entered again within itself. Keep it short: the writer's log grows for as long as it is held.
        """
        if getattr(self._own, "connection", None) is not None:
            yield
            return
        with self._borrowed() as connection:
            self._own.connection = connection
            try:
                yield
            finally:
                self._own.connection = None

    # -- scalars --------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The names of all series that have points, sorted.

        Example:
            >>> [name for name in lab.reader("first").names() if name.startswith("eval/")]
            ['eval/ce']
        """
        sql = "SELECT names FROM layouts WHERE EXISTS (SELECT 1 FROM blocks WHERE layout = layouts.id)"
        with self._snapshot() as connection, decoding_errors(self.path, "layouts"):
            return sorted({name for (names,) in connection.execute(sql) for name in read_names(names)})

    def scalars(
        self,
        name: str,
        *,
        start: int | None = None,
        stop: int | None = None,
        max_points: int | None = None,
        method: str | None = "minmax",
    ) -> Series:
        """The series `name` with start <= step < stop, downsampled to at most `max_points`; empty if there is none.

        Example:
            >>> series = lab.reader("first").scalars("train/loss", stop=5)
            >>> series.steps.tolist()
            [1, 2, 3, 4]
        """
        return self.scalars_of([name], start=start, stop=stop, max_points=max_points, method=method)[name]

    def scalars_of(
        self,
        names: Sequence[str],
        *,
        start: int | None = None,
        stop: int | None = None,
        max_points: int | None = None,
        method: str | None = "minmax",
    ) -> dict[str, Series]:
        """Several series of one snapshot, each as from `scalars`; blocks that they share are read once."""
        parts: dict[str, list[_Part]] = {name: [] for name in names}
        low = -(2**63) if start is None else start
        high = 2**63 - 1 if stop is None else stop - 1
        with self._snapshot() as connection, decoding_errors(self.path, "scalars"):
            for layout, row, wanted in _layouts(connection, names):
                for index, part in _columns(connection, layout, wanted, len(row), low, high):
                    parts[row[index]].append(part)
        result = {}
        for name, found in parts.items():
            series = join_sorted(found)
            if start is not None or stop is not None:
                inside = slice(np.searchsorted(series.steps, low), np.searchsorted(series.steps, high, side="right"))
                series = Series(series.steps[inside], series.wall[inside], series.values[inside])
            result[name] = series if max_points is None else series.downsampled(max_points, method)
        return result

    def last(self, name: str) -> tuple[int, float] | None:
        """(step, value) of the greatest step of the series, the one written last; None when there is none."""
        return self._latest([name]).get(name)

    def latest(self) -> dict[str, tuple[int, float]]:
        """(step, value) as from `last`, of every series."""
        return self._latest(None)

    def tail(
        self, cursor: TailCursor | None, names: Sequence[str] | None = None
    ) -> tuple[dict[str, Series], TailCursor]:
        """The points written since `cursor`, by name, and the cursor for the next call.

        Without a cursor, after a rewind, or with other `names` than before, everything is returned and the new cursor
        has `reset` set; otherwise add what came with `Series.merged`. Names without new points are absent.
        """
        wanted_names = None if names is None else tuple(names)
        parts: dict[str, list[_Part]] = {}
        with self._snapshot() as connection, decoding_errors(self.path, "scalars"):
            execute = connection.execute
            epoch = from_json(execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0], "meta.epoch")
            # after a rewind a block may have fewer rows than were seen: nothing can be added to, so all is read
            if cursor is None or cursor.epoch != epoch or cursor.names != wanted_names:
                cursor = TailCursor(True, epoch, wanted_names, 0, ())
            else:
                cursor = TailCursor(False, epoch, wanted_names, cursor.last_block, cursor.open_rows)
            heads = "SELECT id, layout, rows, sealed FROM blocks WHERE id"
            # rows are only ever added to blocks that are not sealed: these and the new ones are all that can have news
            found = [(*execute(f"{heads} = ?", (block,)).fetchone(), seen) for block, seen in cursor.open_rows]
            found += [(*row, 0) for row in execute(f"{heads} > ? ORDER BY id", (cursor.last_block,))]
            layouts = {layout: (row, wanted) for layout, row, wanted in _layouts(connection, names)}
            for block_id, layout, rows, _, seen in found:
                # the head says so without its data, which is what makes a poll of an idle run cheap
                if rows == seen or layout not in layouts:
                    continue
                row, wanted = layouts[layout]
                data = execute("SELECT data FROM blocks WHERE id = ?", (block_id,)).fetchone()[0]
                block = checked_block(data, rows, len(row)).rows(slice(seen, None))
                for index in wanted:
                    parts.setdefault(row[index], []).append((block.steps, block.wall, block.values[index]))
        newest = max([cursor.last_block, *(head[0] for head in found)])
        # a sealed block never changes again and is not asked for any more
        still_open = tuple((block_id, rows) for block_id, _, rows, sealed, _ in found if not sealed)
        fresh = TailCursor(cursor.reset, epoch, wanted_names, newest, still_open)
        return {name: join_sorted(found_parts) for name, found_parts in parts.items()}, fresh

    def check_blocks(self, after: int) -> None:
        """Raise `DamagedRunError` unless all that a rewind to step `after` cuts or a writer writes on is whole."""
        sql = "SELECT layout, rows, data FROM blocks WHERE last_step > ? OR sealed = 0"
        with self._snapshot() as connection, decoding_errors(self.path, "scalars"):
            widths = {layout: len(row) for layout, row, _ in _layouts(connection, None)}
            for layout, rows, data in connection.execute(sql, (after,)):
                checked_block(data, rows, widths[layout])

    def _latest(self, names: list[str] | None) -> dict[str, tuple[int, float]]:
        best: dict[str, tuple[int, float, float]] = {}
        with self._snapshot() as connection, decoding_errors(self.path, "scalars"):
            sql = (
                "SELECT data, rows, last_step FROM blocks"
                " WHERE layout = :layout AND last_step = (SELECT max(last_step) FROM blocks WHERE layout = :layout)"
            )
            for layout, row, wanted in _layouts(connection, names):
                for data, rows, step in connection.execute(sql, {"layout": layout}):
                    block = checked_block(data, rows, len(row))
                    at = int(np.flatnonzero(block.steps == step)[-1])
                    for index in wanted:
                        point = (step, float(block.wall[at]), float(block.values[index, at]))
                        if row[index] not in best or best[row[index]][:2] < point[:2]:
                            best[row[index]] = point
        return {name: (step, value) for name, (step, _, value) in sorted(best.items())}

    # -- arrays ---------------------------------------------------------------------------------------------------

    def arrays(
        self, name: str, step: int | None = None, *, needs: Collection[str] = ()
    ) -> tuple[int, dict[str, np.ndarray]] | None:
        """(step, arrays) of the newest entry, or the newest at or before `step`; None when there is none.

        Args:
            needs: names of arrays without which an entry is damaged.

        Example:
            >>> step, arrays = lab.reader("first").arrays("tokens", step=5)
            >>> step, sorted(arrays)[:2]
            (4, ['tokens/mean_probability', 'tokens/predicted'])
        """
        sql = "SELECT step, data FROM arrays WHERE name = ? AND step <= ? ORDER BY step DESC, id DESC LIMIT 1"
        with self._snapshot() as connection, decoding_errors(self.path, f"arrays {name!r}"):
            row = connection.execute(sql, (name, 2**63 - 1 if step is None else step)).fetchone()
            return None if row is None else (check_step(row[0]), load_arrays(row[1], name, needs))

    def array_steps(self, name: str) -> list[int]:
        """The steps at which `name` has arrays, ascending."""
        with self._snapshot() as connection, decoding_errors(self.path, f"arrays {name!r}"):
            rows = connection.execute("SELECT DISTINCT step FROM arrays WHERE name = ? ORDER BY step", (name,))
            return [check_step(step) for (step,) in rows]

    def arrays_among(self, names: Collection[str]) -> set[str]:
        """Those of the names that have arrays at any step."""
        sql = "SELECT 1 FROM arrays WHERE name = ? LIMIT 1"
        with self._snapshot() as connection, decoding_errors(self.path, "arrays"):
            return {name for name in names if connection.execute(sql, (name,)).fetchone() is not None}

    def newest_wall(self) -> float:
        """Epoch seconds at which the newest scalar was logged; 0 without one."""
        with self._snapshot() as connection, decoding_errors(self.path, "scalars"):
            found = connection.execute("SELECT max(last_wall) FROM blocks").fetchone()[0]
            if found is None:
                return 0.0
            moment(found, "blocks.last_wall")
            return float(found)

    # -- records --------------------------------------------------------------------------------------------------

    def commands(self, status: str | None = None) -> list[Command]:
        """All commands in order of submission, or those that are 'pending', 'applied' or 'refused'."""
        if status is None:
            return self._records(Command, "ORDER BY id")
        check_one_of("command status", status, COMMAND_STATUSES)
        return self._records(Command, "WHERE status = ? ORDER BY id", status)

    def command(self, command_id: int) -> Command | None:
        """The command with this id, or None."""
        return next(iter(self._records(Command, "WHERE id = ?", command_id)), None)

    def events(self, since_seq: int = -1) -> list[Event]:
        """The events with seq > `since_seq`, ascending.

        Example:
            >>> [(event.step, event.kind) for event in lab.reader("first").events()][:2]
            [(0, 'start'), (12, 'finish')]
        """
        return self._records(Event, "WHERE seq > ? ORDER BY seq", since_seq)

    def generations(self, kind: str | None = None, limit: int | None = None) -> list[Generation]:
        """Generations in order of creation, of one kind if given; with `limit`, only the newest so many."""
        condition, values = ("", ()) if kind is None else ("WHERE kind = ?", (kind,))
        newest = self._records(Generation, f"{condition} ORDER BY rowid DESC LIMIT ?", *values, _limit(limit))
        return newest[::-1]

    def generation(self, generation_id: str) -> Generation | None:
        """The generation with this id, or None."""
        return next(iter(self._records(Generation, "WHERE id = ?", generation_id)), None)

    def findings(self) -> list[Finding]:
        """All findings in order of discovery."""
        return self._records(Finding, "ORDER BY rowid")

    def log(self, since_id: int = 0, limit: int | None = None) -> list[LogLine]:
        """The log's lines with id > `since_id`, ascending; with `limit`, only the newest so many."""
        return self._records(LogLine, "WHERE id > ? ORDER BY id DESC LIMIT ?", since_id, _limit(limit))[::-1]

    def newest_step(self) -> int:
        """The greatest step of any scalar; -1 without one. The status row, written twice a second, may be behind it."""
        with self._snapshot() as connection, decoding_errors(self.path, "scalars"):
            found = connection.execute("SELECT max(last_step) FROM blocks").fetchone()[0]
            return -1 if found is None else check_step(found)

    def status(self) -> Status | None:
        """The run's status, or None before the first one was set."""
        return next(iter(self._records(Status, "")), None)

    def version(self) -> tuple[Any, ...]:
        """Names what the run holds besides its scalars: it changes with every array, event, command, finding, log line
        and generation that is added, and with a generation's text, a command's answer and a finding's state.
        """
        with self._snapshot() as connection:
            return tuple(connection.execute(_VERSION).fetchone())

    def meta(self) -> dict[str, Any]:
        """The run's JSON values by key."""
        with self._snapshot() as connection, decoding_errors(self.path, "meta"):
            rows = connection.execute("SELECT key, value FROM meta")
            return check_meta({key: from_json(value, f"meta.{key}", MAX_META) for key, value in rows})

    def _records(self, kind: type[R], condition: str, *values: object) -> list[R]:
        sql = f"SELECT {column_list(kind)} FROM {kind.TABLE} {condition}"
        with self._snapshot() as connection, decoding_errors(self.path, kind.TABLE):
            return [decode(kind, row) for row in connection.execute(sql, values)]

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection within one read transaction, so that several queries see the same database."""
        connection = getattr(self._own, "connection", None)
        if connection is None:
            with self._borrowed() as borrowed:
                yield borrowed
        else:
            with store_errors(self.path):
                connection.begin_work()
                yield connection

    @contextmanager
    def _borrowed(self) -> Iterator[sqlite3.Connection]:
        with store_errors(self.path):
            with self._lock:
                if self._closed:
                    raise StoreAccessError(f"{database_name(self.path)} was closed meanwhile: open the run again")
                connection = self._idle.pop() if self._idle else None
            connection = connection or open_reader(self.path, self._patience)
            with contextlib.ExitStack() as unless_kept:
                unless_kept.callback(connection.close)
                connection.begin_work()
                connection.execute("BEGIN")
                yield connection
                connection.execute("ROLLBACK")
                with self._lock:
                    if len(self._idle) < self._kept:
                        self._idle.append(connection)
                        unless_kept.pop_all()


def _limit(limit: int | None) -> int:
    return -1 if limit is None else limit


def _layouts(
    connection: sqlite3.Connection, names: Collection[str] | None
) -> Iterator[tuple[int, tuple[str, ...], list[int]]]:
    """(id, its names, indices of the wanted ones) of each layout that has any of `names`; None wants all."""
    chosen = None if names is None else set(names)
    for layout, text in connection.execute("SELECT id, names FROM layouts").fetchall():
        row = read_names(text)
        wanted = [index for index, name in enumerate(row) if chosen is None or name in chosen]
        if wanted:
            yield layout, row, wanted


def _columns(
    connection: sqlite3.Connection, layout: int, wanted: list[int], width: int, low: int, high: int
) -> Iterator[tuple[int, _Part]]:
    """(index, part) of the wanted ones of a layout's `width` columns, from all blocks that touch the range."""
    blocks = "FROM blocks WHERE layout = ? AND last_step >= ? AND first_step <= ?"
    arguments = (layout, low, high)
    execute = connection.execute
    total = execute(f"SELECT {SOUND} {blocks}", (width, *arguments)).fetchone()
    total = check_sound(total)
    # Filled in place (a list of pieces would be copied once more), as integers: their bits never change in a copy.
    table = np.empty((2 + len(wanted), total), STEP)
    at = 0
    if len(wanted) == 1 and width > 1:
        sql = f"SELECT rows, substr(data, 1, 16 * rows), substr(data, 1 + 8 * rows * ?, 8 * rows) {blocks}"
        for rows, head, column in execute(sql, (2 + wanted[0], *arguments)):
            table[:2, at : at + rows] = np.frombuffer(head, STEP).reshape(2, rows)
            table[2, at : at + rows] = np.frombuffer(column, STEP)
            at += rows
    else:
        chosen = slice(None) if len(wanted) == width else [0, 1, *(2 + index for index in wanted)]
        for rows, data in execute(f"SELECT rows, data {blocks}", arguments):
            table[:, at : at + rows] = np.frombuffer(data, STEP).reshape(-1, rows)[chosen]
            at += rows
    check_points(table[0], table[1].view(VALUE))
    for position, index in enumerate(wanted):
        yield index, (table[0], table[1].view(VALUE), table[2 + position].view(VALUE))
