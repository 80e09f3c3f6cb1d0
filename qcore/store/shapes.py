"""Declared shapes of the JSON values in a run's database: what pages, rules and the trainer rely on, and no more.

A shape is a function `(value, where) -> None` that raises `ShapeError` naming the place. Keys that are not declared may
hold anything, so that an earlier or later version's records still open; a declared one has its type or is refused when
it is read, never in the middle of a page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from qcore.base import QcoreError

Shape = Callable[[Any, str], None]

EARLIEST, LATEST = -60_000_000_000.0, 250_000_000_000.0
"""Epoch seconds that a calendar can show: the years 68 to 9892."""
INTEGERS = 2**53
"""Integers beyond this are no steps, ids or counts, and no browser holds them exactly."""
LARGEST_STEP = 10_000_000
"""Most steps that a run may have. What is drawn or counted from step to step must not take as long as a stranger's
number says."""
MAX_SECONDS = 1e12


class ShapeError(QcoreError):
    """A value that has not its declared type; the message names the place and the value."""


def refuse(where: str, value: object, wanted: str) -> ShapeError:
    """The error for a value at a place."""
    shown = repr(value)
    return ShapeError(f"{where} is {shown if len(shown) <= 60 else shown[:59] + '…'}, not {wanted}")


def text(value: Any, where: str) -> None:
    """Text."""
    if not isinstance(value, str):
        raise refuse(where, value, "text")


def truth(value: Any, where: str) -> None:
    """true or false."""
    if not isinstance(value, bool):
        raise refuse(where, value, "true or false")


def integer(value: Any, where: str) -> None:
    """A whole number within ± 2⁵³."""
    if type(value) is not int or not -INTEGERS <= value <= INTEGERS:
        raise refuse(where, value, "a whole number")


def count(value: Any, where: str) -> None:
    """A whole number from 0."""
    if type(value) is not int or not 0 <= value <= INTEGERS:
        raise refuse(where, value, "a whole number from 0")


def step(value: Any, where: str) -> None:
    """A step of a run."""
    if type(value) is not int or not -LARGEST_STEP <= value <= LARGEST_STEP:
        raise refuse(where, value, f"a step of a run (at most {LARGEST_STEP:,})")


def number(value: Any, where: str) -> None:
    """A number that a float can hold; it may be NaN or infinite."""
    if type(value) is float or (type(value) is int and -INTEGERS <= value <= INTEGERS):
        return
    raise refuse(where, value, "a number")


def finite(value: Any, where: str) -> None:
    """A finite number."""
    number(value, where)
    if not math.isfinite(value):
        raise refuse(where, value, "a finite number")


def positive(value: Any, where: str) -> None:
    """A finite number above 0."""
    finite(value, where)
    if value <= 0:
        raise refuse(where, value, "a number above 0")


def seconds(value: Any, where: str) -> None:
    """A duration."""
    finite(value, where)
    if abs(value) > MAX_SECONDS:
        raise refuse(where, value, "a duration in seconds")


def moment(value: Any, where: str) -> None:
    """A time in epoch seconds."""
    finite(value, where)
    if not EARLIEST <= value <= LATEST:
        raise refuse(where, value, "a time in epoch seconds")


def anything(value: Any, where: str) -> None:
    """Whatever JSON holds."""


def setting(value: Any, where: str) -> None:
    """A control's value: nothing, a truth value, a number, text, or a list of those."""
    if isinstance(value, list):
        for place, one in enumerate(value):
            if isinstance(one, list | dict):
                raise refuse(f"{where}[{place}]", one, "a value of a control")
            setting(one, where)
    elif value is not None and not isinstance(value, str | bool):
        number(value, where)


def optional(shape: Shape) -> Shape:
    """null, or `shape`."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            shape(value, where)

    return check


def many(shape: Shape) -> Shape:
    """A list of values of one shape."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise refuse(where, value, "a list")
        for one in value:
            shape(one, where)

    return check


def named(shape: Shape = anything) -> Shape:
    """An object whose values are all of one shape."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise refuse(where, value, "an object")
        if shape is not anything:
            for key, one in value.items():
                shape(one, f"{where}.{key}")

    return check


def record(
    required: Mapping[str, Shape] | None = None, optional: Mapping[str, Shape] | None = None, rest: Shape = anything
) -> Shape:
    """An object with declared keys; `rest` is the shape of all others."""
    must, may = dict(required or {}), dict(optional or {})

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise refuse(where, value, "an object")
        for key, shape in must.items():
            if key not in value:
                raise ShapeError(f"{where} lacks {key!r}")
            shape(value[key], f"{where}.{key}")
        for key, one in value.items():
            if key not in must:
                may.get(key, rest)(one, f"{where}.{key}")

    return check


def pair(first: Shape, second: Shape) -> Shape:
    """A list of two."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) != 2:
            raise refuse(where, value, "a pair")
        first(value[0], where)
        second(value[1], where)

    return check
