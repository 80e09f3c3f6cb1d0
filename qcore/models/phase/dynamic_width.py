"""Dynamic phase space: every token chooses softly, by how much its neighbourhood varies, how wide its layer is.

The three widths are nested: one projection to 2.25 D channels, of which a width uses the first ones. So the soft
mixture of three branches is one product with a mask for each token, and narrowing a token is dropping its last
channels. The choice is made for each token from its own past, never for a batch (fault B1). Legend: see blocks.py.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from qcore.models.blocks import linear, residual_linear
from qcore.models.phase.interference import no_autocast, window_mean

WIDTHS = (1.0, 1.5, 2.25)
"""Widths to choose from, in units of D."""
WINDOW = 8
"""Tokens over which complexity is measured: the newest and those before it; a power of two."""
_CENTRE, _SLOPE = 0.7, 4.0


class DynamicWidth(nn.Module):
    """out_t = W_down[√(2.25/w̄_t) · m_t ⊙ GELU(W_up x_t)], m_t = Σ_w s_tw·1[channel < w·D], w̄_t = Σ_w s_tw·w.

    s_t = softmax_w(slope_w·c_t + bias_w) over the widths D, 1.5 D, 2.25 D; c_t ∈ [0, 1] is the complexity. The root
    keeps the variance of the sum whatever the width. Give it normalised states and add the result to the stream.
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        sizes = [round(share * width) for share in WIDTHS]
        self.added = [sizes[0], *(wide - narrow for narrow, wide in pairwise(sizes))]
        self.up = linear(width, sizes[-1])
        self.down = residual_linear(sizes[-1], width, depth)
        slope = torch.tensor([-_SLOPE, 0.0, _SLOPE])
        self.slope, self.bias = nn.Parameter(slope), nn.Parameter(-_CENTRE * slope)

    def shares(self, x_BTD: Tensor) -> Tensor:
        """Share of each width in each token, [B, T, 3]."""
        with no_autocast(x_BTD):
            return self._shares(complexity(x_BTD.to(self.slope.dtype)))

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self._update(x_BTD, self.shares(x_BTD))

    def step(self, x_B1D: Tensor, earlier_BWD: Tensor) -> tuple[Tensor, Tensor]:
        """One token after at most WINDOW − 1 earlier ones: the update, and what the next token has before it."""
        window_BWD = torch.cat((earlier_BWD, x_B1D.to(earlier_BWD.dtype)), dim=1)
        with no_autocast(x_B1D):
            level = window_BWD.square().mean((1, 2))
            spread = window_BWD.mean(1).square().mean(-1)
            shares_B13 = self._shares(_variation(spread, level)[:, None])
        return self._update(x_B1D, shares_B13), window_BWD[:, 1 - WINDOW :]

    def _shares(self, complexity_BT: Tensor) -> Tensor:
        return (complexity_BT[..., None] * self.slope + self.bias).softmax(-1)

    def _update(self, x_BTD: Tensor, shares_BT3: Tensor) -> Tensor:
        # A channel counts with the share of the widths that reach it: 1, then s₂ + s₃, then s₃.
        reached = torch.cat((torch.ones_like(shares_BT3[..., :1]), 1 - shares_BT3[..., :1], shares_BT3[..., 2:]), -1)
        level = (reached * (WIDTHS[-1] / mean_width(shares_BT3)[..., None]).sqrt()).to(x_BTD.dtype)
        wide = functional.gelu(self.up(x_BTD)).split(self.added, dim=-1)
        return self.down(torch.cat([part * level[..., i : i + 1] for i, part in enumerate(wide)], dim=-1))


def mean_width(shares_BT3: Tensor) -> Tensor:
    """w̄_t = Σ_w s_tw·w in units of D, [B, T] in [1, 2.25]."""
    return shares_BT3 @ shares_BT3.new_tensor(WIDTHS)


def width_flops(width: int, shares_BT3: Tensor) -> float:
    """Floating-point operations of one token's forward pass through a layer's choice: 4·w̄·D², a mean over tokens.

    It is what narrow tokens would cost if their unused channels were skipped; the soft mixture computes all of them.
    """
    return 4 * width**2 * mean_width(shares_BT3).mean().item()


def complexity(x_BTD: Tensor, window: int = WINDOW) -> Tensor:
    """c_t = 1 − ‖mean x‖² ÷ mean ‖x‖² over the last `window` tokens, [B, T] in [0, 1]: their variance, free of scale.

    0 for one token and for equal ones, 1 − 1/n for n orthogonal ones of equal length.
    """
    level = window_mean(x_BTD.square().mean(-1, keepdim=True), window)[..., 0]
    return _variation(window_mean(x_BTD, window).square().mean(-1), level)


def _variation(mean_square: Tensor, square_mean: Tensor) -> Tensor:
    return (1 - mean_square / square_mean.clamp(min=1e-12)).clamp(0, 1)
