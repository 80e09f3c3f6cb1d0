"""Clips of one soft dot each that drifts over a small canvas and bounces off its sides: motion to be told apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def moving_blobs(count: int, frames: int = 8, side: int = 8, seed: int = 0) -> Tensor:
    """Standardised clips [count, frames, 1, side, side] in float64; 0.4 to 0.9 px per frame, 0.8 to 1.4 px wide."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    start_K2, angle_K, speed_K = (
        (side - 1) * uniform(count, 2),
        2 * math.pi * uniform(count),
        0.4 + 0.5 * uniform(count),
    )
    width_K = 0.8 + 0.6 * uniform(count)
    drift_K2 = torch.stack((angle_K.sin(), angle_K.cos()), dim=1) * speed_K.unsqueeze(1)
    time_F = torch.arange(frames, dtype=torch.float64)
    free_KF2 = start_K2.unsqueeze(1) + time_F.view(1, -1, 1) * drift_K2.unsqueeze(1)
    place_KF2 = (side - 1) - (free_KF2.remainder(2 * (side - 1)) - (side - 1)).abs()
    pixel_S = torch.arange(side, dtype=torch.float64)
    square_KF2S = (pixel_S - place_KF2.unsqueeze(-1)).square()
    square_KFHW = square_KF2S[:, :, 0, :, None] + square_KF2S[:, :, 1, None, :]
    clips_KFHW = torch.exp(-square_KFHW / (2 * width_K.view(-1, 1, 1, 1).square()))
    return ((clips_KFHW - clips_KFHW.mean()) / clips_KFHW.std()).unsqueeze(2)
