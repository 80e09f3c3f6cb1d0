"""Noise that frames share or have of their own, and the anchors that are made from a clip without a network.

Everything is a function of noise that is handed in, so that a seed means the same clip everywhere.
Legend: B clips, F frames, C channels, H W pixels; clips standardised over the training data.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from qcore.flow.paths import PATHS

BLUR_SIDE = 5
BLUR_WIDTH = 1.5
ANCHOR_NOISES = 3
"""Independent noises that a statistical anchor may need."""


def correlated_noise(own_BFCHW: Tensor, shared_BCHW: Tensor, correlation: float) -> Tensor:
    """ε_i = √ρ ε_shared + √(1−ρ) ε_own,i: standard normal in every frame, correlation ρ between any two of them.

    At ρ = 1 the frames are equal to the last bit, at ρ = 0 they are `own_BFCHW`.

    Raises:
        ValueError: ρ outside [0, 1], or shapes that disagree.

    Example:
        >>> own, shared = torch.randn(1, 3, 1, 4, 4), torch.randn(1, 1, 4, 4)
        >>> noise = correlated_noise(own, shared, 1.0)
        >>> bool((noise == shared[:, None]).all())
        True
    """
    if not 0 <= correlation <= 1:
        raise ValueError(f"the noise correlation is {correlation}; choose a share between 0 and 1")
    wanted = (own_BFCHW.shape[0], *own_BFCHW.shape[2:])
    if own_BFCHW.ndim != 5 or shared_BCHW.shape != wanted:
        raise ValueError(
            f"own noise of shape {tuple(own_BFCHW.shape)} and shared noise of shape {tuple(shared_BCHW.shape)}; pass "
            "[clips, frames, channels, height, width] and the same without frames"
        )
    return math.sqrt(correlation) * shared_BCHW.unsqueeze(1) + math.sqrt(1 - correlation) * own_BFCHW


def mean_anchor(clips_BFCHW: Tensor) -> Tensor:
    """Mean over frames, [B, C, H, W].

    Example:
        >>> mean_anchor(torch.arange(2.0).view(1, 2, 1, 1, 1)).tolist()
        [[[[0.5]]]]
    """
    return clips_BFCHW.mean(dim=1)


def rab_anchor(clips_BFCHW: Tensor, noise_BCHW: Tensor) -> Tensor:
    """blur(0.95 first frame + 0.05 mean over frames) + 0.02 noise, [B, C, H, W].

    The blur is a Gaussian of 1.5 px cut to 5 × 5 and, as published, sees zeros (the mean of the data) outside a frame;
    a frame with a side of at most 5 px is not blurred.
    """
    sharp_BCHW = 0.95 * clips_BFCHW[:, 0] + 0.05 * mean_anchor(clips_BFCHW)
    if min(sharp_BCHW.shape[-2:]) > BLUR_SIDE:
        place = torch.arange(BLUR_SIDE, dtype=sharp_BCHW.dtype, device=sharp_BCHW.device) - BLUR_SIDE // 2
        line = torch.softmax(-place.square() / (2 * BLUR_WIDTH**2), dim=0)
        channels = sharp_BCHW.shape[1]
        kernel = torch.outer(line, line).expand(channels, 1, BLUR_SIDE, BLUR_SIDE)
        sharp_BCHW = F.conv2d(sharp_BCHW, kernel, padding=BLUR_SIDE // 2, groups=channels)
    return sharp_BCHW + 0.02 * noise_BCHW


def quantum_anchor(clips_BFCHW: Tensor, noise_BCHW: Tensor, noise2_BCHW: Tensor, noise3_BCHW: Tensor) -> Tensor:
    """mean + 0.2 std + 0.05 noise + √(0.1 + std²) (noise₂ + 0.3 noise₃), [B, C, H, W]; the published manual recipe.

    Mean and standard deviation (of F − 1) are over frames; a single frame has std 0.
    """
    mean_BCHW = mean_anchor(clips_BFCHW)
    single = clips_BFCHW.shape[1] == 1
    std_BCHW = torch.zeros_like(mean_BCHW) if single else clips_BFCHW.std(dim=1)
    spread_BCHW = torch.sqrt(0.1 + std_BCHW.square())
    return mean_BCHW + 0.2 * std_BCHW + 0.05 * noise_BCHW + spread_BCHW * (noise2_BCHW + 0.3 * noise3_BCHW)


def statistical_anchor(path_name: str, clips_BFCHW: Tensor, noise: Tensor | torch.Generator) -> Tensor:
    """The anchor [B, C, H, W] that a path's own recipe makes from clips: rab, quantum, else the mean over frames.

    Args:
        noise: standard normal [3, B, C, H, W], or a generator (on the clips' device) that it is drawn from.

    Raises:
        ValueError: an unknown path, or noise of another shape.
    """
    if path_name not in PATHS:
        raise ValueError(f"there is no path {path_name!r}; choose one of {', '.join(PATHS)}")
    shape = (ANCHOR_NOISES, clips_BFCHW.shape[0], *clips_BFCHW.shape[2:])
    if isinstance(noise, torch.Generator):
        noise = torch.randn(shape, generator=noise, dtype=clips_BFCHW.dtype, device=clips_BFCHW.device)
    if tuple(noise.shape) != shape:
        raise ValueError(f"anchor noise has shape {tuple(noise.shape)}; pass {shape} or a generator")
    if path_name == "rab":
        return rab_anchor(clips_BFCHW, noise[0])
    if path_name == "quantum":
        return quantum_anchor(clips_BFCHW, noise[0], noise[1], noise[2])
    return mean_anchor(clips_BFCHW)
