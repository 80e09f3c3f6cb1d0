"""The judgement on a map of cuts: whether a step's outputs see the future, by the limit of the rule `future_leak`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from qcore.detect.healthy import threshold


@dataclass(frozen=True)
class Causality:
    """What a causality probe found.

    Attributes:
        early_cells: cells up to a cut that moved.
        early, later: the largest |Δlogit| up to and after a cut.
    """

    early_cells: int
    early: float
    later: float

    @property
    def leak(self) -> float:
        """early ÷ later, as `causality/leak`; 0 for a causal model, infinite when only what must not move moved."""
        return self.early / self.later if self.later else float("inf") if self.early else 0.0

    @property
    def verdict(self) -> Literal["leak", "rounding", "ignored", "causal"]:
        """`leak`: above the limit · `rounding`: within it · `ignored`: nothing moved, even after the cut · `causal`."""
        if self.early_cells:
            return "leak" if self.leak > threshold("future_leak", "leak") else "rounding"
        return "causal" if self.later else "ignored"


def causality_of(cuts_C: ArrayLike, change_CT: ArrayLike) -> Causality:
    """Judge |Δlogits| at position t when all after a cut was replaced: up to the cut, all must be exactly 0."""
    change = np.nan_to_num(np.asarray(change_CT, dtype=np.float64), nan=np.inf)
    early_CT = np.arange(change.shape[1]) <= np.asarray(cuts_C).reshape(-1, 1)
    early, later = change[early_CT], change[~early_CT]
    return Causality(int((early > 0).sum()), float(early.max(initial=0.0)), float(later.max(initial=0.0)))
