"""Associations that decay, evaluated in chunks: S_t = γ_t S_{t−1} + v_t k_tᴴ, read by q_t; without parameters.

A complex channel is a pair (Re, Im) of real features, so that all products are real ones: k_jᴴ q_t v_j is the real
scalar product q·k times v plus the one of q with ik times iv. A complex memory therefore is a real one into which each
token writes twice, (k, v) and (ik, iv), and both share one code. Inside a chunk of C tokens the weights are a dense
lower-triangular product; between chunks the state is carried by a scan. Future tokens meet exact zeros.

Shape legend: see blocks.py; n chunks · C tokens of a chunk · N = B·H·n · M writes of a token: 2 complex, 1 real.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_FORGOTTEN = -1e3


def as_complex(pairs: Tensor) -> Tensor:
    """Features (Re, Im), [..., 2p] → complex [..., p]."""
    return torch.view_as_complex(pairs.unflatten(-1, (-1, 2)))


def as_pairs(wave: Tensor) -> Tensor:
    """Complex [..., p] → features (Re, Im), [..., 2p]."""
    return torch.view_as_real(wave).flatten(-2)


def clock_angle(start: int, tokens: int, rate_p: Tensor) -> Tensor:
    """ωt in radians, not wrapped, at positions start, start+1, …: [T, p]. rate: ω in radians a token."""
    position_T = torch.arange(start, start + tokens, device=rate_p.device, dtype=rate_p.dtype)
    return position_T[:, None] * rate_p


def rotation(angle: Tensor) -> Tensor:
    """e^{iψ}, complex, of angles in radians."""
    return torch.polar(torch.ones_like(angle), angle)


def phase_of(pairs: Tensor) -> Tensor:
    """Angle in (−π, π] of features (Re, Im), [..., 2p] → [..., p]; its gradient stays bounded where the wave is 0."""
    return _Phase.apply(pairs)


class _Phase(torch.autograd.Function):
    """atan2 with dψ = (Re·dIm − Im·dRe) ÷ max(|z|², 10⁻⁶)."""

    @staticmethod
    def forward(ctx: Any, pairs: Tensor) -> Tensor:
        ctx.save_for_backward(pairs)
        real, imaginary = pairs.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.atan2(imaginary, real)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (pairs,) = ctx.saved_tensors
        real, imaginary = pairs.unflatten(-1, (-1, 2)).unbind(-1)
        scaled = gradient / torch.addcmul(real.square(), imaginary, imaginary).clamp(min=1e-6)
        return torch.stack((-imaginary * scaled, real * scaled), dim=-1).flatten(-2)


@dataclass(frozen=True)
class Writes:
    """What the tokens of every chunk ask and write.

    Attributes:
        query: [N, C, d].
        key, value: [N, M, C, d].
        decay: Σ ln γ from the start of the chunk up to each token, float64 [N, C].
        scale: of every read.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    decay: Tensor
    scale: float


def cut_into_chunks(
    qkv_BTHd: tuple[Tensor, Tensor, Tensor],
    log_decay_BTH: Tensor,
    clock_Tp: Tensor | None,
    chunk: int,
    *,
    is_complex: bool,
) -> tuple[Writes, int]:
    """The tokens cut into chunks of at most `chunk`, turned by the clock, and the number of chunks.

    T is cut as evenly as it can be; tokens that fill the last chunk up write nothing. Reads are divided by √d, d the
    number of channels, complex or real. Sums of ln γ are float64 and each is at least −10³, where γ is 0 in any
    precision: after a token that forgets all (ln γ → −∞) they still tell the decays that follow it.
    """
    B, T, H, d = qkv_BTHd[0].shape
    n = -(-T // chunk)
    # as even as can be: a last chunk of one token would cost as much as a whole one
    C = -(-T // n)
    missing = n * C - T
    if missing:
        query, key, value = (functional.pad(x, (0, 0, 0, 0, 0, missing)) for x in qkv_BTHd)
        log_decay_BTH = functional.pad(log_decay_BTH, (0, 0, 0, missing))
        clock_Tp = clock_Tp if clock_Tp is None else functional.pad(clock_Tp, (0, 0, 0, missing), value=1.0)
    else:
        query, key, value = qkv_BTHd
    log_decay = log_decay_BTH.clamp(min=_FORGOTTEN).view(B, n, C, H).permute(0, 3, 1, 2)
    # float64: differences of sums over a long chunk are what weights are made of
    decay = log_decay.to(torch.float64).cumsum(-1)
    still = torch.ones(1, 1, 1, dtype=query.dtype.to_complex(), device=query.device)
    clock = still if clock_Tp is None else clock_Tp.unsqueeze(0)
    rows = B * H * n
    writes = Writes(
        _lay_out_chunks(query, clock, n).view(rows, C, d),
        _lay_out_chunks(key, torch.cat((clock, 1j * clock)) if is_complex else clock, n).view(rows, -1, C, d),
        _lay_out_chunks(value, torch.cat((still, 1j * still)) if is_complex else still, n).view(rows, -1, C, d),
        decay.reshape(rows, C),
        (d // 2 if is_complex else d) ** -0.5,
    )
    return writes, n


def _lay_out_chunks(x_BTHd: Tensor, turns_MTp: Tensor, n: int) -> Tensor:
    """[B, H, n, M, C, d] contiguous, turned by each of M unit numbers a token; a single 1 stands for no turn."""
    x = x_BTHd.unflatten(1, (n, -1))
    if turns_MTp.numel() == 1:
        return x.permute(0, 3, 1, 2, 4).contiguous()
    return _TurnPairs.apply(x, turns_MTp.unflatten(1, (n, -1)) if turns_MTp.shape[1] > 1 else turns_MTp[:, None])


class _TurnPairs(torch.autograd.Function):
    """x [B, n, C, H, d] as complex pairs times turns [M, n, C, p] (n, C or p may be 1) → [B, H, n, M, C, d]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, turns: Tensor) -> Tensor:
        ctx.save_for_backward(turns)
        B, n, C, H, d = x.shape
        z = as_complex(x).permute(0, 3, 1, 2, 4)
        out = torch.empty(B, H, n, len(turns), C, d // 2, dtype=z.dtype, device=z.device)
        for place, turn in enumerate(turns):
            torch.mul(z, turn, out=out[:, :, :, place])
        return as_pairs(out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (turns,) = ctx.saved_tensors
        g = as_complex(gradient.contiguous())
        B, H, n, M, C, p = g.shape
        back = torch.empty(B, n, C, H, p, dtype=g.dtype, device=g.device)
        turned = back.permute(0, 3, 1, 2, 4)
        # turned back by the conjugate; products are added in place, since M copies of the gradient would be its largest
        # tensor
        torch.mul(g[:, :, :, 0], turns[0].conj(), out=turned)
        for place in range(1, M):
            turned.addcmul_(g[:, :, :, place], turns[place].conj())
        return as_pairs(back), None


def weights(writes: Writes) -> Tensor:
    """What each token of a chunk takes of each write, scaled and decayed: [N, C, M, C], exactly 0 for later tokens."""
    N, M, C, d = writes.key.shape
    decay = writes.decay
    later = torch.ones(C, C, dtype=torch.bool, device=decay.device).triu(1)
    span = (decay[:, :, None] - decay[:, None] + math.log(writes.scale)).to(writes.query.dtype)
    # exp of −∞ is an exact 0: a tiny weight on a later token would be a leak
    fade = span.masked_fill(later, -math.inf).exp()
    score = torch.bmm(writes.query, writes.key.view(N, M * C, d).transpose(1, 2))
    return score.view(N, C, M, C) * fade[:, :, None]


def associate(writes: Writes, n: int) -> Tensor:
    """y_t = S_t q_t / √d for every token, [N, C, d].

    O(T·(C + d)·d) time and O(T·(C + d²/C)) memory. γ = 1 without a clock is causal linear attention, γ → 0 reads a
    token's own write alone; powers of γ are exp of sums of ln γ ≤ 0, so nothing can overflow.

    Args:
        n: chunks of a row, with S = 0 before the first.
    """
    N, M, C, d = writes.value.shape
    value = writes.value.view(N, M * C, d)
    read = torch.bmm(weights(writes).view(N, C, M * C), value)
    if n == 1:
        return read
    dtype = value.dtype
    to_end = (writes.decay[:, -1:] - writes.decay).to(dtype).exp()
    kept = (writes.key * to_end[:, None, :, None]).view(N, M * C, d)
    written = torch.bmm(kept.transpose(1, 2), value).view(-1, n, d, d).transpose(0, 1).contiguous()
    over_chunk = writes.decay[:, -1].to(dtype).exp().view(-1, n).t().contiguous()[..., None, None]
    before = _Scan.apply(written, over_chunk).transpose(0, 1).reshape(N, d, d)
    since_start = (writes.decay + math.log(writes.scale)).to(dtype).exp()
    return torch.baddbmm(read, writes.query * since_start[..., None], before)


class _Scan(torch.autograd.Function):
    """State before each chunk: S_0 = 0, S_{i+1} = g_i S_i + u_i, for u [n, B·H, d, d] and g [n, B·H, 1, 1]."""

    @staticmethod
    def forward(ctx: Any, written: Tensor, decay: Tensor) -> Tensor:
        state = torch.empty_like(written)
        state[0].zero_()
        for i in range(1, len(state)):
            torch.addcmul(written[i - 1], state[i - 1], decay[i - 1], out=state[i])
        ctx.save_for_backward(state, decay)
        return state

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        state, decay = ctx.saved_tensors
        back = torch.empty_like(state)
        back[-1].zero_()
        for i in range(len(state) - 2, -1, -1):
            torch.addcmul(gradient[i + 1], back[i + 1], decay[i + 1], out=back[i])
        return back, (back * state).sum((-2, -1), keepdim=True)


def final_state(writes: Writes) -> Tensor:
    """S after the last token of rows that are one chunk, as a real matrix [N, d, d] of keys by values."""
    N, M, C, d = writes.key.shape
    to_end = (writes.decay[:, -1:] - writes.decay).to(writes.key.dtype).exp()
    kept = (writes.key * to_end[:, None, :, None]).view(N, M * C, d)
    return torch.bmm(kept.transpose(1, 2), writes.value.view(N, M * C, d))


class ShortConvolution(torch.autograd.Function):
    """y_t = Σ_{i<K} w_i ⊙ x_{t−i} with x before the first token 0: x [B, T, D], w [K, D]. Few passes over memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        out = x * weight[0]
        for lag in range(1, min(len(weight), x.shape[1])):
            out[:, lag:].addcmul_(x[:, :-lag], weight[lag])
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        back, of_weight = gradient * weight[0], torch.zeros_like(weight)
        of_weight[0] = (gradient * x).sum((0, 1))
        for lag in range(1, min(len(weight), x.shape[1])):
            back[:, :-lag].addcmul_(gradient[:, lag:], weight[lag])
            of_weight[lag] = (gradient[:, lag:] * x[:, :-lag]).sum((0, 1))
        return back, of_weight
