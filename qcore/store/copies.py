"""A run's database on a journey: made lighter before it leaves, and read anew when one comes from elsewhere.

A stranger's file is never opened for writing and nothing of it is kept but its values: they are read through the same
typed decoding as everywhere and written into a database that this program has just made.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qcore.store.blocks import extent
from qcore.store.checks import checked_block, load_arrays, read_names
from qcore.store.declared import check_meta
from qcore.store.errors import damaged_error, decoding_errors, store_errors
from qcore.store.guards import READ_PULSES, GuardedConnection
from qcore.store.records import (
    MAX_META,
    Command,
    Event,
    Finding,
    Generation,
    LogLine,
    Record,
    Status,
    column_list,
    decode,
    from_json,
)
from qcore.store.schema import create_database, open_existing, open_foreign
from qcore.store.shapes import ShapeError, count, integer, moment, step, text

_COPIED: tuple[type[Record], ...] = (Command, Event, Generation, Finding, LogLine, Status)
_TAKEN_AWAY = ("schema_version", "writer")
"""Meta values that the new database has of its own, or gets with its first writer."""


def drop_arrays(path: Path) -> None:
    """Take the arrays out of a database that nobody else has open, and give their room back."""
    with store_errors(path), contextlib.closing(open_existing(path)) as connection:
        connection.execute("DELETE FROM arrays")
        connection.may_attach(1)
        connection.execute("VACUUM")


def rebuild_database(source: Path, target: Path) -> None:
    """Write a database of our own with all values of a stranger's, bit for bit; `target` must not exist yet.

    Args:
        source: a file that nobody writes, without a `-wal`.

    Raises:
        StoreFormatError: when it declares anything that no run of this program has.
        DamagedRunError: when its pages or any of its values are not what they should be.
    """
    with store_errors(source), contextlib.closing(open_foreign(source)) as old, decoding_errors(source, "a value"):
        # Each page is looked at once, so what is read after this is linear in the size of the file.
        old.begin_work(READ_PULSES + source.stat().st_size // 2**17)
        found = old.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise damaged_error(source, found)
        with store_errors(target):
            create_database(target)
            connection = open_existing(target)
        with contextlib.closing(connection):
            new = _Target(connection, target)
            new.put("BEGIN IMMEDIATE")
            _copy_meta(old, new)
            _copy_blocks(old, new)
            _copy_arrays(old, new)
            for kind in _COPIED:
                _copy_records(kind, old, new)
            new.put("COMMIT")


class _Target:
    """The new database: what goes wrong with it is its own, not the stranger's."""

    def __init__(self, connection: GuardedConnection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def put(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Execute a statement that writes."""
        with store_errors(self._path):
            self._connection.execute(sql, values)


def _copy_meta(old: GuardedConnection, new: _Target) -> None:
    rows = old.execute("SELECT key, value FROM meta").fetchall()
    for key, _ in rows:
        text(key, "meta.key")
    check_meta({key: from_json(value, f"meta.{key}", MAX_META) for key, value in rows})
    for row in rows:
        if row[0] not in _TAKEN_AWAY:
            new.put("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", row)


def _copy_blocks(old: GuardedConnection, new: _Target) -> None:
    widths = {}
    for layout, names in old.execute("SELECT id, names FROM layouts ORDER BY id"):
        integer(layout, "layouts.id")
        widths[layout] = len(read_names(names))
        new.put("INSERT INTO layouts (id, names) VALUES (?, ?)", (layout, names))
    heads = (integer, integer, count, count)
    put = (
        "INSERT INTO blocks (id, layout, rows, sealed, first_step, last_step, last_wall, data)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    )
    for number, layout, rows, sealed, data in old.execute("SELECT id, layout, rows, sealed, data FROM blocks"):
        for check, value in zip(heads, (number, layout, rows, sealed), strict=True):
            check(value, "blocks")
        if layout not in widths or sealed > 1:
            raise ShapeError(f"block {number} belongs to layout {layout}, sealed {sealed}")
        block = checked_block(data, rows, widths[layout])
        new.put(put, (number, layout, rows, sealed, *extent(block), data))


def _copy_arrays(old: GuardedConnection, new: _Target) -> None:
    for row in old.execute("SELECT id, step, wall, name, data FROM arrays ORDER BY id"):
        for check, value in zip((integer, step, moment, text), row[:4], strict=True):
            check(value, "arrays")
        load_arrays(row[4], row[3])
        new.put("INSERT INTO arrays (id, step, wall, name, data) VALUES (?, ?, ?, ?, ?)", row)


def _copy_records(kind: type[Any], old: GuardedConnection, new: _Target) -> None:
    names = column_list(kind)
    key = {Status: "1, ", Generation: "rowid, ", Finding: "rowid, "}.get(kind, "")
    marks = ", ".join("?" * (names.count(",") + 1 + bool(key)))
    into = {"1, ": "id, "}.get(key, key) + names
    for row in old.execute(f"SELECT {key}{names} FROM {kind.TABLE} ORDER BY rowid"):
        decode(kind, row[bool(key) :])
        if key:
            integer(row[0], f"{kind.TABLE}.rowid")
        new.put(f"INSERT INTO {kind.TABLE} ({into}) VALUES ({marks})", row)
