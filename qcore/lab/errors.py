"""The error of the façade, which the store shares, and the one edge at which errors of the system become one."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from qcore.base import LabError
from qcore.train.trouble import sentence

__all__ = ["FORESEEN", "LabError", "told"]

FORESEEN = (sqlite3.Error, OSError, UnicodeError)
"""What a disk, a file or a database may answer, beside the store's own errors, which are `LabError`s."""


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Turn what the system answers (full, forbidden, no locks …) into a `LabError` that begins with `what`."""
    try:
        yield
    except FORESEEN as error:
        raise LabError(sentence(error, what)) from error
