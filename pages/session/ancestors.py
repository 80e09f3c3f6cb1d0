"""The past of a fork: what the runs that it comes from recorded up to the forks, which never changes again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from pages.session import read_cache
from qcore.lab import Lab, LabError, RunInfo
from qcore.viz.curves import StoredSeries

KEPT = 32
MOST = 4
"""Generations that are drawn: each has curves and names of its own."""
Past = Sequence[tuple[str, Mapping[str, StoredSeries]]]


def ancestor_series(lab: Lab, info: RunInfo, names: tuple[str, ...], most_points: int) -> Past:
    """Each run that a fork comes from, its parent first, with its series up to the fork. A parent that is gone, or that
    another run has taken the name of, ends the line.
    """
    found: list[tuple[str, Mapping[str, StoredSeries]]] = []
    at, stop, passed = info.name, math.inf, {info.name}
    while len(found) < MOST:
        try:
            lineage = lab.lineage(at)
            if lineage is None or not lineage.forked or lineage.parent in passed:
                break
            state = read_cache.run_version(lab, lineage.parent)
            if state[1] != lineage.parent_created:
                break
            at, stop = lineage.parent, min(stop, lineage.step + 1)
            passed.add(at)
            # What was recorded before the fork is all on disk once a later step is, or once nobody trains it.
            parent = lab.info(at)
            read = _kept if parent.step >= stop or not parent.alive else _read
            found.append((at, read(lab, state, names, int(stop), most_points)))
        except (LabError, OSError):  # the run itself is drawn all the same
            break
    return found


def _read(lab: Lab, state: tuple[str, float, int], names: tuple[str, ...], stop: int, most: int) -> Mapping[str, Any]:
    return lab.reader(state[0]).scalars_of(names, stop=stop, max_points=most)


_kept = lru_cache(maxsize=KEPT)(_read)
