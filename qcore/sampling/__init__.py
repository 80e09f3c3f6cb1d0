"""Drawing text and clips from a trained or training model."""

from qcore.sampling.text import SampledToken, SamplingSettings, StepModel, check_settings, generate, next_distribution
from qcore.sampling.video import ClipSettings, clip_noise, clip_seeds, draw_clips

__all__ = [
    "ClipSettings",
    "SampledToken",
    "SamplingSettings",
    "StepModel",
    "check_settings",
    "clip_noise",
    "clip_seeds",
    "draw_clips",
    "generate",
    "next_distribution",
]
