"""The anchor network: from a clip to the mean and spread of its anchor, the one latent frame that a path bends towards.

Shapes: B clips, F frames, C channels, H, W of a (latent) frame, h × w patches of p × p, K features. Every patch of a
frame is encoded with its neighbours, looks at itself in all frames, and is pooled over them; the order of frames does
not matter, because an anchor stands for the whole clip. When clips are drawn there is no clip to read: the anchor then
comes from the prior, a standard normal, which this network starts from and which the term anchor_kl keeps it near.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from qcore.models.blocks import linear, residual_linear
from qcore.models.video.codec import patch_grid

ANCHOR_HEADS = 16
_FEATURES = 64
_BRANCHES = 2  # attention and enhancer


@dataclass(frozen=True)
class AnchorOutput:
    """Where a clip's path begins.

    Attributes:
        mean_BCHW: μ, in units of the latents.
        log_variance_BCHW: log σ², within ± the limit it was asked with.
    """

    mean_BCHW: Tensor
    log_variance_BCHW: Tensor


class AnchorNetwork(nn.Module):
    """Frame encoder → 16-head attention over frames → entropy enhancer → pooling over frames → μ, log σ².

    h_f = conv(x_f) · h ← h + attention over f · h ← h + enhancer(h), a feed-forward that may spread what the frames
    have in common apart · pooled = mean_f h + s·var_f h with s the superposition · (μ, v) = head(pooled), which starts
    at 0 · log σ² = L·tanh(v/L): the published clamp to ± L, but with a gradient everywhere.
    """

    def __init__(self, channels: int, patch: int = 1, features: int = _FEATURES) -> None:
        super().__init__()
        if features % ANCHOR_HEADS:
            raise ValueError(f"{features} features do not split among {ANCHOR_HEADS} heads: choose a multiple of it")
        self.channels, self.patch = channels, patch
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, features, patch, stride=patch),
            nn.GELU(),
            nn.Conv2d(features, features, 3, padding=1),
        )
        self.qkv = linear(features, 3 * features)
        self.out = residual_linear(features, features, _BRANCHES)
        self.enhancer = nn.Sequential(
            linear(features, 2 * features, bias=True), nn.GELU(), residual_linear(2 * features, features, _BRANCHES)
        )
        self.head = nn.Linear(features, 2 * channels * patch**2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        clips_BFCHW: Tensor,
        *,
        superposition: float = 3.0,
        jitter_BFCHW: Tensor | None = None,
        log_variance_limit: float = 8.0,
    ) -> AnchorOutput:
        """The anchor's distribution for clips. `jitter_BFCHW` (already scaled) is added to what is read.

        One frame has no variance over frames: the pooled features are then its own.

        Raises:
            ValueError: for clips of another number of channels or a frame that patches do not fill, or a limit that is
                not positive.
        """
        if clips_BFCHW.dim() != 5 or clips_BFCHW.shape[2] != self.channels:
            raise ValueError(
                f"clips of shape {tuple(clips_BFCHW.shape)}; this anchor network reads [B, F, {self.channels}, H, W]"
            )
        if log_variance_limit <= 0:
            raise ValueError(f"log_variance_limit is {log_variance_limit}; it must be above 0")
        B, F, _, H, W = clips_BFCHW.shape
        patch_grid(H, W, self.patch)
        x_BFCHW = clips_BFCHW if jitter_BFCHW is None else clips_BFCHW + jitter_BFCHW
        encoded = self.encoder(x_BFCHW.flatten(0, 1)).unflatten(0, (B, F))
        h_BhwFK = encoded.permute(0, 3, 4, 1, 2)
        h_BhwFK = h_BhwFK + self._attend(_layer_norm(h_BhwFK))
        h_BhwFK = h_BhwFK + self.enhancer(_layer_norm(h_BhwFK))
        # In float32: the variance of bfloat16 values is mostly rounding, and it is multiplied by s.
        h_BhwFK = _layer_norm(h_BhwFK).to(torch.promote_types(h_BhwFK.dtype, torch.float32))
        pooled_BhwK = h_BhwFK.mean(3) + superposition * h_BhwFK.var(3, correction=0)
        values_BVhw = self.head(pooled_BhwK.to(encoded.dtype)).permute(0, 3, 1, 2)
        mean, raw = functional.pixel_shuffle(values_BVhw, self.patch).to(clips_BFCHW.dtype).chunk(2, dim=1)
        return AnchorOutput(mean, log_variance_limit * torch.tanh(raw / log_variance_limit))

    def _attend(self, h_BhwFK: Tensor) -> Tensor:
        """Softmax attention over frames, for every patch of the frame alone."""
        B, h, w, F, K = h_BhwFK.shape
        qkv = self.qkv(h_BhwFK).view(B * h * w, F, 3, ANCHOR_HEADS, K // ANCHOR_HEADS)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(B, h, w, F, K))

    @staticmethod
    def sample(output: AnchorOutput, noise_BCHW: Tensor) -> Tensor:
        """A = μ + σ·ξ with ξ standard normal noise: [B, C, H, W], differentiable in μ and σ."""
        return output.mean_BCHW + (0.5 * output.log_variance_BCHW).exp() * noise_BCHW


def _layer_norm(h: Tensor) -> Tensor:
    return functional.layer_norm(h, h.shape[-1:])
