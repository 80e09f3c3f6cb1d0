"""The video backbone: a factorised space-time transformer that predicts the velocity of every frame of a clip.

Shapes: B clips, F frames, C channels, H, W of a (latent) frame, S tokens a frame, N = F·S, D width, h heads, d = D/h.
Each layer attends over the tokens of a frame, then over the frames of a token, so cost grows with F·S² + S·F². Time
attention knows the order of frames from the frame embedding alone: amplification 0 makes the model permutation-
equivariant over frames, which is what the amplification slider shows. The flow time t enters by adaptive normalisation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from qcore.config import FlowConfig, VideoFlowConfig
from qcore.models.blocks import linear, residual_linear, run_layer, split_evenly
from qcore.models.video.anchor import ANCHOR_HEADS, AnchorNetwork
from qcore.models.video.codec import Codec, ConvCodec, IdentityCodec, SpaceToChannelCodec, patch_grid

TIME_SCALE = 1000.0  # on 0–1 the embeddings of t=0 and t=1 would have cosine 0.97
_LONGEST_PERIOD = 10_000.0
_FRAME_EMBEDDING = 0.2  # its spread: with the published amplification of 5 it weighs as much as the content
_EDGE = 1e-3  # of the range of t*: a logit ends there
_BRANCHES = 3  # residual branches of a layer


@dataclass(frozen=True)
class VideoOutput:
    """What a video model says of noisy clips.

    Attributes:
        velocity_BFCHW: dz/dt of every frame, in the dtype of z.
        hidden_BND: the tokens that the head reads, N = F·S, frame by frame.
    """

    velocity_BFCHW: Tensor
    hidden_BND: Tensor


def time_embedding(t_B: Tensor, width: int) -> Tensor:
    """cos and sin of 1000·t·10000^(−i/(D/2)), float32 [B, D] (D rounded down to even)."""
    half = width // 2
    rate = torch.exp(torch.arange(half, device=t_B.device, dtype=torch.float32) * (-math.log(_LONGEST_PERIOD) / half))
    angle = TIME_SCALE * t_B.float()[:, None] * rate
    return torch.cat((angle.cos(), angle.sin()), dim=1)


class FrameAttention(nn.Module):
    """Softmax attention softmax(q k / √d) v over the second-to-last axis, without any positions of its own."""

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, split_evenly(width, heads)
        self.qkv = linear(width, 3 * width, bias=True)
        self.out = residual_linear(width, width, depth)

    def forward(self, x_MTD: Tensor) -> Tensor:
        M, T, _ = x_MTD.shape
        qkv = self.qkv(x_MTD).view(M, T, 3, self.heads, self.head_width)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).flatten(2))


class SpaceTimeLayer(nn.Module):
    """Attention within frames, attention across frames, feed-forward; each x + g·branch(norm(x)·(1 + a) + b).

    The scale a, shift b and gate g of each branch are linear in the flow time's features; they start at a = b = 0 and
    g = 1.
    """

    def __init__(self, config: VideoFlowConfig, depth: int) -> None:
        super().__init__()
        width, ffn_width = config.width, config.ffn_width or 2 * config.width
        self.space = FrameAttention(width, config.heads, depth)
        self.time = FrameAttention(width, config.heads, depth)
        self.ffn = nn.Sequential(
            linear(width, ffn_width, bias=True), nn.GELU(), residual_linear(ffn_width, width, depth)
        )
        self.modulation = nn.Linear(width, 3 * _BRANCHES * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x_BFSD: Tensor, time_BD: Tensor) -> Tensor:
        B, F, S, D = x_BFSD.shape
        modulation = self.modulation(time_BD).view(B, 3 * _BRANCHES, 1, 1, D).unbind(1)
        space, time, ffn = (modulation[at : at + 3] for at in range(0, 3 * _BRANCHES, 3))
        mixed = self.space(_modulate(x_BFSD, space).flatten(0, 1)).view(B, F, S, D)
        x_BFSD = x_BFSD + (1 + space[2]) * mixed
        across = _modulate(x_BFSD, time).transpose(1, 2).flatten(0, 1)
        x_BFSD = x_BFSD + (1 + time[2]) * self.time(across).view(B, S, F, D).transpose(1, 2)
        return x_BFSD + (1 + ffn[2]) * self.ffn(_modulate(x_BFSD, ffn))


def _modulate(x_BFSD: Tensor, modulation: tuple[Tensor, ...]) -> Tensor:
    scale, shift, _ = modulation
    return functional.layer_norm(x_BFSD, x_BFSD.shape[-1:]) * (1 + scale) + shift


class VideoFlow(nn.Module):
    """Velocity field of a clip. It acts on latents: `latent_shape` is (F, c, H', W') of what `codec` makes of clips.

    The velocity starts at 0: the head's weights do.

    Attributes:
        codec: between clips and latents.
        anchor_network: for model.anchor = network, else None.
        t_star: learned shift of the collapse time, else None; see `t_star_value`.
        frozen_by_design: how the names begin of parameters that are rightly not trained with the model.
    """

    frozen_by_design = ("codec.",)

    def __init__(self, config: VideoFlowConfig, frames: int, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.codec = _codec(config, channels)
        C, H, W = self.codec.latent_shape(channels, height, width)
        self.latent_shape = (frames, C, H, W)
        rows, columns = patch_grid(H, W, config.patch)
        D, values = config.width, C * config.patch**2
        self.embed = linear(values, D, bias=True)
        self.place = nn.Parameter(torch.randn(rows * columns, D) * _FRAME_EMBEDDING)
        self.frame = nn.Parameter(torch.randn(frames, D) * _FRAME_EMBEDDING)
        self.anchor_embed = linear(values, D) if config.anchor_input else None
        even = D - D % 2
        self.time = nn.Sequential(linear(even, D, bias=True), nn.SiLU(), linear(D, D, bias=True), nn.SiLU())
        self.layers = nn.ModuleList(SpaceTimeLayer(config, _BRANCHES * config.layers) for _ in range(config.layers))
        self.norm = nn.LayerNorm(D)
        self.head = nn.Linear(D, values)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        features = ANCHOR_HEADS * max(1, D // (2 * ANCHOR_HEADS))  # half the backbone's width: it is read once a clip
        self.anchor_network = AnchorNetwork(C, config.patch, features) if config.anchor == "network" else None
        self.t_star = nn.Parameter(torch.zeros(())) if config.learned_t_star else None

    def forward(
        self,
        z_BFCHW: Tensor,
        t_B: Tensor,
        *,
        amplification: float = 5.0,
        anchor_BCHW: Tensor | None = None,
        positions_F: Tensor | None = None,
    ) -> VideoOutput:
        """Velocity of noised latents z at times t in [0, 1].

        Args:
            amplification: factor on the frame embedding; at 0, permuting frames permutes the velocity and nothing else.
            anchor_BCHW: read only by a model with anchor_input, which needs it.
            positions_F: int64, which place in the clip each frame has (default 0 … F−1).

        Raises:
            ValueError: for shapes that do not fit the model.
        """
        self._check(z_BFCHW, t_B)
        F = z_BFCHW.shape[1]
        frame_FD = self.frame[:F] if positions_F is None else self.frame[positions_F]
        x_BFSD = self.embed(self._patches(z_BFCHW)) + self.place + amplification * frame_FD[:, None]
        if self.anchor_embed is not None:
            if anchor_BCHW is None:
                raise ValueError("this model was built with anchor_input: give anchor_BCHW")
            x_BFSD = x_BFSD + self.anchor_embed(self._patches(anchor_BCHW[:, None]))
        time_BD = self.time(time_embedding(t_B, self.config.width).to(self.frame.dtype))
        for layer in self.layers:
            x_BFSD = run_layer(layer, x_BFSD, time_BD, recompute=self.config.activation_checkpointing)
        hidden_BFSD = self.norm(x_BFSD)
        velocity_BFCHW = self._frames(self.head(hidden_BFSD)).to(z_BFCHW.dtype)
        return VideoOutput(velocity_BFCHW, hidden_BFSD.flatten(1, 2))

    def t_star_value(self, control: float) -> float | Tensor:
        """The collapse time: `control` itself, or with learned t* `shifted_t_star`, a 0-d tensor."""
        return control if self.t_star is None else shifted_t_star(self.t_star, control)

    def _check(self, z_BFCHW: Tensor, t_B: Tensor) -> None:
        frames, *frame_shape = self.latent_shape
        if z_BFCHW.dim() != 5 or list(z_BFCHW.shape[2:]) != frame_shape or not 1 <= z_BFCHW.shape[1] <= frames:
            raise ValueError(
                f"latents of shape {tuple(z_BFCHW.shape)}; this model takes [B, F, {', '.join(map(str, frame_shape))}] "
                f"with F from 1 to {frames}"
            )
        if t_B.shape != z_BFCHW.shape[:1]:
            raise ValueError(f"times of shape {tuple(t_B.shape)}; give one for each of {z_BFCHW.shape[0]} clips")

    def _patches(self, z_BFCHW: Tensor) -> Tensor:
        """[B, F, S, C·p²]: patches row by row, each channel-major."""
        return functional.pixel_unshuffle(z_BFCHW, self.config.patch).flatten(3).transpose(2, 3)

    def _frames(self, patches_BFSV: Tensor) -> Tensor:
        """The inverse of `_patches`."""
        rows = self.latent_shape[2] // self.config.patch
        grid = patches_BFSV.transpose(2, 3).unflatten(3, (rows, -1))
        return functional.pixel_shuffle(grid, self.config.patch)


def _codec(config: VideoFlowConfig, channels: int) -> Codec:
    if config.latents == "space_to_channel":
        return SpaceToChannelCodec(config.latent_patch)
    if config.latents == "autoencoder":
        return ConvCodec(channels, config.latent_channels, config.latent_patch)
    return IdentityCodec()


def shifted_t_star(shift: Tensor, control: float) -> Tensor:
    """A learned collapse time, 0-d: low + (high − low)·σ(logit(control) + shift), the logit relative to [low, high].

    low and high are the range of the control t_star, so the value stays inside it, moves with the control while
    training, and at shift 0 stands where the control does (at either end, a thousandth of the range inside).
    """
    declared = FlowConfig.control("t_star")
    low, high = declared.low, declared.high
    assert low is not None
    assert high is not None
    share = min(max((control - low) / (high - low), _EDGE), 1 - _EDGE)
    return low + (high - low) * torch.sigmoid(shift + math.log(share / (1 - share)))


def pack(x_BCFHW: Tensor) -> Tensor:
    """The sequence layout of LTX-Video: [B, C, F, H, W] → [B, N, C], N = F·H·W with frames outermost, then rows."""
    return x_BCFHW.flatten(2).transpose(1, 2)


def unpack(x_BNC: Tensor, frames: int, height: int, width: int) -> Tensor:
    """The inverse of `pack`.

    Raises:
        ValueError: when N is not frames·height·width.
    """
    if x_BNC.shape[1] != frames * height * width:
        raise ValueError(f"{x_BNC.shape[1]} tokens are not {frames} × {height} × {width}")
    return x_BNC.transpose(1, 2).unflatten(2, (frames, height, width))
