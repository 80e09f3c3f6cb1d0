"""Detached measurements of tensors and token ids: nothing here is backpropagated and nothing knows a model."""

from qcore.diagnostics.generations import GenerationStatistics, generation_statistics
from qcore.diagnostics.tokens import TokenStatistics, token_statistics

__all__ = ["GenerationStatistics", "TokenStatistics", "generation_statistics", "token_statistics"]
