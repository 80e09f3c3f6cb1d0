"""Settings that change nothing: what a test does not name has no effect."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    repetition_window: int = 0
    coherence_temperature: float = 0.0
    coherence_penalty: float = 0.0
    coherence_window: int = 4
    max_tokens: int = 8
    sample_seed: int = 0
