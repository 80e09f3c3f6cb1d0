"""The error of the façade, and the one edge at which errors of the system become one."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from qcore.store import StoreFormatError
from qcore.train.trouble import cause_of, sentence

FORESEEN = (sqlite3.Error, StoreFormatError, OSError, UnicodeError)
"""What a disk, a file or a database may answer, whoever wrote it."""


class LabError(ValueError):
    """A request that the lab refuses; the message names the value and the remedy.

    cause: what stands in the way, of `qcore.train.trouble.CAUSES`; empty when the request itself is wrong.
    """

    def __init__(self, message: str, cause: str = "") -> None:
        self.cause = cause
        super().__init__(message)


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Turn what the system answers (locked, damaged, full, forbidden …) into a `LabError` that begins with `what`."""
    try:
        yield
    except FORESEEN as error:
        raise LabError(sentence(error, what), cause_of(error)) from error
