"""G1–G8: losses that never act, act the wrong way or too strongly, and weights that never learn."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qcore.data import Batch
from qcore.faults.patching import Plantable, TermFunction, override, replace_term, transformer_layers
from qcore.models import ModelOutput
from qcore.models.blocks import SwiGLU
from qcore.models.transformer.model import Attention
from qcore.objectives import Derived, Term, TermInputs

_ENTROPY_CEILING = 0.5


def counted_distribution(engine: Plantable) -> None:
    """G1: the diversity loss compares *counts of argmax predictions* with the unigram. No gradient passes an argmax."""

    def make(term: Term) -> TermFunction:
        def counted_diversity(derived: Derived, controls: object) -> Tensor:
            inputs = derived.inputs
            predicted_N = inputs.logits_BTV.argmax(-1)[inputs.mask_BT]
            counts_V = torch.bincount(predicted_N, minlength=inputs.unigram_V.numel()).to(derived.dtype)
            share_V = counts_V / counts_V.sum().clamp(min=1)
            unigram_V = inputs.unigram_V.to(derived.dtype).clamp(min=1e-8)
            return torch.special.xlogy(share_V, share_V / unigram_V).sum()

        return counted_diversity

    replace_term(engine, "diversity", make)


def saturated_entropy(engine: Plantable) -> None:
    """G2: −clamp(H, 0, ½) is minimised, H the entropy of the mean prediction: from half a nat up it says nothing."""

    def make(term: Term) -> TermFunction:
        def clamped_entropy(derived: Derived, controls: object) -> Tensor:
            return -torch.special.entr(derived.mean_probs_V).sum().clamp(0, _ENTROPY_CEILING)

        return clamped_entropy

    replace_term(engine, "entropy_floor", make, low=-_ENTROPY_CEILING, high=0.0, hinge=False)


def real_phases(engine: Plantable) -> None:
    """G3: the terms take the phases of e^{iψ} after a cast to a real number: 0 or π, and no gradient."""
    override(engine, "term_inputs", _inputs_with_real_phases)


def _inputs_with_real_phases(self: Plantable, output: ModelOutput, batch: Batch) -> TermInputs:
    phases = output.phases and tuple(
        torch.polar(torch.ones_like(phase), phase).real.float().angle() for phase in output.phases
    )
    seen = ModelOutput(output.logits_BTV, output.hidden_BTD, output.state_BTP, phases)
    return type(self).term_inputs(self, seen, batch)


def wrong_sign(engine: Plantable) -> None:
    """G4: the energy, itself minus a coherence, is subtracted instead of added: minimising it lowers the coherence."""
    replace_term(engine, "local_energy", lambda term: lambda derived, controls: -term.fn(derived, controls))


def summed_energy(engine: Plantable) -> None:
    """G5: the energy is summed over the width instead of averaged, so that it grows with the model."""

    def make(term: Term) -> TermFunction:
        return lambda derived, controls: term.fn(derived, controls) * derived.inputs.hidden_BTD.shape[-1]

    replace_term(engine, "local_energy", make)


def cleared_gradients(engine: Plantable) -> None:
    """G6: `zero_grad` once more before the last micro-batch: the step is made with that one's gradient alone."""
    seen = 0

    def clear_before_the_last(model: nn.Module, args: object) -> None:
        nonlocal seen
        if not (model.training and torch.is_grad_enabled()):
            return
        fresh = all(parameter.grad is None for parameter in model.parameters())
        seen = 1 if fresh else seen + 1
        if seen == engine.config.optim.accumulation:
            engine.optimizer.zero_grad(set_to_none=True)

    engine.model.register_forward_pre_hook(clear_before_the_last)


def detached_blocks(engine: Plantable) -> None:
    """G7: a detach between the blocks: only the last one learns (and the embedding, through the head it is tied to)."""
    for layer in list(engine.model.layers)[1:]:
        layer.register_forward_pre_hook(_detach_inputs)


def _detach_inputs(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(value.detach() for value in args)


def idle_weights(engine: Plantable) -> None:
    """G8: attention and the gate are registered and never used, and what is left of a layer is linear."""
    for layer in transformer_layers(engine):
        override(layer.attention, "forward", lambda self, x_BTD: torch.zeros_like(x_BTD))
        override(layer.attention, "step", _skip_attention)
        override(layer.attention, "weights", own_position_only)
        override(layer.ffn, "forward", _linear_feed_forward)


def _skip_attention(
    self: Attention, x_B1D: Tensor, key: Tensor, value: Tensor, position: int
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.zeros_like(x_B1D), key, value


def _linear_feed_forward(self: SwiGLU, x_BTD: Tensor) -> Tensor:
    return self.down(self.up(x_BTD))


def own_position_only(self: Attention, x_BTD: Tensor) -> Tensor:
    """Weights of a model in which each position reads itself alone, [B, H, T, T]."""
    B, T, _ = x_BTD.shape
    return torch.eye(T, device=x_BTD.device).expand(B, self.heads, T, T)


PLANTERS = {
    "G1": counted_distribution,
    "G2": saturated_entropy,
    "G3": real_phases,
    "G4": wrong_sign,
    "G5": summed_energy,
    "G6": cleared_gradients,
    "G7": detached_blocks,
    "G8": idle_weights,
}
