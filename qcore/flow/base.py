"""What a path from noise to data is: weights with their exact derivatives, samples, and the way back to the data.

Convention: t = 1 is noise, t = 0 is data; z_i = α ε_i + β A + γ x_i for frame i, noise ε, anchor A (one frame); the
velocity is u = dz/dt. Where a weight or its derivative jumps (t*, see `Path.jumps`), a value *at* the jump is that of
the side towards t = 0; the other side is the next larger float. Every weight is a function of t and t*, so a t* that
is a tensor is learned through them; that the place of a jump moves with t* leaves no trace in that gradient.
Legend: B clips, F frames, C channels, H W pixels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class PathWeights:
    """Weights α, β, γ of noise, anchor and data at times t, and their derivatives d/dt; tensors of t's shape."""

    alpha: Tensor
    beta: Tensor
    gamma: Tensor
    d_alpha: Tensor
    d_beta: Tensor
    d_gamma: Tensor


@dataclass(frozen=True)
class PathSettings:
    """What bends a path.

    Raises:
        ValueError: t* not inside (0, 1), or a negative or not finite number.
    """

    t_star: Tensor | float = 0.2
    """Time t* at which frames part; a 0-d tensor that needs a gradient is learned."""
    anchor_width: float = 0.0
    """Width w of the anchor's bump; 0: the path's own (rab 0.12, quantum 0.05)."""
    anchor_decay: float = 0.0
    """Decay k of the anchor below t*; 0: the path's own (rab 8, quantum 25)."""
    repulsion: float = 5.0
    """Growth ρ of the data's weight below t* (quantum)."""

    def __post_init__(self) -> None:
        if isinstance(self.t_star, Tensor) and self.t_star.ndim:
            raise ValueError(f"t_star has shape {tuple(self.t_star.shape)}; pass a number or a tensor without axes")
        if not 0 < self.jump < 1:
            raise ValueError(f"t_star is {self.jump}; choose a time between 0 and 1, 0.2 as published")
        for name in ("anchor_width", "anchor_decay", "repulsion"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name} is {value}; choose a finite number of at least 0")

    @property
    def jump(self) -> float:
        """t* as a number."""
        return self.t_star.item() if isinstance(self.t_star, Tensor) else float(self.t_star)


@dataclass(frozen=True)
class PathSample:
    """A point of the path and the velocity there."""

    z_BFCHW: Tensor
    velocity_BFCHW: Tensor


class Path(ABC):
    """A way from noise to data. Immutable: make another one when a setting changes."""

    name: ClassVar[str]
    uses_anchor: ClassVar[bool] = False

    def __init__(self, settings: PathSettings) -> None:
        self.settings = settings

    @abstractmethod
    def weights(self, t: Tensor) -> PathWeights:
        """Weights at times t in [0, 1], any shape and floating dtype, and their exact derivatives."""

    @abstractmethod
    def unnormalised_velocity_weights(self, t: Tensor) -> PathWeights:
        """The right weights beside the derivatives that were *published* with them (fault V3); see each path."""

    def jumps(self) -> tuple[float, ...]:
        """Times inside (0, 1), falling, at which a weight or a derivative jumps; samplers step exactly onto them."""
        return ()

    def sample(self, noise_BFCHW: Tensor, anchor_BCHW: Tensor | None, clips_BFCHW: Tensor, t_B: Tensor) -> PathSample:
        """z = α ε + β A + γ x and u = α' ε + β' A + γ' x at each clip's own time.

        With noise that all frames share, z_i − z_j = γ (x_i − x_j) exactly: no path lets chance choose the motion.

        Raises:
            ValueError: shapes that disagree, or no anchor for a path that has one.

        Example:
            >>> from qcore.flow import make_path
            >>> noise, clips = torch.ones(1, 2, 1, 4, 4), torch.zeros(1, 2, 1, 4, 4)
            >>> sample = make_path("plain").sample(noise, None, clips, torch.tensor([0.25]))
            >>> float(sample.z_BFCHW.mean()), float(sample.velocity_BFCHW.mean())
            (0.25, 1.0)
        """
        self._check(noise_BFCHW, anchor_BCHW, clips_BFCHW, t_B)
        weights = self.weights(t_B)
        z_BFCHW = broadcast_over_clips(weights.alpha) * noise_BFCHW + broadcast_over_clips(weights.gamma) * clips_BFCHW
        velocity_BFCHW = (
            broadcast_over_clips(weights.d_alpha) * noise_BFCHW + broadcast_over_clips(weights.d_gamma) * clips_BFCHW
        )
        if self.uses_anchor and anchor_BCHW is not None:
            anchor_B1CHW = anchor_BCHW.unsqueeze(1)
            z_BFCHW = z_BFCHW + broadcast_over_clips(weights.beta) * anchor_B1CHW
            velocity_BFCHW = velocity_BFCHW + broadcast_over_clips(weights.d_beta) * anchor_B1CHW
        return PathSample(z_BFCHW, velocity_BFCHW)

    def denoised(
        self, z_BFCHW: Tensor, velocity_BFCHW: Tensor, anchor_BCHW: Tensor | None, t_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The frames x̂₀ [B, F, C, H, W] that z and a (predicted) velocity point at, and where that says anything [B].

        x̂₀ = (α (u − β'A) − α' (z − βA)) ÷ (αγ' − α'γ): exact for the exact velocity, E[x | z] for the marginal one,
        and linear in the velocity, so that a loss on frames reaches the model. αγ' − α'γ keeps its sign on [0, 1].
        """
        self._check(z_BFCHW, anchor_BCHW, velocity_BFCHW, t_B)
        weights = self.weights(t_B)
        if self.uses_anchor and anchor_BCHW is not None:
            anchor_B1CHW = anchor_BCHW.unsqueeze(1)
            z_BFCHW = z_BFCHW - broadcast_over_clips(weights.beta) * anchor_B1CHW
            velocity_BFCHW = velocity_BFCHW - broadcast_over_clips(weights.d_beta) * anchor_B1CHW
        wronskian_B = weights.alpha * weights.d_gamma - weights.d_alpha * weights.gamma
        denoised_BFCHW = (
            broadcast_over_clips(weights.alpha / wronskian_B) * velocity_BFCHW
            - broadcast_over_clips(weights.d_alpha / wronskian_B) * z_BFCHW
        )
        return denoised_BFCHW, torch.ones_like(t_B, dtype=torch.bool)

    def _check(self, first_BFCHW: Tensor, anchor_BCHW: Tensor | None, second_BFCHW: Tensor, t_B: Tensor) -> None:
        shape = tuple(second_BFCHW.shape)
        if len(shape) != 5 or tuple(first_BFCHW.shape) != shape:
            raise ValueError(
                f"got shapes {tuple(first_BFCHW.shape)} and {shape}; pass both as [clips, frames, channels, height, "
                "width]"
            )
        if tuple(t_B.shape) != shape[:1]:
            raise ValueError(f"t_B has shape {tuple(t_B.shape)}; pass one time a clip, [{shape[0]}]")
        if self.uses_anchor:
            wanted = (shape[0], *shape[2:])
            if anchor_BCHW is None:
                raise ValueError(f"the path {self.name!r} goes through an anchor and got none; pass one of {wanted}")
            if tuple(anchor_BCHW.shape) != wanted:
                raise ValueError(f"anchor_BCHW has shape {tuple(anchor_BCHW.shape)}; pass one frame a clip, {wanted}")

    def _t_star(self, t: Tensor) -> Tensor:
        return torch.as_tensor(self.settings.t_star, dtype=t.dtype, device=t.device)


def broadcast_over_clips(values_B: Tensor) -> Tensor:
    """[B] → [B, 1, 1, 1, 1]: one number a clip, to be multiplied with clips.

    Example:
        >>> broadcast_over_clips(torch.tensor([0.0, 1.0])).shape
        torch.Size([2, 1, 1, 1, 1])
    """
    return values_B.view(-1, 1, 1, 1, 1)
