"""Two halves of a set of cases: limits are fitted on half a alone, and what is told of them is half b.

A case's half follows from its name and its group (a family, a kind of mistake) by a hash, and each group is cut in the
middle: both halves hold as many of each group, to one. A new case moves at most one other of its group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

HALVES = ("a", "b")


def halves(groups: Mapping[str, str]) -> dict[str, str]:
    """Half of every name, from name → group.

    >>> sorted(halves({"x": "one", "y": "one", "z": "two"}).items())
    [('x', 'a'), ('y', 'b'), ('z', 'a')]
    """
    found: dict[str, str] = {}
    for group in sorted(set(groups.values())):
        members = sorted((name for name, own in groups.items() if own == group), key=_digest)
        # a group of odd size gives its odd one to the half that its own hash names
        middle = (len(members) + _digest(group)[0] % 2) // 2
        found |= {name: HALVES[place >= middle] for place, name in enumerate(members)}
    return found


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
