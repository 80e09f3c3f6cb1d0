"""Quantum Flux (docs/math.md): tokens are points on discs that flow towards those of their past that they resemble.

Token → state ρ(cos θ, sin θ) on each of K planes, θ = θ_token + ω_k·position → layers of flow (flux_layer.py) → RMS
norm → head. One plane, a hard gate, sampled steps and a linear read-out are the published form; its thresholds and
radii looked ahead, and only its last layer was read: here all is causal and every layer reaches the read-out. The head
may learn by a Hebbian rule. Shape legend: see blocks.py and flux_layer.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from qcore.config import FluxConfig
from qcore.models.blocks import Internals, LanguageModel, ModelOutput, RMSNorm, check_tokens, run_layer
from qcore.models.flux.connections import Past
from qcore.models.flux.layer import FluxLayer, Look, frequencies
from qcore.models.phase.interference import no_autocast
from qcore.probes import catalog

_ANGLES = 0.15 * math.pi
"""Angles of tokens start within ±27°: likeness is then mostly of positions, and smooth kernels learn faster (on
stories, 200 steps, 0.98 → 0.80 nats). Read as they are, they must tell tokens apart: then they start anywhere."""

_MEANS = {
    "kept_share": "kept",
    "dt_mean": "dt",
    "radius_mean": "radius",
    "threshold_mean": "threshold",
    "skip": "skip",
    "strength": "strength",
}
_MEASURED_TOKENS = 256
_SHOWN_TOKENS = 48
_SHOWN_CELLS = 60_000


@dataclass(frozen=True)
class FluxState:
    """Generation state: tokens seen, and for each layer the pasts of both evaluations of its connections. It grows by
    one state a token and layer, as a row reads its whole past.
    """

    position: int
    layers: tuple[tuple[Past, Past], ...]


class FluxLM(LanguageModel):
    """Quantum Flux language model. √D·E[x] (nothing, if the read-out is linear) + what each layer reads of its states →
    RMS norm → logits by a head of its own.
    """

    omega: Tensor

    def __init__(self, config: FluxConfig, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size, self.context = config, vocab_size, config.context
        D, K = config.width, config.planes
        if config.read_out == "gated":
            self.token = nn.Embedding(vocab_size, D)
            nn.init.normal_(self.token.weight, std=D**-0.5)
        self.angle, self.radius = nn.Embedding(vocab_size, K), nn.Embedding(vocab_size, K)
        spread = _ANGLES if config.read_out == "gated" else math.pi
        nn.init.uniform_(self.angle.weight, -spread, spread)
        nn.init.normal_(self.radius.weight, mean=1.0, std=0.5)
        self.layers = nn.ModuleList(FluxLayer(config) for _ in range(config.layers))
        self.norm = RMSNorm(D)
        self.head = nn.Embedding(vocab_size, D)
        nn.init.normal_(self.head.weight, std=D**-0.5)
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("omega", frequencies(config), persistent=False)

    @property
    def needs_randomness(self) -> bool:
        return self.config.dropout > 0 or self.config.step_size == "sampled"

    def _embed(self, tokens_BT: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Hidden state and states of tokens from position `start` on, and cos and sin of each position's frame."""
        B, T = tokens_BT.shape
        config, H = self.config, self.config.heads
        # A vocabulary's rows are the discs that its tokens live on: never half precision.
        with no_autocast(self.angle.weight):
            position_T = torch.arange(start, start + T, device=tokens_BT.device, dtype=torch.float32)
            frame_HTP = position_T[:, None] * self.omega
            angle_BHTP = self.angle(tokens_BT).view(B, T, H, -1).transpose(1, 2) + frame_HTP
            free = torch.sigmoid(self.radius(tokens_BT)).view(B, T, H, -1).transpose(1, 2)
            radius = (config.radius_min + (1 - config.radius_min) * free) * (config.planes // H) ** -0.5
            states = torch.stack((radius * angle_BHTP.cos(), radius * angle_BHTP.sin()), dim=-1)
        if config.read_out == "gated":
            x_BTD = self.dropout(self.token(tokens_BT) * config.width**0.5)
        else:
            x_BTD = self.head.weight.new_zeros(B, T, config.width)
        return x_BTD, states, frame_HTP.cos(), frame_HTP.sin()

    def _output(self, x_BTD: Tensor) -> ModelOutput:
        hidden = self.norm(x_BTD)
        return ModelOutput(self.read_out(hidden), hidden)

    def forward(self, tokens_BT: Tensor, *, with_phases: bool = False) -> ModelOutput:
        """Logits at every position; any T ≥ 1. The angles are no phases of a wave: `with_phases` changes nothing."""
        check_tokens(tokens_BT)
        x_BTD, states, cos, sin = self._embed(tokens_BT, 0)
        for layer in self.layers:
            recompute = self.config.activation_checkpointing
            x_BTD, states = run_layer(layer, x_BTD, states, cos, sin, recompute=recompute)
        return self._output(x_BTD)

    def read_out(self, hidden_BTD: Tensor) -> Tensor:
        return functional.linear(hidden_BTD, self.head.weight)

    # generation

    def start(self, batch_size: int) -> FluxState:
        return FluxState(0, tuple(layer.empty_past(batch_size) for layer in self._layers()))

    def step(self, tokens_B: Tensor, state: FluxState) -> tuple[ModelOutput, FluxState]:
        """One token a row, which reads all before it: O(t) time. What was computed for earlier tokens stays."""
        x_B1D, states, cos, sin = self._embed(tokens_B[:, None], state.position)
        pasts = []
        for layer, past in zip(self._layers(), state.layers, strict=True):
            x_B1D, states, past = layer.step(x_B1D, states, cos, sin, past)
            pasts.append(past)
        return self._output(x_B1D), FluxState(state.position + 1, tuple(pasts))

    def _layers(self) -> list[FluxLayer]:
        return [layer for layer in self.layers if isinstance(layer, FluxLayer)]

    # the Hebbian head

    def before_update(self, controls: Mapping[str, Any]) -> None:
        """With `hebbian: alone` the head has no gradient for the optimizer, which then leaves it and its moments as
        they are: switched back, it goes on from those.
        """
        if controls["hebbian"] == "alone":
            self.head.weight.grad = None

    @torch.no_grad()
    def after_update(
        self, hidden_BTD: Tensor, targets_BT: Tensor, mask_BT: Tensor, controls: Mapping[str, Any]
    ) -> None:
        """W += η (onehot − softmax)ᵀ x / N over the N real targets, with the weights as the optimizer left them.

        The rule keeps nothing between steps, so there is nothing to reset: no momentum, no decay.
        """
        if controls["hebbian"] == "off":
            return
        weight = self.head.weight
        x_ND = hidden_BTD[mask_BT].to(weight.dtype)
        if not len(x_ND):
            return
        error_NV = -functional.linear(x_ND, weight).softmax(-1)
        error_NV[torch.arange(len(x_ND), device=x_ND.device), targets_BT[mask_BT]] += 1
        weight.addmm_(error_NV.T, x_ND, alpha=controls["hebbian_rate"] / len(x_ND))

    # for pages

    @torch.no_grad()
    def mixing(self, tokens_BT: Tensor) -> tuple[Tensor, ...]:
        """Connections a_ij of each layer's first evaluation."""
        return tuple(look.connections for look, _ in self._looks(tokens_BT))

    def _looks(self, tokens_BT: Tensor) -> list[tuple[Look, Tensor]]:
        """Each layer's look at the states that enter it, and the states that leave it."""
        check_tokens(tokens_BT)
        x_BTD, states, cos, sin = self._embed(tokens_BT, 0)
        found = []
        for layer in self._layers():
            look = layer.look(states)
            x_BTD, states = layer(x_BTD, states, cos, sin)
            found.append((look, states))
        return found

    @torch.no_grad()
    def internals(self, tokens_BT: Tensor) -> Internals:
        """Means over rows, layers and tokens, and by layer, of at most 256 tokens; arrays of the first row's first 48
        or fewer.

        angle (radians, in the token's own frame) and radius [L+1, T, K], the encoding first · threshold, kept, strength
        [L, H, T] · similarity, connections [L, H, T, T] · dt, skip [L] · tokens [T].
        """
        # the connections are T × T for every head: whole contexts would make a probe the dearest part of the run
        tokens_BT = tokens_BT[:, :_MEASURED_TOKENS]
        looks = self._looks(tokens_BT)
        seen = [look for look, _ in looks]
        # the bound of a radius: it makes those of all widths comparable
        largest = (self.config.planes // self.config.heads) ** -0.5
        _, first, cos, sin = self._embed(tokens_BT, 0)
        states = [first, *(after for _, after in looks)]
        radii = torch.stack([state.norm(dim=-1) / largest for state in states])
        per_layer = {
            "kept": [look.kept for look in seen],
            "dt": [look.dt for look in seen],
            "radius": list(radii[1:]),
            "threshold": [look.threshold for look in seen],
            "skip": [look.skip for look in seen],
            "strength": [look.strength for look in seen],
        }
        means = {name: torch.stack([value.mean() for value in values]) for name, values in per_layer.items()}
        scalars = {catalog.member(catalog.FLUX, name): float(means[part].mean()) for name, part in _MEANS.items()}
        for part in ("kept", "dt", "radius"):
            values = enumerate(means[part].tolist(), start=1)
            scalars |= {catalog.flux_layer(part, layer): value for layer, value in values}
        # arrays are stored at every measurement: few cells a layer where there are many layers and heads
        T = min(tokens_BT.shape[1], _SHOWN_TOKENS, max(8, math.isqrt(_SHOWN_CELLS // (len(seen) * self.config.heads))))

        def planes(x_BHTP: Tensor) -> Tensor:
            return x_BHTP[0, :, :T].transpose(0, 1).flatten(1)

        # turned back by the clock's angle: in the token's own frame equal states look equal wherever they stand
        own = [
            (state[..., 0] * cos + state[..., 1] * sin, state[..., 1] * cos - state[..., 0] * sin) for state in states
        ]
        arrays = {
            "angle": torch.stack([planes(torch.atan2(y, x)) for x, y in own]),
            "radius": torch.stack([planes(radius) for radius in radii]),
            "dt": torch.stack([look.dt[0] for look in seen]),
            "skip": torch.stack([look.skip[0] for look in seen]),
            "tokens": tokens_BT[0, :T],
        }
        for name in ("threshold", "kept", "strength"):
            arrays[name] = torch.stack([getattr(look, name)[0, :, :T] for look in seen])
        for name in ("similarity", "connections"):
            arrays[name] = torch.stack([getattr(look, name)[0, :, :T, :T] for look in seen])
        return Internals(scalars, arrays)
