"""Phase encoding: a token and its position become amplitudes and phases (docs/math.md), for any position.

Shape legend: see blocks.py.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from qcore.config import PhaseLMConfig
from qcore.models.blocks import linear
from qcore.models.phase.interference import no_autocast

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
        # Kept in checkpoints: a model that grew keeps the rates of its first phases.
        self.register_buffer("rate", config.context ** -(torch.arange(P) / max(1, P - 1)))
        self.register_buffer("stability", stability_gain(vocab_size, token_counts))

    def places(self, start: int, tokens: int) -> Tensor:
        """G_t + 0.2 Q_t, what positions start+1, start+2, … add to the phases of any token, [T, P] in radians."""
        t = torch.arange(start + 1, start + 1 + tokens, device=self.rate.device, dtype=torch.float32)
        near_one = 1 + _HARMONIC_RANGE * torch.tanh(self.harmonic)
        golden_TP = 2 * math.pi * torch.frac(t[:, None] * (GOLDEN**-self.exponent * near_one))
        position_TP = math.pi * self.position_scale * torch.sin(t[:, None] * self.rate + self.position_offset)
        return golden_TP + 0.2 * position_TP

    def forward(self, tokens_BT: Tensor, embedded_BTD: Tensor, place_TP: Tensor) -> tuple[Tensor, Tensor]:
        """Amplitude ≥ 0 and phase (radians, not wrapped) of tokens.

        Args:
            place_TP: of their positions, see `places`.
        """
        with no_autocast(embedded_BTD):
            gain_BT1 = self.stability_scale * self.stability[tokens_BT][..., None]
            phase = place_TP + 0.5 * self.semantic(tokens_BT) + 0.3 * gain_BT1
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
