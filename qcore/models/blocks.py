"""Blocks that both language models share: output record, model interface, normalisation, feed-forward, initialisation.

Shape legend: B batch · T tokens · D width · H heads · d = D/H · P phases · p = phases of one head · V vocabulary ·
F feed-forward width. Linear layers have no bias unless a module says why it needs one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

_NORM_EPSILON = 1e-6


@dataclass(frozen=True)
class ModelOutput:
    """What a language model returns for a window.

    Attributes:
        logits_BTV: unnormalised log-probabilities of the next token.
        hidden_BTD: the state the head reads (normalised).
        state_BTP: complex64 wave z = a·e^{iψ} of the last layer, None for a real model.
        phases: float32 radians [B,T,P], not wrapped, the encoding first and then one for each layer; None unless asked
            for.
        concepts_BTK: share of each concept in a token, None without a concept layer.
        routers: probability of each expert [B, T, E], one for each layer with experts; None without.
        expected_concepts_BTK: share of each concept that is expected in the next token.
    """

    logits_BTV: Tensor
    hidden_BTD: Tensor
    state_BTP: Tensor | None = None
    phases: tuple[Tensor, ...] | None = None
    concepts_BTK: Tensor | None = None
    routers: tuple[Tensor, ...] | None = None
    expected_concepts_BTK: Tensor | None = None


@dataclass(frozen=True)
class Internals:
    """What a family shows of itself on a few rows.

    Attributes:
        scalars: series by name, under the family's own prefix.
        arrays: for its page.
    """

    scalars: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, Tensor] = field(default_factory=dict)


class LanguageModel(nn.Module, ABC):
    """A causal language model: position t of the output depends on tokens ≤ t only, exactly."""

    config: Any
    vocab_size: int
    context: int
    layers: nn.ModuleList

    @property
    def needs_randomness(self) -> bool:
        """Whether a training step draws random numbers: dropout, unless a family draws more."""
        return bool(self.config.dropout)

    @abstractmethod
    def forward(self, tokens_BT: Tensor, *, with_phases: bool = False) -> ModelOutput:
        """Logits of the next token at every position of a window of token ids (int64)."""

    @abstractmethod
    def read_out(self, hidden_BTD: Tensor) -> Tensor:
        """Logits [B, T, V] of the state that the head reads, `ModelOutput.hidden_BTD`."""

    @abstractmethod
    def mixing(self, tokens_BT: Tensor) -> tuple[Tensor, ...]:
        """Who reads whom: for each layer the weights [B, H, T, T] with which position t reads position j.

        Real; rows of softmax attention sum to 1, interference has both signs and lies in [−1, 1]; what lies in the
        future is 0. O(T²) memory and no gradient: for a page or a probe.
        """

    def internals(self, tokens_BT: Tensor) -> Internals:
        """What the family measures of itself on these rows, without gradient; nothing unless it says so."""
        del tokens_BT
        return Internals()

    def before_update(self, controls: Mapping[str, Any]) -> None:
        """Called with the gradients of an update, before the optimizer uses them."""

    def after_update(
        self, hidden_BTD: Tensor, targets_BT: Tensor, mask_BT: Tensor, controls: Mapping[str, Any]
    ) -> None:
        """Called after the optimizer's update with the last micro-batch: a rule of learning of the model's own."""

    @abstractmethod
    def start(self, batch_size: int) -> Any:
        """State of a generation before its first token."""

    @abstractmethod
    def step(self, tokens_B: Tensor, state: Any) -> tuple[ModelOutput, Any]:
        """Feed one token a row: the output of that position (T=1) and the next state; the given state stays valid.

        Equal to `forward` on all tokens so far, up to the rounding of another order of summation, without `phases`:
        the newest are the angles of `state_BTP`.
        """


class RMSNorm(nn.Module):
    """x·w / √(mean_D x² + ε): unit root mean square over the last axis, learned scale w."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x_BTD: Tensor) -> Tensor:
        return rms_norm(x_BTD, self.weight)


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """RMS norm over the last axis. torch's own is fused for CUDA but its backward is not for the CPU (2–6 × slower)."""
    if x.device.type == "cpu" and x.dtype == weight.dtype and torch.is_grad_enabled():
        return _RMSNorm.apply(x, weight)
    return functional.rms_norm(x, weight.shape, weight.to(x.dtype), eps=_NORM_EPSILON)


class _RMSNorm(torch.autograd.Function):
    """With n = x/rms: dL/dx = (gw − n·mean_D(g w n))/rms and dL/dw = Σ g n."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        scale = square.add_(_NORM_EPSILON).rsqrt_()
        normed = x * scale
        ctx.save_for_backward(normed, weight, scale)
        return normed * weight

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        normed, weight, scale = ctx.saved_tensors
        width = weight.shape[0]
        both = (gradient * normed).reshape(-1, width)
        mean = torch.mv(both, weight).view(scale.shape)
        return torch.addcmul(gradient * weight, normed, mean, value=-1 / width).mul_(scale), both.sum(0)


class SwiGLU(nn.Module):
    """W_down[silu(W_gate x) ⊙ W_up x], the gated feed-forward of width F (arXiv 2002.05202)."""

    def __init__(self, width: int, ffn_width: int, depth: int) -> None:
        super().__init__()
        self.gate = linear(width, ffn_width)
        self.up = linear(width, ffn_width)
        self.down = residual_linear(ffn_width, width, depth)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down(functional.silu(self.gate(x_BTD)) * self.up(x_BTD))


def linear(fan_in: int, fan_out: int, *, bias: bool = False, gain: float = 1.0) -> nn.Linear:
    """Linear layer that keeps the variance of its input: weights N(0, gain²/fan_in), bias 0."""
    layer = nn.Linear(fan_in, fan_out, bias=bias)
    nn.init.normal_(layer.weight, std=gain * fan_in**-0.5)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def residual_linear(fan_in: int, fan_out: int, depth: int) -> nn.Linear:
    """Last layer of a residual branch. 1/√depth keeps the stream's variance bounded when `depth` branches add up."""
    return linear(fan_in, fan_out, gain=depth**-0.5)


def embed(table: nn.Embedding, tokens_BT: Tensor, start: str) -> Tensor:
    """√D·E[x] of a table that is the head's, too, [B, T, D].

    A stream that is still mostly its input has E[y]·h largest at y = x: the model first repeats what it reads, at 7 to
    25 nats by width. With start = level each pair of channels (a, b) enters as (−b, a), a quarter turn R: E[x]·R E[x]
    is 0, no token is likely, and the loss starts ½ above ln V, the variance 1 of the logits. Nothing else changes: R
    keeps lengths and angles, and old pairs stay pairs where the width grows. The last of an odd width stays as it is.
    """
    x_BTD = table(tokens_BT) * table.embedding_dim**0.5
    if start == "tied":
        return x_BTD
    pairs_BTD = x_BTD[..., : table.embedding_dim // 2 * 2]
    turned_BTD = torch.stack((-pairs_BTD[..., 1::2], pairs_BTD[..., ::2]), dim=-1).flatten(-2)
    return torch.cat((turned_BTD, x_BTD[..., -1:]), dim=-1) if table.embedding_dim % 2 else turned_BTD


def run_layer(layer: nn.Module, *inputs: Tensor, recompute: bool) -> Any:
    """Call a layer; with `recompute` its activations are dropped and computed again in the backward pass."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(layer, *inputs, use_reentrant=False)
    return layer(*inputs)


def check_tokens(tokens_BT: Tensor, limit: int | None = None) -> None:
    """Refuse anything but a non-empty [B, T] window of integer ids with T ≤ limit."""
    if tokens_BT.dim() != 2 or 0 in tokens_BT.shape or tokens_BT.is_floating_point() or tokens_BT.is_complex():
        raise ValueError(
            f"tokens are {tokens_BT.dtype} of shape {tuple(tokens_BT.shape)}; pass int64 ids of shape [batch, tokens], "
            "both at least 1"
        )
    if limit is not None and tokens_BT.shape[1] > limit:
        raise ValueError(
            f"{tokens_BT.shape[1]} tokens are more than the context of {limit}; crop the window, raise `context`, "
            "or generate with start() and step()"
        )


def split_evenly(width: int, heads: int) -> int:
    """Width of one head, D/H."""
    if heads < 1 or width % heads:
        raise ValueError(f"width {width} is not divisible by {heads} heads; choose a width that is a multiple of it")
    return width // heads


def parameter_count(module: nn.Module) -> int:
    """Number of learned values; tied ones count once."""
    return sum(parameter.numel() for parameter in module.parameters())
