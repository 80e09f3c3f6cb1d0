"""Phase-Associative Memory (arXiv 2604.05030): complex associations that decay, one small matrix a head (docs/math.md).

A layer: a memory S_t = γ_t S_{t−1} + v_t k_tᴴ read as y_t = S_t q_t/√d, its keys and queries turned by a clock, the
read normalised and gated; then a channel mixer with squared ReLU. Both are residual branches after an RMS norm. The
decay γ_t follows the token; heads start with memories from short to long. `complex_state` off is the real ablation at
the same number of parameters. Training runs in chunks (pam_memory.py), generation as a recurrence
whose state does not grow with the position.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from qcore.config import PAMConfig
from qcore.models.blocks import (
    Internals,
    LanguageModel,
    ModelOutput,
    RMSNorm,
    check_tokens,
    embed,
    linear,
    residual_linear,
    run_layer,
    split_evenly,
)
from qcore.models.pam.memory import (
    ShortConvolution,
    Writes,
    as_complex,
    as_pairs,
    associate,
    clock_angle,
    cut_into_chunks,
    final_state,
    phase_of,
    rotation,
    weights,
)
from qcore.models.phase.interference import no_autocast
from qcore.probes import catalog

_SHORTEST_MEMORY, _LONGEST_MEMORY = 2.0, 32.0
"""Tokens at the start. Longer ones learn more slowly: up to 24, 64 and 256 tokens gave 2.50, 2.52 and 2.54 bits on
WikiText-2 bytes after 160 steps, and a decay that follows the token can reach further where that pays."""
_LARGEST_MEMORY = 1e6
_LAG_SPREAD = 0.3
_MOST_DECAYS = 100_000
_SILENCE = 1e-12


@dataclass(frozen=True)
class MemoryState:
    """Of one layer.

    Attributes:
        association: S, keys by values, real [B, H, d, d] or complex [B, H, d/2, d/2].
        recent: inputs of the short convolution, oldest first, [B, K−1, D].
    """

    association: Tensor
    recent: Tensor


@dataclass(frozen=True)
class MemoryInputs:
    """What a layer makes of its input.

    Attributes:
        qkv: queries, keys and values before the clock, each [B, T, H, d].
        decay_logit: of γ, [B, T, H].
        gate: [B, T, D], None without one.
    """

    qkv: tuple[Tensor, Tensor, Tensor]
    decay_logit: Tensor
    gate: Tensor | None


class Memory(nn.Module):
    """out[silu(W_g x) ⊙ norm(y)], y_t = S_t q_t/√d, S_t = γ_t S_{t−1} + v_t k_tᴴ in each head.

    x is first mixed with the K−1 inputs before it, channel by channel: keys of pairs of tokens without another layer
    (on WikiText-2 bytes, 240 steps, 2.54 → 2.46 bits). q, k, v and the gate are rows of one matrix; complex channels
    are pairs (Re, Im) of its outputs. γ_t = σ(w·x_t + b), b such that the heads' memories 1/(1−γ) start spread
    geometrically between 2 and 32 tokens. Clock: k_t, q_t → k_t e^{iω_c t}, ω from 1 to 1/context radians a token.
    The size of a read grows with the memory; an RMS norm of each head undoes that.
    """

    def __init__(self, config: PAMConfig, depth: int) -> None:
        super().__init__()
        D, H = config.width, config.heads
        self.heads, self.head_width, self.chunk = H, split_evenly(D, H), config.chunk
        self.is_complex, self.has_gate = config.complex_state, config.read_gate
        if self.head_width % 2 and (config.complex_state or config.rotary_clock):
            raise ValueError(
                f"width {D} over {H} heads gives heads of odd width {self.head_width}; complex channels and clocks "
                "take pairs: choose an even width per head, or switch complex_state and rotary_clock off"
            )
        self.lag_weight = nn.Parameter(_LAG_SPREAD * torch.randn(config.short_conv, D))
        self.enter = linear(D, (4 if config.read_gate else 3) * D)
        self.decay = linear(D, H, bias=True, gain=0.5)
        share = (torch.arange(H) + 0.5) / H
        memory = _SHORTEST_MEMORY * (_LONGEST_MEMORY / _SHORTEST_MEMORY) ** share
        with torch.no_grad():
            self.lag_weight[0] = 1.0
            self.decay.bias.copy_(torch.log(memory - 1))
        self.read_norm = RMSNorm(self.head_width)
        self.out = residual_linear(D, D, depth)

    def _ask(self, x_BTD: Tensor) -> MemoryInputs:
        """Queries, keys, values, decays and gates of inputs that the short convolution has mixed."""
        D, H = x_BTD.shape[-1], self.heads
        together, *gate = self.enter(x_BTD).split([3 * D, *([D] if self.has_gate else [])], dim=-1)
        query, key, value = _at_least_float32(together).unflatten(-1, (3, H, D // H)).unbind(2)
        with no_autocast(x_BTD):
            decay_logit = self.decay(_at_least_float32(x_BTD))
        return MemoryInputs((query, key, value), decay_logit, gate[0] if gate else None)

    def _write(self, asked: MemoryInputs, clock_Tp: Tensor | None, chunk: int) -> tuple[Writes, int]:
        """The writes of the tokens, in chunks of at most `chunk`, and how many chunks."""
        log_decay = functional.logsigmoid(asked.decay_logit)
        return cut_into_chunks(asked.qkv, log_decay, clock_Tp, chunk, is_complex=self.is_complex)

    def _mix_lags(self, x_BTD: Tensor) -> Tensor:
        return ShortConvolution.apply(x_BTD, self.lag_weight.to(x_BTD.dtype))

    def use(self, read_BTHd: Tensor, gate_BTD: Tensor | None) -> tuple[Tensor, Tensor]:
        """The residual update, and the wave norm(y) that it is made of: pairs (Re, Im) [B, T, D]."""
        wave = self.read_norm(read_BTHd).flatten(2)
        return self.out(wave if gate_BTD is None else functional.silu(gate_BTD) * wave), wave

    def forward(self, x_BTD: Tensor, clock_Tp: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The update, the wave, and the keys before the clock: the last two pairs [B, T, D]."""
        B, T, _ = x_BTD.shape
        asked = self._ask(self._mix_lags(x_BTD))
        with no_autocast(x_BTD):
            writes, n = self._write(asked, clock_Tp, self.chunk)
            read = associate(writes, n).view(B, self.heads, -1, self.head_width)[:, :, :T]
        return *self.use(read.transpose(1, 2), asked.gate), asked.qkv[1].flatten(2)

    def step(self, x_B1D: Tensor, state: MemoryState, clock_1p: Tensor | None) -> tuple[Tensor, Tensor, MemoryState]:
        """One token by the recurrence itself: the update, the wave and the next state."""
        seen = torch.cat((state.recent.to(x_B1D.dtype), x_B1D), dim=1)
        asked = self._ask((seen * self.lag_weight.flip(0).to(seen.dtype)).sum(1, keepdim=True))
        query, key, value = (x_B1Hd[:, 0] for x_B1Hd in asked.qkv)
        if clock_1p is not None:
            query, key = as_complex(query) * clock_1p, as_complex(key) * clock_1p
            if not self.is_complex:
                query, key = as_pairs(query), as_pairs(key)
        elif self.is_complex:
            query, key = as_complex(query), as_complex(key)
        if self.is_complex:
            key, value = key.conj(), as_complex(value)
        with no_autocast(x_B1D):
            kept = torch.sigmoid(asked.decay_logit[:, 0])[..., None, None] * state.association
            association = torch.addcmul(kept, key[..., None], value[..., None, :])
            read = torch.matmul(query[..., None, :], association).transpose(1, 2) * key.shape[-1] ** -0.5
        used = self.use(as_pairs(read) if self.is_complex else read, asked.gate)
        return *used, MemoryState(association, seen[:, 1:])

    def weights(self, x_BTD: Tensor, clock_Tp: Tensor | None) -> Tensor:
        """Re(k_jᴴ q_t)·γ_{j+1}…γ_t ÷ Σ_j |k_jᴴ q_t|·γ_{j+1}…γ_t, [B, H, T, T] in [−1, 1]: the read is normalised, so
        that only shares matter.
        """
        writes, _ = self._write(self._ask(self._mix_lags(x_BTD)), clock_Tp, x_BTD.shape[1])
        weight = weights(writes).unflatten(0, (len(x_BTD), self.heads))
        size = torch.linalg.vector_norm(weight, dim=-2)
        return weight[..., 0, :] / size.sum(-1, keepdim=True).clamp(min=_SILENCE)

    def look(self, x_BTD: Tensor, clock_Tp: Tensor | None) -> MemoryLook:
        """What the page shows of this layer."""
        asked = self._ask(self._mix_lags(x_BTD))
        state = final_state(self._write(asked, clock_Tp, x_BTD.shape[1])[0])
        if self.is_complex:
            state = as_complex(state[:, ::2].contiguous())
        singular = torch.linalg.svdvals(state).unflatten(0, (len(x_BTD), self.heads))
        return MemoryLook(functional.logsigmoid(asked.decay_logit), singular)


@dataclass(frozen=True)
class MemoryLook:
    """What a memory shows of itself.

    Attributes:
        log_decay: ln γ [B, T, H].
        singular: values of the state after the last token, largest first [B, H, r].
    """

    log_decay: Tensor
    singular: Tensor


class SquaredReLU(nn.Module):
    """W_down[relu(W_up x)²] (arXiv 2109.08668), the channel mixer of width F."""

    def __init__(self, width: int, ffn_width: int, depth: int) -> None:
        super().__init__()
        self.up = linear(width, ffn_width)
        self.down = residual_linear(ffn_width, width, depth)
        with torch.no_grad():
            self.down.weight *= (2 / 3) ** 0.5  # relu(x)⁴ of a unit normal has mean 3/2

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down(functional.relu(self.up(x_BTD)).square())


class PAMLayer(nn.Module):
    """x + Memory(norm x), then x + SquaredReLU(norm x)."""

    def __init__(self, config: PAMConfig) -> None:
        super().__init__()
        depth = 2 * config.layers
        self.memory_norm, self.mixer_norm = RMSNorm(config.width), RMSNorm(config.width)
        self.memory = Memory(config, depth)
        self.mixer = SquaredReLU(config.width, pam_ffn_width(config), depth)
        self.dropout = nn.Dropout(config.dropout)

    def _mix_channels(self, x_BTD: Tensor) -> Tensor:
        return x_BTD + self.dropout(self.mixer(self.mixer_norm(x_BTD)))

    def forward(self, x_BTD: Tensor, clock_Tp: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The next hidden state, and the memory's wave and keys."""
        update, read, key = self.memory(self.memory_norm(x_BTD), clock_Tp)
        return self._mix_channels(x_BTD + self.dropout(update)), read, key

    def step(self, x_B1D: Tensor, state: MemoryState, clock_1p: Tensor | None) -> tuple[Tensor, Tensor, MemoryState]:
        """One token: the next hidden state, the memory's wave and the next state."""
        update, read, following = self.memory.step(self.memory_norm(x_B1D), state, clock_1p)
        return self._mix_channels(x_B1D + self.dropout(update)), read, following


@dataclass(frozen=True)
class PAMState:
    """Generation state: tokens seen, and the memory of each layer. Its size does not depend on the position."""

    position: int
    layers: tuple[MemoryState, ...]


class PAM(LanguageModel):
    """√D·E[x], turned (see `embed`) → layers → RMS norm → logits by E.

    The wave of a layer is what it reads, norm(y_t), of D/2 complex channels; the phases are those of the first layer's
    keys with their clock (what enters the first memory), then of every layer's wave. A real memory has neither.
    """

    rate: Tensor | None

    def __init__(self, config: PAMConfig, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size, self.context = config, vocab_size, config.context
        self.embedding = nn.Embedding(vocab_size, config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        pairs = config.width // config.heads // 2
        rate = config.context ** -(torch.arange(pairs) / max(1, pairs - 1)) if config.rotary_clock else None
        self.register_buffer("rate", rate, persistent=False)
        self.layers = nn.ModuleList(PAMLayer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def _embed(self, tokens_BT: Tensor) -> Tensor:
        return self.dropout(embed(self.embedding, tokens_BT, self.config.start))

    def _read_out(self, x_BTD: Tensor, reads: list[Tensor], phases: tuple[Tensor, ...] | None) -> ModelOutput:
        hidden = self.norm(x_BTD)
        wave = as_complex(_at_least_float32(reads[-1])) if self.config.complex_state else None
        return ModelOutput(self.read_out(hidden), hidden, wave, phases)

    def _phases(self, key_BTD: Tensor, reads: list[Tensor]) -> tuple[Tensor, ...] | None:
        """Angles of the first layer's keys, with the clock's turns, and of what each layer reads."""
        if not self.config.complex_state:
            return None
        first, *others = phase_of(torch.stack([key_BTD, *(_at_least_float32(read) for read in reads)])).unbind(0)
        if self.rate is not None:
            first = first + clock_angle(0, key_BTD.shape[1], self.rate).repeat(1, self.config.heads)
        return first, *others

    def _clock(self, start: int, tokens: int) -> Tensor | None:
        """e^{iωt} [T, p] of tokens from position `start` on, the same for every layer; None without a clock."""
        return None if self.rate is None else rotation(clock_angle(start, tokens, self.rate))

    @property
    def memories(self) -> list[Memory]:
        """The memory of each layer."""
        return [layer.memory for layer in self.layers if isinstance(layer, PAMLayer)]

    def forward(self, tokens_BT: Tensor, *, with_phases: bool = False) -> ModelOutput:
        """Logits, last wave and, if asked for, all phases; any T ≥ 1."""
        check_tokens(tokens_BT)
        x_BTD = self._embed(tokens_BT)
        clock, reads, keys = self._clock(0, tokens_BT.shape[1]), [], []
        turns = () if clock is None else (clock,)
        for layer in self.layers:
            x_BTD, read, key = run_layer(layer, x_BTD, *turns, recompute=self.config.activation_checkpointing)
            reads.append(read)
            keys.append(key)
        return self._read_out(x_BTD, reads, self._phases(keys[0], reads) if with_phases else None)

    def read_out(self, hidden_BTD: Tensor) -> Tensor:
        return functional.linear(hidden_BTD, self.embedding.weight)

    @torch.no_grad()
    def mixing(self, tokens_BT: Tensor) -> tuple[Tensor, ...]:
        """Shares of what each layer reads, signed; the real part where complex."""
        check_tokens(tokens_BT)
        clock = self._clock(0, tokens_BT.shape[1])
        return tuple(memory.weights(entered, clock) for memory, entered, _ in self._layer_inputs(tokens_BT))

    @torch.no_grad()
    def internals(self, tokens_BT: Tensor) -> Internals:
        """Decays, the final states' singular values and the energies of what is read.

        Scalars `pam/…`: decay_mean, decay_low and decay_high of γ (mean, 5 % and 95 % quantile over heads, layers and
        tokens), memory (mean of 1/(1−γ) in tokens, each at most 10⁶), state_rank (e^entropy of the final state's
        singular values ÷ their number, mean over heads: 1 when all are equal) and, where complex, im_re_ratio
        (Var Im ÷ Var Re of all that is read). Arrays: decay [L, H, T] and singular [L, H, r] of the first row, energy
        [L, 2]: mean square of the real and the imaginary part, the second 0 for a real memory.
        """
        check_tokens(tokens_BT)
        looks, reads = [], []
        clock = self._clock(0, tokens_BT.shape[1])
        for memory, entered, read in self._layer_inputs(tokens_BT):
            looks.append(memory.look(entered, clock))
            reads.append(read)
        log_decay_LBTH = torch.stack([look.log_decay for look in looks])
        singular_LBHr = torch.stack([look.singular for look in looks])
        read_LN2 = torch.stack(reads).flatten(1).unflatten(1, (-1, 2))
        share = singular_LBHr / singular_LBHr.sum(-1, keepdim=True).clamp(min=_SILENCE)
        decay = log_decay_LBTH.exp()
        low, high = torch.quantile(decay.flatten()[:_MOST_DECAYS], torch.tensor([0.05, 0.95], device=decay.device))
        scalars = {
            catalog.PAM_DECAY_MEAN: float(decay.mean()),
            catalog.PAM_DECAY_LOW: float(low),
            catalog.PAM_DECAY_HIGH: float(high),
            catalog.PAM_MEMORY: float((1 / (-torch.expm1(log_decay_LBTH)).clamp(min=1 / _LARGEST_MEMORY)).mean()),
            catalog.PAM_STATE_RANK: float((torch.special.entr(share).sum(-1).exp() / share.shape[-1]).mean()),
        }
        energy = read_LN2.square().mean(1)
        if self.config.complex_state:
            real, imaginary = read_LN2.flatten(0, 1).var(0).tolist()
            scalars[catalog.PAM_IM_RE_RATIO] = imaginary / max(real, _SILENCE)
        else:
            energy = torch.stack((energy.mean(1), torch.zeros_like(energy[:, 0])), dim=1)
        arrays = {"decay": decay[:, 0].transpose(1, 2), "singular": singular_LBHr[:, 0], "energy": energy}
        return Internals(scalars, arrays)

    def _layer_inputs(self, tokens_BT: Tensor) -> list[tuple[Memory, Tensor, Tensor]]:
        """Each layer's memory, its input and what it reads."""
        x_BTD, found = self._embed(tokens_BT), []
        clock = self._clock(0, tokens_BT.shape[1])
        for layer in self.layers:
            assert isinstance(layer, PAMLayer)
            entered = layer.memory_norm(x_BTD)
            x_BTD, read, _ = layer(x_BTD, clock)
            found.append((layer.memory, entered, read))
        return found

    def start(self, batch_size: int) -> PAMState:
        H, d, D = self.config.heads, self.config.width // self.config.heads, self.config.width
        weight, side = self.embedding.weight, d // 2 if self.config.complex_state else d
        dtype = weight.dtype.to_complex() if self.config.complex_state else weight.dtype
        association = weight.new_zeros(batch_size, H, side, side, dtype=dtype)
        empty = MemoryState(association, weight.new_zeros(batch_size, self.config.short_conv - 1, D))
        return PAMState(0, (empty,) * self.config.layers)

    def step(self, tokens_B: Tensor, state: PAMState) -> tuple[ModelOutput, PAMState]:
        """One token a row, in time and memory that do not depend on the position."""
        x_B1D, clock = self._embed(tokens_B[:, None]), self._clock(state.position, 1)
        layers = []
        for layer, before in zip(self.layers, state.layers, strict=True):
            assert isinstance(layer, PAMLayer)
            x_B1D, read, after = layer.step(x_B1D, before, clock)
            layers.append(after)
        return self._read_out(x_B1D, [read], None), PAMState(state.position + 1, tuple(layers))


def pam_ffn_width(config: PAMConfig) -> int:
    """Channel mixer's width F; 0 in the configuration means 7/2 of the width, rounded to a multiple of 8: as many
    parameters as a transformer's layer of that width.
    """
    return config.ffn_width or max(8, round(3.5 * config.width / 8) * 8)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
