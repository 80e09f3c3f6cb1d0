"""Causal interference in linear time: running means and pairwise phase interference, without parameters.

Both are evaluated in chunks of C tokens: a dense lower-triangular C×C product inside a chunk, and a small carried state
between chunks. Future tokens meet exact zeros, so causality holds bit for bit. Everything here runs in the precision of
its inputs with autocast off: sums over a whole window in bfloat16 would lose the small late terms.

Shape legend: see blocks.py; n = ⌈T/C⌉ chunks.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 32
"""Tokens of a chunk C. Of 16, 32, 64 and 128 the fastest on one CPU thread, at T = 128 and at T = 512."""

EPSILON = 1e-6
"""Added to the attention's denominator: silent tokens (all amplitudes 0) read 0 instead of 0/0."""


def no_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Context in which operations keep the precision of their inputs."""
    kind = x.device.type
    # The meta device, on which sizes are counted, has no autocast to switch off.
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def wave(amplitude_BTP: Tensor, phase_BTP: Tensor) -> Tensor:
    """z = a·e^{iψ}, complex64 (complex128 for float64 inputs) whatever the autocast. a ≥ 0, ψ in radians."""
    precision = torch.promote_types(amplitude_BTP.dtype, torch.float32)
    amplitude_BTP, phase_BTP = amplitude_BTP.to(precision), phase_BTP.to(precision)
    if torch.is_grad_enabled():
        return _Wave.apply(amplitude_BTP, phase_BTP)
    return torch.complex(amplitude_BTP * phase_BTP.cos(), amplitude_BTP * phase_BTP.sin())


class _Wave(torch.autograd.Function):
    """torch.polar from vectorised sines; real gradients da = Re(e^{−iψ} g), dψ = Im(z̄ g): 3 × faster on a CPU."""

    @staticmethod
    def forward(ctx: Any, amplitude: Tensor, phase: Tensor) -> Tensor:
        cos, sin = phase.cos(), phase.sin()
        ctx.save_for_backward(amplitude, cos, sin)
        return torch.complex(amplitude * cos, amplitude * sin)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        amplitude, cos, sin = ctx.saved_tensors
        real, imaginary = gradient.real, gradient.imag
        return torch.addcmul(real * cos, imaginary, sin), torch.addcmul(
            imaginary * cos, real, sin, value=-1
        ) * amplitude


def mix_with_means(y_HTBd: Tensor, decay_logit_H: Tensor, share_logit_H: Tensor, chunk: int = CHUNK) -> Tensor:
    """y_t + ½ m_t with m_t = (1−w)·(1/t) Σ_{j≤t} y_j + w·d_t and the decayed mean d_t = r d_{t−1} + (1−r) y_t, d_0 = 0.

    r = σ(decay_logit) and w = σ(share_logit), one a head. → [H, T, B, d]: the layout in which the heads' products are
    contiguous. r → 0 gives d_t = y_t, r → 1 gives d_t → 0; powers r^k are exp(k·ln r), so no r can overflow.
    """
    with no_autocast(y_HTBd):
        H, T, B, d = y_HTBd.shape
        y_HTBd = y_HTBd.to(decay_logit_H.dtype)
        C = min(chunk, T)
        n = -(-T // C)
        y = y_HTBd if n * C == T else functional.pad(y_HTBd, (0, 0, 0, 0, 0, n * C - T))
        y = y.reshape(H, n, C, B * d)
        log_r = functional.logsigmoid(decay_logit_H).view(H, 1, 1)
        decayed_share = torch.sigmoid(share_logit_H).view(H, 1, 1)
        gain = torch.sigmoid(-decay_logit_H).view(H, 1, 1)  # 1 − r without cancellation
        i = torch.arange(C, device=y.device, dtype=y.dtype)
        t = torch.arange(1, n * C + 1, device=y.device, dtype=y.dtype).view(1, n, C, 1)
        powers = torch.exp((i[:, None] - i).clamp(min=0) * log_r)
        prefix = (0.5 * (1 - decayed_share)).view(H, 1, 1, 1) / t
        decayed = (0.5 * decayed_share * gain * powers).view(H, 1, C, C)
        weights = (prefix + decayed).tril() + torch.eye(C, device=y.device, dtype=y.dtype)
        out = torch.matmul(weights, y)
        if n > 1:
            # Chunk sums and decayed chunk sums, carried over the earlier chunks, then read by every row of a chunk.
            to_end = (gain * torch.exp((C - 1 - i) * log_r)).expand(H, 1, C)
            sums = torch.matmul(torch.cat((torch.ones_like(to_end), to_end), dim=1)[:, None], y)
            k = torch.arange(n, device=y.device, dtype=y.dtype)
            gap = k[:, None] - k - 1
            reach = torch.exp(gap.clamp(min=0) * C * log_r)
            carry = torch.stack((torch.ones_like(reach), reach), dim=1) * (gap >= 0)
            carried = torch.matmul(carry, sums.transpose(1, 2)).transpose(1, 2)
            read_decayed = (0.5 * decayed_share * torch.exp((i[:, None] + 1) * log_r))[:, None].expand(H, n, C, 1)
            out = out + torch.matmul(torch.cat((prefix.expand(H, n, C, 1), read_decayed), dim=3), carried)
        return out.view(H, n * C, B, d)[:, :T]


def mix_next_with_means(
    y_HBd: Tensor,
    prefix_sum_HBd: Tensor,
    decayed_HBd: Tensor,
    decay_logit_H: Tensor,
    share_logit_H: Tensor,
    position: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """`mix_with_means` for one more token at `position` (from 1): y + ½ m, and the sum and the decayed mean with it."""
    y_HBd = y_HBd.to(decayed_HBd.dtype)
    half_share = 0.5 * torch.sigmoid(share_logit_H).view(-1, 1, 1)
    prefix_sum = prefix_sum_HBd + y_HBd
    decayed = torch.lerp(y_HBd, decayed_HBd, torch.sigmoid(decay_logit_H).view(-1, 1, 1))
    mixed = torch.addcmul(y_HBd, (0.5 - half_share) / position, prefix_sum)
    return torch.addcmul(mixed, half_share, decayed), prefix_sum, decayed


def decayed_sum(x_BTd: Tensor, decay_logit: Tensor, carried_Bd: Tensor | None = None) -> Tensor:
    """s_t = r s_{t−1} + x_t with r = σ(decay_logit) and s_0 = `carried_Bd` (default 0), [B, T, d]; O(T log T).

    By doubling, s over 2w tokens = s over w + r^w · the same w tokens earlier: sums only, so nothing cancels.
    """
    with no_autocast(x_BTd):
        T = x_BTd.shape[1]
        log_r = functional.logsigmoid(decay_logit)
        total, reach = x_BTd.to(decay_logit.dtype), 1
        # products with r⁻ᵗ would do it in one sum, and overflow after a few hundred tokens
        while reach < T:
            total = total + torch.exp(reach * log_r) * functional.pad(total[:, :-reach], (0, 0, reach, 0))
            reach *= 2
        if carried_Bd is None:
            return total
        t = torch.arange(1, T + 1, device=total.device, dtype=total.dtype)
        return total + torch.exp(t * log_r)[:, None] * carried_Bd[:, None]


def window_mean(x_BTd: Tensor, window: int) -> Tensor:
    """Mean over the newest `window` tokens (a power of two), fewer at the start, [B, T, d]; O(T log window)."""
    T, reach = x_BTd.shape[1], 1
    # a difference of two running sums would cancel; sums of sums do not
    while reach < min(window, T):
        x_BTd = x_BTd + functional.pad(x_BTd[:, :-reach], (0, 0, reach, 0))
        reach *= 2
    count_T = torch.arange(1, T + 1, device=x_BTd.device, dtype=x_BTd.dtype).clamp(max=window)
    return x_BTd / count_T[:, None]


def phases_per_head(phases: int, heads: int) -> int:
    """⌈P/H⌉; refused when that would leave a head without any phase."""
    per_head = -(-phases // heads)
    if phases <= per_head * (heads - 1):
        raise ValueError(f"{phases} phases leave one of {heads} heads without any; use a multiple of {heads}")
    return per_head


def split_phases(x_BTP: Tensor, heads: int) -> Tensor:
    """[B, T, P] → [B, T, H, ⌈P/H⌉]: consecutive phases share a head; silent ones (0) fill the last head up."""
    per_head = phases_per_head(x_BTP.shape[-1], heads)
    missing = per_head * heads - x_BTP.shape[-1]
    return (functional.pad(x_BTP, (0, missing)) if missing else x_BTP).unflatten(-1, (heads, per_head))


def wave_features(z_BTP: Tensor, heads: int) -> Tensor:
    """Real features (Re z, Im z), [B, T, H, 2p]: their scalar product is Σ_p a_t a_j cos(ψ_t−ψ_j) in each head."""
    return torch.view_as_real(split_phases(z_BTP, heads)).flatten(-2)


def _split_into_chunks(x_BTHx: Tensor, n: int, C: int) -> Tensor:
    """→ contiguous [B, H, n, C, x], zeros after the last token."""
    B, T, H, x = x_BTHx.shape
    if n * C != T:
        x_BTHx = functional.pad(x_BTHx, (0, 0, 0, 0, 0, n * C - T))
    return x_BTHx.reshape(B, n, C, H, x).permute(0, 3, 1, 2, 4).contiguous()


def interference_attention(
    z_BTP: Tensor, amplitude_BTP: Tensor, value_BTD: Tensor, heads: int, chunk: int = CHUNK
) -> Tensor:
    """Σ_{j≤t} a_t a_j cos(ψ_t−ψ_j) v_j ÷ (Σ_{j≤t} a_t·a_j + ε) in each head, O(T·C) → [B, T, D].

    Evaluated as Re(z_t · Σ_{j≤t} conj(z_j) v_j) on real features. No weight exceeds its share of the denominator, so
    |out| ≤ max_j |v_j|; a silent token (a_t = 0) reads 0.
    """
    with no_autocast(z_BTP):
        B, T, D = value_BTD.shape
        C = min(chunk, T)
        n = -(-T // C)
        feature_BTHp = wave_features(z_BTP, heads)
        strength = interference_strength(amplitude_BTP.to(feature_BTHp.dtype), heads).transpose(1, 2)
        query = _split_into_chunks(feature_BTHp / strength[..., None], n, C)  # narrower than the output to divide
        feature = _split_into_chunks(feature_BTHp, n, C)
        value = _split_into_chunks(value_BTD.to(feature.dtype).unflatten(-1, (heads, D // heads)), n, C)
        seen = torch.ones(C, C, device=value.device, dtype=value.dtype).tril()  # its product is 3 × faster than tril()
        out = torch.matmul(torch.matmul(query, feature.transpose(-1, -2)) * seen, value)
        # what came before a chunk is a state of fixed size: this is what makes it linear in T
        if n > 1:
            state = torch.matmul(feature.transpose(-1, -2), value)
            earlier = functional.pad(state.cumsum(2)[:, :, :-1], (0, 0, 0, 0, 1, 0))
            out = out + torch.matmul(query, earlier)
        return out.permute(0, 2, 3, 1, 4).reshape(B, n * C, D)[:, :T]


def interference_kernel(z_BTP: Tensor, heads: int) -> Tensor:
    """The T×T kernel K_tj = Σ_p a_t a_j cos(ψ_t−ψ_j) of each head, [B, H, T, T] real; j > t is 0 (not yet seen).

    Positive entries interfere constructively, negative ones destructively. Divide a row by `interference_strength`
    for the weights that the attention applies. O(T²) memory: for a page or a test, not for training.
    """
    feature = wave_features(z_BTP, heads).transpose(1, 2)
    return torch.matmul(feature, feature.transpose(-1, -2)).tril()


def interference_strength(amplitude_BTP: Tensor, heads: int) -> Tensor:
    """The attention's denominator Σ_{j≤t} a_t·a_j + ε, [B, H, T]."""
    amplitude = split_phases(amplitude_BTP, heads)
    return ((amplitude * amplitude.cumsum(1)).sum(-1) + EPSILON).transpose(1, 2)
