"""The phase language model: tokens as waves a·e^{iψ}, mixed by causal interference in linear time (docs/math.md).

A layer: global interference (running means of sin(e−g)), a quantum layer (amplitude and phase from separate
projections, pairwise interference attention, read-out from Re z, Im z and a), a gated feed-forward; each a residual
branch after an RMS norm. Phases accumulate: ψ_l = ψ_{l−1} + W_ψ h. Complex values are complex64, also under autocast.
Every position enters through functions defined for any t, so generation is O(1) a token and may pass the context.
Switches add dynamic widths, concepts, language-specific phases, experts or a softmax attention; each is made after all
that is there without it, so a model without switches has the same weights and numbers, bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from qcore.config import PhaseLMConfig
from qcore.models.blocks import (
    Internals,
    LanguageModel,
    ModelOutput,
    RMSNorm,
    SwiGLU,
    check_tokens,
    embed,
    linear,
    residual_linear,
    run_layer,
    split_evenly,
)
from qcore.models.phase.concepts import ConceptLayer, ConceptOutput, ConceptState, LanguageGate, LanguagePhases
from qcore.models.phase.dynamic_width import DynamicWidth
from qcore.models.phase.encoding import PhaseEncoding
from qcore.models.phase.experts import Experts
from qcore.models.phase.interference import (
    EPSILON,
    interference_attention,
    interference_kernel,
    interference_strength,
    mix_next_with_means,
    mix_with_means,
    no_autocast,
    phases_per_head,
    split_phases,
    wave,
    wave_features,
)
from qcore.models.phase.softmax_attention import Cache, PhaseAttention
from qcore.models.phase.switch_statistics import phase_internals

_PLACES = 64
"""Positions whose part of the phases is worked out at once in a generation."""


@dataclass(frozen=True)
class LayerState:
    """Running sums of a layer. prefix and decayed mean [H, B, d], amplitudes [B, H, p], associations [B, H, 2p, d].

    Attributes:
        cache: of a softmax attention, which grows with the text.
        earlier_BWD: newest states that a dynamic width looks at.
    """

    prefix_sum: Tensor
    decayed_mean: Tensor
    amplitude_sum: Tensor
    association: Tensor
    cache: Cache | None = None
    earlier_BWD: Tensor | None = None


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
        mixed, prefix_sum, decayed = mix_next_with_means(
            self._local(e_B1D)[:, 0],
            state.prefix_sum,
            state.decayed_mean,
            self.decay_logit,
            self.share_logit,
            position,
        )
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
        softmax = config.interference_attention and config.attention != "interference"
        self.attention = PhaseAttention(config) if softmax else None

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
        if self.attention is not None:
            return self._read(z, amplitude, self.attention(h_BTD, phase, value), gate), z, phase
        return self._read(z, amplitude, interference_attention(z, amplitude, value, self.heads), gate), z, phase

    def weights(self, h_BTD: Tensor, phase_BTP: Tensor) -> Tensor:
        """a_t a_j cos(ψ_t − ψ_j) ÷ Σ_{j≤t} a_t a_j, summed over the phases of each head: [B, H, T, T] in [−1, 1].

        Of a softmax attention its weights.
        """
        z, amplitude, phase, _ = self._enter(h_BTD, phase_BTP)
        if self.attention is not None:
            return self.attention.weights(h_BTD, phase)
        return interference_kernel(z, self.heads) / interference_strength(amplitude, self.heads)[..., None]

    def step(self, h_B1D: Tensor, phase_B1P: Tensor, state: LayerState) -> tuple[Tensor, Tensor, Tensor, LayerState]:
        """One token: the update, z, ψ, and the state with the sum of amplitudes and the association Σ conj(z) ⊗ v."""
        z, amplitude, phase, value_gate = self._enter(h_B1D, phase_B1P)
        if not value_gate:
            return self._read(z, amplitude), z, phase, state
        if self.attention is not None:
            attended, cache = self.attention.step(h_B1D, phase, value_gate[0], state.cache)
            return self._read(z, amplitude, attended, value_gate[1]), z, phase, replace(state, cache=cache)
        value = value_gate[0].float().unflatten(-1, (self.heads, -1)).transpose(1, 2)
        feature = wave_features(z, self.heads).transpose(1, 2)
        amplitude_BHp = split_phases(amplitude, self.heads)[:, 0]
        amplitude_sum = state.amplitude_sum + amplitude_BHp
        with no_autocast(h_B1D):
            association = torch.addcmul(state.association, feature.transpose(-1, -2), value)
            read = torch.matmul(feature, association)
        strength = (amplitude_BHp * amplitude_sum).sum(-1) + EPSILON
        attended = (read / strength[..., None, None]).transpose(1, 2).flatten(2)
        after = replace(state, amplitude_sum=amplitude_sum, association=association)
        return self._read(z, amplitude, attended, value_gate[1]), z, phase, after


class PhaseLayer(nn.Module):
    """Global interference, quantum layer, feed-forward: three residual branches, each after an RMS norm.

    With dynamic widths a fourth comes first; with experts the feed-forward is theirs.
    """

    def __init__(self, config: PhaseLMConfig) -> None:
        super().__init__()
        D, depth, F = config.width, 3 * config.layers, config.ffn_width or 2 * config.width
        self.interference_norm, self.quantum_norm, self.ffn_norm = RMSNorm(D), RMSNorm(D), RMSNorm(D)
        self.interference = GlobalInterference(config, depth)
        self.quantum = QuantumLayer(config, depth)
        self.ffn: SwiGLU | Experts = (
            Experts(D, F, depth, config.experts, config.experts_active) if config.experts else SwiGLU(D, F, depth)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.widths = DynamicWidth(D, depth) if config.dynamic_width else None
        self.widths_norm = RMSNorm(D) if config.dynamic_width else None

    def _feed_forward(self, x_BTD: Tensor) -> tuple[Tensor, Tensor | None]:
        """The next hidden state, and the probability of each expert if there are any."""
        fed, router = self.ffn(self.ffn_norm(x_BTD)), None
        if isinstance(self.ffn, Experts):
            fed, router = fed
        return x_BTD + self.dropout(fed), router

    def _widen(self, x_BTD: Tensor) -> Tensor:
        if self.widths is None or self.widths_norm is None:
            return x_BTD
        return x_BTD + self.dropout(self.widths(self.widths_norm(x_BTD)))

    def width_shares(self, x_BTD: Tensor) -> Tensor | None:
        """Shares of the widths [B, T, 3] that the tokens choose; None without dynamic widths."""
        if self.widths is None or self.widths_norm is None:
            return None
        return self.widths.shares(self.widths_norm(x_BTD))

    def forward(self, x_BTD: Tensor, phase_BTP: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The next hidden state, z and ψ of this layer, and the probability of each expert if there are any."""
        x_BTD = self._widen(x_BTD)
        x_BTD = x_BTD + self.dropout(self.interference(self.interference_norm(x_BTD)))
        update, z, phase = self.quantum(self.quantum_norm(x_BTD), phase_BTP)
        x_BTD, router = self._feed_forward(x_BTD + self.dropout(update))
        return x_BTD, z, phase, router

    def weights(self, x_BTD: Tensor, phase_BTP: Tensor) -> Tensor:
        """The interference kernel of this layer's waves, normalised."""
        x_BTD = self._widen(x_BTD)
        # without dropout: a picture of what the model does, not of one draw of it
        x_BTD = x_BTD + self.interference(self.interference_norm(x_BTD))
        return self.quantum.weights(self.quantum_norm(x_BTD), phase_BTP)

    def step(
        self, x_B1D: Tensor, phase_B1P: Tensor, state: LayerState, position: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None, LayerState]:
        """One token at `position` (from 1)."""
        if self.widths is not None and self.widths_norm is not None and state.earlier_BWD is not None:
            update, earlier = self.widths.step(self.widths_norm(x_B1D), state.earlier_BWD)
            x_B1D, state = x_B1D + self.dropout(update), replace(state, earlier_BWD=earlier)
        update, prefix_sum, decayed = self.interference.step(self.interference_norm(x_B1D), state, position)
        x_B1D = x_B1D + self.dropout(update)
        update, z, phase, after = self.quantum.step(self.quantum_norm(x_B1D), phase_B1P, state)
        x_B1D, router = self._feed_forward(x_B1D + self.dropout(update))
        return x_B1D, z, phase, router, replace(after, prefix_sum=prefix_sum, decayed_mean=decayed)


@dataclass(frozen=True)
class PhaseState:
    """Generation state: tokens seen, and the running sums of each layer, of the language gate and of the concepts.

    Its size does not depend on the position, but for the cache of a softmax attention.

    Attributes:
        place_KP: what the positions add to the phases, of K tokens at once, the newest among them.
    """

    position: int
    layers: tuple[LayerState, ...]
    place_KP: Tensor | None = None
    evidence_BL: Tensor | None = None
    concepts: ConceptState | None = None


@dataclass(frozen=True)
class _Entry:
    """What enters the first layer: hidden state and phase, the languages, the concepts, and the state after them."""

    x_BTD: Tensor
    phase_BTP: Tensor
    gate_BTL: Tensor | None
    concepts: ConceptOutput | None
    after: PhaseState


class PhaseLM(LanguageModel):
    """Phase language model. √D·E[x], turned (see `embed`), + W[Re z, Im z] of the encoding → layers → RMS norm → logits
    by E.
    """

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
        gated = config.language_phases or config.concepts
        self.language = LanguageGate(vocab_size, config.width, config.languages) if gated else None
        self.language_phases = LanguagePhases(config) if config.language_phases else None
        self.concepts = ConceptLayer(config, vocab_size, 3 * config.layers) if config.concepts else None

    def _embed(self, tokens_BT: Tensor, state: PhaseState | None) -> _Entry:
        """`state` None: a window from its first token; else one more token a row."""
        embedded = embed(self.embedding, tokens_BT, self.config.start)
        after = state or PhaseState(0, ())
        if state is None:
            # a window always begins at place 0, whatever text comes before it
            place_TP = self.encoding.places(0, tokens_BT.shape[1])
        else:
            # what positions add depends on nothing else: worked out for a block of them, not anew for every token
            later = state.position % _PLACES
            if later == 0 or state.place_KP is None:
                start = state.position - later
                after = replace(after, place_KP=self.encoding.places(start, _PLACES))
            assert after.place_KP is not None
            place_TP = after.place_KP[later : later + 1]
        amplitude, phase = self.encoding(tokens_BT, embedded, place_TP)
        gate, concepts = None, None
        if self.language is not None:
            gate, evidence = self.language(tokens_BT, after.evidence_BL)
            after = replace(after, evidence_BL=evidence)
            if self.language_phases is not None:
                phase = phase + self.language_phases(embedded, gate)
        x_BTD = embedded + self.enter(torch.view_as_real(wave(amplitude, phase)).flatten(-2))
        if self.concepts is not None and gate is not None:
            if after.concepts is None:
                concepts = self.concepts(tokens_BT, gate)
            else:
                concepts, kept = self.concepts.step(tokens_BT, gate, after.concepts, after.position + 1)
                after = replace(after, concepts=kept)
            x_BTD = x_BTD + concepts.update_BTD
        return _Entry(self.dropout(x_BTD), phase, gate, concepts, after)

    def _read_out(
        self, x_BTD: Tensor, z_BTP: Tensor, phases: list[Tensor] | None, entry: _Entry, routers: list[Tensor | None]
    ) -> ModelOutput:
        hidden, concepts = self.norm(x_BTD), entry.concepts
        if self.language is not None and entry.gate_BTL is not None:
            hidden = hidden + self.language.voice(entry.gate_BTL)
        if concepts is not None:
            hidden = hidden + concepts.boost_BTD
        return ModelOutput(
            self.read_out(hidden),
            hidden,
            z_BTP,
            tuple(phases) if phases else None,
            concepts.shares_BTK if concepts else None,
            tuple(router for router in routers if router is not None) or None,
            concepts.expected_BTK if concepts else None,
        )

    def forward(self, tokens_BT: Tensor, *, with_phases: bool = False) -> ModelOutput:
        """Logits, last wave and, if asked for, all phases; any T ≥ 1."""
        check_tokens(tokens_BT)
        entry = self._embed(tokens_BT, None)
        x_BTD, phase = entry.x_BTD, entry.phase_BTP
        phases, routers = [phase], []
        for layer in self.layers:
            x_BTD, z, phase, router = run_layer(layer, x_BTD, phase, recompute=self.config.activation_checkpointing)
            phases.append(phase)
            routers.append(router)
        return self._read_out(x_BTD, z, phases if with_phases else None, entry, routers)

    def read_out(self, hidden_BTD: Tensor) -> Tensor:
        return functional.linear(hidden_BTD, self.embedding.weight)

    @torch.no_grad()
    def mixing(self, tokens_BT: Tensor) -> tuple[Tensor, ...]:
        """Normalised interference kernels of each layer, or the weights of its softmax attention."""
        check_tokens(tokens_BT)
        entry = self._embed(tokens_BT, None)
        x_BTD, phase = entry.x_BTD, entry.phase_BTP
        found: list[Tensor] = []
        for layer in self.layers:
            assert isinstance(layer, PhaseLayer)
            found.append(layer.weights(x_BTD, phase))
            if len(found) < len(self.layers):  # nobody reads what the last one makes of it
                x_BTD, _, phase, _ = layer(x_BTD, phase)
        return tuple(found)

    @torch.no_grad()
    def internals(self, tokens_BT: Tensor) -> Internals:
        """What the switches that are on do with these rows; nothing when none is."""
        check_tokens(tokens_BT)
        if self.language is None and not (self.config.dynamic_width or self.config.experts):
            return Internals()
        entry = self._embed(tokens_BT, None)
        x_BTD, phase, shares, routers = entry.x_BTD, entry.phase_BTP, [], []
        for layer in self.layers:
            assert isinstance(layer, PhaseLayer)
            shares.append(layer.width_shares(x_BTD))
            x_BTD, _, phase, router = layer(x_BTD, phase)
            routers.append(router)
        return phase_internals(
            self.config,
            [share for share in shares if share is not None],
            [router for router in routers if router is not None],
            entry.gate_BTL,
            entry.concepts.shares_BTK if entry.concepts else None,
        )

    def start(self, batch_size: int) -> PhaseState:
        config, weight = self.config, self.embedding.weight
        H, d = config.heads, config.width // config.heads
        p = phases_per_head(config.phases, H)
        sizes = ((H, batch_size, d), (H, batch_size, d), (batch_size, H, p), (batch_size, H, 2 * p, d))
        prefix_sum, decayed_mean, amplitude_sum, association = (weight.new_zeros(size) for size in sizes)
        zero = LayerState(prefix_sum, decayed_mean, amplitude_sum, association)
        if config.dynamic_width:
            zero = replace(zero, earlier_BWD=weight.new_zeros(batch_size, 0, config.width))
        means = weight.new_zeros(H, batch_size, d)
        concepts = ConceptState(means, means) if config.concepts else None
        return PhaseState(0, (zero,) * config.layers, concepts=concepts)

    def step(self, tokens_B: Tensor, state: PhaseState) -> tuple[ModelOutput, PhaseState]:
        """One token a row, in time and memory that do not depend on the position (softmax attentions aside)."""
        entry = self._embed(tokens_B[:, None], state)
        x_B1D, phase = entry.x_BTD, entry.phase_BTP
        routers, layers = [], []
        for layer, before in zip(self.layers, state.layers, strict=True):
            assert isinstance(layer, PhaseLayer)
            x_B1D, z, phase, router, after = layer.step(x_B1D, phase, before, state.position + 1)
            routers.append(router)
            layers.append(after)
        output = self._read_out(x_B1D, z, None, entry, routers)
        return output, replace(entry.after, position=state.position + 1, layers=tuple(layers))
