"""P1–P3: waves that use half of the circle, a single direction, or one axis."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from qcore.faults.patching import Plantable, count_updates, override, phase_layers, phase_model, wrong_family_error
from qcore.models import PAM, PhaseLM, wave
from qcore.models.pam.model import Memory
from qcore.models.phase.model import PhaseEncoding, QuantumLayer

_TURN = 0.7
_TABLE_GAIN = 10.0
_FADE_STEPS = 60
_FAINTEST = 0.01


def one_projection(engine: Plantable) -> None:
    """P1: one projection u = W h is both amplitude and phase, z = softplus(u)·e^{−iπσ(0.7u)}: Im z ≤ 0 always."""
    override(phase_model(engine).encoding, "forward", _half_circle_encoding)
    for layer in phase_layers(engine):
        override(layer.quantum, "_enter", _half_circle_enter)


def _half_circle_encoding(
    self: PhaseEncoding, tokens_BT: Tensor, embedded_BTD: Tensor, start: int = 0
) -> tuple[Tensor, Tensor]:
    return _half_circle(self.amplitude(embedded_BTD).float())


def _half_circle_enter(
    self: QuantumLayer, h_BTD: Tensor, phase_BTP: Tensor
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    raw, _, *value_gate = self.enter(h_BTD).split(self.blocks, dim=-1)
    amplitude, phase = _half_circle(raw.float())
    return wave(amplitude, phase), amplitude, phase, value_gate


def _half_circle(u: Tensor) -> tuple[Tensor, Tensor]:
    """Amplitude ≥ 0 and phase in [−π, 0]."""
    return functional.softplus(u), -math.pi * torch.sigmoid(_TURN * u)


def aligned_phases(engine: Plantable) -> None:
    """P2: phases are a learned table without a clock, free to become one constant; strong coherence terms make them."""
    override(phase_model(engine).encoding, "forward", _table_encoding)


def _table_encoding(
    self: PhaseEncoding, tokens_BT: Tensor, embedded_BTD: Tensor, start: int = 0
) -> tuple[Tensor, Tensor]:
    return functional.softplus(self.amplitude(embedded_BTD).float()), _TABLE_GAIN * self.semantic(tokens_BT)


def dying_imaginary(engine: Plantable, faintest: float = _FAINTEST) -> None:
    """P3: the imaginary channel fades, z = Re + iκ·Im with κ falling from 1 to `faintest` over the first 60 updates:
    waves of a phase model, or what a complex memory reads.
    """

    def kept_share() -> float:
        return 1 - (1 - faintest) * min(1.0, count_updates(engine) / _FADE_STEPS)

    if isinstance(engine.model, PAM) and engine.model.config.complex_state:
        _fade_reads(engine.model, kept_share)
    elif isinstance(engine.model, PhaseLM):
        _fade_waves(engine, kept_share)
    else:
        raise wrong_family_error(engine, "phase_lm or complex pam")


def _fade_reads(model: PAM, kept: Callable[[], float]) -> None:
    def use(self: Memory, read_BTHd: Tensor, gate_BTD: Tensor | None) -> tuple[Tensor, Tensor]:
        fade = torch.tensor([1.0, kept()], device=read_BTHd.device).repeat(read_BTHd.shape[-1] // 2)
        return Memory.use(self, read_BTHd * fade, gate_BTD)

    for memory in model.memories:
        override(memory, "use", use)


def _fade_waves(engine: Plantable, kept: Callable[[], float]) -> None:
    def fade(amplitude: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
        real, imaginary = phase.cos(), kept() * phase.sin()
        return amplitude * torch.hypot(real, imaginary), torch.atan2(imaginary, real)

    def encode(self: PhaseEncoding, tokens_BT: Tensor, embedded_BTD: Tensor, place_TP: Tensor) -> tuple[Tensor, Tensor]:
        return fade(*PhaseEncoding.forward(self, tokens_BT, embedded_BTD, place_TP))

    def enter(self: QuantumLayer, h_BTD: Tensor, phase_BTP: Tensor) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        _, amplitude, phase, value_gate = QuantumLayer._enter(self, h_BTD, phase_BTP)
        amplitude, phase = fade(amplitude, phase)
        return wave(amplitude, phase), amplitude, phase, value_gate

    override(phase_model(engine).encoding, "forward", encode)
    for layer in phase_layers(engine):
        override(layer.quantum, "_enter", enter)


PLANTERS = {"P1": one_projection, "P2": aligned_phases, "P3": dying_imaginary, "P3b": dying_imaginary}
