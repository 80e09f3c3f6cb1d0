"""Quantum Flux connections: who resembles whom above a threshold of its own past, without parameters (docs/math.md).

sim_ij = (q_i·s_j + 1)/2, τ_i = μ_i + c σ_i over j ≤ i, w_ij = relu(sim_ij)·gate((sim_ij − τ_i)/temperature), a_ij =
w_ij ÷ row sum. Evaluated tile by tile, forward and backward, so that memory is O(T·block) and no B×T×T tensor is kept;
the thresholds are exact in O(T). Future tokens meet exact zeros. Everything runs in the precision of its inputs.

Shape legend: see blocks.py; N = B·H kernels, p = 2K/H coordinates of a state, m channels that are mixed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from qcore.models.flux.gate import SELF_WEIGHT, TIE, Gate, Mixed, append_ones, augmented, strength_of
from qcore.models.phase.interference import no_autocast

_CHUNK = 32
_COLUMNS = 512
_NO_SPREAD = 1e-8


@dataclass(frozen=True)
class Past:
    """What a generation keeps of one evaluation of the connections.

    Attributes:
        states, values: [N, t, p] and [N, t, m] of all tokens so far, as a row reads its whole past.
        total, moment: Σ(s−s₁) [N, p] and Σ(s−s₁)(s−s₁)ᵀ [N, p, p] for the thresholds.
    """

    states: Tensor
    values: Tensor
    total: Tensor
    moment: Tensor

    @classmethod
    def empty(cls, state_NTp: Tensor, value_NTm: Tensor) -> Past:
        """The past before the first token, for states and values like these."""
        N, _, p = state_NTp.shape
        return cls(state_NTp[:, :0], value_NTm[:, :0], state_NTp.new_zeros(N, p), state_NTp.new_zeros(N, p, p))

    def with_token(self, state_N1p: Tensor, value_N1m: Tensor) -> Past:
        """The past with one more token in it."""
        states = torch.cat((self.states, state_N1p), dim=1)
        change = state_N1p - states[:, :1]
        return Past(
            states,
            torch.cat((self.values, value_N1m), dim=1),
            self.total + change[:, 0],
            self.moment + change.transpose(1, 2) * change,
        )

    def threshold(self, query_N1p: Tensor, spread: Tensor | float) -> Tensor:
        """τ of the newest token, [N, 1]: the last one of `thresholds`."""
        t = self.states.shape[1]
        mean = torch.matmul(query_N1p, self.total[..., None])[..., 0] / t
        second = (torch.matmul(query_N1p, self.moment) * query_N1p).sum(-1) / t
        return threshold_of(mean + (query_N1p * self.states[:, :1]).sum(-1), second - mean.square(), spread)


def thresholds(query_NTp: Tensor, state_NTp: Tensor, spread: Tensor | float) -> Tensor:
    """τ_i = μ_i + c·σ_i of sim_ij over j ≤ i, [N, T]; c = `spread`, a number or [N, 1]. O(T·(chunk + p²)) time.

    μ_i = (q_i·m_i + 1)/2 and σ_i² = ¼ (q_iᵀ M_i q_i − (q_i·m_i)²) with the running mean m_i and second moment M_i of s,
    taken about the first state, which every row has seen: variance of almost equal states does not cancel. σ is 0 where
    all of the past is equal; its gradient stays finite there.
    """
    with no_autocast(state_NTp):
        T = state_NTp.shape[1]
        C = min(_CHUNK, T)
        n = -(-T // C)
        first = state_NTp[:, :1]
        query, state = _split_into_chunks(query_NTp, n, C), _split_into_chunks(state_NTp - first, n, C)
        seen = torch.ones(C, C, device=state.device, dtype=state.dtype).tril()
        product = torch.matmul(query, state.transpose(-1, -2)) * seen
        total, square = product.sum(-1), product.square().sum(-1)
        if n > 1:
            sums = functional.pad(state.sum(2).cumsum(1)[:, :-1], (0, 0, 1, 0))
            moments = torch.matmul(state.transpose(-1, -2), state).cumsum(1)
            moments = functional.pad(moments[:, :-1], (0, 0, 0, 0, 1, 0))
            total = total + torch.matmul(query, sums[..., None]).squeeze(-1)
            square = square + (torch.matmul(query, moments) * query).sum(-1)
        i = torch.arange(1, T + 1, device=state.device, dtype=state.dtype)
        mean, second = total.flatten(1)[:, :T] / i, square.flatten(1)[:, :T] / i
        return threshold_of(mean + (query_NTp * first).sum(-1), second - mean.square(), spread)


def threshold_of(mean: Tensor, variance: Tensor, spread: Tensor | float) -> Tensor:
    """τ from the mean and the variance of q·s over a row's past."""
    variance = variance.clamp(min=0)
    # sqrt without its infinite slope at 0: relative error below 5e-5 from σ = 0.01 on.
    return (mean + 1) / 2 + spread * (variance * (variance + _NO_SPREAD).rsqrt()) / 2


def connect(
    query_NTp: Tensor, state_NTp: Tensor, value_NTm: Tensor, tau_NT: Tensor, gate: Gate, *, block: int = 128
) -> Mixed:
    """Causal connections applied to the values, in tiles of `block` rows: memory O(T·block) beside inputs and outputs.

    |q_i·s_j| ≤ 1 must hold, so that sim ≥ 0 and relu changes nothing. Rows of a sum to 1: the result is a convex
    combination of the values up to i. On CUDA, where Triton is at hand, one fused kernel does the same.
    """
    with no_autocast(state_NTp):
        value = value_NTm.to(state_NTp.dtype)
        query, key, level = augmented(query_NTp, state_NTp, tau_NT, gate)
        if query.is_cuda and fused_available():
            from qcore.models.flux.connections_triton import connect_fused

            mixed, total = connect_fused(query, key, value, level, gate.hard)
        else:
            mixed, total = _Tiles.apply(query, key, value, level, gate.hard, block)
        return Mixed(mixed, strength_of(total, gate))


@cache
def fused_available() -> bool:
    """Whether Triton is installed; it comes with builds of torch for CUDA."""
    return importlib.util.find_spec("triton") is not None


def connections(query_NTp: Tensor, state_NTp: Tensor, tau_NT: Tensor, gate: Gate) -> tuple[Tensor, Tensor]:
    """a_ij and sim_ij, [N, T, T] each, future 0: the definition written out. O(T²) memory: for a page or a test."""
    similarity = (torch.matmul(query_NTp, state_NTp.transpose(-1, -2)) + 1) / 2
    above = similarity - tau_NT[..., None]
    passed = (above >= -TIE).to(similarity) if gate.hard else torch.sigmoid(above / gate.temperature)
    weight = (functional.relu(similarity) * passed).tril() / gate.scale
    itself = SELF_WEIGHT * torch.eye(weight.shape[-1], device=weight.device, dtype=weight.dtype)
    return (weight + itself) / (weight.sum(-1, keepdim=True) + SELF_WEIGHT), similarity.tril()


def read_newest(query_N1p: Tensor, past: Past, tau_N1: Tensor, gate: Gate) -> Mixed:
    """What the newest of t tokens reads: the last row of `connect`, for generation."""
    query, key, level = augmented(query_N1p, past.states, tau_N1, gate)
    product = torch.bmm(query, key.transpose(1, 2))
    above = product - level[..., None]
    weight = product * ((above >= 0).to(product) if gate.hard else torch.sigmoid(above))
    total = weight.sum(-1)
    read = torch.bmm(weight, past.values) + SELF_WEIGHT * past.values[:, -1:]
    return Mixed(read / (total + SELF_WEIGHT)[..., None], total * (gate.scale / past.states.shape[1]))


class _Tiles(torch.autograd.Function):
    """o_i = Σ_j w_ij v_j ÷ Σ_j w_ij and the row sums n_i; w = y·g(y − level), y = q_i·k_j, j ≤ i.

    Backward: dw_ij = (dO_i·v_j − dO_i·o_i)/n_i + dn_i; soft: dy = dw (g + w(1−g)), dlevel_i = −Σ_j dw w(1−g); hard:
    dy = dw g. Tiles are computed again there: only inputs and outputs are kept. All tiles share three buffers.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, level: Tensor, hard: bool, block: int
    ) -> tuple[Tensor, Tensor]:
        key_t, counted_t = _transpose_tokens(key), _transpose_tokens(append_ones(value))
        read_t = torch.zeros_like(counted_t)
        work = _buffers(query, block)
        for rows, tiles in _tiles(query, block):
            for columns, seen in tiles:
                weight, _ = _weights(query[:, rows], key_t[:, :, columns], level[:, rows], hard, seen, work)
                read_t[:, :, rows].baddbmm_(counted_t[:, :, columns], weight.transpose(1, 2))
        total = read_t[:, -1].clone()
        read = read_t[:, :-1].transpose(1, 2).contiguous()
        mixed = read.add_(value, alpha=SELF_WEIGHT).div_((total + SELF_WEIGHT)[..., None])
        ctx.save_for_backward(query, key, value, level, mixed, total)
        ctx.hard, ctx.block = hard, block
        return mixed, total

    @staticmethod
    def backward(ctx: Any, d_mixed: Tensor, d_total: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, level, mixed, total = ctx.saved_tensors
        query_t, key_t, counted_t = (
            _transpose_tokens(query),
            _transpose_tokens(key),
            _transpose_tokens(append_ones(value)),
        )
        d_query_t, d_key_t, d_level = torch.zeros_like(query_t), torch.zeros_like(key_t), torch.zeros_like(level)
        scaled = d_mixed / (total + SELF_WEIGHT)[..., None]
        scaled_t = _transpose_tokens(scaled)
        d_value_t = scaled_t * SELF_WEIGHT
        # dw = [scaled, offset]·[v, 1]: one product a tile.
        left = torch.cat((scaled, (d_total - (scaled * mixed).sum(-1))[..., None]), dim=-1)
        work = _buffers(query, ctx.block)
        for rows, tiles in _tiles(query, ctx.block):
            for columns, seen in tiles:
                weight, gate = _weights(query[:, rows], key_t[:, :, columns], level[:, rows], ctx.hard, seen, work)
                d_value_t[:, :, columns].baddbmm_(scaled_t[:, :, rows], weight)
                d_weight = torch.bmm(left[:, rows], counted_t[:, :, columns], out=_view_shaped(work[2], weight.shape))
                if ctx.hard:
                    d_product = d_weight.mul_(gate)
                else:
                    through = weight.addcmul_(weight, gate, value=-1).mul_(d_weight)
                    d_level[:, rows] -= through.sum(-1)
                    d_product = through.addcmul_(d_weight, gate)
                d_query_t[:, :, rows].baddbmm_(key_t[:, :, columns], d_product.transpose(1, 2))
                d_key_t[:, :, columns].baddbmm_(query_t[:, :, rows], d_product)
        return *(x.transpose(1, 2) for x in (d_query_t, d_key_t, d_value_t)), d_level, None, None


def _transpose_tokens(x_NTf: Tensor) -> Tensor:
    """→ [N, f, T]: products with a few long rows are several times faster than with many short ones."""
    return x_NTf.transpose(1, 2).contiguous()


def _weights(
    query: Tensor, key_t: Tensor, level: Tensor, hard: bool, seen: Tensor | None, work: Tensor
) -> tuple[Tensor, Tensor]:
    """w and the gate g of one tile, in the first two buffers; 0 where `seen` is 0."""
    shape = torch.Size((*query.shape[:2], key_t.shape[2]))
    product = torch.bmm(query, key_t, out=_view_shaped(work[0], shape))
    above = torch.sub(product, level[..., None], out=_view_shaped(work[1], shape))
    gate = above.ge_(0) if hard else above.sigmoid_()
    if seen is not None:
        gate.mul_(seen)
    return product.mul_(gate), gate


def _buffers(query: Tensor, block: int) -> Tensor:
    """Room for three tiles: fresh memory for each would cost more than what is computed in it."""
    N, T, _ = query.shape
    rows = min(block, T)
    return query.new_empty(3, N * rows * max(rows, min(_COLUMNS, T)))


def _view_shaped(buffer: Tensor, shape: torch.Size) -> Tensor:
    return buffer[: shape.numel()].view(shape)


def _tiles(query: Tensor, block: int) -> Iterator[tuple[slice, list[tuple[slice, Tensor | None]]]]:
    """Rows, and for each the tiles of columns up to their end; the last one is cut by the diagonal."""
    T = query.shape[1]
    seen = query.new_ones(min(block, T), min(block, T)).tril()
    for start in range(0, T, block):
        size = min(block, T - start)
        tiles: list[tuple[slice, Tensor | None]] = [
            (slice(at, min(at + _COLUMNS, start)), None) for at in range(0, start, _COLUMNS)
        ]
        yield slice(start, start + size), [*tiles, (slice(start, start + size), seen[:size, :size])]


def _split_into_chunks(x_NTp: Tensor, n: int, C: int) -> Tensor:
    """→ [N, n, C, p], zeros after the last token."""
    N, T, p = x_NTp.shape
    return (functional.pad(x_NTp, (0, 0, 0, n * C - T)) if n * C != T else x_NTp).reshape(N, n, C, p)
