"""Quantum Flux: sizes and switches of the flow on the disc."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from qcore.config.controls import ConfigError, knob
from qcore.config.sections import Section

SHARPEST_FAST = 0.05
"""Smallest gate temperature of the fast evaluation."""


class FluxConfig(Section):
    """Quantum Flux: tokens on discs that flow towards those they resemble, above a threshold of their own past."""

    section = "model"
    kind: Literal["flux_lm"] = knob("flux_lm", help="Model family.")
    width: int = knob(96, low=8, high=4096, unit="channels", scale="log", help="Width D of embedding and read-out.")
    layers: int = knob(3, low=1, high=48, help="Number of layers L.")
    planes: int = knob(24, low=1, high=2048, scale="log", help="Planes K of a token's state; 1 is the published form.")
    heads: int = knob(2, low=1, high=64, help="Groups of planes, each with connections of its own; divides the planes.")
    values: int = knob(
        48, low=0, high=4096, unit="channels", help="Channels that connections carry beside states; 0 as published."
    )
    context: int = knob(128, low=4, high=16384, unit="tokens", scale="log", help="Window length T in training.")
    ffn_width: int = knob(
        0, low=0, high=32768, unit="channels", help="Width of a gated read-out; 0 is 2·(2K + values)."
    )
    read_out: Literal["gated", "linear"] = knob(
        "gated",
        help="gated: embedding and states read by a gated layer · linear: each layer's state alone, as published.",
    )
    radius_min: float = knob(0.1, low=0, high=1, help="Smallest radius of a state; the largest is 1.")
    query_turn: bool = knob(True, help="Rows look at angles turned by a learned amount; off, likeness is symmetric.")
    gate: Literal["soft", "hard"] = knob("soft", help="soft: a sigmoid about the threshold · hard: all or nothing.")
    gate_temperature: float = knob(0.03, low=1e-3, high=10, scale="log", help="Width of the soft gate.")
    threshold_scale: float = knob(
        1.0,
        low=-4,
        high=4,
        help="c of the threshold μ + c·σ over a token's own past; learned from there if gates are soft.",
    )
    step_size: Literal["learned", "sampled"] = knob(
        "learned", help="dt of a layer: learned · sampled: from a Beta distribution in training, fixed in evaluation."
    )
    dynamic_skip: bool = knob(True, help="A skip connection that opens as dt grows small.")
    evaluation: Literal["blocks", "fast"] = knob(
        "blocks", help="blocks: exact, memory O(T · block) · fast: below quadratic time, with a stated error."
    )
    block: int = knob(128, low=1, high=4096, unit="tokens", scale="log", help="Rows evaluated at once.")
    hebbian: Literal["off", "after", "alone"] = knob(
        "off", live=True, help="Hebbian rule of the head: off · after: the optimizer's update · alone: instead of it."
    )
    hebbian_rate: float = knob(0.01, low=0, high=1, scale="log", live=True, help="Rate η of the Hebbian rule.")
    dropout: float = knob(0.0, low=0, high=0.9, help="Share of residual activations set to zero in training.")
    activation_checkpointing: bool = knob(False, help="Recompute layers in the backward pass: less memory, more time.")

    @model_validator(mode="after")
    def _check_together(self) -> FluxConfig:
        for name, size in (("planes", self.planes), ("values", self.values)):
            if size % self.heads:
                raise ConfigError(
                    f"{name} = {size} is refused: it is not divisible by heads = {self.heads}; "
                    f"take a multiple of it, or heads = 1"
                )
        if self.values and self.read_out == "linear":
            raise ConfigError(
                f"values = {self.values} is refused with read_out = linear, which reads the states alone: "
                "set values to 0"
            )
        if self.evaluation == "fast":
            self._check_fast()
        return self

    def _check_fast(self) -> None:
        """A grid of the disc stands for far tokens: one plane a group, a smooth gate, and not too sharp a one."""
        if self.planes != self.heads or self.gate == "hard":
            raise ConfigError(
                f"evaluation = fast is refused with planes = {self.planes}, heads = {self.heads} and gate = "
                f"{self.gate}: it needs one plane a group and a soft gate; set heads to planes and gate to soft, or "
                "evaluation to blocks"
            )
        if self.gate_temperature < SHARPEST_FAST:
            raise ConfigError(
                f"gate_temperature = {self.gate_temperature:g} is refused with evaluation = fast: so sharp a gate "
                f"needs too fine a grid; raise it to {SHARPEST_FAST} or more, or set evaluation to blocks"
            )
