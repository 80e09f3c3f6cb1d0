"""What the frames of clips have to do with one another: how far apart, how alike, and whether they move.

Distance between frames can be bought by flicker or by noise, so it never stands alone: `coherence` (does a movement go
on?), `lag_change` (how much changes from frame to frame?) and `motion_variance` (do samples move differently?) fall or
turn negative when clips flicker. Every number is one of the clips given: data, predicted and generated clips are
measured apart, and ratios are against a `FrameReference` of the data. Legend: N clips, F frames, C channels, H W; x_i
frame i; all pixels standardised over the training data (mean 0, std 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qcore.diagnostics.positions import drop_undefined

STILL = 1e-6
"""A centre of mass that moves less than this, in pixels, stands still: rounding has no direction."""
_RIDGE = 1e-6
_STEP = {torch.float32: 1e-3, torch.float64: 1e-5}


@dataclass(frozen=True)
class FrameReference:
    """What the data's own clips measure: what the model's are compared with.

    Attributes:
        background_C: the median value of each channel, from which a centre of mass is told.
        lag_change, motion_variance, std: as in `FrameStatistics`.
    """

    background_C: tuple[float, ...]
    lag_change: float
    motion_variance: float
    std: float


@dataclass(frozen=True)
class FrameStatistics:
    """Frames of N clips; NaN where there is nothing to measure: one frame, one clip, no movement at all."""

    clips: int
    divergence: float
    """Mean over pairs of frames of ‖x_i − x_j‖ ÷ √(CHW), ≥ 0; √2 for white noise of variance 1, 0 for a still."""
    cosine: float
    """Mean cosine of pairs of frames, in [−1/(F−1), 1]; 1 for a still, 0 for white noise."""
    orthogonality: float
    """1 − mean over pairs of |cosine|, in [0, 1]: 1 for orthogonal frames, 0 for a still."""
    energy: float
    """Mean over frames of ‖x_i − A‖ ÷ √(CHW), ≥ 0, A the clip's anchor, or the mean of its frames where none is given:
    the published energy without its factor √C."""
    lag_change: float
    """Mean of ‖x_{i+1} − x_i‖ ÷ √(CHW), ≥ 0."""
    coherence: float
    """Mean cosine of successive displacements of the centre of mass, in [−1, 1]: 1 for uniform motion, −1 for a clip
    that jumps to and fro, about −.4 for frames in random order; a pair with a still frame does not count."""
    motion_variance: float
    """How differently the clips move, px²: covariance over clips of successive displacements d_i and d_{i+1} of the
    centre of mass, mean over i. Uniform motion of various velocities gives their variance; clips that are still, or all
    move alike, give 0; flicker gives less than 0."""
    std: float
    """Standard deviation of all pixels."""
    entanglement: float
    """Nats a pixel of a frame shares with all frames before it: −½ ln det R ÷ (F−1), R the correlation of frames over
    clips and pixels: mutual information as if pixels were Gaussian. 0 for independent frames, 6.9 at most."""
    similarity_FF: np.ndarray
    """Mean cosine of each pair of frames, f32[F, F]."""
    singular_F: np.ndarray
    """`singular_spectrum` of the clips, f32[F]."""
    lag_change_K: np.ndarray
    """Mean of ‖x_{i+k} − x_i‖ ÷ √(CHW) at lags k = 1 … F−1, f32[F−1]."""
    lag_ratio: float = math.nan
    motion_ratio: float = math.nan
    std_ratio: float = math.nan
    """lag_change, motion_variance and std ÷ the reference's; NaN without one."""

    def scalars(self) -> dict[str, float]:
        """Measures by name, without a prefix; undefined ones are left out."""
        return drop_undefined({name: value for name, value in vars(self).items() if isinstance(value, float)})

    def arrays(self) -> dict[str, np.ndarray]:
        """similarity f32[F, F], singular f32[F], lag_change f32[F−1]."""
        return {"similarity": self.similarity_FF, "singular": self.singular_F, "lag_change": self.lag_change_K}


@dataclass(frozen=True)
class AnchorStatistics:
    """Anchors of N clips, per value (channel and pixel)."""

    mean: float
    spread: float
    """Standard deviation: the posterior's own where there is one, else over the clips (NaN for one clip)."""
    entropy: float
    """Differential entropy of a Gaussian with that spread, ½ ln(2πe σ²), nats per value, mean over values."""

    def scalars(self) -> dict[str, float]:
        """mean, spread, entropy; undefined ones are left out."""
        return drop_undefined(vars(self))


def frame_statistics(
    clips_NFCHW: Tensor, *, reference: FrameReference | None = None, anchor_NCHW: Tensor | None = None
) -> FrameStatistics:
    """Measure clips. Cost O(N·F²·CHW) in one product; 0.2 ms for 32 clips of 8 frames of 8×8.

    The centre of mass weighs a pixel by |x − background| summed over channels, with the reference's background or the
    clips' own medians: it follows what stands out from the background, and says little when the background itself
    moves.

    Raises:
        ValueError: shapes that are no clips, channels other than the reference's, an anchor of another shape.

    Example:
        >>> still = torch.rand(3, 1, 1, 4, 4).expand(3, 5, 1, 4, 4)  # three clips whose frames do not change
        >>> frame_statistics(still).lag_change
        0.0
    """
    _check_clips(clips_NFCHW)
    with torch.no_grad():
        x_NFCHW = clips_NFCHW.detach().float()
        count, frames = x_NFCHW.shape[:2]
        background_C = _background(x_NFCHW) if reference is None else reference.background_C
        if len(background_C) != x_NFCHW.shape[2]:
            raise ValueError(f"clips have {x_NFCHW.shape[2]} channels; the reference has {len(background_C)}")
        x_NFD = x_NFCHW.flatten(2)
        similarity_NFF = _cosines(x_NFD)
        distance_NFF = _distances(x_NFD)
        lags = [float(distance_NFF.diagonal(lag, 1, 2).mean()) for lag in range(1, frames)]
        displacement_NF2 = _centres(x_NFCHW, background_C).diff(dim=1)
        found = FrameStatistics(
            clips=count,
            divergence=_mean_pair(distance_NFF),
            cosine=_mean_pair(similarity_NFF),
            orthogonality=1 - _mean_pair(similarity_NFF.abs()),
            energy=_energy(x_NFCHW, anchor_NCHW),
            lag_change=lags[0] if lags else math.nan,
            coherence=_coherence(displacement_NF2),
            motion_variance=_motion_variance(displacement_NF2),
            std=float(x_NFD.std(correction=0)),
            entanglement=_entanglement(x_NFD),
            similarity_FF=similarity_NFF.mean(0).float().cpu().numpy(),
            singular_F=singular_spectrum(x_NFCHW),
            lag_change_K=np.array(lags, dtype=np.float32),
        )
    if reference is None:
        return found
    return replace(
        found,
        lag_ratio=_ratio(found.lag_change, reference.lag_change),
        motion_ratio=_ratio(found.motion_variance, reference.motion_variance),
        std_ratio=_ratio(found.std, reference.std),
    )


def frame_reference(clips_NFCHW: Tensor) -> FrameReference:
    """The reference that clips of the data are; ValueError as `frame_statistics`."""
    measured = frame_statistics(clips_NFCHW)
    background_C = _background(clips_NFCHW.detach().float())
    return FrameReference(background_C, measured.lag_change, measured.motion_variance, measured.std)


def singular_spectrum(z_NFCHW: Tensor) -> np.ndarray:
    """Singular values of each clip as a matrix frames × pixels, descending, scaled to sum 1; mean over clips, f32[F].

    (1, 0, …) for a still, 1/F each for orthogonal frames of equal length; at t = 1 it is that of the noise. Zeros for
    clips that are 0 throughout.

    Raises:
        ValueError: shapes that are no clips.

    Example:
        >>> singular_spectrum(torch.ones(1, 3, 1, 2, 2)).round(3).tolist()  # one picture explains all frames
        [1.0, 0.0, 0.0]
    """
    _check_clips(z_NFCHW)
    with torch.no_grad():
        z_NFD = z_NFCHW.detach().double().flatten(2)
        value_NF = torch.linalg.eigvalsh(z_NFD @ z_NFD.transpose(1, 2)).flip(-1).clamp(min=0).sqrt()
        share_NF = value_NF / value_NF.sum(-1, keepdim=True).clamp(min=1e-30)
        return share_NF.mean(0).float().cpu().numpy()


def anchor_statistics(anchor_NCHW: Tensor, log_variance_NCHW: Tensor | None = None) -> AnchorStatistics:
    """Measure the anchors of clips: draws, or posterior means with their log-variances.

    Values of variance 0 count as 1e-12, so that the entropy stays finite.

    Raises:
        ValueError: shapes that disagree.
    """
    if log_variance_NCHW is not None and log_variance_NCHW.shape != anchor_NCHW.shape:
        raise ValueError(
            f"log_variance_NCHW has shape {tuple(log_variance_NCHW.shape)}; it must be {tuple(anchor_NCHW.shape)}"
        )
    with torch.no_grad():
        anchor = anchor_NCHW.detach().double()
        if log_variance_NCHW is not None:
            variance = log_variance_NCHW.detach().double().exp()
        elif len(anchor) > 1:
            variance = anchor.var(0, correction=0)
        else:
            return AnchorStatistics(float(anchor.mean()), math.nan, math.nan)
        entropy = 0.5 * (math.log(2 * math.pi * math.e) + variance.clamp(min=1e-12).log())
        return AnchorStatistics(float(anchor.mean()), float(variance.sqrt().mean()), float(entropy.mean()))


def position_response(
    model_fn: Callable[[Tensor, Tensor], Tensor], z_BFCHW: Tensor, t_B: Tensor, *, seed: int = 0
) -> float:
    """How much the order of frames means to a model: ‖v(z) − P⁻¹ v(P z)‖ ÷ ‖v(z)‖ for a shuffle P without fixed frames.

    0 for a model that does not know one frame from another, however it mixes them: shuffled in, shuffled out (fault
    V5). A model whose output is 0 throughout, as before the first update, has no response to measure: NaN. Two calls of
    the model, no gradient.

    Raises:
        ValueError: fewer than two frames.
    """
    _check_clips(z_BFCHW)
    frames = z_BFCHW.shape[1]
    if frames < 2:
        raise ValueError(f"z_BFCHW has {frames} frame; two are the fewest that have an order")
    generator = torch.Generator().manual_seed(seed)
    # Along a random cycle, so that no frame keeps its place.
    cycle_F = torch.randperm(frames, generator=generator)
    order_F = torch.empty_like(cycle_F)
    order_F[cycle_F] = cycle_F.roll(1)
    order_F = order_F.to(z_BFCHW.device)
    with torch.no_grad():
        plain = model_fn(z_BFCHW, t_B).double()
        shuffled = model_fn(z_BFCHW[:, order_F], t_B).double()[:, order_F.argsort()]
        size = float(plain.norm())
        return float((plain - shuffled).norm()) / size if size > 0 else math.nan


class MovingPoint(Protocol):
    """A point on a path, and the velocity there that is said to be its derivative, which the model is to predict."""

    @property
    def z_BFCHW(self) -> Tensor: ...
    @property
    def velocity_BFCHW(self) -> Tensor: ...


def path_check(sample_fn: Callable[[Tensor], MovingPoint], t_B: Tensor, *, jumps: Sequence[float] = ()) -> float:
    """Error of the velocity that a model is trained on: ‖u − Δz/Δt‖ ÷ ‖Δz/Δt‖ over all times, central differences.

    Times closer than two steps (1e-3; float64: 1e-5) to a jump are left out, and those near 0 or 1 moved inside; NaN
    when none is left.

    Args:
        sample_fn: the path at given times for one and the same noise, anchor and clips. 0 but for rounding (1e-3 in
            float32, 1e-7 in float64, which a path with sharp bends needs) unless the target is no derivative of the
            path (fault V3).

    Raises:
        ValueError: times of another type than float32 or float64.
    """
    if t_B.dtype not in _STEP:
        raise ValueError(f"t_B has dtype {t_B.dtype}; pass float32 or float64")
    step = _STEP[t_B.dtype]
    with torch.no_grad():
        t_B = t_B.clamp(2 * step, 1 - 2 * step)
        smooth_B = torch.ones_like(t_B, dtype=torch.bool)
        for jump in jumps:
            smooth_B &= (t_B - jump).abs() > 2 * step
        if not smooth_B.any():
            return math.nan
        moved = (sample_fn(t_B + step).z_BFCHW - sample_fn(t_B - step).z_BFCHW) / (2 * step)
        said = sample_fn(t_B).velocity_BFCHW
        error, size = (said - moved)[smooth_B].double().norm(), moved[smooth_B].double().norm()
        return float(error / size.clamp(min=1e-12))


def _check_clips(clips: Tensor) -> None:
    if clips.ndim != 5 or not clips.numel():
        raise ValueError(
            f"clips have shape {tuple(clips.shape)}; pass clips × frames × channels × height × width, none of them 0"
        )


def _background(x_NFCHW: Tensor) -> tuple[float, ...]:
    return tuple(x_NFCHW.transpose(0, 2).flatten(1).median(1).values.tolist())


def _cosines(x_NFD: Tensor) -> Tensor:
    unit_NFD = F.normalize(x_NFD, dim=-1)
    return unit_NFD @ unit_NFD.transpose(1, 2)


def _distances(x_NFD: Tensor) -> Tensor:
    """Root-mean-square distance of each pair of frames, from inner products of what differs from the mean frame: in
    float64, so that near-equal frames do not drown in rounding.
    """
    varied_NFD = (x_NFD - x_NFD.mean(1, keepdim=True)).double()
    inner_NFF = varied_NFD @ varied_NFD.transpose(1, 2)
    square_NF = inner_NFF.diagonal(dim1=1, dim2=2)
    square_NFF = square_NF.unsqueeze(1) + square_NF.unsqueeze(2) - 2 * inner_NFF
    return (square_NFF.clamp(min=0) / x_NFD.shape[-1]).sqrt()


def _mean_pair(values_NFF: Tensor) -> float:
    """Mean over pairs of different frames; NaN for one frame."""
    frames = values_NFF.shape[-1]
    if frames < 2:
        return math.nan
    on_diagonal = values_NFF.diagonal(dim1=1, dim2=2).double().sum()
    return float(values_NFF.double().sum() - on_diagonal) / (len(values_NFF) * frames * (frames - 1))


def _energy(x_NFCHW: Tensor, anchor_NCHW: Tensor | None) -> float:
    if anchor_NCHW is None:
        anchor_NCHW = x_NFCHW.mean(1)
    elif anchor_NCHW.shape != x_NFCHW[:, 0].shape:
        raise ValueError(
            f"anchor_NCHW has shape {tuple(anchor_NCHW.shape)}; it must be {tuple(x_NFCHW[:, 0].shape)} to match clips"
        )
    apart_NFD = (x_NFCHW - anchor_NCHW.detach().to(x_NFCHW).unsqueeze(1)).flatten(2)
    return float(apart_NFD.square().mean(-1).sqrt().mean())


def _centres(x_NFCHW: Tensor, background_C: Sequence[float]) -> Tensor:
    """Centre of mass of each frame, [N, F, 2], px from the top left; the middle for a frame that is all background."""
    background_C11 = torch.tensor(background_C, dtype=x_NFCHW.dtype, device=x_NFCHW.device).view(-1, 1, 1)
    mass_NFHW = (x_NFCHW - background_C11).abs().sum(2).double()
    total_NF = mass_NFHW.sum((-1, -2))
    axes = []
    for size, along in zip(mass_NFHW.shape[-2:], (mass_NFHW.sum(-1), mass_NFHW.sum(-2)), strict=True):
        place = torch.arange(size, dtype=torch.float64, device=x_NFCHW.device)
        centre_NF = along @ place / total_NF.clamp(min=1e-30)
        axes.append(torch.where(total_NF > 0, centre_NF, (size - 1) / 2))
    return torch.stack(axes, dim=-1)


def _coherence(displacement_NF2: Tensor) -> float:
    length_NF = displacement_NF2.norm(dim=-1)
    moves_NF = length_NF > STILL
    both_NF = moves_NF[:, 1:] & moves_NF[:, :-1]
    if not both_NF.any():
        return math.nan
    unit_NF2 = displacement_NF2 / length_NF.clamp(min=STILL).unsqueeze(-1)
    return float((unit_NF2[:, 1:] * unit_NF2[:, :-1]).sum(-1)[both_NF].mean())


def _motion_variance(displacement_NF2: Tensor) -> float:
    count, steps = displacement_NF2.shape[:2]
    if count < 2 or steps < 2:
        return math.nan
    own_NF2 = displacement_NF2 - displacement_NF2.mean(0)
    return float((own_NF2[:, 1:] * own_NF2[:, :-1]).sum(-1).mean()) * count / (count - 1)


def _entanglement(x_NFD: Tensor) -> float:
    frames = x_NFD.shape[1]
    if frames < 2:
        return math.nan
    value_FM = x_NFD.transpose(0, 1).flatten(1).double()
    unit_FM = F.normalize(value_FM - value_FM.mean(1, keepdim=True), dim=-1)
    ridge_FF = _RIDGE * torch.eye(frames, dtype=torch.float64, device=x_NFD.device)
    # Divided by 1 + ridge, so that the diagonal is 1 and independent frames give exactly 0.
    correlation_FF = (unit_FM @ unit_FM.T + ridge_FF) / (1 + _RIDGE)
    return max(0.0, -0.5 * float(torch.linalg.slogdet(correlation_FF).logabsdet) / (frames - 1))


def _ratio(value: float, reference: float) -> float:
    return value / reference if reference > 0 else math.nan
