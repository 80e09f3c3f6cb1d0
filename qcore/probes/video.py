"""The probes of a video run: predicted frames beside the data's, the path and its velocity, the order of frames."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from qcore.diagnostics import (
    FrameReference,
    anchor_statistics,
    frame_statistics,
    hidden_geometry,
    path_check,
    position_response,
)
from qcore.objectives import term_weights
from qcore.store import RunWriter
from qcore.train.instruments import Instruments, Probe, Reading, jittered
from qcore.train.video_engine import MEASURED_CLIPS, VideoEngine, VideoResult

SHOWN_CLIPS = 4
PATH_POINTS = 101


class VideoInstruments(Instruments):
    """All probes of one video run. reference: the held-out clips' own numbers."""

    _engine: VideoEngine

    def __init__(self, engine: VideoEngine, writer: RunWriter, reference: FrameReference) -> None:
        self._reference = reference
        super().__init__(engine, writer)

    def _make_probes(self) -> list[Probe]:
        return [
            Probe("frames", "frames_every", self._frames),
            Probe("terms", "frames_every", self._terms),
            Probe("path", "frames_every", self._path),
            Probe("hidden", "frames_every", self._hidden),
            Probe("gradients", "gradients_every", self._gradients),
            Probe("weights", "gradients_every", self._weights),
            Probe("velocity", "checks_every", self._velocity),
            Probe("positions", "checks_every", self._positions),
        ]

    def _weights_in_force(self, reading: Reading) -> Mapping[str, float]:
        return term_weights(reading.controls, self._engine.terms, reading.step)

    def _terms(self, reading: Reading) -> dict[str, float]:
        measured = self._engine.measure_terms(reading.result, reading.controls)
        return {f"term/{name}": value for name, value in measured.items() if name not in reading.result.terms}

    def _frames(self, reading: Reading) -> dict[str, float]:
        """Clips of the batch and what the model makes of them."""
        result: VideoResult = reading.result
        found: dict[str, float] = {}
        arrays: dict[str, np.ndarray] = {}
        for name, clips in self._engine.measured_frames(result).items():
            if len(clips) < 2:
                continue  # a path that says nothing of the data at any of the drawn times
            # Energy is told from each clip's own mean frame, so that data, predicted and generated clips compare.
            statistics = frame_statistics(clips, reference=self._reference)
            found |= {f"frames/{name}/{measure}": value for measure, value in statistics.scalars().items()}
            arrays |= {f"{key}_{name}": value for key, value in statistics.arrays().items()}
        shown = slice(0, SHOWN_CLIPS)
        codec = self._engine.model.codec
        arrays["data"] = self._engine.shown(result.clips_BFCHW[shown])
        arrays["noised"] = self._engine.shown(codec.decode(result.bridge.sample.z_BFCHW[shown]))
        arrays["denoised"] = self._engine.shown(codec.decode(result.denoised_BFCHW[shown]))
        arrays["t"] = _floats(result.bridge.draw.t_B[shown])
        self._writer.log_arrays(reading.step, "frames", arrays)
        return found

    def _path(self, reading: Reading) -> dict[str, float]:
        """Weights of the path in force, the times that were drawn, and the anchor."""
        bridge = reading.result.bridge
        t = torch.linspace(0, 1, PATH_POINTS, dtype=torch.float64, device=self._engine.device)
        with torch.no_grad():
            weights = bridge.path.weights(t)
        arrays = {"t": t, "alpha": weights.alpha, "beta": weights.beta, "gamma": weights.gamma}
        arrays["sampled"] = bridge.draw.t_B
        arrays["jumps"] = torch.tensor(bridge.path.jumps())
        self._writer.log_arrays(reading.step, "path", {name: _floats(value) for name, value in arrays.items()})
        found = {
            "flow/noise_correlation": float(reading.controls["noise_correlation"]),
            "flow/t_star": float(torch.as_tensor(bridge.path.settings.t_star).detach()),
        }
        if bridge.path.uses_anchor or bridge.anchor_output is not None:
            found |= self._anchor(reading)
        return found

    def _anchor(self, reading: Reading) -> dict[str, float]:
        engine, bridge = self._engine, reading.result.bridge
        mean = bridge.anchor_output.mean_BCHW if bridge.anchor_output else bridge.anchor_BCHW
        log_variance = bridge.anchor_output.log_variance_BCHW if bridge.anchor_output else None
        arrays = {"mean": engine.shown(engine.model.codec.decode(mean[:SHOWN_CLIPS, None]))[:, 0]}
        if log_variance is None:
            arrays["spread"] = _floats(mean.std(0, correction=0).mean(0, keepdim=True))
        else:
            arrays["spread"] = _floats((0.5 * log_variance[:SHOWN_CLIPS]).exp().mean(1))
        self._writer.log_arrays(reading.step, "anchor", arrays)
        return {f"anchor/{name}": value for name, value in anchor_statistics(mean, log_variance).scalars().items()}

    def _hidden(self, reading: Reading) -> dict[str, float]:
        hidden = reading.result.hidden_BND[:MEASURED_CLIPS]
        geometry = hidden_geometry(hidden, torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device))
        self._writer.log_arrays(reading.step, "spectrum", geometry.arrays())
        return geometry.scalars()

    def _velocity(self, reading: Reading) -> dict[str, float]:
        """The target velocity against a finite difference of the path, in float64."""
        engine, bridge = self._engine, reading.result.bridge
        rows = slice(0, MEASURED_CLIPS)
        # Only the path is judged: with everything else fixed, its point must move as its velocity says.
        noise, anchor = bridge.noise_BFCHW[rows].double(), bridge.anchor_BCHW[rows].double()
        latents = reading.result.latents_BFCHW[rows].double()
        path = engine.path({**reading.controls})
        with torch.no_grad():
            error = path_check(
                lambda t_B: engine.velocity_target(path, noise, anchor, latents, t_B),
                bridge.draw.t_B[rows].double(),
                jumps=path.jumps(),
            )
        return {} if math.isnan(error) else {"flow/velocity_error": error}

    def _positions(self, reading: Reading) -> dict[str, float]:
        """What the velocity owes to the order of frames; on jittered weights, since a new head answers nothing."""
        engine, result = self._engine, reading.result
        rows = slice(0, MEASURED_CLIPS)
        z_BFCHW, t_B = result.bridge.sample.z_BFCHW[rows], result.bridge.draw.t_B[rows]
        anchor = result.bridge.anchor_BCHW[rows]
        engine.model.eval()

        def velocity(z: Tensor, t: Tensor) -> Tensor:
            return engine.predict(engine.model, z, t, anchor, reading.controls).velocity_BFCHW.float()

        with jittered(engine.model, reading.step), torch.no_grad():
            response = position_response(velocity, z_BFCHW, t_B, seed=reading.step)
        return {} if math.isnan(response) else {"flow/position_response": response}


def _floats(value: Tensor) -> np.ndarray:
    return value.detach().float().cpu().numpy()
