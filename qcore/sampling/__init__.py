"""Drawing text from a trained or training model."""

from qcore.sampling.text import SampledToken, SamplingSettings, StepModel, check_settings, generate, next_distribution

__all__ = ["SampledToken", "SamplingSettings", "StepModel", "check_settings", "generate", "next_distribution"]
