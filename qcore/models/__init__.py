"""Language models: the phase model and its transformer reference; video: the flow's backbone, anchors and latents.

No I/O here; blocks.py has the shape legend of the language models, each video module its own.
"""

from qcore.models.anchor import AnchorNetwork, AnchorOutput
from qcore.models.blocks import Internals, LanguageModel, ModelOutput, parameter_count
from qcore.models.codec import Codec, ConvCodec, IdentityCodec, SpaceToChannelCodec, fit_codec
from qcore.models.costs import Cost, Part, count_cost, published_phase_parameters
from qcore.models.factory import build_model, build_video_model
from qcore.models.flux import FluxLM
from qcore.models.interference import interference_kernel, interference_strength, wave
from qcore.models.matching import matched
from qcore.models.pam import PAM
from qcore.models.phase_lm import PhaseLM, PhaseState
from qcore.models.transformer import Transformer, TransformerState
from qcore.models.video import VideoFlow, VideoOutput, pack, unpack

__all__ = [
    "PAM",
    "AnchorNetwork",
    "AnchorOutput",
    "Codec",
    "ConvCodec",
    "Cost",
    "FluxLM",
    "IdentityCodec",
    "Internals",
    "LanguageModel",
    "ModelOutput",
    "Part",
    "PhaseLM",
    "PhaseState",
    "SpaceToChannelCodec",
    "Transformer",
    "TransformerState",
    "VideoFlow",
    "VideoOutput",
    "build_model",
    "build_video_model",
    "count_cost",
    "fit_codec",
    "interference_kernel",
    "interference_strength",
    "matched",
    "pack",
    "parameter_count",
    "published_phase_parameters",
    "unpack",
    "wave",
]
