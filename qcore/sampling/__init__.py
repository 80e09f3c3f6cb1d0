"""Drawing text and clips from a trained or training model."""

from qcore.sampling.text import (
    Coherence,
    RunningCoherence,
    SampledToken,
    SamplingSettings,
    StepModel,
    check_phases,
    check_settings,
    generate,
    next_distribution,
    uses_coherence,
)
from qcore.sampling.video import ClipSettings, clip_noise, clip_seeds, draw_clips

__all__ = [
    "ClipSettings",
    "Coherence",
    "RunningCoherence",
    "SampledToken",
    "SamplingSettings",
    "StepModel",
    "check_phases",
    "check_settings",
    "clip_noise",
    "clip_seeds",
    "draw_clips",
    "generate",
    "next_distribution",
    "uses_coherence",
]
