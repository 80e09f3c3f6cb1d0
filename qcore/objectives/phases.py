"""Energies of phase dynamics (docs/math.md): bounded, O(T) a lag or window, circular statistics only, averaged over the
layers given.

All work on phasors m_t·e^{iψ_tp}, zero at padding, so an angle is never averaged and wrapping changes nothing. Rows
are averaged with their number of valid positions as weight: a short row counts as little as it holds, and a padded
batch equals the same rows alone. Signs: minimising any of these raises the coherence it is named for (fault G4).
Means over p and t keep them free of scale (G5).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from qcore.objectives.inputs import Derived

FIRST_LAG = 8
WINDOWS = (1, 2, 4, 8, 16)


def local_energy(derived: Derived, controls: Mapping[str, float]) -> Tensor:
    """−mean cos(ψ_{t+1} − ψ_t) over neighbouring valid positions and p, in [−1, 1]; −1 when phases stand still, 0
    without a pair.
    """
    mask_BT = derived.inputs.mask_BT
    pairs = (mask_BT[:, 1:] & mask_BT[:, :-1]).sum().clamp(min=1)
    return _layer_mean(
        [-(z_BTP[:, 1:] * z_BTP[:, :-1].conj()).real.sum() / (pairs * z_BTP.shape[-1]) for z_BTP in derived.phasors]
    )


def global_energy(derived: Derived, controls: Mapping[str, float]) -> Tensor:
    """−mean_p R_p² in [−1, 0], R_p = |mean_t e^{iψ_tp}|; this is the mean over all pairs, Σ_st cos(ψ_s−ψ_t) = |Σ_t
    e^{iψ_t}|².
    """
    return _layer_mean([-_row_mean(_square(mean_BP).mean(-1), derived.row_count_B) for mean_BP in derived.resultants])


def stability(derived: Derived, controls: Mapping[str, float]) -> Tensor:
    """Circular variance 1 − R_p, mean over p, in [0, 1]; 0 for constant phases and for a single token."""
    return _layer_mean([_row_mean(1 - mean_BP.abs().mean(-1), derived.row_count_B) for mean_BP in derived.resultants])


def entanglement(derived: Derived, controls: Mapping[str, float]) -> Tensor:
    """−mean over lags Δ ∈ {8, 16, 32, …} and p of |mean_t e^{i(ψ_{t+Δ} − ψ_t)}|², in [−1, 0]; −1 for any constant
    frequency.

    A row uses the lags that leave it at least two pairs: a single pair has modulus 1 whatever its phase, so it
    measures nothing and has no gradient. Rows too short for the first lag take no part; 0 when no row takes part.
    """
    mask_BT = derived.inputs.mask_BT
    lags, usable = [], []
    lag = FIRST_LAG
    while lag < mask_BT.shape[1] - 1:
        lags.append(lag)
        usable.append((mask_BT[:, lag:] & mask_BT[:, :-lag]).sum(1))
        lag *= 2
    layers = []
    for z_BTP in derived.phasors:
        total_B = z_BTP.real.sum((1, 2)) * 0
        used_B = torch.zeros_like(total_B)
        for lag, pairs_B in zip(lags, usable, strict=True):
            mean_BP = (z_BTP[:, lag:] * z_BTP[:, :-lag].conj()).sum(1) / pairs_B.clamp(min=1).unsqueeze(-1)
            counts_B = (pairs_B >= 2).to(total_B.dtype)
            total_B = total_B + counts_B * _square(mean_BP).mean(-1)
            used_B = used_B + counts_B
        layers.append(-_row_mean(total_B / used_B.clamp(min=1), derived.row_count_B * (used_B > 0)))
    return _layer_mean(layers)


def coherence(derived: Derived, controls: Mapping[str, float]) -> Tensor:
    """Multi-scale incoherence 1 − mean over w ∈ {1, 2, 4, 8, 16}, valid t and p of R_tpw, in [0, 0.8]; 0 for constant
    phases.

    R_tpw = |mean of e^{iψ_jp} over the valid j in (t−w, t]|: causal, cut at the start of the row. w = 1 is 1
    identically: it counts in the mean and is not computed. Window sums double, S_2w(t) = S_w(t) + S_w(t−w), which is
    O(T) and free of the cancellation that a difference of two long cumulative sums has.
    """
    mask_BT = derived.inputs.mask_BT
    layers = []
    for z_BTP in derived.phasors:
        sum_BTP, count_BT = z_BTP, mask_BT.to(z_BTP.real.dtype)
        coherence_BT = count_BT
        for width in WINDOWS[:-1]:
            sum_BTP, count_BT = _double_window(sum_BTP, width), _double_window(count_BT, width)
            coherence_BT = coherence_BT + sum_BTP.abs().mean(-1) / count_BT.clamp(min=1)
        layers.append(derived.mean(1 - coherence_BT / len(WINDOWS)))
    return _layer_mean(layers)


def _double_window(sum_BT: Tensor, width: int) -> Tensor:
    """Causal window sums of twice the width, from those of `width`, along dimension 1."""
    if width >= sum_BT.shape[1]:
        return sum_BT
    return torch.cat([sum_BT[:, :width], sum_BT[:, width:] + sum_BT[:, :-width]], dim=1)


def _square(mean_BP: Tensor) -> Tensor:
    return mean_BP.real.square() + mean_BP.imag.square()


def _row_mean(values_B: Tensor, weights_B: Tensor) -> Tensor:
    return (values_B * weights_B).sum() / weights_B.sum().clamp(min=1)


def _layer_mean(layers: list[Tensor]) -> Tensor:
    return torch.stack(layers).mean()
