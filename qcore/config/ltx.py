"""The sections of a run of the LTX-Video adapter (`ltx_video`): its transformer with LoRA, and precomputed latents.

Flow, objective, optimisation, probes and sampling are the video family's own. The tiny variant is randomly initialised
and needs no download; `2b` and `13b` are the published sizes, with weights from a folder, a file or the hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from qcore.config.controls import ConfigError, knob
from qcore.config.sections import Section, data_version


@dataclass(frozen=True)
class LTXSizes:
    """What LTX-Video's transformer is built from; its width is heads · head_width, its text states are text_width."""

    channels: int
    heads: int
    head_width: int
    layers: int
    text_width: int


LTX_SIZES = {
    "tiny": LTXSizes(channels=16, heads=2, head_width=16, layers=2, text_width=24),
    "2b": LTXSizes(channels=128, heads=32, head_width=64, layers=28, text_width=4096),
    "13b": LTXSizes(channels=128, heads=32, head_width=128, layers=48, text_width=4096),
}
SPATIAL_RATIO, TEMPORAL_RATIO = 32, 8
"""Pixels per side, and frames, that the published autoencoder turns into one latent position."""


class LTXVideoConfig(Section):
    """LTX-Video's transformer with frozen weights and trainable low-rank adapters (LoRA)."""

    section = "model"
    kind: Literal["ltx_video"] = knob("ltx_video", help="Model family.")
    variant: Literal["tiny", "2b", "13b"] = knob(
        "tiny", help="tiny: random weights, trains on a laptop · 2b and 13b: the published sizes, with their weights."
    )
    model_id: str = knob(
        "",
        help="Weights: name on the hub, folder in diffusers' format, or a .safetensors file; empty: the variant's own.",
    )
    cache_dir: str = knob("", help="Folder for downloaded weights; empty: the hub client's own.")
    offline: bool = knob(False, help="Never download: use only weights that are on this machine.")
    base_precision: Literal["auto", "fp32", "bf16"] = knob(
        "auto", help="Precision of the frozen weights; auto: fp32 for tiny, bf16 for the published sizes."
    )
    lora_rank: int = knob(4, low=1, high=1024, scale="log", help="Rank r of the low-rank update of each adapted layer.")
    lora_alpha: float = knob(
        4.0, low=0.01, high=4096, scale="log", help="The update is multiplied by alpha ÷ rank before it is added."
    )
    lora_dropout: float = knob(0.0, low=0, high=0.9, help="Share of an adapter's inputs set to zero in training.")
    lora_targets: list[str] = knob(
        ["to_q", "to_k", "to_v", "to_out.0"], help="Layers that get an adapter: ends of their names, one per line."
    )
    frame_rate: float = knob(
        25.0, low=1, high=240, unit="frames per second", help="Frame rate of the videos: spaces the rotary times."
    )
    anchor: Literal["statistics", "network"] = knob(
        "statistics",
        help="statistics: the anchor is made from the clip by the path's own recipe · network: a network learns its "
        "mean and spread.",
    )
    learned_t_star: bool = knob(False, help="Learn the collapse time t*, starting from the control's value.")
    ema_decay: float = knob(
        0.99, low=0, high=0.99999, help="Decay of the averaged weights that samples are drawn from; 0 switches it off."
    )
    activation_checkpointing: bool = knob(False, help="Recompute layers in the backward pass: less memory, more time.")
    anchor_input: ClassVar[bool] = False
    """The published weights have no place for the anchor."""

    @property
    def width(self) -> int:
        """Hidden width of every layer."""
        return LTX_SIZES[self.variant].heads * LTX_SIZES[self.variant].head_width

    @property
    def layers(self) -> int:
        """Number of layers."""
        return LTX_SIZES[self.variant].layers


class LatentsConfig(Section):
    """Where the latents come from: a folder of safetensors files, or moving waves made here for trying."""

    section = "data"
    source: Literal["random", "folder"] = knob(
        "random", help="random: smooth random waves that drift, made here · folder: your own precomputed latents."
    )
    path: str = knob("", help="Folder of .safetensors files, or one file (source: folder).")
    clips: int = knob(
        512, low=4, high=1_000_000, scale="log", help="Maximum number of clips that are made, or cut from files."
    )
    frames: int = knob(4, low=2, high=512, unit="latent frames", help="Latent frames F of a clip.")
    channels: int = knob(16, low=1, high=1024, help="Channels C of a latent (source: random); files bring their own.")
    latent_height: int = knob(4, low=1, high=256, help="Rows H of a latent frame (source: random).")
    latent_width: int = knob(4, low=1, high=256, help="Columns W of a latent frame (source: random).")
    normalisation: Literal["data", "stored", "none"] = knob(
        "data",
        help="data: each channel by its mean and spread over the training clips · stored: by latents_mean and "
        "latents_std of each file · none: the files hold normalised latents.",
    )
    validation_fraction: float = knob(0.1, low=0.01, high=0.5, help="Share of the clips, or files, held out.")
    data_seed: int = knob(0, low=0, high=2**31 - 1, help="Seed of the waves and of the split.")
    data_version: int = data_version()


def check_adapter(model: LTXVideoConfig, data: LatentsConfig) -> None:
    """Refuse sections that do not fit together with `ConfigError`."""
    if data.source == "folder" and not data.path:
        raise ConfigError("source = 'folder' needs path, which is empty: give it a folder of latents (.safetensors)")
    if data.source == "random":
        channels = LTX_SIZES[model.variant].channels
        if data.channels != channels and not model.model_id:
            raise ConfigError(
                f"channels = {data.channels} is refused: variant = {model.variant!r} reads latents with {channels}"
            )
        if data.normalisation == "stored":
            raise ConfigError("normalisation = 'stored' is refused: random latents bring no mean; take data or none")
    if not model.lora_targets:
        raise ConfigError("lora_targets is empty, so nothing would train: take to_q, to_k, to_v, to_out.0")
