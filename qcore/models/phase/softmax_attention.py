"""Softmax attentions that know phases: O(T²) time, and a cache that grows with the text, unlike interference attention.

phase_bias adds the interference of two tokens to their score; interference_gate multiplies the softmax weight by it, so
that destructive pairs are shut. Scores run in float32 with autocast off, as phases do. The future meets exact zeros.
Shape legend: see blocks.py; p = phases of one head, J = tokens read.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qcore.config import PhaseLMConfig
from qcore.models.blocks import linear, split_evenly
from qcore.models.phase.interference import no_autocast, phases_per_head, split_phases

SHUT = 1e-6
"""Added to the gate: ln 0 has no gradient, and a pair in opposition keeps a millionth of its weight."""

Cache = tuple[Tensor, Tensor, Tensor]
"""Keys and values [B, H, J, d], and (cos ψ, sin ψ) of each head's phases [B, H, J, 2p]."""


class PhaseAttention(nn.Module):
    """softmax attention by queries, keys and the interference I_tj = mean_p cos(ψ_tp − ψ_jp) ∈ [−1, 1] of a head.

    phase_bias: w_tj = softmax_j(q_t·k_j/√d + λ I_tj), λ learned for each head; λ → 0 is plain attention.
    interference_gate: w_tj ∝ softmax_j(q_t·k_j/√d)·(1 + I_tj)/2, rows renormalised; equal phases are plain attention.
    Positions enter through the phases alone, so any length can be read; rows sum to 1.
    """

    per_head: Tensor

    def __init__(self, config: PhaseLMConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.head_width = split_evenly(config.width, config.heads)
        self.query_key = linear(config.width, 2 * config.width)
        self.strength = nn.Parameter(torch.full((self.heads, 1, 1), 2.0)) if config.attention == "phase_bias" else None
        # Silent phases fill the last head up; a mean runs over the real ones.
        p = phases_per_head(config.phases, self.heads)
        real = (config.phases - p * torch.arange(self.heads)).clamp(max=p)
        self.register_buffer("per_head", real.view(-1, 1, 1).to(torch.float32), persistent=False)

    def _project(self, h_BTD: Tensor, phase_BTP: Tensor, value_BTD: Tensor) -> tuple[Tensor, Cache]:
        query, key = (x.to(phase_BTP.dtype) for x in self.query_key(h_BTD).chunk(2, dim=-1))
        turned = (split_phases(part, self.heads) for part in (phase_BTP.cos(), phase_BTP.sin()))
        split = (x.unflatten(-1, (self.heads, -1)) for x in (query, key, value_BTD.to(phase_BTP.dtype)))
        query, key, value, feature = (x.transpose(1, 2) for x in (*split, torch.cat(tuple(turned), dim=-1)))
        return query, (key, value, feature)

    def _weights(self, query_BHTd: Tensor, feature_BHTp: Tensor, cache: Cache) -> Tensor:
        """[B, H, T, J]; the T tokens are the newest of the J."""
        key, _, read = cache
        score = torch.matmul(query_BHTd, key.mT) * self.head_width**-0.5
        interference = torch.matmul(feature_BHTp, read.mT) / self.per_head
        if self.strength is not None:
            score = score + self.strength * interference
        else:
            score = score + torch.log((0.5 + 0.5 * interference).clamp(min=0) + SHUT)
        T, J = score.shape[-2:]
        future = torch.ones(T, J, dtype=torch.bool, device=score.device).triu(1 + J - T)
        return score.masked_fill(future, -torch.inf).softmax(-1)

    def forward(self, h_BTD: Tensor, phase_BTP: Tensor, value_BTD: Tensor) -> Tensor:
        """What each token reads, [B, T, D]; ψ in radians, the values projected already."""
        return self.step(h_BTD, phase_BTP, value_BTD, None)[0]

    def weights(self, h_BTD: Tensor, phase_BTP: Tensor) -> Tensor:
        """[B, H, T, T]; rows sum to 1."""
        with no_autocast(h_BTD):
            query, cache = self._project(h_BTD, phase_BTP, h_BTD)
            return self._weights(query, cache[2], cache)

    def step(self, h_BTD: Tensor, phase_BTP: Tensor, value_BTD: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        """New tokens against themselves and a cache: what they read, and the cache with them in it."""
        with no_autocast(h_BTD):
            query, new = self._project(h_BTD, phase_BTP, value_BTD)
            feature = new[2]
            if cache is not None:
                key, value, read = (torch.cat(pair, dim=2) for pair in zip(cache, new, strict=True))
                new = key, value, read
            attended = torch.matmul(self._weights(query, feature, new), new[1])
        return attended.transpose(1, 2).flatten(2), new
