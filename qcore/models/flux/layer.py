"""A layer of Quantum Flux: states flow along their connections, radii follow them, and the result is read out.

As published: connections by likeness above a threshold, Heun's rule, radii, a dynamic skip and a projection. Ours, each
with a switch: several planes in groups, rows that look at turned angles, channels carried beside the states, a gated
read-out in each token's own frame. What is published but looks ahead is causal here.

Shape legend: see blocks.py; K planes in H groups of P = K/H; states [B, H, T, P, 2] are scaled by P^{−½}, so that the
scalar product of two states of a group lies in [−1, 1]. N = B·H, p = 2P.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from qcore.config import FluxConfig
from qcore.models.blocks import RMSNorm, linear, residual_linear
from qcore.models.flux.connections import Past, connect, connections, read_newest, thresholds
from qcore.models.flux.connections_grid import connect_on_grid
from qcore.models.flux.gate import TIE, Gate, Mixed
from qcore.models.phase.interference import no_autocast

FIXED_STEP = 0.5
"""dt of a sampled step in evaluation: the mean of Beta(2, 2), from which training draws."""

SKIP_SLOPE, SKIP_STEP = 4.0, 0.25
"""β and dt₀ of the skip g = σ(β(1 − dt/dt₀)): 0.98 as dt → 0, ½ at dt₀, 10⁻⁵ at dt = 1."""

_TINY = 1e-3
_RADIUS_RATE = 0.05


@dataclass(frozen=True)
class Flow:
    """What a layer's flow makes.

    Attributes:
        states: the evolved ones.
        carried: channels read over the connections [N, T, m].
        strength: of each token's connections with its past [B, H, T].
    """

    states: Tensor
    carried: Tensor
    strength: Tensor


@dataclass(frozen=True)
class Look:
    """A layer seen by a page. similarity, connections [B, H, T, T] · threshold, strength [B, H, T] · dt, skip [B]."""

    similarity: Tensor
    connections: Tensor
    threshold: Tensor
    strength: Tensor
    dt: Tensor
    skip: Tensor

    @property
    def kept(self) -> Tensor:
        """Share of its past that lies above a token's threshold, [B, H, T]."""
        T = self.threshold.shape[-1]
        above = (self.similarity >= self.threshold[..., None] - TIE).tril().sum(-1)
        return above / torch.arange(1, T + 1, device=above.device)


def turn(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Each plane turned by an angle, anticlockwise; [..., 2]."""
    real, imaginary = states.unbind(-1)
    return torch.stack((real * cos - imaginary * sin, real * sin + imaginary * cos), dim=-1)


def heun(states: Tensor, first: Tensor, second: Tensor, dt: Tensor) -> Tensor:
    """s + ½dt(k₁+k₂) with k₁ = A(s)s − s and k₂ = A(u)u − u, u = s + dt·k₁; first = A(s)s, second = A(u)u.

    Written as the convex combination that it is for dt in [0, 1]: (1 − dt + ½dt²) s + ½dt(1 − dt) A(s)s + ½dt A(u)u.
    """
    return (1 - dt + 0.5 * dt * dt) * states + (0.5 * dt * (1 - dt)) * first + (0.5 * dt) * second


class FluxLayer(nn.Module):
    """Flow on the discs, then the read-out of the evolved states."""

    spread: Tensor

    def __init__(self, config: FluxConfig) -> None:
        super().__init__()
        D, K, H = config.width, config.planes, config.heads
        self.config, self.heads = config, H
        self.gate = Gate(config.gate_temperature, config.gate == "hard")
        self.largest = (K // H) ** -0.5
        spread = torch.full((H,), config.threshold_scale)
        if self.gate.hard:  # no gradient to the threshold: c stays what the configuration says
            self.register_buffer("spread", spread, persistent=False)
        else:
            self.spread = nn.Parameter(spread)
        if config.step_size == "learned":
            self.step_logit = nn.Parameter(torch.zeros(()))
        self.radius_rate = nn.Parameter(torch.full((), _RADIUS_RATE))
        if config.query_turn:
            self.turned = nn.Parameter(_initial_turns(config))
        if config.values:
            self.value_norm, self.value = RMSNorm(D), linear(D, config.values)
            self.carried_norm = RMSNorm(config.values // H)
        features = 2 * K + config.values
        if config.read_out == "gated":
            F = config.ffn_width or 2 * features
            self.read_norm = RMSNorm(D)
            self.open, self.read = linear(D, F, bias=True), linear(features, F)
            self.out = residual_linear(F, D, config.layers)
        else:
            self.out = linear(features, D, bias=True)
            self.out_norm = RMSNorm(D)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, states: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """The next hidden state and the evolved states; cos, sin [H, T, P] of each position's frame."""
        with no_autocast(states):
            flow = self._flow(states, self._values(x_BTD), self._steps(states))
        return self._read_out(x_BTD, flow, cos, sin), flow.states

    # the flow

    def _values(self, x_BTD: Tensor) -> Tensor | None:
        return self.value(self.value_norm(x_BTD)) if self.config.values else None

    def _steps(self, states: Tensor, *, fixed: bool = False) -> Tensor:
        """dt of each row, [B]; drawn anew for every row in training if steps are sampled."""
        B = states.shape[0]
        if self.config.step_size == "learned":
            return torch.sigmoid(self.step_logit).expand(B)
        if not self.training or fixed:
            return states.new_full((B,), FIXED_STEP)
        # The middle one of three uniform numbers has the distribution Beta(2, 2).
        return torch.rand(3, B, device=states.device, dtype=states.dtype).median(0).values

    def _threshold(self, query_NTp: Tensor, state_NTp: Tensor) -> Tensor:
        """τ of every row over its own past; fault L3 replaces this."""
        return thresholds(query_NTp, state_NTp, self.spread_of(state_NTp.shape[0]))

    def spread_of(self, N: int) -> Tensor:
        """c of each of N kernels, [N, 1]."""
        return self.spread.repeat(N // self.heads)[:, None]

    def _query(self, state_NTp: Tensor) -> Tensor:
        if not self.config.query_turn:
            return state_NTp
        N, T, p = state_NTp.shape
        shape = (N // self.heads, self.heads, T, p // 2, 2)
        angle_H1P = self.turned[:, None]
        return turn(state_NTp.view(shape), angle_H1P.cos(), angle_H1P.sin()).view(N, T, p)

    def _connect(self, state_NTp: Tensor, value_NTm: Tensor) -> Mixed:
        query = self._query(state_NTp)
        tau = self._threshold(query, state_NTp)
        if self.config.evaluation == "fast":
            return connect_on_grid(query, state_NTp, value_NTm, tau, self.gate, chunk=self.config.block)
        return connect(query, state_NTp, value_NTm, tau, self.gate, block=self.config.block)

    def _flow(self, states: Tensor, values_BTm: Tensor | None, dt_B: Tensor) -> Flow:
        """One step of Heun's rule with the values carried by the first evaluation, then skip and radii."""
        B, H, T, P, _ = states.shape
        state = states.reshape(B * H, T, 2 * P)
        dt = dt_B.repeat_interleave(H)[:, None, None]
        carried = self._with_values(state, values_BTm)
        first = self._connect(state, carried)
        here = first.values[..., : 2 * P]
        middle = state + dt * (here - state)
        # the values ride on the first evaluation alone: a second reading would mix what is no state
        evolved = heun(state, here, self._connect(middle, middle).values, dt)
        strength = first.strength.view(B, H, T)
        return Flow(self._finish(states, evolved.view_as(states), strength, dt_B), first.values[..., 2 * P :], strength)

    def _with_values(self, state_NTp: Tensor, values_BTm: Tensor | None) -> Tensor:
        """What the connections mix: the states, and beside them each group's share of the values."""
        if values_BTm is None:
            return state_NTp
        B, T, m = values_BTm.shape
        grouped = values_BTm.to(state_NTp.dtype).view(B, T, self.heads, m // self.heads).transpose(1, 2)
        return torch.cat((state_NTp, grouped.reshape(B * self.heads, T, -1)), dim=-1)

    def _finish(self, before: Tensor, evolved: Tensor, strength_BHT: Tensor, dt_B: Tensor) -> Tensor:
        """The skip, then radii: ρ ← clamp(ρ + rate·strength, ρ_min, 1), the angle kept.

        The attention that a token *receives* comes from later rows, which it must not know; by symmetry of likeness its
        past would give it what it gives its past, and that is what counts here. A state of length 0 has no angle and
        stays where it is.
        """
        if self.config.dynamic_skip:
            skip = skip_share(dt_B)[:, None, None, None, None]
            evolved = skip * before + (1 - skip) * evolved
        # never 0: the square root has no gradient there
        length = (evolved.square().sum(-1, keepdim=True) + (_TINY * self.largest) ** 2).sqrt()
        lowest, highest = self.config.radius_min * self.largest, self.largest
        wanted = length + self.radius_rate * self.largest * strength_BHT[..., None, None]
        return evolved * (wanted.clamp(lowest, highest) / length)

    # the read-out

    def _read_out(self, x_BTD: Tensor, flow: Flow, cos: Tensor, sin: Tensor) -> Tensor:
        """Gated: x + W[silu(W_g x) ⊙ W_r f], f the states turned back by their own position, and what was carried;
        linear: x + norm(W f + b) with the states as they are.
        """
        gated = self.config.read_out == "gated"
        seen = turn(flow.states, cos, -sin) if gated else flow.states
        B, _, T, _, _ = seen.shape
        features = [seen.transpose(1, 2).reshape(B, T, -1) / self.largest]
        if self.config.values:
            carried = self.carried_norm(flow.carried.unflatten(0, (B, self.heads)))
            features.append(carried.transpose(1, 2).flatten(2))
        f = torch.cat(features, dim=-1).to(x_BTD.dtype)
        if gated:
            update = self.out(functional.silu(self.open(self.read_norm(x_BTD))) * self.read(f))
        else:
            update = self.out_norm(self.out(f))
        return x_BTD + self.dropout(update)

    # one token at a time

    def step(
        self, x_B1D: Tensor, states: Tensor, cos: Tensor, sin: Tensor, pasts: tuple[Past, Past]
    ) -> tuple[Tensor, Tensor, tuple[Past, Past]]:
        """One token: the hidden state, its evolved state [B, H, 1, P, 2], and the pasts of both evaluations with it."""
        with no_autocast(states):
            B, H, _, P, _ = states.shape
            state = states.reshape(B * H, 1, 2 * P)
            dt_B = self._steps(states, fixed=True)
            dt = dt_B.repeat_interleave(H)[:, None, None]
            first, now = self._connect_newest(state, self._with_values(state, self._values(x_B1D)), pasts[0])
            here = first.values[..., : 2 * P]
            middle = state + dt * (here - state)
            second, later = self._connect_newest(middle, middle, pasts[1])
            evolved = heun(state, here, second.values, dt).view_as(states)
            strength = first.strength.view(B, H, 1)
            flow = Flow(self._finish(states, evolved, strength, dt_B), first.values[..., 2 * P :], strength)
        return self._read_out(x_B1D, flow, cos, sin), flow.states, (now, later)

    def _connect_newest(self, state_N1p: Tensor, value_N1m: Tensor, past: Past) -> tuple[Mixed, Past]:
        past = past.with_token(state_N1p, value_N1m)
        query = self._query(state_N1p)
        tau = past.threshold(query, self.spread_of(state_N1p.shape[0]))
        return read_newest(query, past, tau, self.gate), past

    def empty_past(self, batch_size: int) -> tuple[Past, Past]:
        """The pasts before the first token."""
        N, p = batch_size * self.heads, 2 * (self.config.planes // self.heads)
        state = self.radius_rate.new_empty(N, 0, p)
        return (
            Past.empty(state, self.radius_rate.new_empty(N, 0, p + self.config.values // self.heads)),
            Past.empty(state, state),
        )

    # for pages

    def look(self, states: Tensor) -> Look:
        """Thresholds and connections of the first evaluation on these states; O(T²) memory."""
        with no_autocast(states):
            B, H, T, P, _ = states.shape
            state = states.reshape(B * H, T, 2 * P)
            query = self._query(state)
            tau = self._threshold(query, state)
            weight, similarity = connections(query, state, tau, self.gate)
            # without a value: the strength is all that is wanted of it
            strength = connect(query, state, state[..., :0], tau, self.gate, block=self.config.block).strength
            dt = self._steps(states, fixed=True)
            skip = skip_share(dt) if self.config.dynamic_skip else torch.zeros_like(dt)
            matrix, row = (B, H, T, T), (B, H, T)
            return Look(similarity.view(matrix), weight.view(matrix), tau.view(row), strength.view(row), dt, skip)


def skip_share(dt: Tensor) -> Tensor:
    """g = σ(β(1 − dt/dt₀)), the share of a state that skips its evolution."""
    return torch.sigmoid(SKIP_SLOPE * (1 - dt / SKIP_STEP))


def frequencies(config: FluxConfig) -> Tensor:
    """ω_k [H, 1, P] in radians per token, geometric from 1 to 1/context: in each group, so that every group tells near
    from far, or, with one plane a group, over the groups. A single plane turns slowly, for a fast one would hide the
    token behind its position.
    """
    H, P = config.heads, config.planes // config.heads
    count = H if P == 1 else P
    share = torch.arange(count) / (count - 1) if count > 1 else torch.ones(1)
    rate = config.context**-share
    return (rate.view(H, 1, 1) if P == 1 else rate.expand(H, 1, P)).clone()


def _initial_turns(config: FluxConfig) -> Tensor:
    """Turns [H, P] with which group h starts out: most like itself is the state h tokens earlier."""
    back = torch.arange(config.heads, dtype=torch.float32)[:, None]
    return -back * frequencies(config)[:, 0]
