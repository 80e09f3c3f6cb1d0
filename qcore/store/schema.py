"""The schema of a run's database, and the four ways to open it: to write all of it, to write briefly, to read, and to
read what came from elsewhere.

A new database is built beside its place and moved in whole, so that nobody ever sees half a schema. Files of another
program (by `application_id`) and of a newer schema (by `user_version`) are refused before anything is written to them,
and so is a file that declares anything else than a run's tables: every row of its `sqlite_master` is compared with what
this program makes, whatever its name, so that no trigger, view or expression of a stranger is ever run.
Pages are 16 KiB: a block of 20 scalars then spans three pages, which reads about twice as fast as with 4 KiB.
"""

import contextlib
import functools
import os
import sqlite3
import time
from pathlib import Path

from qcore.store.errors import StoreFormatError, as_store_error, damaged_error, database_name, result_code, store_errors
from qcore.store.guards import WRITE_PULSES, GuardedConnection

DATABASE_NAME = "run.sqlite"
APPLICATION_ID = 0x43_4C_61_62  # "CLab"
SCHEMA_VERSION = 1
BUSY_SECONDS = 5.0
_WAL_PAGES = 256  # checkpoint every 4 MiB
_OF_THE_SOURCE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
"""Answers to a copy that are about what is copied: nobody else has the copy open, and it is new."""
OWN_META = frozenset({"schema_version", "created", "epoch", "rewinds", "writer"})
"""Meta values that belong to the store: nobody else may set them."""

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE layouts (id INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE);
CREATE TABLE blocks (
    id INTEGER PRIMARY KEY,
    layout INTEGER NOT NULL REFERENCES layouts (id),
    rows INTEGER NOT NULL,
    sealed INTEGER NOT NULL,
    first_step INTEGER NOT NULL,
    last_step INTEGER NOT NULL,
    last_wall REAL NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX blocks_by_step ON blocks (layout, last_step);
CREATE UNIQUE INDEX blocks_open ON blocks (layout) WHERE sealed = 0;
CREATE TABLE arrays (
    id INTEGER PRIMARY KEY,
    step INTEGER NOT NULL,
    wall REAL NOT NULL,
    name TEXT NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX arrays_by_step ON arrays (name, step);
CREATE TABLE commands (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created REAL NOT NULL,
    author TEXT NOT NULL,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    idempotency_key TEXT UNIQUE,
    status TEXT NOT NULL,
    step INTEGER,
    message TEXT NOT NULL,
    resolved REAL
);
CREATE INDEX commands_pending ON commands (id) WHERE status = 'pending';
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    step INTEGER NOT NULL,
    wall REAL NOT NULL,
    author TEXT NOT NULL,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    command_id INTEGER
);
CREATE TABLE generations (
    id TEXT NOT NULL UNIQUE,
    step INTEGER NOT NULL,
    wall REAL NOT NULL,
    kind TEXT NOT NULL,
    prompt TEXT NOT NULL,
    settings TEXT NOT NULL,
    text TEXT NOT NULL,
    tokens TEXT NOT NULL,
    stats TEXT NOT NULL,
    status TEXT NOT NULL,
    command_id INTEGER
);
CREATE TABLE findings (
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    since_step INTEGER NOT NULL,
    last_step INTEGER NOT NULL,
    state TEXT NOT NULL,
    evidence TEXT NOT NULL,
    title TEXT NOT NULL,
    explanation TEXT NOT NULL,
    remedies TEXT NOT NULL
);
CREATE TABLE log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    wall REAL NOT NULL,
    step INTEGER NOT NULL,
    level TEXT NOT NULL,
    message TEXT NOT NULL
);
CREATE TABLE status (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    state TEXT NOT NULL,
    step INTEGER NOT NULL,
    total_steps INTEGER NOT NULL,
    heartbeat REAL NOT NULL,
    pid INTEGER NOT NULL,
    host TEXT NOT NULL,
    message TEXT NOT NULL,
    drops INTEGER NOT NULL,
    extra TEXT NOT NULL
);
"""


VERSIONS = {1: SCHEMA}
"""The schema of every version whose databases open; a new version keeps the text of the old ones here."""


def is_locked(error: BaseException | None) -> bool:
    """Whether another connection held the database for longer than `BUSY_SECONDS`: worth another attempt."""
    if not isinstance(error, sqlite3.OperationalError):
        return False
    return result_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def open_writer(path: Path) -> GuardedConnection:
    """Open the run's database for writing, creating it (and its folder) when there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        create_database(path)
    return open_existing(path)


def open_existing(path: Path) -> GuardedConnection:
    """Open an existing database for short writes.

    It is looked at without the right to write first: what is refused stays as it is.

    Raises:
        FileNotFoundError: when there is none.
    """
    open_reader(path).close()
    connection = _connect(path, "mode=rw")
    connection.begin_work(WRITE_PULSES)
    # in a WAL, NORMAL loses at most the newest commits when the power fails, and damages nothing
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    return connection


def open_reader(path: Path, patience: float | None = None) -> GuardedConnection:
    """Open the database without the right to write.

    In a folder where SQLite may not create the `-shm` file that a WAL database needs, a finished run (no `-wal` left,
    or an empty one) is opened as immutable instead.

    Args:
        patience: seconds to wait for a lock, `BUSY_SECONDS` if None.
    """
    try:
        return _connect(path, "mode=ro", patience)
    except sqlite3.OperationalError as error:
        wal = path.with_name(path.name + "-wal")
        forbidden = result_code(error) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
        if not forbidden or (wal.exists() and wal.stat().st_size):
            raise
        return _connect(path, "mode=ro&immutable=1")


def open_foreign(path: Path) -> GuardedConnection:
    """Open a file that came from elsewhere and that nobody writes: no lock, no `-shm`, and no `-wal` is looked at."""
    return _connect(path, "mode=ro&immutable=1")


def copy_database(source: Path, target: Path) -> None:
    """Copy a run's database as it is now, also while it is being written; `target` must not exist yet.

    Errors as in `open_reader`, each of the file that it is about; FileExistsError for a target that exists.
    """
    if target.exists():
        raise FileExistsError(f"{target} exists: a copy never writes over a run")
    with store_errors(source), contextlib.closing(open_reader(source)) as from_run:
        # created by hand: SQLite would make it with rights of its own choosing, and write over what is there
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, target.parent.stat().st_mode & 0o666))
        with store_errors(target), contextlib.closing(sqlite3.connect(target)) as copy:
            try:
                # SQLite's own copy: a file copied while it is written would be torn
                from_run.backup(copy)
            except sqlite3.Error as error:
                if result_code(error) in _OF_THE_SOURCE:
                    raise as_store_error(error, source) from error
                raise


def _connect(path: Path, parameters: str, patience: float | None = None) -> GuardedConnection:
    if not path.is_file():
        raise FileNotFoundError(f"there is no run database at {path}: check the run's name, or start the run first")
    with contextlib.ExitStack() as unless_refused:
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?{parameters}",
            uri=True,
            timeout=BUSY_SECONDS if patience is None else patience,
            isolation_level=None,
            check_same_thread=False,
            factory=GuardedConnection,
        )
        unless_refused.callback(connection.close)
        _check_format(connection, path)
        connection.begin_work()
        unless_refused.pop_all()
    return connection


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    try:
        application: int = connection.execute("PRAGMA application_id").fetchone()[0]
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if result_code(error) != sqlite3.SQLITE_NOTADB:
            raise
        raise StoreFormatError(
            f"{database_name(path)} is not an SQLite database: choose a run folder of Collapse Lab"
        ) from error
    if application != APPLICATION_ID:
        raise StoreFormatError(
            f"{database_name(path)} belongs to another program (application_id {application:#x}, expected"
            f" {APPLICATION_ID:#x}): choose a run folder of Collapse Lab"
        )
    if version > SCHEMA_VERSION:
        raise StoreFormatError(
            f"{database_name(path)} has schema version {version}, this Collapse Lab reads up to {SCHEMA_VERSION}:"
            " update Collapse Lab"
        )

    if version not in VERSIONS:
        raise StoreFormatError(
            f"{database_name(path)} has schema version {version}, which no Collapse Lab has written: use another copy"
        )
    _check_schema(connection, path, version)


def _check_schema(connection: sqlite3.Connection, path: Path, version: int) -> None:
    known, own = _schema_of_version(version), _schema_of(connection)
    for name in sorted(own.keys() | known.keys(), key=str):
        if name not in own:
            raise damaged_error(path, f"it lacks {name!r}")
        # a trigger or a view in a stranger's file would run with our rights when we write or read
        if own[name] != known.get(name):
            kind = own[name][0][0]
            raise StoreFormatError(
                f"{database_name(path)} holds the {kind} {name!r} as no run of Collapse Lab has it: it could run "
                "code of its"
                " own; use another copy"
            )


@functools.cache
def _schema_of_version(version: int) -> dict[str, list[tuple[object, ...]]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as memory:
        memory.executescript(VERSIONS[version])
        return _schema_of(memory)


def _schema_of(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """Name → (type, table, definition) of all that the database declares, SQLite's own tables and indices among it."""
    found: dict[str, list[tuple[object, ...]]] = {}
    for kind, name, table, sql in connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"):
        found.setdefault(name, []).append((kind, table, sql))
    return found


def create_database(path: Path) -> None:
    """Write a new, empty database, whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)  # left by a process killed while it was here
    # Its owner's alone where the folder is; SQLite gives its other files the same rights.
    os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, path.parent.stat().st_mode & 0o666))
    connection = sqlite3.connect(fresh, isolation_level=None)
    try:
        # blocks of scalars are tens of kB: small pages would chain them over many
        connection.execute("PRAGMA page_size = 16384")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(
            f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; {SCHEMA} COMMIT;"
        )
        connection.executemany(
            "INSERT INTO meta (key, value) VALUES (?, ?)",
            [
                ("schema_version", str(SCHEMA_VERSION)),
                ("created", repr(time.time())),
                ("epoch", "0"),
                ("rewinds", "[]"),
            ],
        )
    finally:
        connection.close()
    os.replace(fresh, path)
