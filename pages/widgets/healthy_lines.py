"""Where healthy runs lie, as lines of a chart: the detectors' limits, or the range of a probe from outside."""

from __future__ import annotations

from qcore.lab import healthy_range
from qcore.probes.catalog import Range
from qcore.viz import Reference, number_words


def healthy_lines(series: str, shown: str = "") -> list[Reference]:
    """The limits that this series is judged by; none for a series without.

    Args:
        shown: its name in a chart of several.
    """
    return range_lines(healthy_range(series), shown)


def range_lines(healthy: Range | None, shown: str = "") -> list[Reference]:
    """A healthy range as lines."""
    low, high = healthy or (None, None)
    name = f"{shown}, healthy" if shown else "healthy"
    return [
        Reference(f"{name} {sign}", limit, f"{name} values are {sign} {number_words(limit)}")
        for sign, limit in (("≥", low), ("≤", high))
        if limit is not None
    ]
