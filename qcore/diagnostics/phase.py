"""Phases and the wave of one batch: how ordered, how spread, how rhythmic, and whether both channels live.

Circular statistics only: an angle is never averaged, a phasor is. A row counts with its number of valid positions.
Alignment that is only apparent is told from real order by three measurements together: the order parameter R of each
row, the spread of each phase dimension over *all* rows and positions, and the part of the circle that the wave covers.
Legend: L layers given (the encoding first), B batch, T tokens, P phases, H heads, D width, S sampled points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qcore.diagnostics.positions import check_mask, check_shape, drop_undefined, strata
from qcore.probes import catalog

BINS = 36
WINDOWS = (1, 2, 4, 8, 16)
SEGMENT = 64
FREQUENCIES = SEGMENT // 2 + 1
PORTRAIT_POINTS = 512
SEMANTIC_ROWS, SEMANTIC_TOKENS = 2, 128
COVERED = 0.1
"""A bin of the circle is covered when it holds at least this part of its fair share of the wave's amplitude."""
FEWEST_POINTS = 5 * BINS
"""Below this many angles an even spread leaves bins empty by chance, and coverage has no value."""
LARGEST_RATIO = 1e6


@dataclass(frozen=True)
class Portrait:
    """Points of the last layer's wave in one row: wrapped phase (radians), amplitude, and position in the row."""

    phase_S: np.ndarray
    amplitude_S: np.ndarray
    position_S: np.ndarray


@dataclass(frozen=True)
class PhaseStatistics:
    """Measurements of one batch; a number without data is NaN and left out of `scalars`."""

    resultant_LP: np.ndarray
    """Order parameter R = |mean_t e^{iψ}| of a row, token-weighted mean over rows, in [0, 1]; 1 for constant phases."""
    heads_LH: np.ndarray
    """R averaged over each head's consecutive ⌈P/H⌉ phases."""
    variance_LP: np.ndarray
    """Circular variance 1 − |mean e^{iψ}| of each phase over all rows and positions together, in [0, 1]."""
    histogram_LN: np.ndarray
    """Shares of the angles in 36 bins over [−π, π)."""
    spectrum_LF: np.ndarray
    """Shares of the power of e^{iψ_t} at |f| = 0, 1/64, … ½ cycles a token (see `phase_statistics`)."""
    windows_LW: np.ndarray
    """Mean coherence of causal windows of 1, 2, 4, 8 and 16 tokens, in [0, 1]; the first is 1 by definition."""
    coverage: float
    """Share of the bins of the circle that the wave really uses, in (0, 1]: near 1 when healthy, ≤ ½ when Im z never
    changes its sign (fault P1)."""
    im_re_ratio: float
    """Var(Im z) ÷ Var(Re z) over positions and phases: near 1 when healthy, 0 when the imaginary channel is dead
    (fault P3); at most 1e6."""
    dimension_variance: float
    """Circular variance of a phase dimension over rows and positions, mean over dimensions, of the layer where it is
    smallest: 0 when some layer gives every token the same phases (fault P2)."""
    semantic_coherence: float
    """How far similar tokens agree in phase, in [−1, 1] (see `phase_statistics`)."""
    portrait: Portrait | None

    def scalars(self) -> dict[str, float]:
        """Series by name, all under `phase/`. Those without a layer are means over the layers after the encoding."""
        order_L = self.resultant_LP.mean(1)
        series = {catalog.phase_r_layer(layer): float(value) for layer, value in enumerate(order_L)}
        series[catalog.PHASE_R] = float(_layers_after_encoding(order_L).mean())
        for name in ("coverage", "im_re_ratio", "dimension_variance", "semantic_coherence"):
            series[catalog.member(catalog.PHASE, name)] = getattr(self, name)
        for width, value in zip(WINDOWS, _layers_after_encoding(self.windows_LW).mean(0), strict=True):
            series[catalog.phase_window(width)] = float(value)
        return drop_undefined(series)

    def arrays(self) -> dict[str, np.ndarray]:
        """What is stored under the name "phase"; the three portrait arrays are absent for a model without a wave."""
        stored = {
            "resultant": self.resultant_LP,
            "heads": self.heads_LH,
            "histogram": self.histogram_LN,
            "spectrum": self.spectrum_LF,
            "windows": self.windows_LW,
        }
        if self.portrait is not None:
            stored["portrait_phase"] = self.portrait.phase_S
            stored["portrait_amplitude"] = self.portrait.amplitude_S
            stored["portrait_position"] = self.portrait.position_S
        return stored


def phase_statistics(
    phases: Sequence[Tensor],
    mask_BT: Tensor,
    heads: int,
    state_BTP: Tensor | None = None,
    hidden_BTD: Tensor | None = None,
) -> PhaseStatistics:
    """Measure phases [B, T, P] in radians, wrapped or not, the encoding's first and then one a layer.

    Coverage, ratio and portrait come from the last layer's complex wave `state_BTP`; without one, coverage is that of
    the last phases at equal amplitude. Spectrum: Welch's, segments of 64 tokens that overlap by half under a Hann
    window, both directions of rotation folded together, means over rows and phases. Semantic coherence: the mean over
    t of Σ_{j<t} w_tj·mean_p cos(ψ_tp − ψ_jp) ÷ Σ_{j<t} w_tj with w = relu(cosine of the hidden states), last layer,
    first 2 rows and 128 tokens; 1 when similar tokens share their phases, 0 for independent ones.

    Cost: O(L·B·T·P) with about 25 passes, and O(T²·(P + D)) for at most 2 × 128 tokens: give it two rows.

    Raises:
        ValueError: no phases, shapes that disagree, or heads that leave one without a phase.

    Example:
        >>> locked = torch.zeros(2, 8, 4)  # every phase is the same
        >>> found = phase_statistics([locked], torch.ones(2, 8, dtype=torch.bool), heads=2)
        >>> found.resultant_LP.tolist()
        [[1.0, 1.0, 1.0, 1.0]]
    """
    _check(phases, mask_BT, heads, state_BTP, hidden_BTD)
    with torch.no_grad():
        angle_LBTP = torch.stack([phase_BTP.detach().float() for phase_BTP in phases])
        valid_BT = mask_BT.to(torch.float32)
        # padding as zeros: plain sums below are then masked sums
        unit_2LBTP = torch.stack((angle_LBTP.cos(), angle_LBTP.sin())) * valid_BT.unsqueeze(-1)
        count = valid_BT.sum()
        sum_2LBP = unit_2LBTP.sum(3)
        # the sum of a row's lengths ÷ all positions is the mean over rows weighted by their tokens
        resultant_LP = _vector_length(sum_2LBP).sum(1) / count
        variance_LP = 1 - _vector_length(sum_2LBP.sum(2)) / count
        per_head = -(-angle_LBTP.shape[-1] // heads)
        heads_LH = torch.stack([chunk.mean(1) for chunk in resultant_LP.split(per_head, dim=1)], dim=1)
        mass_LN = _angle_histogram(angle_LBTP.flatten(1), valid_BT.unsqueeze(-1).expand_as(angle_LBTP[0]).flatten())
        # one list, brought over together: a probe that waits for the device eight times costs more than it measures
        packed = [
            resultant_LP,
            heads_LH,
            variance_LP,
            mass_LN / mass_LN.sum(1, keepdim=True),
            _spectrum(unit_2LBTP),
            _window_coherence(unit_2LBTP, valid_BT),
        ]
        resultant, by_head, variance, histogram, spectrum, windows = (values.cpu().numpy() for values in packed)
        portrait, coverage, ratio = None, _coverage(mass_LN[-1], count * angle_LBTP.shape[-1]), math.nan
        if state_BTP is not None:
            wave_NP = state_BTP.detach()[mask_BT]
            # weighted by amplitude: a silent phase may point anywhere
            mass_N = _angle_histogram(wave_NP.angle().flatten().unsqueeze(0), wave_NP.abs().flatten())[0]
            coverage, ratio = _coverage(mass_N, torch.tensor(wave_NP.numel())), _balance(wave_NP)
            portrait = _portrait(state_BTP.detach(), mask_BT)
        semantic = (
            math.nan if hidden_BTD is None else _semantic_coherence(unit_2LBTP[:, -1], hidden_BTD.detach(), mask_BT)
        )
        enough = bool(count >= 2)
    return PhaseStatistics(
        resultant_LP=resultant,
        heads_LH=by_head,
        variance_LP=variance,
        histogram_LN=histogram,
        spectrum_LF=spectrum,
        windows_LW=windows,
        coverage=coverage,
        im_re_ratio=ratio,
        dimension_variance=float(_layers_after_encoding(variance).mean(1).min()) if enough else math.nan,
        semantic_coherence=semantic,
        portrait=portrait,
    )


def real_axis_share(phases: Sequence[Tensor], tolerance: float = 1e-6) -> float:
    """Share of the angles with |sin ψ| < tolerance, in [0, 1]: 1 when a term has lost the imaginary part of its wave
    and sees 0 and π only (fault G3). Give it the phases *the terms* see. O(L·B·T·P); NaN without an angle.

    Example:
        >>> real_axis_share([torch.tensor([[[0.0, math.pi, 1.0, 2.0]]])])
        0.5
    """
    with torch.no_grad():
        total = sum(phase.numel() for phase in phases)
        if not total:
            return math.nan
        return sum(int((phase.detach().float().sin().abs() < tolerance).sum()) for phase in phases) / total


def _check(
    phases: Sequence[Tensor], mask_BT: Tensor, heads: int, state_BTP: Tensor | None, hidden_BTD: Tensor | None
) -> None:
    if not phases:
        raise ValueError("phases is empty; call phase_statistics only for a model that gave phases")
    first = phases[0]
    for layer, phase_BTP in enumerate(phases):
        if phase_BTP.ndim != 3 or phase_BTP.shape != first.shape or phase_BTP.is_complex():
            raise ValueError(
                f"phases[{layer}] is {phase_BTP.dtype} of shape {tuple(phase_BTP.shape)}; pass real angles of one "
                f"shape [batch, tokens, phases], here {tuple(first.shape)}"
            )
    batch, tokens, count = first.shape
    check_mask(mask_BT, (batch, tokens), "the phases")
    for name, tensor in (("state_BTP", state_BTP), ("hidden_BTD", hidden_BTD)):
        if tensor is not None:
            check_shape(name, tensor, (batch, tokens), "the phases")
    if heads < 1 or count <= -(-count // heads) * (heads - 1):
        raise ValueError(f"{count} phases leave one of {heads} heads without any; pass the model's number of heads")


def _layers_after_encoding(values_L: np.ndarray) -> np.ndarray:
    """The layers after the encoding, or the encoding when nothing follows it."""
    return values_L[1:] if len(values_L) > 1 else values_L


def _vector_length(vector_2: Tensor) -> Tensor:
    return torch.addcmul(vector_2[0].square(), vector_2[1], vector_2[1]).sqrt_()


def _angle_histogram(angle_LN: Tensor, weight_N: Tensor) -> Tensor:
    """Weight in each of the bins over [−π, π), [L, 36]."""
    layers = angle_LN.shape[0]
    turn_LN = (angle_LN * (0.5 / math.pi)).add_(0.5)
    bin_LN = (turn_LN - turn_LN.floor()).mul_(BINS).long().clamp_(0, BINS - 1)
    bin_LN += torch.arange(layers, device=bin_LN.device).unsqueeze(1) * BINS
    weight = weight_N.expand(layers, -1).flatten()
    return torch.bincount(bin_LN.flatten(), weights=weight, minlength=layers * BINS).view(layers, BINS).float()


def _coverage(mass_N: Tensor, points: Tensor) -> float:
    total = float(mass_N.sum())
    if float(points) < FEWEST_POINTS or not total > 0:
        return math.nan
    return float((mass_N >= COVERED * total / BINS).float().mean())


def _balance(wave_NP: Tensor) -> float:
    if wave_NP.numel() < 2:
        return math.nan
    real, imaginary = float(wave_NP.real.float().var()), float(wave_NP.imag.float().var())
    return (
        math.nan if not real + imaginary > 0 else min(imaginary / max(real, imaginary / LARGEST_RATIO), LARGEST_RATIO)
    )


def _spectrum(unit_2LBTP: Tensor) -> Tensor:
    """Folded power shares [L, 33]; padding is silence."""
    tokens = unit_2LBTP.shape[3]
    size, hop = min(tokens, SEGMENT), SEGMENT // 2
    padded = F.pad(unit_2LBTP, (0, 0, 0, -(tokens - size) % hop))
    segment_LBSPn = torch.complex(padded[0], padded[1]).unfold(2, size, hop)
    place = torch.arange(size, device=padded.device, dtype=torch.float32)
    window = (math.pi * (place + 0.5) / size).sin().square()
    line = torch.fft.fft(segment_LBSPn * window, n=SEGMENT)
    power_LK = (line.real.square() + line.imag.square()).sum((1, 2, 3))
    folded_LF = power_LK[:, :FREQUENCIES].clone()
    folded_LF[:, 1 : FREQUENCIES - 1] += power_LK[:, FREQUENCIES:].flip(1)
    return folded_LF / folded_LF.sum(1, keepdim=True)


def _window_coherence(unit_2LBTP: Tensor, valid_BT: Tensor) -> Tensor:
    """[L, 5]. Window sums double, S_2w(t) = S_w(t) + S_w(t−w): O(T), without a difference of long sums."""
    count = valid_BT.sum()
    sum_2LBTP, seen_BT = unit_2LBTP, valid_BT
    means = [(count / count).expand(unit_2LBTP.shape[1])]
    for width in WINDOWS[:-1]:
        if width < valid_BT.shape[1]:
            sum_2LBTP, half_2LBTP = sum_2LBTP.clone(), sum_2LBTP
            sum_2LBTP[:, :, :, width:] += half_2LBTP[:, :, :, :-width]
            seen_BT = torch.cat([seen_BT[:, :width], seen_BT[:, width:] + seen_BT[:, :-width]], dim=1)
        coherence_LBT = _vector_length(sum_2LBTP).mean(-1) / seen_BT.clamp(min=1)
        means.append((coherence_LBT * valid_BT).sum((1, 2)) / count)
    return torch.stack(means, dim=1)


def _semantic_coherence(unit_2BTP: Tensor, hidden_BTD: Tensor, mask_BT: Tensor) -> float:
    some = (slice(0, SEMANTIC_ROWS), slice(0, SEMANTIC_TOKENS))
    direction_BTD = F.normalize(hidden_BTD[some].float(), dim=-1) * mask_BT[some].unsqueeze(-1)
    weight_BTT = (direction_BTD @ direction_BTD.mT).relu_().tril_(-1)
    feature_BTp = torch.cat((unit_2BTP[0][some], unit_2BTP[1][some]), dim=-1)
    agreement_BTT = feature_BTp @ feature_BTp.mT
    total_BT = weight_BTT.sum(-1) * unit_2BTP.shape[-1]
    used_BT = total_BT > 0
    if not bool(used_BT.any()):
        return math.nan
    return float((agreement_BTT.mul_(weight_BTT).sum(-1)[used_BT] / total_BT[used_BT]).mean())


def _portrait(state_BTP: Tensor, mask_BT: Tensor) -> Portrait:
    """Points of the first row that holds a valid position."""
    row = int(mask_BT.any(1).int().argmax())
    position_N = mask_BT[row].nonzero().squeeze(-1)
    wave_NP = state_BTP[row, position_N]
    chosen_S = strata(wave_NP.numel(), PORTRAIT_POINTS).to(wave_NP.device)
    wave_S = wave_NP.flatten()[chosen_S].to(torch.complex64)
    position_S = position_N[chosen_S // wave_NP.shape[1]].to(torch.int32)
    return Portrait(wave_S.angle().cpu().numpy(), wave_S.abs().cpu().numpy(), position_S.cpu().numpy())
