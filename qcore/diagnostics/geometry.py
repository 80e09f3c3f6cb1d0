"""How much of its width a hidden state uses: effective rank, spectrum, and how alike all states are.

Two collapses look alike in the loss and differ here. All states become one vector: the mean cosine goes to 1. They
still differ, but along few directions: the effective rank of their *centred* covariance falls. Centring keeps the two
apart; a state shared by all positions would otherwise hide the spread around it.
Legend: B batch, T tokens, D width, N sampled positions.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qcore.diagnostics.positions import check_mask, drop_undefined, valid_positions
from qcore.probes import catalog

KEPT_EIGENVALUES = 64
NO_SPREAD = 1e-10
"""Variance below this part of the mean square is rounding: the states are one vector."""


@dataclass(frozen=True)
class HiddenGeometry:
    """Geometry of N hidden states; NaN, and no eigenvalues, for fewer than two."""

    positions: int
    dimensions: float
    """exp(−Σ λ ln λ) of the covariance eigenvalues λ, scaled to sum 1: in [1, min(D, N−1)]; r for r equal ones, 1 when
    the states don't differ (Roy & Vetterli 2007)."""
    effective_rank: float
    """`dimensions` ÷ min(D, N−1), in (0, 1]."""
    mean_cosine: float
    """Mean cosine of two different positions, in [−1/(N−1), 1]."""
    eigenvalues: np.ndarray
    """The largest 64, descending, of all that sum to 1."""

    def scalars(self) -> dict[str, float]:
        """Series by name, all under `geometry/`."""
        return drop_undefined(
            {catalog.GEOMETRY_EFFECTIVE_RANK: self.effective_rank, catalog.GEOMETRY_MEAN_COSINE: self.mean_cosine}
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """What is stored under the name "spectrum"; empty without two positions."""
        return {"eigenvalues": self.eigenvalues} if len(self.eigenvalues) else {}


def hidden_geometry(hidden_BTD: Tensor, mask_BT: Tensor, rows: int = 256) -> HiddenGeometry:
    """Measure hidden states at up to `rows` valid positions, spread over the batch.

    The mean cosine needs no pairs: with unit vectors u it is (‖Σu‖² − Σ‖u‖²) ÷ (N(N−1)). Cost: O(N·D·min(N, D)) and the
    eigenvalues of a matrix of side min(N, D), 0.5 ms at 128.

    Raises:
        ValueError: shapes that disagree, rows < 2.

    Example:
        >>> alike = torch.ones(1, 8, 4)  # every position looks the same
        >>> found = hidden_geometry(alike, torch.ones(1, 8, dtype=torch.bool))
        >>> round(found.mean_cosine, 4)
        1.0
    """
    if hidden_BTD.ndim != 3:
        raise ValueError(f"hidden_BTD has shape {tuple(hidden_BTD.shape)}; pass batch × tokens × width")
    check_mask(mask_BT, tuple(hidden_BTD.shape[:2]), "hidden_BTD")
    if rows < 2:
        raise ValueError(f"rows is {rows}; two positions are the fewest that can differ")
    with torch.no_grad():
        states_ND = hidden_BTD.detach().flatten(0, 1)[valid_positions(mask_BT, rows)].float()
        count, width = states_ND.shape
        if count < 2:
            return HiddenGeometry(count, math.nan, math.nan, math.nan, np.zeros(0, np.float32))
        unit_ND = F.normalize(states_ND, dim=-1)
        pairs = unit_ND.sum(0).double().square().sum() - unit_ND.double().square().sum()
        share_N = _eigenvalue_shares(states_ND)
        dimensions = float(torch.special.entr(share_N).sum().exp())
    return HiddenGeometry(
        positions=count,
        dimensions=dimensions,
        effective_rank=dimensions / min(width, count - 1),
        mean_cosine=float(pairs) / (count * (count - 1)),
        eigenvalues=share_N[:KEPT_EIGENVALUES].float().cpu().numpy(),
    )


def _eigenvalue_shares(states_ND: Tensor) -> Tensor:
    """Eigenvalues of the centred covariance, descending, scaled to sum 1. The smaller of the two Gram matrices has the
    same ones that are not 0.
    """
    centred_ND = states_ND - states_ND.mean(0)
    count, width = states_ND.shape
    small, total = min(count - 1, width), centred_ND.square().sum()
    if not bool(total > NO_SPREAD * states_ND.square().sum()):
        return F.one_hot(torch.zeros((), dtype=torch.long), small).double()
    scaled_ND = centred_ND / total.sqrt()
    gram = scaled_ND @ scaled_ND.T if count < width else scaled_ND.T @ scaled_ND
    values = torch.linalg.eigvalsh(gram).flip(0)[:small].clamp(min=0).double()
    return values / values.sum()
