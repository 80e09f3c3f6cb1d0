"""Codecs: what a flow acts on. Pixels as they are, patches moved into channels, or a small learned autoencoder.

Shapes: B clips, F frames, C channels, H, W of a frame; latents [B, F, c, H/p, W/p] for a patch of p × p pixels. Every
frame is coded alone, so a codec knows nothing of time. Latents have about unit variance, as a flow from noise wants.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

_HIDDEN = 64  # channels inside the autoencoder
_LEARNING_RATE = 3e-3
_MEASURED = 8  # batches of the end of a fit that the statistics of its latents come from


class Codec(nn.Module, ABC):
    """Clips to latents and back, frame by frame."""

    @abstractmethod
    def encode(self, x_BFCHW: Tensor) -> Tensor:
        """Latents [B, F, c, H', W'] of clips."""

    @abstractmethod
    def decode(self, z_BFCHW: Tensor) -> Tensor:
        """Clips [B, F, C, H, W] of latents."""

    @abstractmethod
    def latent_shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """(c, H', W') for frames of (C, H, W).

        Raises:
            ValueError: when the patch does not divide the frame.
        """


class IdentityCodec(Codec):
    """Latents are the clips themselves."""

    def encode(self, x_BFCHW: Tensor) -> Tensor:
        """The clips, as they are."""
        return x_BFCHW

    def decode(self, z_BFCHW: Tensor) -> Tensor:
        """The latents, as they are."""
        return z_BFCHW

    def latent_shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """(C, H, W)."""
        return channels, height, width


class SpaceToChannelCodec(Codec):
    """The p × p pixels of a patch become channels: c = C·p², channel C-major, then row, then column. Loses nothing."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch = patch

    def encode(self, x_BFCHW: Tensor) -> Tensor:
        """[B, F, C, H, W] → [B, F, C·p², H/p, W/p]."""
        return functional.pixel_unshuffle(x_BFCHW, self.patch)

    def decode(self, z_BFCHW: Tensor) -> Tensor:
        """[B, F, C·p², H/p, W/p] → [B, F, C, H, W]."""
        return functional.pixel_shuffle(z_BFCHW, self.patch)

    def latent_shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """(C·p², H/p, W/p)."""
        rows, columns = patch_grid(height, width, self.patch)
        return channels * self.patch**2, rows, columns


class ConvCodec(Codec):
    """A small autoencoder: patch → channels, 3 × 3 convolution, GELU, 1 × 1 convolution to c channels; and its mirror.

    Latents are (code − mean) ÷ std per channel, with the statistics that `fit_codec` measured. Its parameters are
    frozen but inside `fit_codec`: gradients flow through it to its input, not into it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, latent_channels: int, patch: int) -> None:
        super().__init__()
        self.channels, self.latent_channels, self.patch = channels, latent_channels, patch
        pixels = channels * patch**2
        self.encoder = nn.Sequential(
            _convolution(pixels, _HIDDEN, 3), nn.GELU(), _convolution(_HIDDEN, latent_channels)
        )
        self.decoder = nn.Sequential(
            _convolution(latent_channels, _HIDDEN, 3), nn.GELU(), _convolution(_HIDDEN, pixels)
        )
        self.register_buffer("mean", torch.zeros(latent_channels, 1, 1))
        self.register_buffer("std", torch.ones(latent_channels, 1, 1))
        self.requires_grad_(False)

    def code(self, x_BFCHW: Tensor) -> Tensor:
        """Latents before they are standardised."""
        patches = functional.pixel_unshuffle(x_BFCHW, self.patch)
        return self.encoder(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])

    def encode(self, x_BFCHW: Tensor) -> Tensor:
        """Standardised latents [B, F, c, H/p, W/p]."""
        return (self.code(x_BFCHW) - self.mean) / self.std

    def decode(self, z_BFCHW: Tensor) -> Tensor:
        """Clips [B, F, C, H, W] of standardised latents."""
        code = z_BFCHW * self.std + self.mean
        patches = self.decoder(code.flatten(0, 1)).unflatten(0, code.shape[:2])
        return functional.pixel_shuffle(patches, self.patch)

    def latent_shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """(c, H/p, W/p)."""
        if channels != self.channels:
            raise ValueError(f"frames have {channels} channels; this autoencoder was built for {self.channels}")
        return self.latent_channels, *patch_grid(height, width, self.patch)


def _convolution(fan_in: int, fan_out: int, side: int = 1) -> nn.Conv2d:
    return nn.Conv2d(fan_in, fan_out, side, padding=side // 2)


def patch_grid(height: int, width: int, patch: int) -> tuple[int, int]:
    """Rows and columns of patches in a frame.

    Raises:
        ValueError: when they do not fill it exactly.
    """
    if height % patch or width % patch:
        raise ValueError(f"patches of {patch} × {patch} do not fill a frame of {height} × {width}: choose a divisor")
    return height // patch, width // patch


def fit_codec(codec: Codec, batches: Iterable[Tensor], steps: int, seed: int) -> float:
    """Train an autoencoder on clips [B, F, C, H, W], freeze it, and return the mean squared error of what it rebuilds.

    The clips are standardised, so the error is the share of their variance that is lost: 0 perfect, 1 all of it. Starts
    from weights drawn from `seed`, whatever the codec held: the result depends on the arguments alone, and the global
    random state is kept. `batches` is read again from its start when it ends. A codec without parameters returns 0 at
    once.

    Raises:
        ValueError: for steps < 1 or no batches; FloatingPointError when the error is not finite.
    """
    if not isinstance(codec, ConvCodec):
        return 0.0
    if steps < 1:
        raise ValueError(f"an autoencoder is fitted in at least 1 step, got {steps}")
    _draw_weights(codec, seed)
    device = codec.mean.device
    optimizer = torch.optim.AdamW(codec.parameters(), lr=_LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    recent: deque[Tensor] = deque(maxlen=_MEASURED)
    endless = _repeat_forever(batches)
    codec.requires_grad_(True)
    try:
        with torch.enable_grad():
            for step in range(steps):
                recent.append(next(endless).to(device))
                error = functional.mse_loss(codec.decode(codec.encode(recent[-1])), recent[-1])
                if not torch.isfinite(error):
                    raise FloatingPointError(f"the autoencoder's error is {error.item()} at step {step}")
                optimizer.zero_grad(set_to_none=True)
                error.backward()
                optimizer.step()
                schedule.step()
    finally:
        codec.requires_grad_(False)
        codec.zero_grad(set_to_none=True)
    with torch.no_grad():
        x_BFCHW = torch.cat(list(recent))
        code = codec.code(x_BFCHW)
        codec.mean.copy_(code.mean((0, 1, 3, 4), keepdim=True)[0, 0])
        # A channel that never changes carries nothing: it is left as small as it is.
        codec.std.copy_(code.std((0, 1, 3, 4), correction=0, keepdim=True)[0, 0].clamp_min(1e-3))
        return float(functional.mse_loss(codec.decode(codec.encode(x_BFCHW)), x_BFCHW))


def _draw_weights(codec: ConvCodec, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        codec.mean.zero_()
        codec.std.fill_(1)
        for module in codec.modules():
            if isinstance(module, nn.Conv2d):
                drawn = torch.randn(module.weight.shape, generator=generator) * module.weight[0].numel() ** -0.5
                module.weight.copy_(drawn)
                assert module.bias is not None
                module.bias.zero_()


def _repeat_forever(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise ValueError("there are not enough batches to fit the autoencoder: give a list, or an endless iterator")
