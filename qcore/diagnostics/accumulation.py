"""What an accumulated gradient is made of: how much of each micro-batch's own gradient is in it.

The accumulated gradient must be Σᵢ (cᵢ ÷ C)·gᵢ over the micro-batches with cᵢ of C targets. Solving
a = argmin ‖g − Σ aᵢgᵢ‖ by least squares gives the weights that it really has, and they name what went wrong: one that
is 0 is a micro-batch that was lost; all larger than their share are sums that were never divided; all equal, with
unequal cᵢ, are means of means, in which a short batch counts as much as a long one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from qcore.diagnostics.positions import drop_undefined
from qcore.probes import catalog

_CONDITION = 1e8


@dataclass(frozen=True)
class AccumulationWeights:
    """Weight of N micro-batches in an accumulated gradient.

    Attributes:
        weight_N: aᵢ.
        relative_N: aᵢ ÷ (cᵢ ÷ C), 1 for each when nothing is wrong.
        residual: ‖g − Σ aᵢgᵢ‖ ÷ ‖g‖.
    """

    weight_N: tuple[float, ...]
    relative_N: tuple[float, ...]
    residual: float

    def scalars(self) -> dict[str, float]:
        """Series by name, under `accumulation/`; nothing where the micro-batches cannot be told apart."""
        if not self.weight_N:
            return {}
        mean = sum(self.weight_N) / len(self.weight_N)
        spread = max(abs(weight - mean) for weight in self.weight_N)
        return drop_undefined(
            {
                catalog.ACCUMULATION_SMALLEST: min(self.relative_N),
                catalog.ACCUMULATION_LARGEST: max(self.relative_N),
                catalog.ACCUMULATION_UNEVENNESS: spread / abs(mean) if mean else math.nan,
                catalog.ACCUMULATION_RESIDUAL: self.residual,
            }
        )


def accumulation_weights(
    accumulated: Sequence[Tensor], micro: Sequence[Sequence[Tensor]], counts: Sequence[int]
) -> AccumulationWeights:
    """Find the weight of each micro-batch's gradient in the accumulated one; the tensors are those of all parameters.

    Args:
        micro: gradient of the mean loss of each micro-batch alone.
        counts: targets of each.

    Example:
        >>> one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        >>> accumulation_weights([one * 0.25], [[one], [other]], [1, 3]).relative_N
        (1.0, 0.0)
    """
    rows = [*micro, accumulated]
    gram = np.array([[_dot(left, right) for right in rows] for left in rows])
    own, along, square = gram[:-1, :-1], gram[:-1, -1], gram[-1, -1]
    lengths = np.sqrt(np.diag(own))
    total = sum(counts)
    if not (square > 0 and (lengths > 0).all() and min(counts) > 0):
        return AccumulationWeights((), (), math.nan)
    # in units of each gradient's length, so that the condition is that of their directions
    unit = own / lengths[:, None] / lengths[None, :]
    if np.linalg.cond(unit) > _CONDITION:
        return AccumulationWeights((), (), math.nan)
    weights = np.linalg.solve(unit, along / lengths) / lengths
    rest = max(0.0, float(square - 2 * weights @ along + weights @ own @ weights))
    relative = [float(weight) * total / count for weight, count in zip(weights, counts, strict=True)]
    return AccumulationWeights(tuple(map(float, weights)), tuple(relative), math.sqrt(rest / float(square)))


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    return sum(float((a.double() * b.double()).sum()) for a, b in zip(left, right, strict=True))
