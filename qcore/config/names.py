"""Names of values as people and pages write them: `learning rate` and `Learning-Rate` are one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple

from qcore.config.errors import shorten

_LONGEST_COMPARED = 80  # letters: no declared name is near a longer one, and comparing grows with the square
_HYPHEN = re.compile(r"(?<=[^\W_])-(?=[^\W_])")
_OPERATORS = "+-/%^|&!<>:~"


def normal_name(name: str) -> str:
    """A name in the form of the declarations: lower case, one underscore for each run of blanks and underscores and for
    a hyphen between two letters, parts joined by dots. Any other hyphen stays: no name has one, and `rate -= 1` would
    be read as `rate = 1`. Its time is linear in its length.
    """
    parts = (_HYPHEN.sub(" ", part).replace("_", " ").lower().split() for part in name.split("."))
    return ".".join(map("_".join, parts))


def trailing_operator(written: str) -> str:
    """The operator that ends what stands before a `=`, such as the `-` of `learning_rate -= 1`; empty without one. A
    `*` is none: it may end a name (`t*`).
    """
    last = written.rstrip()[-1:]
    return last if last and last in _OPERATORS else ""


class KeyValue(NamedTuple):
    """`name = value` as a person wrote it.

    Attributes:
        written: what stands before the sign.
        sign: `=`, or one such as `*=`.
        value: what stands after it, without the blanks around it.
    """

    written: str
    sign: str
    value: str


def assignment(text: str, operators: str = "") -> KeyValue | None:
    """A text cut at its first `=`; None without one. Neither the name nor the value is checked.

    Args:
        operators: letters that belong to the sign when they stand before it.
    """
    written, sign, value = text.partition("=")
    if not sign:
        return None
    if operators and written[-1:] and written[-1] in operators:
        written, sign = written[:-1], written[-1] + sign
    return KeyValue(written, sign, value.strip())


def nearest_hint(name: str, valid: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the valid name nearest to `name`, or the empty text when none is near."""
    known = [one for one in valid if len(one) <= 3 * _LONGEST_COMPARED]
    close = difflib.get_close_matches(name[:_LONGEST_COMPARED], known, n=1, cutoff=0.5)
    return f"; did you mean {shorten(close[0], _LONGEST_COMPARED)!r}?" if close else ""
