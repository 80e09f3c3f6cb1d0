"""From configuration to model: seeded construction."""

from __future__ import annotations

import torch
from torch import Tensor

from qcore.config import LanguageConfig, LTXVideoConfig, VideoFlowConfig
from qcore.models.blocks import LanguageModel
from qcore.models.families import FAMILIES
from qcore.models.initialisation import with_first_weights
from qcore.models.video.backbone import VideoFlow
from qcore.models.video.ltx import LTXVideo, build_ltx


def build_model(
    config: LanguageConfig, vocab_size: int, token_counts: Tensor | None = None, *, seed: int = 0
) -> LanguageModel:
    """The model of a configuration. Equal arguments give equal weights, bit for bit; the global random state is kept.

    token_counts [V]: occurrences of each token in the training targets, for the phase model's stability gain; None
    takes all tokens as equally frequent.

    Raises:
        ValueError: for sizes that do not fit together.
    """
    if vocab_size < 1:
        raise ValueError(f"vocabulary of {vocab_size} tokens; it must hold at least one")
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        return with_first_weights(FAMILIES[config.kind].build(config, vocab_size, token_counts))


def build_video_model(
    config: VideoFlowConfig | LTXVideoConfig, data_shape: tuple[int, int, int, int], *, seed: int = 0
) -> VideoFlow | LTXVideo:
    """The model of a configuration for clips of (F, C, H, W). Equal arguments give equal weights, bit for bit; the
    global random state is kept. An autoencoder among the latents still has to be fitted (`fit_codec`).

    Raises:
        ValueError: for sizes that do not fit together.
    """
    if isinstance(config, LTXVideoConfig):
        return build_ltx(config, data_shape, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        return with_first_weights(VideoFlow(config, *data_shape))
