"""V2, V3, V5: the data measured in place of the model, a velocity that is no derivative, frames without an order.

The other video faults (V1, V4, V6) are no mistakes in code but configurations; see `qcore.config.fault_bank`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from qcore.faults.patching import VideoPlantable, no_clips_error, override
from qcore.flow import Path, PathSample
from qcore.models import VideoFlow, VideoOutput


def data_measured(engine: VideoPlantable) -> None:
    """V2: measures of predicted and of generated clips are taken from the data."""
    override(engine, "measured_frames", _frames_of_data)
    override(engine, "measured_samples", _clips_of_data)


def _frames_of_data(self: VideoPlantable, result: Any) -> dict[str, Tensor]:
    frames: dict[str, Tensor] = type(self).measured_frames(self, result)
    return {**frames, "denoised": frames["data"]}


def _clips_of_data(self: VideoPlantable, samples_NFCHW: Tensor) -> Tensor:
    return self.dataset.validation_clips(len(samples_NFCHW)).to(samples_NFCHW)


def published_velocity(engine: VideoPlantable) -> None:
    """V3: the target has the published derivatives beside the path's normalised weights. Plain and ring have nothing to
    normalise and stay right.
    """
    override(engine, "velocity_target", _published_target)


def _published_target(
    self: VideoPlantable,
    path: Path,
    noise_BFCHW: Tensor,
    anchor_BCHW: Tensor,
    clips_BFCHW: Tensor,
    t_B: Tensor,
) -> PathSample:
    right: PathSample = type(self).velocity_target(self, path, noise_BFCHW, anchor_BCHW, clips_BFCHW, t_B)
    weights = path.unnormalised_velocity_weights(t_B)
    d_alpha, d_beta, d_gamma = (
        slope_B.view(-1, 1, 1, 1, 1) for slope_B in (weights.d_alpha, weights.d_beta, weights.d_gamma)
    )
    velocity_BFCHW = d_alpha * noise_BFCHW + d_gamma * clips_BFCHW
    if path.uses_anchor:
        velocity_BFCHW = velocity_BFCHW + d_beta * anchor_BCHW.unsqueeze(1)
    return replace(right, velocity_BFCHW=velocity_BFCHW)


def no_frame_embedding(engine: VideoPlantable) -> None:
    """V5: the frame embedding is left out, in the model and in its running average.

    Raises:
        ValueError: for a model that has none.
    """
    if not isinstance(engine.model, VideoFlow):
        raise no_clips_error(engine)
    for module in [*engine.model.modules(), *(engine.ema.modules() if engine.ema is not None else ())]:
        if isinstance(module, VideoFlow):
            override(module, "forward", _forward_without_order)


def _forward_without_order(
    self: VideoFlow, z_BFCHW: Tensor, t_B: Tensor, *, amplification: float = 0.0, **more: Any
) -> VideoOutput:
    del amplification
    return VideoFlow.forward(self, z_BFCHW, t_B, amplification=0.0, **more)


PLANTERS = {"V2": data_measured, "V3": published_velocity, "V5": no_frame_embedding}
