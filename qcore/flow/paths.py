"""The five paths, each with the exact derivative of the weights it really uses, and the published ones beside it.

plain, rab, quantum and ring are z = α ε + β A + γ x with weights of t alone; spherical has weights of t and of the
angle and lengths of each clip's noise and data. Rab and quantum divide raw weights a, b, g by their sum; the published
code left that out of the derivative, and more (`unnormalised_velocity_weights`, fault V3).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from qcore.flow.base import Path, PathSample, PathSettings, PathWeights, broadcast_over_clips

RAB_BOOST = 1.5
"""Factor on the data's raw weight below t* (rab)."""
RAB_PUBLISHED_WIDTH = 1.25
"""The published velocity of rab differentiates a bump this much wider than the path's: 0.15 for 0.12."""
ANTIPARALLEL = 1e-3
"""Radians from π within which the arc of two vectors has no definite plane (spherical)."""


class PlainPath(Path):
    """Rectified flow, the straight line: α = t, γ = 1 − t; u = ε − x. Nothing to normalise, nothing to get wrong."""

    name = "plain"

    def weights(self, t: Tensor) -> PathWeights:
        """α = t, β = 0, γ = 1 − t."""
        zero, one = torch.zeros_like(t), torch.ones_like(t)
        return PathWeights(t, zero, 1 - t, one, zero, -one)

    def unnormalised_velocity_weights(self, t: Tensor) -> PathWeights:
        """The same as `weights`: these were never divided by their sum."""
        return self.weights(t)


class _BridgePath(Path):
    """Raw weights a, b, g divided by their sum S = a + b + g ≥ 1, with α' = (a'S − aS') ÷ S² and so on.

    a = t; b = exp(−(t−t*)²/2w²), times exp(−k(t*−t)) below t*; g is each path's own.
    """

    uses_anchor = True
    own_width: ClassVar[float]
    own_decay: ClassVar[float]

    @abstractmethod
    def _data(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Raw weight g of the data and its derivative."""

    def weights(self, t: Tensor) -> PathWeights:
        below, from_star = self._place(t)
        width, decay = self._width, self._decay
        b = torch.exp(-from_star.square() / (2 * width**2) + torch.where(below, decay * from_star, 0))
        d_b = b * (-from_star / width**2 + below.to(t.dtype) * decay)
        g, d_g = self._data(t)
        total, d_total = t + b + g, 1 + d_b + d_g
        square = total.square()
        return PathWeights(
            alpha=t / total,
            beta=b / total,
            gamma=g / total,
            d_alpha=(total - t * d_total) / square,
            d_beta=(d_b * total - b * d_total) / square,
            d_gamma=(d_g * total - g * d_total) / square,
        )

    def jumps(self) -> tuple[float, ...]:
        return (self.settings.jump,)

    @property
    def _width(self) -> float:
        return self.settings.anchor_width or self.own_width

    @property
    def _decay(self) -> float:
        return self.settings.anchor_decay or self.own_decay

    def _place(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Whether a time is on the side of the data, and t − t*."""
        from_star = t - self._t_star(t)
        return from_star <= 0, from_star

    def _published(self, t: Tensor, d_beta: Tensor, d_gamma: Tensor) -> PathWeights:
        right = self.weights(t)
        return PathWeights(right.alpha, right.beta, right.gamma, torch.ones_like(t), d_beta, d_gamma)


class RabPath(_BridgePath):
    """Anchored bridge: w = 0.12, k = 8, g = 1 − t, times 1.5 below t*; β(0) ≈ 0.03, so 3 % of the anchor stays.

    All three *weights* jump at t*, since S does: at t* = 0.2 γ goes from 0.4 to 0.5.
    """

    name = "rab"
    own_width = 0.12
    own_decay = 8.0

    def _data(self, t: Tensor) -> tuple[Tensor, Tensor]:
        boost = torch.where(self._place(t)[0], RAB_BOOST, 1.0).to(t.dtype)
        return boost * (1 - t), -boost

    def unnormalised_velocity_weights(self, t: Tensor) -> PathWeights:
        """a' = 1, g' = −1, and b' of a bump 1.25 times as wide without decay: neither the division by S nor what
        happens below t* is differentiated. Followed from t = 1, it lands at x + 0.41 A instead of x.
        """
        width = RAB_PUBLISHED_WIDTH * self._width
        from_star = t - self._t_star(t)
        d_beta = -from_star / width**2 * torch.exp(-from_star.square() / (2 * width**2))
        return self._published(t, d_beta, -torch.ones_like(t))


class QuantumPath(_BridgePath):
    """Quantum collapse: w = 0.05, k = 25, g = (1 − t)(1 + ρ max(0, (t* − t)/t*)), ρ = 5; ends at the data.

    The weights are continuous; at t* = 0.2 γ' jumps from −0.5 above to −11.5 below, which is stiff.
    """

    name = "quantum"
    own_width = 0.05
    own_decay = 25.0

    def _data(self, t: Tensor) -> tuple[Tensor, Tensor]:
        below, from_star = self._place(t)
        rate = self.settings.repulsion / self._t_star(t)
        growth = 1 + torch.where(below, -rate * from_star, 0)
        return (1 - t) * growth, -growth - below.to(t.dtype) * rate * (1 - t)

    def unnormalised_velocity_weights(self, t: Tensor) -> PathWeights:
        """a' = 1; below t*, b' = −k b (the decay's sign turned round, the bump's slope left out) and
        g' = −(1 + ρ/t*). Followed from t = 1, it lands at 6.0 x + 1.72 A instead of x: amplitude, not motion.
        """
        below, from_star = self._place(t)
        bump = torch.exp(-from_star.square() / (2 * self._width**2))
        decayed = bump * torch.exp(torch.where(below, self._decay * from_star, 0))
        d_beta = torch.where(below, -self._decay * decayed, -from_star / self._width**2 * bump)
        return self._published(t, d_beta, -1 - below.to(t.dtype) * self.settings.repulsion / self._t_star(t))


class RingPath(Path):
    """Ring, then zipper: straight from ε to A above t*, straight from A to x below it; z(t*) = A for every noise.

    α = (t − t*)/(1 − t*), β = 1 − α above; β = t/t*, γ = 1 − t/t* below. Sums to 1 as it stands.
    """

    name = "ring"
    uses_anchor = True

    def weights(self, t: Tensor) -> PathWeights:
        """Above t* from noise to anchor, below it from anchor to data; see the class."""
        t_star = self._t_star(t)
        below = t <= t_star
        ring, zipper = 1 / (1 - t_star), 1 / t_star
        zero = torch.zeros_like(t)
        return PathWeights(
            alpha=torch.where(below, 0, (t - t_star) * ring),
            beta=torch.where(below, t * zipper, (1 - t) * ring),
            gamma=torch.where(below, 1 - t * zipper, 0),
            d_alpha=torch.where(below, zero, ring),
            d_beta=torch.where(below, zipper, -ring),
            d_gamma=torch.where(below, -zipper, zero),
        )

    def unnormalised_velocity_weights(self, t: Tensor) -> PathWeights:
        """The same as `weights`: these were never divided by their sum."""
        return self.weights(t)

    def jumps(self) -> tuple[float, ...]:
        """t*, where the anchor is reached and the direction turns."""
        return (self.settings.jump,)

    def denoised(
        self, z_BFCHW: Tensor, velocity_BFCHW: Tensor, anchor_BCHW: Tensor | None, t_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Below t*: x̂₀ = z − t u, whatever the anchor. Above t* nothing of x is in z or u: False, and the anchor."""
        self._check(z_BFCHW, anchor_BCHW, velocity_BFCHW, t_B)
        assert anchor_BCHW is not None
        defined_B = t_B <= self._t_star(t_B)
        straight_BFCHW = z_BFCHW - broadcast_over_clips(t_B) * velocity_BFCHW
        return torch.where(broadcast_over_clips(defined_B), straight_BFCHW, anchor_BCHW.unsqueeze(1)), defined_B


class SphericalPath(Path):
    """Along the great circle, the length changing evenly: z = r (sin(tΩ) ε/‖ε‖ + sin((1−t)Ω) x/‖x‖) ÷ sin Ω.

    Whole clips are the vectors (not frames or pixels, so that with shared noise z_i − z_j = γ (x_i − x_j) holds here
    too), Ω is the angle between ε and x, r = t‖ε‖ + (1−t)‖x‖. The velocity is tangent to the sphere, of speed rΩ, plus
    the radial ‖ε‖ − ‖x‖. Limits: parallel vectors, and a vector of length 0 (which takes the other's direction), give
    the straight line; vectors within 0.001 rad of antiparallel, between which every great circle is as good, give the
    straight line too.
    """

    name = "spherical"

    def weights(self, t: Tensor) -> PathWeights:
        """Those of orthogonal vectors of one length, sin(πt/2) and cos(πt/2): what high dimensions come close to.

        `sample` uses each clip's own angle and lengths instead.
        """
        half_turn, zero = math.pi / 2, torch.zeros_like(t)
        sine, cosine = torch.sin(half_turn * t), torch.cos(half_turn * t)
        return PathWeights(sine, zero, cosine, half_turn * cosine, zero, -half_turn * sine)

    def unnormalised_velocity_weights(self, t: Tensor) -> PathWeights:
        """The published velocity, ε − x projected on the tangent: the right direction at the wrong speed sin + cos,
        so that it turns by 4/π = 1.27 rad of 1.57 and ends short of x. For orthogonal vectors of one length.
        """
        right = self.weights(t)
        speed = right.alpha + right.gamma
        d_alpha, d_gamma = speed * right.gamma, -speed * right.alpha
        return PathWeights(right.alpha, right.beta, right.gamma, d_alpha, right.d_beta, d_gamma)

    def sample(self, noise_BFCHW: Tensor, anchor_BCHW: Tensor | None, clips_BFCHW: Tensor, t_B: Tensor) -> PathSample:
        """z on the arc and its derivative; see the class for formula and limits.

        Raises:
            ValueError: as in every path.
        """
        self._check(noise_BFCHW, anchor_BCHW, clips_BFCHW, t_B)
        noise_length, clip_length = _lengths(noise_BFCHW), _lengths(clips_BFCHW)
        noise_unit = torch.where(noise_length > 0, noise_BFCHW / _avoid_zero(noise_length), 0)
        clip_unit = torch.where(clip_length > 0, clips_BFCHW / _avoid_zero(clip_length), noise_unit)
        noise_unit = torch.where(noise_length > 0, noise_unit, clip_unit)
        # Unlike the arc cosine of a product this keeps its digits near 0 and π, and its gradient stays finite.
        angle = 2 * torch.atan2(_lengths(noise_unit - clip_unit), _lengths(noise_unit + clip_unit))
        antiparallel = angle > math.pi - ANTIPARALLEL
        angle = torch.where(antiparallel, 0, angle)

        t = broadcast_over_clips(t_B)
        whole = _sinc(angle)
        on_noise, on_clip = t * _sinc(t * angle) / whole, (1 - t) * _sinc((1 - t) * angle) / whole
        d_on_noise, d_on_clip = torch.cos(t * angle) / whole, -torch.cos((1 - t) * angle) / whole
        length, d_length = t * noise_length + (1 - t) * clip_length, noise_length - clip_length
        direction = on_noise * noise_unit + on_clip * clip_unit
        turning = d_on_noise * noise_unit + d_on_clip * clip_unit
        z, velocity = length * direction, d_length * direction + length * turning
        straight, d_straight = t * noise_BFCHW + (1 - t) * clips_BFCHW, noise_BFCHW - clips_BFCHW
        return PathSample(torch.where(antiparallel, straight, z), torch.where(antiparallel, d_straight, velocity))

    def denoised(
        self, z_BFCHW: Tensor, velocity_BFCHW: Tensor, anchor_BCHW: Tensor | None, t_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Turn z back by tΩ with Ω = ‖u_⊥‖/‖z‖ and take the length ‖z‖ − t u·z/‖z‖: exact for the exact velocity.

        A z of length 0 has no direction to turn: z − t u.
        """
        self._check(z_BFCHW, anchor_BCHW, velocity_BFCHW, t_B)
        t = broadcast_over_clips(t_B)
        length = _lengths(z_BFCHW)
        unit = z_BFCHW / _avoid_zero(length)
        radial = (velocity_BFCHW * unit).sum(dim=(1, 2, 3, 4), keepdim=True)
        turning = (velocity_BFCHW - radial * unit) / _avoid_zero(length)
        angle = t * _lengths(turning)
        turned_BFCHW = (length - t * radial) * (torch.cos(angle) * unit - t * _sinc(angle) * turning)
        denoised_BFCHW = torch.where(length > 0, turned_BFCHW, z_BFCHW - t * velocity_BFCHW)
        return denoised_BFCHW, torch.ones_like(t_B, dtype=torch.bool)


_PATHS: dict[str, type[Path]] = {path.name: path for path in (PlainPath, RabPath, QuantumPath, RingPath, SphericalPath)}
PATHS: tuple[str, ...] = tuple(_PATHS)


def make_path(name: str, settings: PathSettings | None = None) -> Path:
    """The path of this name: plain, rab, quantum, ring or spherical.

    Raises:
        ValueError: another name.

    Example:
        >>> path = make_path("plain")
        >>> weights = path.weights(torch.tensor(0.25))
        >>> float(weights.alpha), float(weights.gamma)
        (0.25, 0.75)
    """
    if name not in _PATHS:
        raise ValueError(f"there is no path {name!r}; choose one of {', '.join(PATHS)}")
    return _PATHS[name](settings or PathSettings())


def _lengths(clips_BFCHW: Tensor) -> Tensor:
    """Euclidean length of each clip, [B, 1, 1, 1, 1]."""
    return torch.linalg.vector_norm(clips_BFCHW, dim=(1, 2, 3, 4), keepdim=True)


def _avoid_zero(length: Tensor) -> Tensor:
    """Fit to divide by, for values and gradients: 1 where a length is 0."""
    return torch.where(length > 0, length, 1)


def _sinc(angle: Tensor) -> Tensor:
    """sin(x)/x, 1 at 0."""
    return torch.sinc(angle / math.pi)
