"""From configuration to model: seeded construction, parameter counts, and the transformer of equal size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qcore.config import PhaseLMConfig, TransformerConfig
from qcore.models.blocks import LanguageModel
from qcore.models.phase_lm import PhaseLM
from qcore.models.transformer import Transformer

MATCH_TOLERANCE = 0.02


def build_model(
    config: PhaseLMConfig | TransformerConfig, vocab_size: int, token_counts: Tensor | None = None, *, seed: int = 0
) -> LanguageModel:
    """The model of a configuration. Equal arguments give equal weights, bit for bit; the global random state is kept.

    token_counts [V]: occurrences of each token in the training targets, for the phase model's stability gain; None
    takes all tokens as equally frequent. ValueError for sizes that do not fit together.
    """
    if vocab_size < 1:
        raise ValueError(f"vocabulary of {vocab_size} tokens; it must hold at least one")
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        if config.kind == "phase_lm":
            return PhaseLM(config, vocab_size, token_counts)
        return Transformer(config, vocab_size)


def parameter_count(module: nn.Module) -> int:
    """Number of learned values; tied ones count once."""
    return sum(parameter.numel() for parameter in module.parameters())


def matched_transformer(config: PhaseLMConfig, vocab_size: int) -> TransformerConfig:
    """The transformer of the same width, layers, heads and context with as many parameters (within 2 %).

    Its feed-forward width is solved for; a multiple of 8 is preferred. ValueError if no width can match.
    """
    with torch.device("meta"):
        target = parameter_count(build_model(config, vocab_size))

        def sized(ffn_width: int) -> tuple[TransformerConfig, float]:
            candidate = TransformerConfig(
                width=config.width,
                layers=config.layers,
                heads=config.heads,
                context=config.context,
                ffn_width=ffn_width,
                dropout=config.dropout,
                activation_checkpointing=config.activation_checkpointing,
            )
            return candidate, parameter_count(build_model(candidate, vocab_size)) / target - 1

        _, excess = sized(1)
        exact = 1 - excess * target / (3 * config.width * config.layers)
        for width in (round(exact / 8) * 8, round(exact)):
            if width >= 1:
                matched, excess = sized(width)
                if abs(excess) <= MATCH_TOLERANCE:
                    return matched
    raise ValueError(
        f"no transformer of width {config.width} and {config.layers} layers has {target} parameters within "
        f"{MATCH_TOLERANCE:.0%}; raise the phase model's ffn_width"
    )
