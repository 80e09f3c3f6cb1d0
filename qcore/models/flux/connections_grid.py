"""Connections of one-plane states in linear time: exact near, interpolated on a grid of the disc farther back.

A weight w_i(s) = sim·σ((sim − τ_i)/temperature) is a smooth function of the two coordinates of s. Tokens of earlier
chunks are summed once into the moments of n×n Chebyshev nodes, and each row then weighs the nodes instead of the
tokens: O(T·(chunk + n²)). Interpolation of an analytic function has a proven error; n is chosen from it. A hard gate is
a step, and more planes would need a grid of more dimensions: neither is offered. Rows see whole earlier chunks and,
within their own, what is not masked: causality is exact, as in the tiles.

Shape legend: see connections.py; G = n² nodes, C tokens of a chunk.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from qcore.models.flux.gate import SELF_WEIGHT, Gate, Mixed, append_ones, augmented, strength_of
from qcore.models.phase.interference import no_autocast

TOLERANCE = 1e-2
"""Largest proven error of an interpolated weight; weights lie in [0, 1]. What is measured is 10⁻⁵ of it or less: the
proof takes the worst row for every row."""

MOST_NODES = 40
"""At a gate temperature of 0.05, the sharpest that a configuration may ask for, 37 are needed."""

_SLACKS = 200
_SEGMENT = 1024


def weight_error(nodes: int, temperature: float) -> float:
    """A bound on |w − interpolated w| for n = `nodes` Chebyshev nodes in each coordinate.

    Along one coordinate w is analytic up to the poles of σ, at Im = 2π·temperature, and so inside an ellipse with foci
    ±1 and sum of half axes r: n nodes are within 4 M r^{1−n}/(r−1), with M the largest |w| on it; the second coordinate
    adds the same times the Lebesgue constant 1 + (2/π) ln n. Best ellipse taken. (Trefethen, Approximation Theory and
    Approximation Practice, theorems 8.2 and 15.2.)
    """
    if nodes < 2:
        return math.inf
    best = math.inf
    for place in range(1, _SLACKS):
        share = place / _SLACKS  # of the way to the poles
        half_axis = 2 * math.pi * temperature * share
        long_axis = math.sqrt(1 + half_axis**2)
        r = half_axis + long_axis
        # |1 + e^{−z}| ≥ sin(π·share) for |Im z| = π·share beyond π/2, and ≥ 1 before it.
        gate = 1.0 if share <= 0.5 else 1 / math.sin(math.pi * share)
        largest = gate * (2 + long_axis) / 2
        best = min(best, 4 * largest * r ** (1 - nodes) / (r - 1))
    return best * (2 + 2 / math.pi * math.log(nodes))


def nodes_needed(temperature: float) -> int:
    """Fewest nodes of a coordinate whose proven error is at most `TOLERANCE`; ValueError when more than 40 are."""
    for nodes in range(4, MOST_NODES + 1):
        if weight_error(nodes, temperature) <= TOLERANCE:
            return nodes
    raise ValueError(
        f"gate_temperature = {temperature:g} is refused with evaluation = fast: so sharp a gate needs more than "
        f"{MOST_NODES}² nodes for an error of {TOLERANCE:g}; raise it to 0.05 or more, or set evaluation to blocks"
    )


def connect_on_grid(
    query_NTp: Tensor, state_NTp: Tensor, value_NTm: Tensor, tau_NT: Tensor, gate: Gate, *, chunk: int = 128
) -> Mixed:
    """`connect` for states of one plane (p = 2) and a soft gate, in linear time and memory.

    Exact for what lies in the row's own chunk of C tokens; every other weight is within `weight_error`. With r_i the
    strength of row i, the mean of its weights: |strength error| ≤ error, and |value error| ≤ 2·error/(r_i − error)
    times the largest value.

    Raises:
        ValueError: for a hard gate or more planes.
    """
    if gate.hard or state_NTp.shape[-1] != 2:
        raise ValueError(
            f"fast evaluation of {state_NTp.shape[-1] // 2} planes a group with a {'hard' if gate.hard else 'soft'} "
            "gate is refused: it needs one plane a group and a soft gate; set heads to planes and gate to soft, or "
            "evaluation to blocks"
        )
    with no_autocast(state_NTp):
        N, T, _ = state_NTp.shape
        C = min(chunk, T)
        k = -(-T // C)
        value = value_NTm.to(state_NTp.dtype)
        query, key, level = augmented(query_NTp, state_NTp, tau_NT, gate)
        chunked = [_split_into_chunks(x, k, C) for x in (query, key, append_ones(value), level[..., None])]
        points = chebyshev_nodes(nodes_needed(gate.temperature)).to(key)
        carried = value.new_zeros(N, len(points) ** 2, value.shape[-1] + 1)
        reads = []
        size = max(1, _SEGMENT // C)
        for start in range(0, k, size):
            segment = [x[:, start : start + size] for x in chunked]
            # Computed again in the backward pass: a row's weights are many times its inputs.
            read, carried = checkpoint(
                _segment, *segment, carried, points, use_reentrant=False, preserve_rng_state=False
            )
            reads.append(read)
        read = torch.cat(reads, dim=1).flatten(1, 2)[:, :T]
        total = read[..., -1]
        mixed = (read[..., :-1] + SELF_WEIGHT * value) / (total + SELF_WEIGHT)[..., None]
        return Mixed(mixed, strength_of(total, gate))


def _segment(
    query: Tensor, key: Tensor, counted: Tensor, level: Tensor, carried_NGm: Tensor, points: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted sums of a few chunks [N, k, C, ·], and the moments of all tokens up to their end.

    What a chunk reads from the grid are the moments *before* it, shifted and never subtracted: exactly causal.
    """
    C = key.shape[2]
    seen = torch.ones(C, C, device=key.device, dtype=key.dtype).tril()
    near = torch.matmul(_weights(query, key, level) * seen, counted)
    moments = torch.matmul(_on_grid(key[..., :2], points).transpose(-1, -2), counted)
    after = carried_NGm[:, None] + moments.cumsum(1)
    before = torch.cat((carried_NGm[:, None], after[:, :-1]), dim=1)
    grid = append_ones(torch.cartesian_prod(points, points)[None])[0]
    return near + torch.matmul(_weights(query, grid, level), before), after[:, -1]


def chebyshev_nodes(count: int) -> Tensor:
    """cos(π(2k+1)/2n), k = 0 … n−1: the nodes of the first kind in (−1, 1), float64."""
    k = torch.arange(count, dtype=torch.float64)
    return torch.cos(math.pi * (2 * k + 1) / (2 * count))


def interpolation(x: Tensor, points: Tensor) -> Tensor:
    """ℓ_k(x) = (1/n)·(1 + 2 Σ_{1≤d<n} T_d(x_k) T_d(x)), [..., n]: weights of the values at the nodes, by the recurrence
    of the Chebyshev polynomials, which is stable and smooth up to ±1.
    """
    n = len(points)
    polynomials = _chebyshev(x, n)
    table = _chebyshev(points, n)
    scale = torch.full((n,), 2.0 / n, device=x.device, dtype=x.dtype)
    scale[0] = 1.0 / n
    return torch.matmul(polynomials * scale, table.transpose(-1, -2))


def _chebyshev(x: Tensor, count: int) -> Tensor:
    """T_0(x) … T_{count−1}(x) on a new last axis."""
    found = [torch.ones_like(x), x]
    for _ in range(count - 2):
        found.append(2 * x * found[-1] - found[-2])
    return torch.stack(found[:count], dim=-1)


def _on_grid(state: Tensor, points: Tensor) -> Tensor:
    """Interpolation weights of states [..., 2] at the G nodes, the first coordinate outermost."""
    first, second = interpolation(state, points).unbind(-2)
    return (first[..., :, None] * second[..., None, :]).flatten(-2)


def _weights(query: Tensor, key: Tensor, level: Tensor) -> Tensor:
    """w ÷ temperature of each row with each key."""
    product = torch.matmul(query, key.transpose(-1, -2))
    return product * torch.sigmoid(product - level)


def _split_into_chunks(x_NTf: Tensor, k: int, C: int) -> Tensor:
    """→ [N, k, C, f], zeros after the last token."""
    N, T, f = x_NTf.shape
    return (functional.pad(x_NTf, (0, 0, 0, k * C - T)) if k * C != T else x_NTf).reshape(N, k, C, f)
