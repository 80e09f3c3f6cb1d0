"""The probes of a run on clips: predicted frames beside the data's, the path and its velocity, the order of frames."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from qcore.diagnostics import anchor_statistics, frame_statistics, hidden_geometry, path_check, position_response
from qcore.probes import catalog
from qcore.probes.inputs import clip_inputs
from qcore.probes.layers import layers
from qcore.probes.protocol import Probe, ProbeInput, clips_of
from qcore.probes.terms import gradients, terms, weights

SHOWN_CLIPS = 4
PATH_POINTS = 101


def _frames(seen: ProbeInput) -> dict[str, float]:
    """Clips of the batch and what the model makes of them."""
    clips = clips_of(seen)
    found: dict[str, float] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, frames in clips.engine.measured_frames().items():
        if len(frames) < 2:
            continue  # a path that says nothing of the data at any of the drawn times
        # Energy is told from each clip's own mean frame, so that data, predicted and generated clips compare.
        statistics = frame_statistics(frames, reference=clips.reference)
        found |= {catalog.frames(name, measure): value for measure, value in statistics.scalars().items()}
        arrays |= {f"{key}_{name}": value for key, value in statistics.arrays().items()}
    shown, engine = slice(0, SHOWN_CLIPS), clips.engine
    arrays["data"] = engine.shown(clips.clips_BFCHW[shown])
    arrays["noised"] = engine.shown(engine.decode(clips.z_BFCHW[shown]))
    arrays["denoised"] = engine.shown(engine.decode(clips.denoised_BFCHW[shown]))
    arrays["t"] = _floats(clips.t_B[shown])
    seen.keep("frames", arrays)
    return found


def _path(seen: ProbeInput) -> dict[str, float]:
    """Weights of the path in force, the times that were drawn, and the anchor."""
    clips = clips_of(seen)
    t = torch.linspace(0, 1, PATH_POINTS, dtype=torch.float64, device=seen.outputs.device)
    with torch.no_grad():
        along = clips.engine.path_weights(t)
    arrays = {"t": t, "alpha": along.alpha, "beta": along.beta, "gamma": along.gamma}
    arrays["sampled"] = clips.t_B
    arrays["jumps"] = torch.tensor(clips.engine.path_jumps())
    seen.keep("path", {name: _floats(value) for name, value in arrays.items()})
    found = {
        catalog.FLOW_NOISE_CORRELATION: float(seen.controls["noise_correlation"]),
        catalog.FLOW_T_STAR: clips.t_star,
    }
    if clips.uses_anchor or clips.anchor_mean_BCHW is not None:
        found |= _anchor(seen)
    return found


def _anchor(seen: ProbeInput) -> dict[str, float]:
    clips = clips_of(seen)
    mean = clips.anchor_BCHW if clips.anchor_mean_BCHW is None else clips.anchor_mean_BCHW
    log_variance = clips.anchor_log_variance_BCHW
    arrays = {"mean": clips.engine.shown(clips.engine.decode(mean[:SHOWN_CLIPS, None]))[:, 0]}
    if log_variance is None:
        arrays["spread"] = _floats(mean.std(0, correction=0).mean(0, keepdim=True))
    else:
        arrays["spread"] = _floats((0.5 * log_variance[:SHOWN_CLIPS]).exp().mean(1))
    seen.keep("anchor", arrays)
    return {catalog.anchor(name): value for name, value in anchor_statistics(mean, log_variance).scalars().items()}


def _hidden(seen: ProbeInput) -> dict[str, float]:
    geometry = hidden_geometry(seen.hidden["last"][seen.rows], seen.mask[seen.rows])
    seen.keep("spectrum", geometry.arrays())
    return geometry.scalars()


def _velocity(seen: ProbeInput) -> dict[str, float]:
    """The target velocity against a finite difference of the path, in float64."""
    clips = clips_of(seen)
    with torch.no_grad():
        # Only the path is judged: with everything else fixed, its point must move as its velocity says.
        point_at, jumps = clips.engine.moving_point(seen.rows)
        error = path_check(point_at, clips.t_B[seen.rows].double(), jumps=jumps)
    return {} if math.isnan(error) else {catalog.FLOW_VELOCITY_ERROR: error}


def _positions(seen: ProbeInput) -> dict[str, float]:
    """What the velocity owes to the order of frames; on jittered weights, since a new head answers nothing."""
    clips, rows = clips_of(seen), seen.rows
    anchor = clips.anchor_BCHW[rows]

    def velocity(z_BFCHW: Tensor, t_B: Tensor) -> Tensor:
        return clips.engine.velocity(z_BFCHW, t_B, anchor)

    with seen.engine.jittered(seen.step), torch.no_grad():
        response = position_response(velocity, clips.z_BFCHW[rows], clips.t_B[rows], seed=seen.step)
    return {} if math.isnan(response) else {catalog.FLOW_POSITION_RESPONSE: response}


def _floats(value: Tensor) -> np.ndarray:
    return value.detach().float().cpu().numpy()


_FRAMES, _TERMS = frozenset({"frames"}), frozenset({"terms"})
PROBES = (
    Probe("frames", _FRAMES, "frames_every", _frames),
    Probe("terms", _TERMS, "frames_every", terms),
    Probe("path", _FRAMES, "frames_every", _path),
    Probe("hidden", frozenset({"hidden"}), "frames_every", _hidden),
    Probe("gradients", _TERMS, "gradients_every", gradients),
    Probe("weights", frozenset({"weights"}), "gradients_every", weights, records_update=True),
    Probe("velocity", _FRAMES, "checks_every", _velocity),
    Probe("positions", _FRAMES, "checks_every", _positions),
    Probe("layers", frozenset({"hidden"}), "gradients_every", layers),
    Probe("clips", _FRAMES, "checks_every", clip_inputs),
)
"""In the order in which they are measured."""
