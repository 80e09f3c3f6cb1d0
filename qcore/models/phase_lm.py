"""The phase language model: tokens as waves a·e^{iψ}, mixed by causal interference in linear time (MATH.md §1).

A layer: global interference (running means of sin(e−g)), a quantum layer (amplitude and phase from separate
projections, pairwise interference attention, read-out from Re z, Im z and a), a gated feed-forward; each a residual
branch after an RMS norm. Phases accumulate: ψ_l = ψ_{l−1} + W_ψ h. Complex values are complex64, also under autocast.
Every position enters through functions defined for any t, so generation is O(1) a token and may pass the context.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from qcore.config import PhaseLMConfig
from qcore.models.blocks import (
    LanguageModel,
    ModelOutput,
    RMSNorm,
    SwiGLU,
    check_tokens,
    linear,
    residual_linear,
    run_layer,
    split_evenly,
)
from qcore.models.interference import (
    EPSILON,
    interference_attention,
    interference_kernel,
    interference_strength,
    mix_with_means,
    no_autocast,
    phases_per_head,
    split_phases,
    wave,
    wave_features,
)

GOLDEN = (1 + 5**0.5) / 2
_HARMONIC_RANGE = 0.01


class PhaseEncoding(nn.Module):
    """ψ_t = G_t + ½ S[x_t] + 0.3 f[x_t] + 0.2 Q_t and amplitude a_t = softplus(W_a E[x_t] + b), both [B, T, P].

    G_t,i = 2π·frac(t·φ^{−i}·a_i), t = 1, 2, …; a_i = 1 + 0.01·tanh(α_i) stays near 1, so that one optimizer step cannot
    turn a late position by many radians. Consecutive phases share a head: the first heads hold the fast harmonics, the
    last ones are almost free of position. S: semantic phases, a learned V×P table, small at first (smooth kernels learn
    faster: on stories, 200 steps, 0.98 → 0.87 nats). f[x] = s·`stability_gain`, s learned.
    Q_t,i = π·q_i·sin(ω_i t + β_i), ω_i geometric from 1 to 1/context, q and β learned: bounded, defined for every t.
    """

    stability: Tensor
    exponent: Tensor
    rate: Tensor

    def __init__(self, config: PhaseLMConfig, vocab_size: int, token_counts: Tensor | None) -> None:
        super().__init__()
        P = config.phases
        self.amplitude = linear(config.width, P, bias=True)
        self.semantic = nn.Embedding(vocab_size, P)
        nn.init.uniform_(self.semantic.weight, -0.1 * math.pi, 0.1 * math.pi)
        self.harmonic = nn.Parameter(torch.zeros(P))
        self.stability_scale = nn.Parameter(torch.ones(()))
        self.position_scale = nn.Parameter(torch.ones(P))
        self.position_offset = nn.Parameter(torch.zeros(P))
        nn.init.uniform_(self.position_offset, -math.pi, math.pi)
        self.register_buffer("exponent", torch.arange(1, P + 1, dtype=torch.float32), persistent=False)
        self.register_buffer("rate", config.context ** -(torch.arange(P) / max(1, P - 1)), persistent=False)
        self.register_buffer("stability", stability_gain(vocab_size, token_counts))

    def forward(self, tokens_BT: Tensor, embedded_BTD: Tensor, start: int = 0) -> tuple[Tensor, Tensor]:
        """Amplitude ≥ 0 and phase (radians, not wrapped) of tokens at positions start+1, start+2, …"""
        with no_autocast(embedded_BTD):
            t = torch.arange(start + 1, start + 1 + tokens_BT.shape[1], device=tokens_BT.device, dtype=torch.float32)
            near_one = 1 + _HARMONIC_RANGE * torch.tanh(self.harmonic)
            golden_TP = 2 * math.pi * torch.frac(t[:, None] * (GOLDEN**-self.exponent * near_one))
            position_TP = math.pi * self.position_scale * torch.sin(t[:, None] * self.rate + self.position_offset)
            gain_BT1 = (self.stability_scale * self.stability)[tokens_BT][..., None]
            phase = golden_TP + 0.2 * position_TP + 0.5 * self.semantic(tokens_BT) + 0.3 * gain_BT1
            return functional.softplus(self.amplitude(embedded_BTD)), phase


def stability_gain(vocab_size: int, token_counts: Tensor | None) -> Tensor:
    """−ln p(x) / ln N ∈ [0, 1], p = (count + 1)/N, N = Σ(count + 1): small for frequent tokens; 1 without counts."""
    if token_counts is None:
        return torch.ones(vocab_size)
    if token_counts.shape != (vocab_size,) or bool((token_counts < 0).any()):
        raise ValueError(
            f"token counts have shape {tuple(token_counts.shape)}; pass one count ≥ 0 for each of {vocab_size} tokens"
        )
    count = token_counts.to(torch.float64) + 1
    total = count.sum()
    return (torch.log(total / count) / torch.log(total)).to(torch.float32)


@dataclass(frozen=True)
class LayerState:
    """Running sums of a layer. prefix and decayed mean [H, B, d], amplitudes [B, H, p], associations [B, H, 2p, d]."""

    prefix_sum: Tensor
    decayed_mean: Tensor
    amplitude_sum: Tensor
    association: Tensor


class GlobalInterference(nn.Module):
    """out = O[y + ½ m]; y = W₂ GELU(W₁ sin(e − g)) in each head's own subspace of D/H channels.

    g: learned reference phases. m mixes the prefix mean and a decayed mean, share and decay learned for each head;
    decays start spread over memories of 1 to about 30 tokens.
    """

    def __init__(self, config: PhaseLMConfig, depth: int) -> None:
        super().__init__()
        H, d = config.heads, split_evenly(config.width, config.heads)
        self.reference = nn.Parameter(torch.empty(H, 1, 1, d).uniform_(-math.pi / 4, math.pi / 4))
        self.inner = nn.Parameter(torch.randn(H, d, d) * (2 / d) ** 0.5)
        self.outer = nn.Parameter(torch.randn(H, d, d) * d**-0.5)
        self.out = residual_linear(config.width, config.width, depth)
        memory = 30 ** (torch.arange(H) / max(1, H - 1))
        self.decay_logit = nn.Parameter(torch.log(memory.clamp(min=1.25) - 1))
        self.share_logit = nn.Parameter(torch.zeros(H))

    def _local(self, e_BTD: Tensor) -> Tensor:
        """y in the layout [H, T, B, d]."""
        H, _, _, d = self.reference.shape
        B, T, _ = e_BTD.shape
        e = e_BTD.view(B, T, H, d).permute(2, 1, 0, 3).contiguous()
        inner = torch.bmm(torch.sin(e - self.reference).view(H, T * B, d), self.inner)
        return torch.bmm(functional.gelu(inner), self.outer).view(H, T, B, d)

    def forward(self, e_BTD: Tensor) -> Tensor:
        mixed = mix_with_means(self._local(e_BTD), self.decay_logit, self.share_logit)
        return self.out(mixed.permute(2, 1, 0, 3).flatten(2).to(e_BTD.dtype))

    def step(self, e_B1D: Tensor, state: LayerState, position: int) -> tuple[Tensor, Tensor, Tensor]:
        """One token at `position` (from 1): the output, the prefix sum and the decayed mean."""
        y = self._local(e_B1D)[:, 0].float()
        decay = torch.sigmoid(self.decay_logit)[:, None, None]
        share = torch.sigmoid(self.share_logit)[:, None, None]
        prefix_sum = state.prefix_sum + y
        decayed = decay * state.decayed_mean + (1 - decay) * y
        mixed = y + 0.5 * ((1 - share) * prefix_sum / position + share * decayed)
        return self.out(mixed.transpose(0, 1).flatten(1)[:, None].to(e_B1D.dtype)), prefix_sum, decayed


class QuantumLayer(nn.Module):
    """z = a·e^{iψ}, a = softplus(W_a h + b), ψ = ψ_{l−1} + W_ψ h + b; out = O[Re z, Im z, a, gate ⊙ norm(attention)].

    Amplitude and phase have projections of their own: row blocks of one matrix, beside those of the attention's values
    v = W_v h + b and its gate = silu(W_g h + b). W_ψ starts small: kernels are learned faster from smooth ones. The
    weights of an interference kernel have both signs and shrink like 1/√t; an RMS norm of each head undoes that (on
    stories, 200 steps, 1.30 → 0.92 nats).
    """

    def __init__(self, config: PhaseLMConfig, depth: int) -> None:
        super().__init__()
        D, P = config.width, config.phases
        self.heads = config.heads
        self.blocks = [P, P, D, D] if config.interference_attention else [P, P]
        self.enter = linear(D, sum(self.blocks), bias=True)
        with torch.no_grad():
            self.enter.weight[P : 2 * P] *= 0.3
        self.out = residual_linear(3 * P + sum(self.blocks[3:]), D, depth)
        self.head_norm = RMSNorm(D // self.heads) if config.interference_attention else None

    def _enter(self, h_BTD: Tensor, phase_BTP: Tensor) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """z, a, ψ, and value and gate if there is an attention."""
        raw_amplitude, turn, *value_gate = self.enter(h_BTD).split(self.blocks, dim=-1)
        amplitude, phase = functional.softplus(raw_amplitude.float()), phase_BTP + turn.float()
        return wave(amplitude, phase), amplitude, phase, value_gate

    def _read(self, z_BTP: Tensor, amplitude_BTP: Tensor, *attended_gate: Tensor) -> Tensor:
        read = [torch.view_as_real(z_BTP).flatten(-2), amplitude_BTP]
        if self.head_norm is not None:
            attended_BTD, gate_BTD = attended_gate
            level = self.head_norm(attended_BTD.unflatten(-1, (self.heads, -1))).flatten(-2)
            read.append(functional.silu(gate_BTD) * level)
        return self.out(torch.cat(read, dim=-1))

    def forward(self, h_BTD: Tensor, phase_BTP: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The residual update, z and ψ."""
        z, amplitude, phase, value_gate = self._enter(h_BTD, phase_BTP)
        if not value_gate:
            return self._read(z, amplitude), z, phase
        value, gate = value_gate
        return self._read(z, amplitude, interference_attention(z, amplitude, value, self.heads), gate), z, phase

    def weights(self, h_BTD: Tensor, phase_BTP: Tensor) -> Tensor:
        """a_t a_j cos(ψ_t − ψ_j) ÷ Σ_{j≤t} a_t a_j, summed over the phases of each head: [B, H, T, T] in [−1, 1]."""
        z, amplitude, _, _ = self._enter(h_BTD, phase_BTP)
        return interference_kernel(z, self.heads) / interference_strength(amplitude, self.heads)[..., None]

    def step(
        self, h_B1D: Tensor, phase_B1P: Tensor, state: LayerState
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """One token: the update, z, ψ, the sum of amplitudes and the association Σ conj(z) ⊗ v."""
        z, amplitude, phase, value_gate = self._enter(h_B1D, phase_B1P)
        if not value_gate:
            return self._read(z, amplitude), z, phase, state.amplitude_sum, state.association
        value = value_gate[0].float().unflatten(-1, (self.heads, -1)).transpose(1, 2)
        feature = wave_features(z, self.heads).transpose(1, 2)
        amplitude_BHp = split_phases(amplitude, self.heads)[:, 0]
        amplitude_sum = state.amplitude_sum + amplitude_BHp
        with no_autocast(h_B1D):
            association = state.association + feature.transpose(-1, -2) * value
            read = torch.matmul(feature, association)
        strength = (amplitude_BHp * amplitude_sum).sum(-1) + EPSILON
        attended = (read / strength[..., None, None]).transpose(1, 2).flatten(2)
        return self._read(z, amplitude, attended, value_gate[1]), z, phase, amplitude_sum, association


class PhaseLayer(nn.Module):
    """Global interference, quantum layer, feed-forward: three residual branches, each after an RMS norm."""

    def __init__(self, config: PhaseLMConfig) -> None:
        super().__init__()
        D, depth = config.width, 3 * config.layers
        self.interference_norm, self.quantum_norm, self.ffn_norm = RMSNorm(D), RMSNorm(D), RMSNorm(D)
        self.interference = GlobalInterference(config, depth)
        self.quantum = QuantumLayer(config, depth)
        self.ffn = SwiGLU(D, config.ffn_width or 2 * D, depth)
        self.dropout = nn.Dropout(config.dropout)

    def _feed_forward(self, x_BTD: Tensor) -> Tensor:
        return x_BTD + self.dropout(self.ffn(self.ffn_norm(x_BTD)))

    def forward(self, x_BTD: Tensor, phase_BTP: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The next hidden state, z and ψ of this layer."""
        x_BTD = x_BTD + self.dropout(self.interference(self.interference_norm(x_BTD)))
        update, z, phase = self.quantum(self.quantum_norm(x_BTD), phase_BTP)
        return self._feed_forward(x_BTD + self.dropout(update)), z, phase

    def weights(self, x_BTD: Tensor, phase_BTP: Tensor) -> Tensor:
        """The interference kernel of this layer's waves, normalised."""
        x_BTD = x_BTD + self.interference(self.interference_norm(x_BTD))
        return self.quantum.weights(self.quantum_norm(x_BTD), phase_BTP)

    def step(
        self, x_B1D: Tensor, phase_B1P: Tensor, state: LayerState, position: int
    ) -> tuple[Tensor, Tensor, Tensor, LayerState]:
        """One token at `position` (from 1)."""
        update, prefix_sum, decayed = self.interference.step(self.interference_norm(x_B1D), state, position)
        x_B1D = x_B1D + self.dropout(update)
        update, z, phase, amplitude_sum, association = self.quantum.step(self.quantum_norm(x_B1D), phase_B1P, state)
        x_B1D = self._feed_forward(x_B1D + self.dropout(update))
        return x_B1D, z, phase, LayerState(prefix_sum, decayed, amplitude_sum, association)


@dataclass(frozen=True)
class PhaseState:
    """Generation state: tokens seen, and the running sums of each layer. Its size does not depend on the position."""

    position: int
    layers: tuple[LayerState, ...]


class PhaseLM(LanguageModel):
    """Phase language model. √D·E[x] + W[Re z, Im z] of the encoding → layers → RMS norm → logits by E."""

    def __init__(self, config: PhaseLMConfig, vocab_size: int, token_counts: Tensor | None = None) -> None:
        super().__init__()
        self.config, self.vocab_size, self.context = config, vocab_size, config.context
        phases_per_head(config.phases, config.heads)
        self.embedding = nn.Embedding(vocab_size, config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        self.encoding = PhaseEncoding(config, vocab_size, token_counts)
        self.enter = linear(2 * config.phases, config.width)
        self.layers = nn.ModuleList(PhaseLayer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def _embed(self, tokens_BT: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Hidden state and phase that enter the first layer."""
        embedded = self.embedding(tokens_BT) * self.config.width**0.5
        amplitude, phase = self.encoding(tokens_BT, embedded, start)
        entered = self.enter(torch.view_as_real(wave(amplitude, phase)).flatten(-2))
        return self.dropout(embedded + entered), phase

    def _read_out(self, x_BTD: Tensor, z_BTP: Tensor, phases: list[Tensor] | None) -> ModelOutput:
        hidden = self.norm(x_BTD)
        logits = self.read_out(hidden)
        return ModelOutput(logits, hidden, z_BTP, tuple(phases) if phases else None)

    def forward(self, tokens_BT: Tensor, *, with_phases: bool = False) -> ModelOutput:
        """Logits, last wave and, if asked for, all phases; any T ≥ 1."""
        check_tokens(tokens_BT)
        x_BTD, phase = self._embed(tokens_BT, 0)
        phases = [phase]
        for layer in self.layers:
            x_BTD, z, phase = run_layer(layer, x_BTD, phase, recompute=self.config.activation_checkpointing)
            phases.append(phase)
        return self._read_out(x_BTD, z, phases if with_phases else None)

    def read_out(self, hidden_BTD: Tensor) -> Tensor:
        return functional.linear(hidden_BTD, self.embedding.weight)

    @torch.no_grad()
    def mixing(self, tokens_BT: Tensor) -> tuple[Tensor, ...]:
        """Normalised interference kernels of each layer."""
        check_tokens(tokens_BT)
        x_BTD, phase = self._embed(tokens_BT, 0)
        found = []
        for layer in self.layers:
            assert isinstance(layer, PhaseLayer)
            found.append(layer.weights(x_BTD, phase))
            x_BTD, _, phase = layer(x_BTD, phase)
        return tuple(found)

    def start(self, batch_size: int) -> PhaseState:
        H, d = self.config.heads, self.config.width // self.config.heads
        p = phases_per_head(self.config.phases, H)
        sizes = ((H, batch_size, d), (H, batch_size, d), (batch_size, H, p), (batch_size, H, 2 * p, d))
        zero = LayerState(*(self.embedding.weight.new_zeros(size) for size in sizes))
        return PhaseState(0, (zero,) * self.config.layers)

    def step(self, tokens_B: Tensor, state: PhaseState) -> tuple[ModelOutput, PhaseState]:
        """One token a row, in time and memory that do not depend on the position."""
        x_B1D, phase = self._embed(tokens_B[:, None], state.position)
        phases, layers = [phase], []
        for layer, before in zip(self.layers, state.layers, strict=True):
            assert isinstance(layer, PhaseLayer)
            x_B1D, z, phase, after = layer.step(x_B1D, phase, before, state.position + 1)
            phases.append(phase)
            layers.append(after)
        return self._read_out(x_B1D, z, phases), PhaseState(state.position + 1, tuple(layers))
