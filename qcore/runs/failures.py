"""What went wrong, in a sentence and by cause: the one place that turns errors of the system into words. No torch here.

A bare "[Errno 28] No space left on device" says neither which file, nor what it means here, nor what to do. Whoever
shows an error to a person (the run's status, the command line, the protocol, a page) asks `sentence`; what kind of
remedy fits is `cause_of`, one of `CAUSES`.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from qcore.base import LabError, QcoreError
from qcore.config import ConfigError, DataError
from qcore.runs.checkpoint_folders import CheckpointError
from qcore.store import StoreBusyError, StoreFormatError, StoreTimeoutError, WriterReplacedError
from qcore.store.errors import SQLITE_WORDS, result_code

CAUSES = {
    "numeric": "the loss or a gradient was not finite",
    "data": "the data cannot be used, or are no longer those that the run began with",
    "disk": "the disk is full, read-only or failing, so nothing can be written",
    "memory": "there was not enough memory",
    "folder gone": "the run's folder was moved or deleted while it trained",
    "configuration": "the configuration asks for something that this machine or model does not have",
    "checkpoint": "no checkpoint of the run can be used",
    "database": "the run's database is damaged, of another program, or taken over by another worker",
    "locked": "another program held the run's database for too long",
    "files": "too many files are open, or a file may not be read or written",
    "process ended": "the worker's process exited without an error message",
    "bug": "unexpected error: the traceback in the run's log says where it happened",
}
"""Why a run failed or was interrupted, as `RunInfo.cause` says it."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers that mean: this much more cannot be written."""
_DISK = FULL | {errno.EROFS, errno.EIO}
NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})
"""Error numbers with which a file system says that it has no locks."""
_ROOM = "free space there (old runs and checkpoints take the most)"
_NO_LOCKS = (
    "this file system gives no locks, without which two workers could train one run: keep the runs on a local disk, or "
    "mount the share with locks"
)
_OS = {
    errno.ENOSPC: f"the disk is full: {_ROOM}",
    errno.EDQUOT: f"the disk quota is used up: {_ROOM}, or ask for more",
    errno.EFBIG: "the file would be larger than this process or file system allows: raise the limit (ulimit -f)",
    errno.EROFS: "the file system is read-only: mount it for writing, or copy the runs to another folder",
    errno.EIO: "the disk reports input/output errors: check it, and copy the runs elsewhere",
    errno.ENOLCK: _NO_LOCKS,
    errno.EOPNOTSUPP: _NO_LOCKS,
    errno.ENOSYS: _NO_LOCKS,
    errno.EACCES: "permission denied: use an account with access, or change the file's permissions",
    errno.EPERM: "permission denied: use an account with access, or change the file's permissions",
    errno.ENOENT: "there is no such file or folder: check the path",
    errno.EEXIST: "there is such a file already: choose another name, or move it away",
    errno.ENOTEMPTY: "the folder is not empty: choose another name, or move it away",
    errno.ENOTDIR: "a file stands where a folder is needed: choose another path",
    errno.EISDIR: "this is a folder, and a file is needed: give a file",
    errno.ELOOP: "the links of this path form a loop: give another path",
    errno.ENAMETOOLONG: "the name is longer than the file system allows: choose a shorter one",
    errno.EMFILE: "this process has too many files open: raise the limit (ulimit -n), or close other runs",
    errno.ENFILE: "this machine has too many files open: close what is not needed",
    errno.ENOMEM: "there is not enough memory: close what is not needed",
    errno.EAGAIN: "this machine allows no further thread or process: close what is not needed",
    errno.EBUSY: "another program is using it: try again when that has ended",
    errno.EXDEV: "it lies on another file system: choose a folder on the same one",
    errno.EADDRINUSE: "another program listens there already: choose another port",
    errno.EADDRNOTAVAIL: "this machine does not have that address: choose one that it has",
    errno.EPIPE: "the program at the other end has ended",
    errno.ESTALE: "the network drive has lost it: mount it again",
    errno.ETIMEDOUT: "the drive did not answer in time: check the share and its network, then try again",
    errno.ENODEV: "the device is gone: mount it again",
    errno.ENXIO: "the device is gone: mount it again",
}
_LONGEST = 600
_OF_SQLITE = {
    sqlite3.SQLITE_PERM: "files",
    sqlite3.SQLITE_CANTOPEN: "files",
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_NOMEM: "memory",
}
"""Causes by result code; of the others that the store has words for: the disk."""
_DAMAGED = "it is damaged: restore it from a copy or an export, or delete the run"


class RunError(QcoreError):
    """A run cannot go on, for a cause of `CAUSES`."""

    def __init__(self, cause: str, message: str) -> None:
        self.cause = cause
        super().__init__(message)


def folder_gone_error(run_dir: Path) -> RunError:
    """The error of a run whose folder is no longer where it was."""
    return RunError(
        "folder gone",
        f"its folder {str(run_dir)!r} was moved or deleted while it trained: put it back and resume it, or ignore it",
    )


def sentence(error: BaseException, what: str = "") -> str:
    """What happened, where, and what to do, in one bounded line.

    Args:
        what: shown first, such as `run 'a'`.
    """
    text = " ".join(_text(error).split())
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return f"{what}: {text}" if what else text


def cause_of(error: BaseException, *, opening: bool = False) -> str:
    """The cause of an error that ended a run, of `CAUSES`.

    Args:
        opening: data and model were being opened.
    """
    if isinstance(error, RunError):
        return error.cause
    if isinstance(error, FloatingPointError):
        return "numeric"
    # torch says a full device by its words alone, on the CPU as on a GPU, in errors of several types
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "allocate memory" in str(error):
        return "memory"
    if isinstance(error, sqlite3.Error):
        return _of_sqlite(error)[1]
    # before OSError, which it may be: our own errors say more than the type they come from
    if isinstance(error, StoreTimeoutError):
        return "disk"
    if isinstance(error, StoreBusyError):
        return "locked"
    if isinstance(error, StoreFormatError | WriterReplacedError):
        return "database"
    if isinstance(error, ConfigError):
        return "data" if isinstance(error, DataError) else "configuration"
    if isinstance(error, CheckpointError):
        return "checkpoint"
    if isinstance(error, LabError) and error.__cause__ is not None:  # what the system answered stands behind it
        return cause_of(error.__cause__, opening=opening)
    # where an error came through tells whose it is: the same OSError is the data's in one room, the disk's in another
    if isinstance(error, TimeoutError) and _came_through(error, "qcore.data"):
        return "data"
    if isinstance(error, OSError) and (error.errno in _DISK or isinstance(error, TimeoutError)):
        return "disk"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return "memory"
    if isinstance(error, ValueError | OSError | UnicodeError) and _came_through(error, "qcore.data"):
        return "data"
    if isinstance(error, OSError):
        return "files"
    # while data and model are opened only values have been used; later a ValueError is a mistake of ours
    return "configuration" if opening and isinstance(error, ValueError) else "bug"


def is_disk_trouble(error: BaseException) -> bool:
    """Whether the disk took or gave no more: nothing that a person typed was wrong."""
    if isinstance(error, sqlite3.Error):
        return result_code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
    if isinstance(error, OSError):
        return error.errno in FULL | {errno.EIO}
    return error.__cause__ is not None and is_disk_trouble(error.__cause__)


def _text(error: BaseException) -> str:
    if isinstance(error, sqlite3.Error):
        return f"the run's database says {str(error)!r}; {_of_sqlite(error)[0]}"
    if isinstance(error, UnicodeDecodeError):
        byte = error.object[error.start : error.start + 1]
        shown = f"byte {byte[0]:#04x} at offset {error.start}" if byte else f"offset {error.start}"
        return f"the file is not UTF-8 text ({shown}: {error.reason}): save it as UTF-8"
    if isinstance(error, OSError) and error.errno is not None:
        where = _path(error)
        words = error.strerror or os.strerror(error.errno)
        meaning = _OS.get(error.errno) or (f"{words}: check the path and its disk" if where else words)
        return f"{where}: {meaning}" if where else meaning
    if isinstance(error, MemoryError):
        return str(error) or "there was not enough memory: close what is not needed, or take a smaller batch or model"
    own = isinstance(error, ValueError | FloatingPointError | OSError) and str(error)
    return str(error) if own else f"{type(error).__name__}: {error}".rstrip(": ")


def _path(error: OSError) -> str:
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    return " → ".join(repr(name if len(name) <= 200 else name[:197] + "…") for name in names)


def _of_sqlite(error: sqlite3.Error) -> tuple[str, str]:
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return "this is a bug in Collapse Lab: please report it", "bug"
    code = result_code(error)
    if code not in SQLITE_WORDS:
        return _DAMAGED, "database"
    return SQLITE_WORDS[code], _OF_SQLITE.get(code, "disk")


def _came_through(error: BaseException, room: str) -> bool:
    """Whether the error came through code of a room."""
    trace = error.__traceback__
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__", "")).startswith(room):
            return True
        trace = trace.tb_next
    return False
