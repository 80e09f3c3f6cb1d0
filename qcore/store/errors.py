"""What can be wrong with a run's database, as five declared errors; nothing else leaves the store while it reads.

All of them are `LabError`s, so whoever serves many runs catches one kind and goes on with the others:

- `StoreFormatError`: the file is not a run of this program, or a newer version wrote it.
- `DamagedRunError`, one of those: what is in it is not what this program writes.
- `StoreBusyError`: another process has kept it locked for longer than `BUSY_SECONDS`; worth another attempt.
- `StoreTimeoutError`: a write has not ended in time; the disk hangs.
- `StoreAccessError`: the system refuses: full disk, no right to read or write, no descriptors left, a broken disk.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import safetensors

from qcore.base import BAD_VALUES, LabError

BAD_DATA = (*BAD_VALUES, struct.error, safetensors.SafetensorError)
"""What decoding raises, arrays and weights included. Caught around decoding alone, never around a request."""


class StoreError(LabError):
    """A run's database does not answer; the message names the file, the reason and the remedy."""


class StoreFormatError(StoreError):
    """The file is not a run of this program, or was written by a newer version of it."""


class DamagedRunError(StoreFormatError):
    """The file, or a part of it, does not hold what this program writes."""


class StoreBusyError(StoreError):
    """Another connection has held the database for longer than `BUSY_SECONDS`."""


class StoreTimeoutError(StoreError, TimeoutError):
    """What was to be written is not on the disk after all the time that a write is given."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__(
            f"{database_name(path)} was not written within {seconds:g} s: the disk or its share is slow or hangs; "
            "check it, "
            "then resume the run"
        )


class StoreAccessError(StoreError):
    """The system does not let the database be read or written."""


_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_LOCKED = "another process holds the database; try again in a moment, or end that process"
_ACCESS = {
    sqlite3.SQLITE_FULL: "the disk is full: free space (old runs and checkpoints take the most), then try again",
    sqlite3.SQLITE_READONLY: "it is read-only: allow writing to its folder and its files",
    sqlite3.SQLITE_PERM: "the permissions of its folder forbid it: allow reading and writing",
    sqlite3.SQLITE_CANTOPEN: "check the permissions of its folder, its disk, and the limit of open files (ulimit -n)",
    sqlite3.SQLITE_IOERR: (
        "the disk or its share does not take or give the data (full, over a limit, or failing): check it, then try"
        " again"
    ),
    sqlite3.SQLITE_NOMEM: "there is not enough memory: close something, then try again",
    sqlite3.SQLITE_NOLFS: "its file system holds no large files: move it to another",
    sqlite3.SQLITE_PROTOCOL: "its file system does not lock files: move the runs to a local disk",
}
SQLITE_WORDS = {**_ACCESS, **dict.fromkeys(_BUSY, f"it is locked: {_LOCKED}")}
"""What SQLite's primary result codes mean for a person, and what to do; any other says that the file is damaged."""


def database_name(path: Path) -> str:
    """A database as messages name it: its run's folder and its file."""
    return f"{path.parent.name}/{path.name}"


def damaged_error(path: Path, reason: object) -> DamagedRunError:
    """The error for a database that holds what it must not hold."""
    text = str(reason) or type(reason).__name__
    text = text if len(text) <= 300 else text[:299] + "…"
    return DamagedRunError(f"{database_name(path)} is damaged ({text}): restore it from a copy, or delete the run")


def as_store_error(error: sqlite3.Error, path: Path) -> StoreError:
    """SQLite's error as one of the declared ones; it stays as the cause."""
    found = _translate(error, path)
    found.__cause__ = error
    return found


def _translate(error: sqlite3.Error, path: Path) -> StoreError:
    plain = result_code(error)
    if plain in _BUSY:
        return StoreBusyError(f"{database_name(path)} is locked: {_LOCKED}")
    if plain in _ACCESS:
        return StoreAccessError(f"{database_name(path)} cannot be used ({error}): {_ACCESS[plain]}")
    if plain == sqlite3.SQLITE_INTERRUPT:
        return damaged_error(path, "a query took longer than any run's does")
    if plain is None and isinstance(error, sqlite3.ProgrammingError):
        return StoreAccessError(f"{database_name(path)} was closed meanwhile: open the run again")
    return damaged_error(path, error)


def result_code(error: BaseException | None) -> int | None:
    """SQLite's primary result code of an error; None for one that Python's own part of the driver raised."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite raises within into one of the declared errors."""
    try:
        yield
    except sqlite3.Error as error:
        raise as_store_error(error, path) from error
    except UnicodeDecodeError as error:  # a text, or even SQLite's own words about one, whose bytes are no UTF-8
        raise damaged_error(path, error) from error


@contextmanager
def decoding_errors(path: Path, what: str) -> Iterator[None]:
    """Turn whatever decoding raises within into `DamagedRunError`; `what` names the part that is read."""
    try:
        yield
    except StoreError:
        raise
    except BAD_DATA as error:
        raise damaged_error(path, f"{what}: {str(error) or type(error).__name__}") from error
