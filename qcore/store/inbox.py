"""The door into a run for everyone but its writer, and the training loop's look at it.

`Inbox` makes one short transaction a call, so it never keeps the writer waiting; it carries requests and samples taken
from checkpoints, never telemetry. `CommandReader` asks SQLite's `data_version` first, which costs microseconds a step,
and looks into the table only after someone has committed something.
"""

import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from qcore.store.errors import as_store_error, decoding_errors, store_errors
from qcore.store.records import (
    PUT_GENERATION,
    Command,
    Generation,
    column_list,
    decode,
    encode,
    meta_json,
    storable_text,
    to_json,
)
from qcore.store.schema import OWN_META, open_existing, open_reader


class Inbox:
    """Submits commands to a run, from any thread or process.

    Raises:
        FileNotFoundError: when there is no such run and, as every method does, the errors of `qcore.store.errors`.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        with store_errors(self._path):
            self._connection = open_existing(self._path)

    def __enter__(self) -> "Inbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, kind: str, payload: dict[str, Any], author: str, idempotency_key: str | None = None) -> int:
        """Add a pending command; returns its id. A key that was used before returns that command's id and adds nothing.

        Raises:
            ValueError: when the payload is not JSON.
            StoreBusyError: when the database stays locked for 5 s.
        """
        values = _values(kind, payload, author, idempotency_key)
        with self._lock, store_errors(self._path), self._connection:
            self._connection.begin_work()
            execute = self._connection.execute
            # the lock before the look: two clients with one key must not both find it unused
            execute("BEGIN IMMEDIATE")
            known = execute("SELECT id FROM commands WHERE idempotency_key = ?", (values[-1],)).fetchone()
            if known is not None:
                return known[0]
            cursor = execute(_INSERT, values)
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def submit_all(self, commands: Iterable[tuple[str, dict[str, Any]]], author: str) -> list[int]:
        """Add pending commands, (kind, payload) each: all of them or, when one cannot be written, none. Their ids."""
        rows = [_values(kind, payload, author, None) for kind, payload in commands]
        with self._lock, store_errors(self._path), self._connection:
            self._connection.begin_work()
            self._connection.execute("BEGIN IMMEDIATE")
            return [int(self._connection.execute(_INSERT, row).lastrowid or 0) for row in rows]

    def withdraw(self, command_ids: Iterable[int]) -> None:
        """Take back commands that nobody has taken yet, because what they were part of did not come about."""
        with self._lock, store_errors(self._path), self._connection:
            self._connection.begin_work()
            self._connection.execute("BEGIN IMMEDIATE")
            for command_id in command_ids:
                self._connection.execute("DELETE FROM commands WHERE id = ? AND status = 'pending'", (command_id,))

    def put_generation(self, generation: Generation) -> None:
        """Insert a generation, or replace the one with the same id (a sample of a checkpoint while no worker lives)."""
        with self._lock, store_errors(self._path), self._connection:
            self._connection.begin_work()
            self._connection.execute(PUT_GENERATION, encode(generation))

    def set_meta(self, key: str, value: Any) -> None:
        """Set one JSON value of a run that another process may be writing.

        Raises:
            ValueError: for the store's own keys.
        """
        if key in OWN_META:
            raise ValueError(f"meta key {key!r} belongs to the store: choose another")
        values = (storable_text("key", key), meta_json(key, value))
        with self._lock, store_errors(self._path), self._connection:
            self._connection.begin_work()
            self._connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", values)

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        with self._lock:
            self._connection.close()


_INSERT = (
    "INSERT INTO commands (created, author, kind, payload, idempotency_key, status, message)"
    " VALUES (?, ?, ?, ?, ?, 'pending', '')"
)


def _values(kind: str, payload: dict[str, Any], author: str, key: str | None) -> tuple[Any, ...]:
    return (
        time.time(),
        storable_text("author", author),
        storable_text("kind", kind),
        to_json("payload", payload),
        None if key is None else storable_text("idempotency_key", key),
    )


class CommandReader:
    """Hands the training loop each pending command once, in order of submission. One per thread."""

    _PENDING = f"SELECT {column_list(Command)} FROM commands WHERE status = 'pending' AND id > ? ORDER BY id"

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        with store_errors(self._path):
            self._connection = open_reader(self._path)
        self._version = -1
        self._last_id = 0

    def pending(self) -> list[Command]:
        """Commands that were not handed out before by this reader. A new reader starts with all that is unresolved."""
        try:  # by hand: the training thread comes by before every step
            version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error as error:
            raise as_store_error(error, self._path) from error
        # data_version changes with every commit of anybody else, and costs no look at a table
        if version == self._version:
            return []
        with store_errors(self._path), decoding_errors(self._path, "commands"):
            self._connection.begin_work()
            commands = [decode(Command, row) for row in self._connection.execute(self._PENDING, (self._last_id,))]
        # after the rows: a commit between the two looks is seen at the next step instead of never
        self._version = version
        if commands:
            self._last_id = commands[-1].id
        return commands

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._connection.close()
