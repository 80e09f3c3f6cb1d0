"""Loss terms of a video flow: how well the velocity fits, and how predicted frames resemble each other.

Legend: B clips, F frames, C channels, H W; x̂₀ is the clip that a predicted velocity points at, x the real one, ε
noise. Every term that judges frames judges x̂₀ and never velocities: under shared noise even the right velocity ε − x_i
has a mean pairwise cosine of .70, and pushing velocities apart pushes the noise apart. Frames are compared as flat
vectors of standardised pixels (or latents). A clip whose time says nothing of x (`defined_B` False) takes no part in
those terms; a term without any clip is 0 and still differentiable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

RIDGE = 1e-3
"""Added to squared lengths of unit frames in a projection: equal frames keep a finite gradient. A frame inside the span
of the earlier ones then shares 0.999 of itself instead of 1.
"""


@dataclass(frozen=True)
class VideoTermInputs:
    """One batch as the terms see it. Shapes are checked here; ValueError names the field that disagrees.

    Attributes:
        target_BFCHW: the path's velocity.
        denoised_BFCHW: x̂₀ from the predicted velocity, meaningless where `defined_B` is False.
        t_star: collapse time in (0, 1).
        anchor_mean_BCHW, anchor_log_variance_BCHW: of an anchor network, else None.
        step: the update being made (1 is the first; 0 before it), which warms up orthogonality.
    """

    velocity_BFCHW: Tensor
    target_BFCHW: Tensor
    denoised_BFCHW: Tensor
    defined_B: Tensor
    clips_BFCHW: Tensor
    t_B: Tensor
    t_star: float
    anchor_mean_BCHW: Tensor | None
    anchor_log_variance_BCHW: Tensor | None
    step: int

    def __post_init__(self) -> None:
        shape = tuple(self.velocity_BFCHW.shape)
        if len(shape) != 5:
            raise ValueError(f"velocity_BFCHW has shape {shape}; pass clips × frames × channels × height × width")
        for name in ("target_BFCHW", "denoised_BFCHW", "clips_BFCHW"):
            self._expect(name, shape, "velocity_BFCHW")
        for name in ("defined_B", "t_B"):
            self._expect(name, shape[:1], "velocity_BFCHW")
        if self.defined_B.dtype != torch.bool:
            raise ValueError(f"defined_B has dtype {self.defined_B.dtype}; pass torch.bool, True where x̂₀ is known")
        if (self.anchor_mean_BCHW is None) != (self.anchor_log_variance_BCHW is None):
            raise ValueError("anchor_mean_BCHW and anchor_log_variance_BCHW come together; pass both, or None twice")
        if self.anchor_mean_BCHW is not None:
            for name in ("anchor_mean_BCHW", "anchor_log_variance_BCHW"):
                self._expect(name, (shape[0], *shape[2:]), "velocity_BFCHW")

    def _expect(self, name: str, wanted: tuple[int, ...], beside: str) -> None:
        shape = tuple(getattr(self, name).shape)
        if shape != wanted:
            raise ValueError(f"{name} has shape {shape}; it must be {wanted} to match {beside}")

    def derived(self) -> VideoDerived:
        """Views that the terms of one call share."""
        return VideoDerived(self)

    def zero(self) -> Tensor:
        """A scalar 0 that can be backpropagated."""
        return self.velocity_BFCHW.sum() * 0.0


class VideoDerived:
    """Quantities shared by the terms of one call, each computed on first use and with the caller's gradient mode."""

    def __init__(self, inputs: VideoTermInputs) -> None:
        self.inputs = inputs

    @cached_property
    def predicted_BFCHW(self) -> Tensor:
        """x̂₀, and the real clip where x̂₀ is not defined: whatever stands there must not reach a gradient."""
        defined_B1111 = self.inputs.defined_B.view(-1, 1, 1, 1, 1)
        return torch.where(defined_B1111, _at_least_float32(self.inputs.denoised_BFCHW), self.real_BFCHW)

    @cached_property
    def real_BFCHW(self) -> Tensor:
        return _at_least_float32(self.inputs.clips_BFCHW)

    @cached_property
    def similarity_BFF(self) -> Tensor:
        """Cosines of the predicted frames of each clip."""
        return _similarity(self.predicted_BFCHW)

    @cached_property
    def data_similarity_BFF(self) -> Tensor:
        """The same of the real frames."""
        return _similarity(self.real_BFCHW)

    def mean(self, values_B: Tensor, counted_B: Tensor) -> Tensor:
        """Mean of the values of the clips that count; 0, still differentiable, when none does."""
        return values_B.masked_fill(~counted_B, 0.0).sum() / counted_B.sum().clamp(min=1)


def flow(derived: VideoDerived, controls: Mapping[str, Any]) -> Tensor:
    """Mean squared error of the velocity, ⟨(v − u)²⟩ ≥ 0 over clips, frames and pixels (flow matching, Lipman et al.
    2023).

    Its floor is not 0: several clips pass through one z, and the best v is the mean of their velocities.
    """
    return F.mse_loss(_at_least_float32(derived.inputs.velocity_BFCHW), _at_least_float32(derived.inputs.target_BFCHW))


def orthogonality(derived: VideoDerived, controls: Mapping[str, Any]) -> Tensor:
    """How much the predicted frames of a clip share, mean over clips.

    Plain: mean off-diagonal cosine, in [−1/(F−1), 1]. With `orthogonal_projection`: the share of each frame that lies
    in the span of the frames before it, mean over all but the first, in [0, 1]: Gram–Schmidt takes that share away, so
    this is 1 − ‖what is left‖² ÷ ‖frame‖²; two frames give cos². With `orthogonality_target` "data" either is counted
    only above that of the same clip's real frames, relu(predicted − real), in [0, F/(F−1)], so that real motion is not
    punished. 0 for one frame.

    Raises:
        ValueError: another target.
    """
    target = controls["orthogonality_target"]
    if target not in ("none", "data"):
        raise ValueError(f"orthogonality_target is {target!r}; it must be 'none' or 'data'")
    measure = _spanned_share if controls["orthogonal_projection"] else _mean_pair
    shared_B = measure(derived.similarity_BFF)
    if target == "data":
        shared_B = F.relu(shared_B - measure(derived.data_similarity_BFF))
    return derived.mean(shared_B, derived.inputs.defined_B)


def decoherence(derived: VideoDerived, controls: Mapping[str, Any]) -> Tensor:
    """Mean over pairs of frames of relu(cos(x̂_i, x̂_j) − cos(x_i, x_j)), in [0, 2], over the clips with t < t* only.

    Below t* the frames should have parted; above it alikeness is what an honest mean looks like, and is not punished.
    Pair by pair: a clip that is too alike here and too different there does not come out even.
    """
    inputs = derived.inputs
    excess_BFF = F.relu(derived.similarity_BFF - derived.data_similarity_BFF)
    return derived.mean(_mean_pair(excess_BFF), inputs.defined_B & (inputs.t_B < inputs.t_star))


def temporal(derived: VideoDerived, controls: Mapping[str, Any]) -> Tensor:
    """Mean squared difference of predicted and real changes, ⟨((x̂_{i+1} − x̂_i) − (x_{i+1} − x_i))²⟩ ≥ 0; 0 for one
    frame. What frames have in common cancels: only motion is compared.
    """
    inputs = derived.inputs
    if inputs.clips_BFCHW.shape[1] < 2:
        return inputs.zero()
    error_BFCHW = derived.predicted_BFCHW - derived.real_BFCHW
    return derived.mean(error_BFCHW.diff(dim=1).square().flatten(1).mean(1), inputs.defined_B)


def anchor_kl(derived: VideoDerived, controls: Mapping[str, Any]) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) = ½(μ² + σ² − ln σ² − 1) ≥ 0, nats per value of the anchor: what makes a draw from the
    standard normal an anchor that the model has met (Kingma & Welling 2014).
    """
    mean_BCHW, log_variance_BCHW = derived.inputs.anchor_mean_BCHW, derived.inputs.anchor_log_variance_BCHW
    assert mean_BCHW is not None, "the term is left out of a batch without an anchor network"
    assert log_variance_BCHW is not None, "an anchor's mean and log-variance come together"
    mean, log_variance = _at_least_float32(mean_BCHW), _at_least_float32(log_variance_BCHW)
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).mean()


def _at_least_float32(values: Tensor) -> Tensor:
    """At least float32, for a reduction."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _similarity(clips_BFCHW: Tensor) -> Tensor:
    """Cosine of each pair of frames of a clip, [B, F, F]; 0 with a frame that is 0 throughout."""
    unit_BFD = F.normalize(clips_BFCHW.flatten(2), dim=-1)
    return unit_BFD @ unit_BFD.transpose(1, 2)


def _mean_pair(values_BFF: Tensor) -> Tensor:
    """Mean over pairs of different frames, [B]; 0 for one frame."""
    frames = values_BFF.shape[-1]
    on_diagonal_B = values_BFF.diagonal(dim1=1, dim2=2).sum(-1)
    return (values_BFF.sum((1, 2)) - on_diagonal_B) / max(1, frames * (frames - 1))


def _spanned_share(similarity_BFF: Tensor) -> Tensor:
    """Mean share of each frame but the first that the frames before it span, [B]; 0 for one frame.

    Gram–Schmidt on the Gram matrix: with G + r·1 = L Lᵀ, L_ii² is the squared length that is left of unit frame i.
    """
    frames = similarity_BFF.shape[-1]
    if frames < 2:
        return similarity_BFF.sum((1, 2)) * 0.0
    ridge_FF = RIDGE * torch.eye(frames, dtype=similarity_BFF.dtype, device=similarity_BFF.device)
    left_BF = torch.linalg.cholesky(similarity_BFF + ridge_FF).diagonal(dim1=1, dim2=2).square() - RIDGE
    length_BF = similarity_BFF.diagonal(dim1=1, dim2=2)
    return (length_BF - left_BF)[:, 1:].mean(1)
