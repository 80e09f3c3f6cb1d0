"""A run's database on a journey: made lighter before it leaves, and checked when one comes from elsewhere.

What came from elsewhere is only trusted when it holds this program's own tables and nothing that would run: no trigger
and no view.
"""

import contextlib
import sqlite3
from pathlib import Path

from qcore.store.errors import StoreFormatError
from qcore.store.schema import SCHEMA, SCHEMA_VERSION, open_existing, open_reader


def drop_arrays(path: Path) -> None:
    """Take the arrays out of a database that nobody else has open, and give their room back."""
    with contextlib.closing(open_existing(path)) as connection:
        connection.execute("DELETE FROM arrays")
        connection.execute("VACUUM")


def check_database(path: Path) -> None:
    """Raise StoreFormatError unless the file is a whole database of a run, with this program's tables alone."""
    try:
        with contextlib.closing(open_reader(path)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            own = _objects(connection)
            version: int = connection.execute("PRAGMA user_version").fetchone()[0]
            problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise StoreFormatError(f"{path.name} is damaged ({error}): take another copy") from error
    with contextlib.closing(sqlite3.connect(":memory:")) as memory:
        memory.executescript(SCHEMA)
        known = _objects(memory)
    for name, (kind, sql) in own.items():
        expected = known.get(name)
        if expected is None or expected[0] != kind or (version == SCHEMA_VERSION and expected[1] != sql):
            raise StoreFormatError(f"{path.name} holds the {kind} {name!r}, which no run of Collapse Lab has")
    if version == SCHEMA_VERSION and (missing := sorted(known.keys() - own.keys())):
        raise StoreFormatError(f"{path.name} lacks {missing[0]!r}: take another copy")
    if problem != "ok":
        raise StoreFormatError(f"{path.name} is damaged ({problem}): take another copy")


def _objects(connection: sqlite3.Connection) -> dict[str, tuple[str, str]]:
    """Name → kind and definition of what the database declares; SQLite's own tables and indices are left out."""
    rows = connection.execute("SELECT name, type, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
    return {name: (kind, sql) for name, kind, sql in rows}
