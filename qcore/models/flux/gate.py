"""The gate of Quantum Flux connections, and the vectors whose scalar product is what it gates (see connections.py).

Shape legend: see blocks.py; N = B·H kernels, p = 2K/H coordinates of a state, m channels that are mixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SELF_WEIGHT = 1e-6
"""Weight of a token on itself beside w: a row without any connection keeps its own state instead of reading 0/0."""

TIE = 1e-6
"""How far below its threshold a similarity still passes the hard gate: equal states are connected whatever the
rounding."""


@dataclass(frozen=True)
class Gate:
    """Which similarities count: softly, σ((sim − τ)/temperature), or hard.

    Attributes:
        temperature: width of the soft gate.
        hard: 1 where sim ≥ τ, else 0; its gradient is that of the kept similarities alone (exact almost everywhere),
            none goes through the threshold.
    """

    temperature: float = 0.1
    hard: bool = False

    @property
    def scale(self) -> float:
        """What similarities are divided by before the gate."""
        return 1.0 if self.hard else self.temperature


@dataclass(frozen=True)
class Mixed:
    """What a row reads.

    Attributes:
        values: Σ_j a_ij v_j [N, T, m].
        strength: (1/i)·Σ_{j≤i} w_ij ∈ [0, 1], how strongly a token is connected with its own past [N, T].
    """

    values: Tensor
    strength: Tensor


def strength_of(total_NT: Tensor, gate: Gate) -> Tensor:
    """Row sums in units of the scale → mean weight of a row's connections."""
    i = torch.arange(1, total_NT.shape[1] + 1, device=total_NT.device, dtype=total_NT.dtype)
    return total_NT * (gate.scale / i)


def augmented(query_NTp: Tensor, state_NTp: Tensor, tau_NT: Tensor, gate: Gate) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors [N, T, p+1] whose scalar product is sim ÷ scale, and the threshold in that unit: one product a tile."""
    half = 0.5 / gate.scale
    return append_ones(query_NTp) * half, append_ones(state_NTp), (tau_NT - TIE if gate.hard else tau_NT) / gate.scale


def append_ones(value_NTm: Tensor) -> Tensor:
    """One more channel, all ones: what is summed with weights then also counts them."""
    return torch.cat((value_NTm, value_NTm.new_ones(*value_NTm.shape[:2], 1)), dim=-1)
