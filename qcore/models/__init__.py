"""Language models: the phase model and its transformer reference. No I/O here; see blocks.py for the shape legend."""

from qcore.models.blocks import LanguageModel, ModelOutput
from qcore.models.factory import build_model, matched_transformer, parameter_count
from qcore.models.interference import interference_kernel, interference_strength, wave
from qcore.models.phase_lm import PhaseLM, PhaseState
from qcore.models.transformer import Transformer, TransformerState

__all__ = [
    "LanguageModel",
    "ModelOutput",
    "PhaseLM",
    "PhaseState",
    "Transformer",
    "TransformerState",
    "build_model",
    "interference_kernel",
    "interference_strength",
    "matched_transformer",
    "parameter_count",
    "wave",
]
