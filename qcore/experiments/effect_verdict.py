"""What a measured effect says, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qcore.base.words import number_words
from qcore.experiments.statistics import paired_difference

_TINY = 1e-9
"""A spread below it is written with a power of ten after all: nobody counts that many zeros."""


def verdict_text(metric: str, differences: Sequence[float], forks: int) -> str:
    """The answer in a sentence."""
    failed = (
        f" ({forks - len(differences)} of {forks} pairs failed and are left out)" if len(differences) < forks else ""
    )
    if len(differences) < 2:
        return f"no result: {len(differences)} of {forks} pairs gave a value of {metric}"
    found = paired_difference(differences)
    mean, low, high = _plain_numbers(found.mean, found.low, found.high)
    interval = f"{mean}, 95 % from {low} to {high}"
    if found.detected:
        return f"effect: the change moves {metric} by {interval}{failed}"
    more = "more pairs than can be made" if found.needed is None else f"about {found.needed} pairs"
    tail = "every pair is the same" if found.mean == found.low == found.high else f"{more} would show one of this size"
    return f"no detectable effect on {metric}: {interval}; {tail}{failed}"


def _plain_numbers(mean: float, low: float, high: float) -> tuple[str, str, str]:
    """The three with a sign and the same decimals, as many as their spread needs: no powers of ten to be decoded."""
    spread = abs(high - low) or abs(mean)
    if 0 < spread < _TINY:
        return number_words(mean, 3, signed=True), number_words(low, 3, signed=True), number_words(high, 3, signed=True)
    decimals = max(0, 2 - math.floor(math.log10(spread))) if math.isfinite(spread) and spread else 4
    return f"{mean:+,.{decimals}f}", f"{low:+,.{decimals}f}", f"{high:+,.{decimals}f}"
