"""Values of a configuration that are each in their range and do not fit together."""

from __future__ import annotations

from typing import Any

from qcore.config.controls import ConfigError, Control
from qcore.config.pam import PAMConfig
from qcore.config.phase import PhaseLMConfig
from qcore.config.sections import Section
from qcore.config.video import ClipsConfig, VideoFlowConfig


def check_switches(model: PhaseLMConfig) -> None:
    """Raise `ConfigError` where a part of a phase model is switched off and configured all the same, or has too few of
    what it chooses among.
    """
    if model.attention != "interference" and not model.interference_attention:
        raise ConfigError(
            f"attention = {model.attention!r} is refused: interference_attention = False switches attention off; set "
            "it to True"
        )
    if model.concepts == 1:
        raise ConfigError(
            "concepts = 1 is refused: one concept cannot distinguish words; take 0 for none, or at least 2"
        )
    if model.experts == 1:
        raise ConfigError(
            "experts = 1 is refused: a single expert leaves nothing to route; take 0 for none, or at least 2"
        )
    if model.experts and model.experts_active > model.experts:
        raise ConfigError(
            f"experts_active = {model.experts_active} is refused: there are {model.experts} experts; take at most as "
            "many"
        )
    if model.language_phases and model.languages < 2:
        raise ConfigError("languages = 1 is refused: language_phases needs several languages; take at least 2")


MECHANISMS = {"concept_weight": "concepts", "balance_weight": "experts"}


def check_mechanism(name: str, value: object, model: Section) -> None:
    """Raise `ConfigError` when `value` weighs a term whose mechanism the model has not: the run would stop at its next
    step. Nothing for other names, and for families without such a mechanism, which `Control.check_model` refuses.
    """
    switch = MECHANISMS.get(name)
    # a model without the switch is of a family that refuses the weight by itself
    if switch and value and not getattr(model, switch, 1):
        raise ConfigError(
            f"{name} = {value!r} is refused: the model has no {switch}; set {switch} to at least 2, or {name} to 0"
        )


def check_wave(control: Control, value: Any, model: Section) -> None:
    """Raise `ConfigError` when `value` weighs a phase term of a memory that is real, and has no phases."""
    real = isinstance(model, PAMConfig) and not model.complex_state
    if real and "pam" in control.models and value != control.default:
        raise ConfigError(
            f"{control.name} = {value:g} is refused: with complex_state off there are no phases; keep "
            f"{control.default:g}, or switch complex_state on"
        )


def check_heads(width: int, heads: int) -> None:
    """Raise `ConfigError` unless the width can be divided evenly among the heads."""
    if width % heads:
        raise ConfigError(f"width = {width} is refused: it must be a multiple of heads = {heads}")


def check_backbone(model: VideoFlowConfig, data: ClipsConfig) -> None:
    """Raise `ConfigError` when the small backbone cannot cut these clips into its patches."""
    check_heads(model.width, model.heads)
    if data.source == "folder" and not data.path:
        raise ConfigError("source = 'folder' needs path, which is empty: give it a folder of videos")
    if data.source == "digits" and data.digit_size > data.canvas:
        raise ConfigError(f"digit_size = {data.digit_size} is refused: the canvas has {data.canvas} px")
    if data.source == "digits" and data.speed_low > data.speed_high:
        raise ConfigError(f"speed_low = {data.speed_low} is refused: speed_high is {data.speed_high}")
    if data.source == "digits" and data.colour != "grey":
        raise ConfigError("colour = 'rgb' is refused: the digits are grey; take source = 'folder'")
    side = data.canvas
    if model.latents != "pixels":
        if side % model.latent_patch:
            raise ConfigError(
                f"latent_patch = {model.latent_patch} is refused: it does not divide the canvas of {side} px"
            )
        side //= model.latent_patch
    if side % model.patch:
        raise ConfigError(f"patch = {model.patch} is refused: it does not divide the {side} positions of a frame")
