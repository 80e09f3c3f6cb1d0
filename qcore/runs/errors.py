"""The error of the façade, which the store shares, and the one edge at which errors of the system become one."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterator
from typing import Concatenate, ParamSpec, TypeVar

from qcore.base import LabError
from qcore.runs.failures import is_disk_trouble, sentence

__all__ = ["FORESEEN", "LabError", "is_disk_trouble", "lab_errors", "sentence", "with_run_errors"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

FORESEEN = (sqlite3.Error, OSError, UnicodeError)
"""What a disk, a file or a database may answer, beside the store's own errors, which are `LabError`s."""


@contextlib.contextmanager
def lab_errors(what: str) -> Iterator[None]:
    """Turn what the system answers (full, forbidden, no locks …) into a `LabError` that begins with `what`."""
    try:
        yield
    except FORESEEN as error:
        raise LabError(sentence(error, what)) from error


def with_run_errors(method: Callable[Concatenate[S, str, P], R]) -> Callable[Concatenate[S, str, P], R]:
    """A method of a lab whose first argument names a run: what the system answers becomes a `LabError` about it."""

    @functools.wraps(method)
    def call_method(self: S, name: str, *rest: P.args, **options: P.kwargs) -> R:
        with lab_errors(f"run {name!r}"):
            return method(self, name, *rest, **options)

    return call_method
