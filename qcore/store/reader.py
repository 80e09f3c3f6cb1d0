"""Everything a page, a test or the CLI reads from a run; it never writes, and works on live and on finished runs.

One connection behind a lock: an instance may be shared by threads. Each method reads one snapshot, so its answer is a
consistent prefix of what the writer has committed. Values come back bit for bit as they were logged.
"""

import json
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import safetensors.numpy

from qcore.store.blocks import STEP, VALUE, unpack
from qcore.store.records import (
    COMMAND_STATUSES,
    Command,
    Event,
    Finding,
    Generation,
    LogLine,
    R,
    Status,
    columns,
    decode,
    one_of,
)
from qcore.store.schema import open_reader
from qcore.store.series import Series, ordered

_Part = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class TailCursor:
    """Where a tail read ended. `reset` says that the read returned everything: replace what you hold, don't append."""

    reset: bool
    epoch: int
    names: tuple[str, ...] | None
    last_block: int
    open_rows: tuple[tuple[int, int], ...]  # (block id, rows seen) of the blocks that may still grow


_VERSION = """SELECT
    (SELECT MAX(id) FROM arrays), (SELECT MAX(seq) FROM events), (SELECT MAX(id) FROM log),
    (SELECT MAX(id) FROM commands), (SELECT COUNT(*) FROM commands WHERE status = 'pending'),
    (SELECT COUNT(*) FROM findings), (SELECT TOTAL(last_step) FROM findings),
    (SELECT COUNT(*) FROM findings WHERE state = 'active'),
    (SELECT MAX(rowid) FROM generations),
    (SELECT status || length(text) FROM generations ORDER BY rowid DESC LIMIT 1)"""


class RunReader:
    """Reads a run's database. Raises FileNotFoundError when there is none, StoreFormatError when it is not a run's."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = open_reader(Path(path))

    def __enter__(self) -> "RunReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        with self._lock:
            self._connection.close()

    # -- scalars --------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The names of all series that have points, sorted."""
        with self._snapshot():
            sql = "SELECT names FROM layouts WHERE EXISTS (SELECT 1 FROM blocks WHERE layout = layouts.id)"
            return sorted({name for (names,) in self._connection.execute(sql) for name in json.loads(names)})

    def scalars(
        self,
        name: str,
        *,
        start: int | None = None,
        stop: int | None = None,
        max_points: int | None = None,
        method: str | None = "minmax",
    ) -> Series:
        """The series `name` with start <= step < stop, downsampled to at most `max_points`; empty if there is none."""
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
        with self._snapshot():
            for layout, row, wanted in self._layouts(names):
                for index, part in self._columns(layout, wanted, len(row), low, high):
                    parts[row[index]].append(part)
        result = {}
        for name, found in parts.items():
            series = ordered(found)
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
        with self._snapshot():
            execute = self._connection.execute
            epoch = json.loads(execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0])
            if cursor is None or cursor.epoch != epoch or cursor.names != wanted_names:
                cursor = TailCursor(True, epoch, wanted_names, 0, ())
            else:
                cursor = TailCursor(False, epoch, wanted_names, cursor.last_block, cursor.open_rows)
            heads = "SELECT id, layout, rows, sealed FROM blocks WHERE id"
            found = [(*execute(f"{heads} = ?", (block,)).fetchone(), seen) for block, seen in cursor.open_rows]
            found += [(*row, 0) for row in execute(f"{heads} > ? ORDER BY id", (cursor.last_block,))]
            layouts = {layout: (row, wanted) for layout, row, wanted in self._layouts(names)}
            for block_id, layout, rows, _, seen in found:
                if rows == seen or layout not in layouts:
                    continue
                row, wanted = layouts[layout]
                data = execute("SELECT data FROM blocks WHERE id = ?", (block_id,)).fetchone()[0]
                block = unpack(data, rows).rows(slice(seen, None))
                for index in wanted:
                    parts.setdefault(row[index], []).append((block.steps, block.wall, block.values[index]))
        newest = max([cursor.last_block, *(head[0] for head in found)])
        still_open = tuple((block_id, rows) for block_id, _, rows, sealed, _ in found if not sealed)
        fresh = TailCursor(cursor.reset, epoch, wanted_names, newest, still_open)
        return {name: ordered(found_parts) for name, found_parts in parts.items()}, fresh

    def _layouts(self, names: Collection[str] | None) -> Iterator[tuple[int, list[str], list[int]]]:
        """(id, its names, indices of the wanted ones) of each layout that has any of `names`; None wants all."""
        chosen = None if names is None else set(names)
        for layout, text in self._connection.execute("SELECT id, names FROM layouts").fetchall():
            row = json.loads(text)
            wanted = [index for index, name in enumerate(row) if chosen is None or name in chosen]
            if wanted:
                yield layout, row, wanted

    def _columns(self, layout: int, wanted: list[int], width: int, low: int, high: int) -> Iterator[tuple[int, _Part]]:
        """(index, part) of the wanted ones of a layout's `width` columns, from all blocks that touch the range."""
        blocks = "FROM blocks WHERE layout = ? AND last_step >= ? AND first_step <= ?"
        arguments = (layout, low, high)
        execute = self._connection.execute
        total = execute(f"SELECT coalesce(sum(rows), 0) {blocks}", arguments).fetchone()[0]
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
        for position, index in enumerate(wanted):
            yield index, (table[0], table[1].view(VALUE), table[2 + position].view(VALUE))

    def _latest(self, names: list[str] | None) -> dict[str, tuple[int, float]]:
        best: dict[str, tuple[int, float, float]] = {}
        with self._snapshot():
            sql = (
                "SELECT data, rows, last_step FROM blocks"
                " WHERE layout = :layout AND last_step = (SELECT max(last_step) FROM blocks WHERE layout = :layout)"
            )
            for layout, row, wanted in self._layouts(names):
                for data, rows, step in self._connection.execute(sql, {"layout": layout}):
                    block = unpack(data, rows)
                    at = int(np.flatnonzero(block.steps == step)[-1])
                    for index in wanted:
                        point = (step, float(block.wall[at]), float(block.values[index, at]))
                        if row[index] not in best or best[row[index]][:2] < point[:2]:
                            best[row[index]] = point
        return {name: (step, value) for name, (step, _, value) in sorted(best.items())}

    # -- arrays ---------------------------------------------------------------------------------------------------

    def arrays(self, name: str, step: int | None = None) -> tuple[int, dict[str, np.ndarray]] | None:
        """(step, arrays) of the newest entry, or the newest at or before `step`; None when there is none."""
        sql = "SELECT step, data FROM arrays WHERE name = ? AND step <= ? ORDER BY step DESC, id DESC LIMIT 1"
        with self._snapshot():
            row = self._connection.execute(sql, (name, 2**63 - 1 if step is None else step)).fetchone()
        return None if row is None else (row[0], safetensors.numpy.load(row[1]))

    def array_steps(self, name: str) -> list[int]:
        """The steps at which `name` has arrays, ascending."""
        with self._snapshot():
            rows = self._connection.execute("SELECT DISTINCT step FROM arrays WHERE name = ? ORDER BY step", (name,))
            return [step for (step,) in rows]

    # -- records --------------------------------------------------------------------------------------------------

    def commands(self, status: str | None = None) -> list[Command]:
        """All commands in order of submission, or those that are 'pending', 'applied' or 'refused'."""
        if status is None:
            return self._records(Command, "ORDER BY id")
        one_of("command status", status, COMMAND_STATUSES)
        return self._records(Command, "WHERE status = ? ORDER BY id", status)

    def command(self, command_id: int) -> Command | None:
        """The command with this id, or None."""
        return next(iter(self._records(Command, "WHERE id = ?", command_id)), None)

    def events(self, since_seq: int = -1) -> list[Event]:
        """The events with seq > `since_seq`, ascending."""
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

    def status(self) -> Status | None:
        """The run's status, or None before the first one was set."""
        return next(iter(self._records(Status, "")), None)

    def version(self) -> tuple[Any, ...]:
        """Names what the run holds besides its scalars: it changes with every array, event, command, finding, log line
        and generation that is added, and with a generation's text, a command's answer and a finding's state.
        """
        with self._snapshot():
            return tuple(self._connection.execute(_VERSION).fetchone())

    def meta(self) -> dict[str, Any]:
        """The run's JSON values by key."""
        with self._snapshot():
            return {key: json.loads(value) for key, value in self._connection.execute("SELECT key, value FROM meta")}

    def _records(self, kind: type[R], condition: str, *values: object) -> list[R]:
        sql = f"SELECT {columns(kind)} FROM {kind.TABLE} {condition}"
        with self._snapshot():
            rows = self._connection.execute(sql, values).fetchall()
        return [decode(kind, row) for row in rows]

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """Hold the lock and one read transaction, so that several queries see the same database."""
        with self._lock:
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                self._connection.execute("ROLLBACK")


def _limit(limit: int | None) -> int:
    return -1 if limit is None else limit
