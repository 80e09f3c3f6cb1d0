"""Language models: the phase model and its transformer reference; video: the flow's backbone, anchors and latents.

No I/O here; blocks.py has the shape legend of the language models, each video module its own.
"""

from qcore.models.blocks import Internals, LanguageModel, ModelOutput, parameter_count
from qcore.models.factory import build_model, build_video_model
from qcore.models.flux.model import FluxLM
from qcore.models.pam.model import PAM
from qcore.models.phase.family import published_phase_parameters
from qcore.models.phase.interference import interference_kernel, interference_strength, wave
from qcore.models.phase.model import PhaseLM, PhaseState
from qcore.models.sizing.costs import Cost, Part, count_cost
from qcore.models.sizing.matching import match_size
from qcore.models.transformer.model import Transformer, TransformerState
from qcore.models.video.anchor import AnchorNetwork, AnchorOutput
from qcore.models.video.backbone import VideoFlow, VideoOutput, pack, unpack
from qcore.models.video.codec import Codec, ConvCodec, IdentityCodec, SpaceToChannelCodec, fit_codec

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
    "match_size",
    "pack",
    "parameter_count",
    "published_phase_parameters",
    "unpack",
    "wave",
]
