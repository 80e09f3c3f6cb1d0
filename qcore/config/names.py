"""Names of values as people and pages write them: `learning rate` and `Learning-Rate` are one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from qcore.config.errors import shortened

_LONGEST_COMPARED = 80  # letters: no declared name is near a longer one, and comparing grows with the square


def normal_name(name: str) -> str:
    """A name in the form of the declarations: lower case, one underscore for each run of blanks, hyphens and
    underscores, parts joined by dots. Its time is linear in its length.
    """
    return ".".join("_".join(part.replace("-", " ").replace("_", " ").lower().split()) for part in name.split("."))


def nearest_hint(name: str, valid: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the valid name nearest to `name`, or the empty text when none is near."""
    known = [one for one in valid if len(one) <= 3 * _LONGEST_COMPARED]
    close = difflib.get_close_matches(name[:_LONGEST_COMPARED], known, n=1, cutoff=0.5)
    return f"; did you mean {shortened(close[0], _LONGEST_COMPARED)!r}?" if close else ""
