"""The tiles of connections.py as fused CUDA kernels: one for the forward pass, one for each side of the backward.

A program holds one block of rows (or columns) and walks along the other side; nothing of the T×T weights leaves the
chip, so memory is O(T). Sums run in float32 and products in full precision, as on the CPU. Triton is imported when the
first kernel is needed; it comes with builds of torch for CUDA.

Legend: q, k [N, T, p+1] augmented, v [N, T, m], level, total [N, T]; S rows and columns of a block; P, M the powers of
two that hold p+1 and m.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from qcore.models.flux.gate import SELF_WEIGHT

# mypy: disallow-untyped-defs=False

tl: Any = None  # set when Triton is imported: it looks names up in the module of a kernel

_BLOCK = 64
_LEAST = 16  # the smallest side of a matrix product on the chip


def connect_fused(query: Tensor, key: Tensor, value: Tensor, level: Tensor, hard: bool) -> tuple[Tensor, Tensor]:
    """What a row reads and its sum of weights, as `_Tiles` of connections.py computes them; float32."""
    mixed, total = _Fused.apply(query, key, value, level, hard)
    return mixed, total


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, level: Tensor, hard: bool
    ) -> tuple[Tensor, Tensor]:
        query, key, value, level = (x.float().contiguous() for x in (query, key, value, level))
        mixed, total = torch.empty_like(value), torch.empty_like(level)
        grid, sizes = _plan(query, value)
        _kernels().read[grid](query, key, value, level, mixed, total, *_shape(query, value), hard=hard, **sizes)
        ctx.save_for_backward(query, key, value, level, mixed, total)
        ctx.hard = hard
        return mixed, total

    @staticmethod
    def backward(ctx: Any, d_mixed: Tensor, d_total: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, level, mixed, total = ctx.saved_tensors
        # with r = (Σ w v + s·own) / (Σ w + s), dr/dw_j = (v_j − r) / (Σ w + s): what follows needs only these two for a
        # row
        scaled = (d_mixed / (total + SELF_WEIGHT)[..., None]).contiguous()
        offset = (d_total - (scaled * mixed).sum(-1)).contiguous()
        d_query, d_key, d_level = torch.empty_like(query), torch.empty_like(key), torch.empty_like(level)
        d_value = torch.empty_like(value)
        grid, sizes = _plan(query, value)
        inputs, shape = (query, key, value, level, scaled, offset), _shape(query, value)
        _kernels().rows[grid](*inputs, d_query, d_level, *shape, hard=ctx.hard, **sizes)
        _kernels().columns[grid](*inputs, d_key, d_value, *shape, hard=ctx.hard, **sizes)
        # the token reads itself with the small weight s, whatever the gate says: its share of the gradient comes on top
        return d_query, d_key, d_value.add_(scaled, alpha=SELF_WEIGHT), d_level, None


def _shape(query: Tensor, value: Tensor) -> tuple[int, int, int]:
    return query.shape[1], query.shape[2], value.shape[2]


def _plan(query: Tensor, value: Tensor) -> tuple[tuple[int, int], dict[str, int]]:
    """Programs (blocks × kernels) and the sizes they are compiled for."""
    T, p, m = _shape(query, value)
    sizes = {"S": _BLOCK, "P": _power_of_two(p), "M": _power_of_two(m)}
    return (-(-T // _BLOCK), query.shape[0]), sizes


def _power_of_two(size: int) -> int:
    return max(_LEAST, 1 << (size - 1).bit_length())


@cache
def _kernels() -> SimpleNamespace:
    """Compiled when first called."""
    # triton resolves `tl` in the globals of the file that holds a kernel; it is imported here since only CUDA builds of
    # torch bring it
    global tl
    import triton
    import triton.language

    tl = triton.language

    @triton.jit
    def read(
        q_ptr, k_ptr, v_ptr, level_ptr, out_ptr, total_ptr, T, p, m,
        hard: tl.constexpr, S: tl.constexpr, P: tl.constexpr, M: tl.constexpr,
    ):  # fmt: skip
        first = tl.program_id(0) * S
        # 64 bits: kernels × tokens × width passes 2³¹ on long texts
        base = tl.program_id(1).to(tl.int64) * T
        row, x, c = first + tl.arange(0, S), tl.arange(0, P), tl.arange(0, M)
        in_rows, in_x, in_c = row < T, x < p, c < m
        row_x = in_rows[:, None] & in_x[None, :]
        row_c = in_rows[:, None] & in_c[None, :]
        q = tl.load(q_ptr + (base + row)[:, None] * p + x[None, :], mask=row_x, other=0.0)
        level = tl.load(level_ptr + base + row, mask=in_rows, other=0.0)
        acc = tl.zeros((S, M), dtype=tl.float32)
        total = tl.zeros((S,), dtype=tl.float32)
        # causal: blocks behind the last row of this one are never loaded
        for start in range(0, first + S, S):
            col = start + tl.arange(0, S)
            in_cols = col < T
            k = tl.load(
                k_ptr + (base + col)[:, None] * p + x[None, :], mask=in_cols[:, None] & in_x[None, :], other=0.0
            )
            v = tl.load(
                v_ptr + (base + col)[:, None] * m + c[None, :], mask=in_cols[:, None] & in_c[None, :], other=0.0
            )
            # "ieee": tensor cores would round factors to TF32, and the CPU does not
            y = tl.dot(q, tl.trans(k), input_precision="ieee")
            above = y - level[:, None]
            if hard:  # noqa: SIM108 — decided when the kernel is compiled
                gate = tl.where(above >= 0, 1.0, 0.0)
            else:
                gate = tl.sigmoid(above)
            # the block on the diagonal holds some of the future
            w = tl.where((col[None, :] <= row[:, None]) & in_cols[None, :], y * gate, 0.0)
            acc += tl.dot(w, v, input_precision="ieee")
            total += tl.sum(w, axis=1)
        own = tl.load(v_ptr + (base + row)[:, None] * m + c[None, :], mask=row_c, other=0.0)
        acc = (acc + 1e-6 * own) / (total + 1e-6)[:, None]
        tl.store(out_ptr + (base + row)[:, None] * m + c[None, :], acc, mask=row_c)
        tl.store(total_ptr + base + row, total, mask=in_rows)

    @triton.jit
    def rows(
        q_ptr, k_ptr, v_ptr, level_ptr, scaled_ptr, offset_ptr, dq_ptr, dlevel_ptr, T, p, m,
        hard: tl.constexpr, S: tl.constexpr, P: tl.constexpr, M: tl.constexpr,
    ):  # fmt: skip
        first = tl.program_id(0) * S
        base = tl.program_id(1).to(tl.int64) * T
        row, x, c = first + tl.arange(0, S), tl.arange(0, P), tl.arange(0, M)
        in_rows, in_x, in_c = row < T, x < p, c < m
        row_x = in_rows[:, None] & in_x[None, :]
        q = tl.load(q_ptr + (base + row)[:, None] * p + x[None, :], mask=row_x, other=0.0)
        row_c = in_rows[:, None] & in_c[None, :]
        scaled = tl.load(scaled_ptr + (base + row)[:, None] * m + c[None, :], mask=row_c, other=0.0)
        level = tl.load(level_ptr + base + row, mask=in_rows, other=0.0)
        offset = tl.load(offset_ptr + base + row, mask=in_rows, other=0.0)
        dq = tl.zeros((S, P), dtype=tl.float32)
        # query and threshold belong to the row: a program sums over columns, and nobody else writes there, so no
        # atomics and the same bits in every run
        dlevel = tl.zeros((S,), dtype=tl.float32)
        for start in range(0, first + S, S):
            col = start + tl.arange(0, S)
            in_cols = col < T
            k = tl.load(
                k_ptr + (base + col)[:, None] * p + x[None, :], mask=in_cols[:, None] & in_x[None, :], other=0.0
            )
            v = tl.load(
                v_ptr + (base + col)[:, None] * m + c[None, :], mask=in_cols[:, None] & in_c[None, :], other=0.0
            )
            y = tl.dot(q, tl.trans(k), input_precision="ieee")
            above = y - level[:, None]
            seen = (col[None, :] <= row[:, None]) & in_cols[None, :]
            dw = tl.where(seen, tl.dot(scaled, tl.trans(v), input_precision="ieee") + offset[:, None], 0.0)
            if hard:
                # a hard gate is flat on both sides: nothing goes through the threshold
                dy = dw * tl.where(above >= 0, 1.0, 0.0)
            else:
                gate = tl.sigmoid(above)
                through = dw * y * gate * (1 - gate)
                dlevel -= tl.sum(through, axis=1)
                dy = dw * gate + through
            dq += tl.dot(dy, k, input_precision="ieee")
        tl.store(dq_ptr + (base + row)[:, None] * p + x[None, :], dq, mask=row_x)
        tl.store(dlevel_ptr + base + row, dlevel, mask=in_rows)

    @triton.jit
    def columns(
        q_ptr, k_ptr, v_ptr, level_ptr, scaled_ptr, offset_ptr, dk_ptr, dv_ptr, T, p, m,
        hard: tl.constexpr, S: tl.constexpr, P: tl.constexpr, M: tl.constexpr,
    ):  # fmt: skip
        first = tl.program_id(0) * S
        base = tl.program_id(1).to(tl.int64) * T
        col, x, c = first + tl.arange(0, S), tl.arange(0, P), tl.arange(0, M)
        in_cols, in_x, in_c = col < T, x < p, c < m
        col_x = in_cols[:, None] & in_x[None, :]
        col_c = in_cols[:, None] & in_c[None, :]
        k = tl.load(k_ptr + (base + col)[:, None] * p + x[None, :], mask=col_x, other=0.0)
        v = tl.load(v_ptr + (base + col)[:, None] * m + c[None, :], mask=col_c, other=0.0)
        dk = tl.zeros((S, P), dtype=tl.float32)
        dv = tl.zeros((S, M), dtype=tl.float32)
        # key and value belong to the column: the rows that read it are those from it on
        for start in range(first, T, S):
            row = start + tl.arange(0, S)
            in_rows = row < T
            q = tl.load(
                q_ptr + (base + row)[:, None] * p + x[None, :], mask=in_rows[:, None] & in_x[None, :], other=0.0
            )
            row_c = in_rows[:, None] & in_c[None, :]
            scaled = tl.load(scaled_ptr + (base + row)[:, None] * m + c[None, :], mask=row_c, other=0.0)
            level = tl.load(level_ptr + base + row, mask=in_rows, other=0.0)
            offset = tl.load(offset_ptr + base + row, mask=in_rows, other=0.0)
            y = tl.dot(q, tl.trans(k), input_precision="ieee")
            above = y - level[:, None]
            seen = (col[None, :] <= row[:, None]) & in_rows[:, None]
            dw = tl.where(seen, tl.dot(scaled, tl.trans(v), input_precision="ieee") + offset[:, None], 0.0)
            if hard:
                gate = tl.where(above >= 0, 1.0, 0.0)
                dy = dw * gate
            else:
                gate = tl.sigmoid(above)
                dy = dw * gate * (1 + y * (1 - gate))
            # computed again instead of kept: T × T weights are what this kernel exists to avoid
            w = tl.where(seen, y * gate, 0.0)
            dv += tl.dot(tl.trans(w), scaled, input_precision="ieee")
            dk += tl.dot(tl.trans(dy), q, input_precision="ieee")
        tl.store(dk_ptr + (base + col)[:, None] * p + x[None, :], dk, mask=col_x)
        tl.store(dv_ptr + (base + col)[:, None] * m + c[None, :], dv, mask=col_c)

    return SimpleNamespace(read=read, rows=rows, columns=columns)
