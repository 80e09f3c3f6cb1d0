"""The published guide's bands and fixes, for pages: as the guide's, each beside what was measured."""

from __future__ import annotations

from typing import Any

from qcore.detect import GUIDE

_TROUBLES = {"averaging": "frames average", "nan": "not a number", "jitter": "jitter"}


def guide() -> list[dict[str, Any]]:
    """Rows with name, measure, low, high, guide (what it says) and verdict (what was measured), bands before fixes.

    A fix has no measure and no limits.
    """
    bands = [
        {
            "name": f"{band.measure.rpartition('/')[2]}, {band.grade}",
            "measure": band.measure,
            "low": band.low,
            "high": band.high,
            "guide": band.grade,
            "verdict": band.verdict,
        }
        for band in GUIDE.bands
    ]
    fixes = [
        {
            "name": _TROUBLES[fix.symptom],
            "measure": None,
            "low": None,
            "high": None,
            "guide": f"set {fix.control} to {fix.value:g}",
            "verdict": fix.verdict,
        }
        for fix in GUIDE.fixes
    ]
    return [*bands, *fixes]
