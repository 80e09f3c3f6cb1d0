"""The exact marginal flow of a finite data set: what a perfect network would learn, in closed form.

For z at time t every clip k of the data explains z with some noise; its posterior weight and velocity are known, and
the marginal velocity is u(z, t) = Σ_k p(k | z, t) u_k(z, t). Followed from noise it must give the data back, in all its
variety; what it fails to give back no training can. Noise may be correlated over frames, 0 ≤ ρ ≤ 1, 1 included.
Legend: N samples, K clips of the data, F frames, P = C·H·W pixels of a frame, D = F·P. Computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from qcore.flow.base import Path, PathWeights
from qcore.flow.paths import SphericalPath
from qcore.flow.solvers import Method, integrate

BLUR = 1e-4
"""Standard deviation σ of the blur on every z, in units of the data's: keeps what follows regular where the noise
vanishes (t → 0, ring below t*, deviations of frames at ρ = 1) and is too small to be seen elsewhere."""
RAMP_STEPS = 4
SAME_WEIGHT = 1e-9
_LARGE = 1e9


@dataclass(frozen=True)
class _Split:
    """Clips as their mean over frames and what is left of each frame: noise of correlation ρ is independent in the two,
    of variance 1 + (F−1)ρ along the mean direction and 1 − ρ across it (eigenvalues of (1−ρ)I + ρ11ᵀ).
    """

    mean_NP: Tensor
    rest_ND: Tensor
    frames: int

    @classmethod
    def of(cls, clips_NFP: Tensor) -> _Split:
        mean_NP = clips_NFP.mean(dim=1)
        return cls(mean_NP, (clips_NFP - mean_NP.unsqueeze(1)).flatten(1), clips_NFP.shape[1])

    def squares(self) -> tuple[Tensor, Tensor]:
        """‖·‖² of the two parts, each [N]."""
        return self.frames * self.mean_NP.square().sum(1), self.rest_ND.square().sum(1)

    def products(self, other: _Split) -> tuple[Tensor, Tensor]:
        """Inner products of the two parts with another's, each [N, K]."""
        return self.frames * self.mean_NP @ other.mean_NP.T, self.rest_ND @ other.rest_ND.T


class ExactFlow:
    """Marginal flow of a path over the clips [K, F, C, H, W] (standardised), each with its own anchor [K, C, H, W].

    The data set is the pairs (clip, anchor), all equally likely. For a path with weights of t alone, z given clip k is
    normal with mean m_k = βA_k + γx_k and covariance α²Σ + σ²I, Σ = (1−ρ)I + ρ11ᵀ over frames, σ = 1e-4, so

        p(k | z) ∝ exp(−½ (z − m_k)ᵀ(α²Σ + σ²I)⁻¹(z − m_k)),   u_k = m_k' + α'αΣ (α²Σ + σ²I)⁻¹(z − m_k).

    On the spherical path z and a clip determine the noise: it lies Ω = φ/t away from the clip, φ being the angle of z
    and the clip, and has the length (‖z‖ − (1−t)‖x‖)/t. p(k | z) is its density times the ratio of volumes,
    (‖ε‖/‖z‖)^{D−1} (sin Ω / sin φ)^{D−2} ÷ t², and u_k turns z away from the clip at speed ‖z‖Ω. A clip out of
    reach has weight 0.

    ρ = 1 is the limit of vanishing own noise: the frames' deviations from their mean then fit one clip, or those that
    share them, and the rest weighs nothing. All samples start with deviations 0, so the path of these is the same for
    all: one motion on plain, rab and quantum; a few on the spherical path, where γ depends on the angle of noise and
    clip. The ring is another matter: it hands on nothing but the anchor, so whatever ρ is it has as many motions as
    there are anchors. Just below ρ = 1 all motions are there, but part so early that coarse steps miss it.

    Cost of a velocity: 2 products of N×D and D×K numbers.

    Raises:
        ValueError: no clips, shapes that disagree, no anchors for a path that needs them, ρ outside [0, 1], and a clip
            of zeros on the spherical path.

    Example:
        >>> from qcore.flow import make_path
        >>> clips = torch.randn(3, 2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> flow = ExactFlow(make_path("plain"), clips, None, 0.0)
        >>> sample = flow.sample(torch.randn(1, 2, 1, 4, 4, generator=torch.Generator().manual_seed(1)), steps=20)
        >>> distinct_motions(sample, clips)
        1
    """

    def __init__(self, path: Path, clips_KFCHW: Tensor, anchors_KCHW: Tensor | None, correlation: float) -> None:
        if clips_KFCHW.ndim != 5 or not clips_KFCHW.numel():
            raise ValueError(f"clips have shape {tuple(clips_KFCHW.shape)}; pass some, as [K, F, C, H, W]")
        if not 0 <= correlation <= 1:
            raise ValueError(f"the noise correlation is {correlation}; choose a share between 0 and 1")
        one_frame = (clips_KFCHW.shape[0], *clips_KFCHW.shape[2:])
        if path.uses_anchor and (anchors_KCHW is None or tuple(anchors_KCHW.shape) != one_frame):
            found = None if anchors_KCHW is None else tuple(anchors_KCHW.shape)
            raise ValueError(f"the path {path.name!r} needs an anchor a clip, {one_frame}, and got {found}")
        self.path = path
        self.correlation = correlation
        self._shape = tuple(clips_KFCHW.shape[1:])
        # float64: near t = 0 differences of squares are divided by a variance of 10⁻⁸
        clips_KFP = clips_KFCHW.detach().double().flatten(2)
        self._data = _Split.of(clips_KFP)
        anchors = anchors_KCHW if path.uses_anchor and anchors_KCHW is not None else torch.zeros_like(clips_KFCHW[:, 0])
        self._anchor_KP = anchors.detach().double().flatten(1)
        self._square_mean_K, self._square_rest_K = self._data.squares()
        frames = self._data.frames
        self._anchor_square_K = frames * self._anchor_KP.square().sum(1)
        self._anchor_clip_K = frames * (self._anchor_KP * self._data.mean_NP).sum(1)
        # How much noise of variance 1 a frame there is along the mean of the frames and across it.
        self._along, self._across = 1 + (frames - 1) * correlation, 1 - correlation
        if isinstance(path, SphericalPath) and not bool((self._square_mean_K + self._square_rest_K > 0).all()):
            raise ValueError("a clip of the data is all zeros and has no direction; leave it out of the spherical flow")

    def velocity(self, z_NFCHW: Tensor, t_N: Tensor) -> Tensor:
        """u(z, t) [N, F, C, H, W] in z's dtype."""
        self._check(z_NFCHW)
        z_NFP, t_N = z_NFCHW.detach().double().flatten(2), t_N.detach()
        if isinstance(self.path, SphericalPath):
            velocity_NFP = self._spherical_velocity(z_NFP, t_N.double())
        else:
            # In t's own dtype: a time next to a jump would change its side in another one.
            velocity_NFP = self._velocity(z_NFP, _to_double(self.path.weights(t_N)))
        return velocity_NFP.view(z_NFCHW.shape).to(z_NFCHW.dtype)

    def sample(
        self,
        noise_NFCHW: Tensor,
        *,
        method: Method = "euler",
        steps: int = 40,
        tolerance: float = 1e-3,
        on_step: Callable[[float, Tensor], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Tensor:
        """Follow the flow from noise, drawn with the flow's own correlation, to t = 0; arguments as in `integrate`."""
        self._check(noise_NFCHW)
        return integrate(
            self.velocity,
            noise_NFCHW,
            method=method,
            steps=steps,
            tolerance=tolerance,
            jumps=self.path.jumps(),
            on_step=on_step,
            stop=stop,
            cross=self.cross,
        )

    def _check(self, z_NFCHW: Tensor) -> None:
        if tuple(z_NFCHW.shape[1:]) != self._shape:
            raise ValueError(f"z has shape {tuple(z_NFCHW.shape)}; pass clips like the data's, {('N', *self._shape)}")

    def _velocity(self, z_NFP: Tensor, weights: PathWeights) -> Tensor:
        """Marginal velocity for weights [N]."""
        z, data, frames = _Split.of(z_NFP), self._data, self._data.frames
        alpha, beta, gamma = (value.unsqueeze(1) for value in (weights.alpha, weights.beta, weights.gamma))
        along, across = alpha.square() * self._along + BLUR**2, alpha.square() * self._across + BLUR**2
        z_clip_mean_NK, z_clip_rest_NK = z.products(data)
        z_anchor_NK = frames * z.mean_NP @ self._anchor_KP.T
        mean_square_NK = (
            beta.square() * self._anchor_square_K
            + 2 * beta * gamma * self._anchor_clip_K
            + gamma.square() * self._square_mean_K
        )
        # ‖z − m_k‖² without ‖z‖², which is the same for all clips and falls out of the softmax
        along_NK = mean_square_NK - 2 * (beta * z_anchor_NK + gamma * z_clip_mean_NK)
        across_NK = gamma.square() * self._square_rest_K - 2 * gamma * z_clip_rest_NK
        posterior_NK = torch.softmax(-0.5 * (along_NK / along + across_NK / across), dim=1)

        clip_mean_NP, clip_rest_ND = posterior_NK @ data.mean_NP, posterior_NK @ data.rest_ND
        anchor_NP = posterior_NK @ self._anchor_KP
        pull = weights.d_alpha.unsqueeze(1) * alpha
        d_beta, d_gamma = weights.d_beta.unsqueeze(1), weights.d_gamma.unsqueeze(1)
        mean_NP = d_beta * anchor_NP + d_gamma * clip_mean_NP
        mean_NP = mean_NP + pull * self._along / along * (z.mean_NP - beta * anchor_NP - gamma * clip_mean_NP)
        rest_ND = d_gamma * clip_rest_ND + pull * self._across / across * (z.rest_ND - gamma * clip_rest_ND)
        return mean_NP.unsqueeze(1) + rest_ND.view_as(z_NFP)

    def cross(self, t: float, z_NFCHW: Tensor) -> Tensor:
        """Carry z over a jump of the *weights*: the exact flow of a ramp between both sides, in the limit of no width.

        Nothing happens at a jump of derivatives alone.
        """
        time = torch.tensor([t], dtype=torch.float64)
        here = self.path.weights(time)
        # the neighbouring number on the noise's side: the jump lies between the two
        there = self.path.weights(torch.nextafter(time, torch.ones_like(time)))
        change = [getattr(here, name) - getattr(there, name) for name in ("alpha", "beta", "gamma")]
        if max(float(value.abs()) for value in change) < SAME_WEIGHT:
            return z_NFCHW
        start = [getattr(there, name) for name in ("alpha", "beta", "gamma")]
        z_NFP = z_NFCHW.detach().double().flatten(2)
        for number in range(RAMP_STEPS):
            middle = [value + (number + 0.5) / RAMP_STEPS * step for value, step in zip(start, change, strict=True)]
            z_NFP = z_NFP + self._velocity(z_NFP, PathWeights(*middle, *change)) / RAMP_STEPS
        return z_NFP.view(z_NFCHW.shape).to(z_NFCHW.dtype)

    def _spherical_velocity(self, z_NFP: Tensor, t_N: Tensor) -> Tensor:
        """Marginal velocity of the spherical path."""
        t = t_N.clamp_min(BLUR).unsqueeze(1)
        z, data = _Split.of(z_NFP), self._data
        z_square_mean_N, z_square_rest_N = z.squares()
        product_mean_NK, product_rest_NK = z.products(data)
        z_length = (z_square_mean_N + z_square_rest_N).sqrt().unsqueeze(1)
        clip_length_K = (self._square_mean_K + self._square_rest_K).sqrt()
        cosine_NK = ((product_mean_NK + product_rest_NK) / (z_length * clip_length_K)).clamp(-1, 1)
        phi_NK = torch.acos(cosine_NK).clamp_min(BLUR**2)
        far_NK = phi_NK / t
        omega_NK = far_NK.clamp_max(math.pi - BLUR)
        noise_length_NK = (z_length - (1 - t) * clip_length_K) / t
        reach_NK = noise_length_NK.clamp_min(BLUR * clip_length_K)
        # How far out of reach a clip is: it counts only where all are, since numbers on paper never are.
        beyond_NK = (far_NK - omega_NK) + (reach_NK - noise_length_NK) / clip_length_K

        # ε = on_z z + on_clip x, and its squared length in the noise's own measure
        on_z_NK = reach_NK * torch.sin(omega_NK) / (torch.sin(phi_NK) * z_length)
        on_clip_NK = -reach_NK * torch.sin(omega_NK - phi_NK) / (torch.sin(phi_NK) * clip_length_K)
        distance_NK = torch.zeros_like(phi_NK)
        for variance, z_square_N, product_NK, square_K in (
            (self._along, z_square_mean_N, product_mean_NK, self._square_mean_K),
            (max(self._across, BLUR**2), z_square_rest_N, product_rest_NK, self._square_rest_K),
        ):
            square_NK = on_z_NK.square() * z_square_N.unsqueeze(1) + on_clip_NK.square() * square_K
            distance_NK += (square_NK + 2 * on_z_NK * on_clip_NK * product_NK) / variance
        size = z_NFP[0].numel()
        volume_NK = (size - 1) * torch.log(reach_NK / z_length)
        volume_NK += (size - 2) * torch.log(torch.sin(omega_NK) / torch.sin(phi_NK))
        posterior_NK = torch.softmax(volume_NK - 0.5 * distance_NK - _LARGE * beyond_NK, dim=1)

        # u_k = (‖ε‖ − ‖x‖) ẑ + ‖z‖ Ω (cos φ ẑ − x̂) / sin φ
        turn_NK = z_length * omega_NK / torch.sin(phi_NK)
        on_unit_N = (posterior_NK * (reach_NK - clip_length_K + turn_NK * cosine_NK)).sum(1)
        share_NK = posterior_NK * turn_NK / clip_length_K
        clips_NFP = (share_NK @ data.mean_NP).unsqueeze(1) + (share_NK @ data.rest_ND).view_as(z_NFP)
        return (on_unit_N / z_length.squeeze(1)).view(-1, 1, 1) * z_NFP - clips_NFP


def distinct_motions(samples_NFCHW: Tensor, clips_KFCHW: Tensor) -> int:
    """How many different clips of the data the samples move like: each counts for the clip whose changes from frame to
    frame are nearest to its own (Euclidean). 1: chance never chose the motion. N independent draws among K clips
    give K (1 − (1 − 1/K)^N), which is 62 for 64 of 1024, but 50 for 64 of 128.

    Raises:
        ValueError: shapes that disagree, or one frame, which cannot move.
    """
    if samples_NFCHW.shape[1:] != clips_KFCHW.shape[1:] or samples_NFCHW.ndim != 5 or not clips_KFCHW.shape[0]:
        raise ValueError(
            f"samples of shape {tuple(samples_NFCHW.shape)} cannot be compared with clips of shape "
            f"{tuple(clips_KFCHW.shape)}; pass both as [clips, frames, channels, height, width]"
        )
    if clips_KFCHW.shape[1] < 2:
        raise ValueError("a clip of one frame has no motion; pass clips of at least two frames")
    if not samples_NFCHW.shape[0]:
        return 0
    sample_ND, clip_KD = (clips.detach().double().diff(dim=1).flatten(1) for clips in (samples_NFCHW, clips_KFCHW))
    distance_NK = clip_KD.square().sum(1) - 2 * sample_ND @ clip_KD.T
    return int(distance_NK.argmin(dim=1).unique().numel())


def _to_double(weights: PathWeights) -> PathWeights:
    return PathWeights(*(getattr(weights, field.name).detach().double() for field in fields(PathWeights)))
