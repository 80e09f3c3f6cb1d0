"""A video run's workload: its facts and files, and clips as records: drawn from fixed seeds, measured, kept as pixels.

The same function serves the live model between two steps, a paused one, and a checkpoint opened in another process.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qcore.config import ClipSamplingConfig, VideoRunConfig
from qcore.data import open_clips, skipped_facts, skipped_lines, skipped_sentence
from qcore.detect import Facts
from qcore.diagnostics import FrameReference, FrameStatistics, frame_reference, frame_statistics, singular_spectrum
from qcore.flow import PathSample, PathWeights
from qcore.models import parameter_count
from qcore.objectives import term_weights, total_loss
from qcore.probes import ProbeInput, catalog
from qcore.probes import video as video_probes
from qcore.probes.protocol import ClipInput, Keep
from qcore.probes.runner import Runner
from qcore.store import Generation, RunWriter
from qcore.train.checkpoint import load_checkpoint, restore_model, restore_optimizer
from qcore.train.sampled.clips import FlowTrail, compare_average, compare_flow
from qcore.train.video_engine import MEASURED_CLIPS, VideoEngine, VideoResult, sampling_correlation
from qcore.train.workload import SAMPLE_ERRORS, EngineStep, Sampler, Workload, weight_versions

REFERENCE_CLIPS = 256
KEPT_CLIPS = 8
TIMED_CLIPS, TIMED_DRAWS = 256, 32
"""Times that are held against the distribution asked for: as many clips as this, of no more draws."""
_SERIES = catalog.frames("generated", "")


class ClipSampler(Sampler):
    """A video model that draws clips. writer: takes the arrays of timeline samples, where there is one."""

    def __init__(self, config: VideoRunConfig, engine: VideoEngine) -> None:
        self.config: VideoRunConfig = config
        self.engine = engine
        self._writer: RunWriter | None = None
        self._compared: dict[str, float] = {}
        """How the newest sample of the timeline agrees with the trained model."""
        """Of the averaged weights, at the sample before."""
        clips = engine.dataset.validation_clips(REFERENCE_CLIPS)
        self._reference: FrameReference = frame_reference(clips)
        self._of_data = frame_statistics(clips, reference=self._reference).scalars()

    def sample(
        self,
        draft: Generation,
        settings: ClipSamplingConfig,
        controls: Mapping[str, Any],
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[Generation]:
        """Clips appear in pieces; the samples of the timeline are more than are shown, so that they can be measured."""
        started = time.monotonic()
        timeline = draft.kind == "timeline"
        count = max(settings.sampled_clips, self.config.probes.measured_clips) if timeline else settings.sampled_clips
        path_of_z: dict[float, list[Tensor]] = {}
        trail = FlowTrail()

        def remember(start: int, t: float, z_BFCHW: Tensor) -> None:
            if timeline and start == 0:
                path_of_z.setdefault(t, []).append(z_BFCHW)
                trail.remember(start, t, z_BFCHW)

        pieces: list[Tensor] = []
        rows: list[dict[str, object]] = []
        status = "done"
        stats: dict[str, Any] = {}
        model = self.engine.sampled_model(settings)
        versions = weight_versions(model)
        try:
            with trail.hear(model, on=timeline):
                for piece in self.engine.sample(settings, controls, count, on_step=remember, stop=stop):
                    pieces.append(piece.float().cpu())
                    wanted = settings.sampled_clips - len(rows)
                    rows += [_clip_row(clip) for clip in self.engine.shown(pieces[-1][: max(0, wanted)])]
                    yield replace(draft, tokens=list(rows), status="running")
        except SAMPLE_ERRORS as error:
            status, stats["error"] = "failed", str(error) or type(error).__name__
        # a rewind may put other weights in while clips are drawn: they are then of neither
        if timeline and status == "done" and weight_versions(model) == versions:
            self._compared = compare_flow(self.engine, trail, settings, controls) | self._average(settings, controls)
        if pieces:
            clips = torch.cat(pieces)
            found = frame_statistics(self.engine.measured_samples(clips), reference=self._reference)
            stats |= found.scalars()
            if timeline and self._writer is not None:
                arrays = self._arrays(clips, found, path_of_z, settings)
                self._writer.log_arrays(draft.step, "generated", arrays)
        stats |= {
            "clips": float(sum(map(len, pieces))),
            "noise_correlation": sampling_correlation(settings, controls),
            "seconds": time.monotonic() - started,
        }
        yield replace(draft, tokens=rows, stats=stats, status=status)

    def _average(self, settings: ClipSamplingConfig, controls: Mapping[str, Any]) -> dict[str, float]:
        """How the averaged weights are doing, where clips are drawn from them."""
        if self.engine.ema is None or not settings.averaged_weights:
            return {}
        return compare_average(self.engine, controls)

    def _arrays(
        self,
        clips_NFCHW: Tensor,
        found: FrameStatistics,
        path_of_z: Mapping[float, list[Tensor]],
        settings: ClipSamplingConfig,
    ) -> dict[str, np.ndarray]:
        """What is kept of a timeline sample: a few clips, how alike their frames are, and the way they came."""
        times = sorted(path_of_z, reverse=True)
        spectra = [singular_spectrum(torch.cat(path_of_z[t]).float().cpu()) for t in times]
        return {
            **{f"{name}_generated": value for name, value in found.arrays().items()},
            "clips": self.engine.shown(clips_NFCHW[:KEPT_CLIPS]),
            "seed": np.asarray(settings.sample_seed, dtype=np.int64),
            "tomography_t": np.asarray(times, dtype=np.float32),
            "tomography": np.stack(spectra),
        }


class VideoWorkload(ClipSampler, Workload):
    """One video run's engine and all that depends on its being one."""

    engine: VideoEngine

    def __init__(self, config: VideoRunConfig) -> None:
        super().__init__(config, build_video_engine(config))
        self.fingerprint = self.engine.dataset.fingerprint

    def runner(self, writer: RunWriter) -> Runner:
        self._writer = writer
        version = self.config.probes.probe_version
        return Runner(VideoProbed(self.engine, self._reference), writer, probe_version=version)

    def facts(self, controls: Mapping[str, Any], planned_lr_sum: float) -> Facts:
        model, optim = self.config.model, self.config.optim
        return Facts(
            kind=model.kind,
            family="video",
            width=model.width,
            blocks=model.layers,
            planned_lr_sum=planned_lr_sum,
            term_ranges={term.name: (term.low, term.high) for term in self.engine.terms},
            hinges=frozenset(term.name for term in self.engine.terms if term.hinge),
            accumulation=optim.accumulation,
            fault=self.config.fault,
            controls=dict(controls),
            skipped=tuple((skipped.path, skipped.reason) for skipped in self.engine.dataset.skipped),
            steps_per_pass=len(self.engine.dataset.train_NFCHW) / (optim.batch_size * optim.accumulation),
        )

    def term_weights(self, step: int, controls: Mapping[str, Any]) -> Mapping[str, float]:
        return term_weights(controls, self.engine.terms, step)

    def data_measurements(self, controls: Mapping[str, Any]) -> dict[str, float]:
        del controls
        return {catalog.frames("held_out", name): value for name, value in self._of_data.items()}

    def describe(self, run_dir: Path) -> dict[str, Any]:
        data, optim = self.engine.dataset, self.config.optim
        return {
            "family": "video",
            "parameters": parameter_count(self.engine.model),
            "corpus": data.name,
            "frames_per_step": optim.batch_size * optim.accumulation * data.frames,
            "clip": {
                "frames": data.frames,
                "channels": data.channels,
                "height": data.height,
                "width": data.width,
                "pixel_mean": data.mean,
                "pixel_std": data.std,
            },
            "train_clips": data.train_count,
            "validation_clips": data.validation_count,
            "data_frames": self._of_data,
            **skipped_facts(data.skipped),
            "data_report": [
                f"{data.train_count:,} training clips, {data.validation_count:,} held out",
                *([skipped_sentence(data.skipped)] if data.skipped else []),
                *data.notes,
            ],
            "data_warnings": skipped_lines(data.skipped),
        }

    def timeline(self, controls: Mapping[str, Any]) -> list[tuple[str, Any]]:
        sampling = self.config.sampling
        correlation = {"sample_noise_correlation": controls["sample_noise_correlation"]}
        return [(f"seed {sampling.sample_seed}", sampling.model_copy(update=correlation))]

    def compare_samples(self, samples: Sequence[Generation]) -> dict[str, float]:
        """What was found while the newest sample was drawn, and how many failed."""
        found, self._compared = self._compared, {}
        if samples:
            found[catalog.SAMPLER_FAILED_SHARE] = sum(one.status == "failed" for one in samples) / len(samples)
        return found

    def heard(self, stats: Mapping[str, Any]) -> dict[str, float]:
        found = {f"{_SERIES}{name}": float(stats[name]) for name in self._of_data if name in stats}
        if found:
            found[catalog.FLOW_SAMPLE_NOISE_CORRELATION] = float(stats["noise_correlation"])
        return found


class VideoProbed:
    """A video run for its probes: what the step had, and what the engine provides.

    Attributes:
        reference: the held-out clips' own numbers.
    """

    capabilities = frozenset({"frames", "terms", "weights", "hidden"})
    probes = video_probes.PROBES

    def __init__(self, engine: VideoEngine, reference: FrameReference) -> None:
        self._engine = engine
        self._reference = reference

    @property
    def term_names(self) -> list[str]:
        return [term.name for term in self._engine.terms]

    def parameter_names(self) -> Iterator[str]:
        return (name for name, _ in self._engine.model.named_parameters())

    def record_update(self) -> None:
        """Record the update that is about to be made."""
        self._engine.updates.arm()

    def probe_input(self, step: int, result: VideoResult, controls: Mapping[str, Any], keep: Keep) -> ProbeInput:
        bridge, hidden = result.bridge, result.hidden_BND
        anchor = bridge.anchor_output
        access = VideoStep(self._engine, step, result, controls)
        return ProbeInput(
            step=step,
            controls=controls,
            terms=result.terms,
            weights=term_weights(controls, self._engine.terms, step),
            outputs=result.velocity_BFCHW,
            targets=bridge.sample.velocity_BFCHW,
            mask=torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device),
            hidden={"last": hidden},
            rows=slice(0, MEASURED_CLIPS),
            engine=access,
            keep=keep,
            clips=ClipInput(
                clips_BFCHW=result.clips_BFCHW,
                latents_BFCHW=result.latents_BFCHW,
                z_BFCHW=bridge.sample.z_BFCHW,
                t_B=bridge.draw.t_B,
                noise_BFCHW=bridge.noise_BFCHW,
                anchor_BCHW=bridge.anchor_BCHW,
                anchor_mean_BCHW=anchor.mean_BCHW if anchor else None,
                anchor_log_variance_BCHW=anchor.log_variance_BCHW if anchor else None,
                denoised_BFCHW=result.denoised_BFCHW,
                defined_B=result.defined_B,
                t_star=float(torch.as_tensor(bridge.path.settings.t_star).detach()),
                uses_anchor=bridge.path.uses_anchor,
                reference=self._reference,
                engine=access,
            ),
        )


class VideoStep(EngineStep):
    """What the engine of a video run provides about one step."""

    _engine: VideoEngine
    _result: VideoResult

    def measured_frames(self) -> Mapping[str, Tensor]:
        return self._engine.measured_frames(self._result)

    def decode(self, latents_BFCHW: Tensor) -> Tensor:
        return self._engine.model.codec.decode(latents_BFCHW)

    def shown(self, clips_BFCHW: Tensor) -> np.ndarray:
        return self._engine.shown(clips_BFCHW)

    def path_weights(self, t: Tensor) -> PathWeights:
        return self._result.bridge.path.weights(t)

    def path_jumps(self) -> tuple[float, ...]:
        return self._result.bridge.path.jumps()

    def moving_point(self, rows: slice) -> tuple[Callable[[Tensor], PathSample], tuple[float, ...]]:
        bridge = self._result.bridge
        noise, anchor = bridge.noise_BFCHW[rows].double(), bridge.anchor_BCHW[rows].double()
        latents = self._result.latents_BFCHW[rows].double()
        path = self._engine.path({**self._controls})
        return lambda t_B: self._engine.velocity_target(path, noise, anchor, latents, t_B), path.jumps()

    def velocity(self, z_BFCHW: Tensor, t_B: Tensor, anchor_BCHW: Tensor) -> Tensor:
        self._engine.model.eval()
        output = self._engine.predict(self._engine.model, z_BFCHW, t_B, anchor_BCHW, self._controls)
        return output.velocity_BFCHW.float()

    def times(self) -> Tensor:
        """From the draws of the newest updates, or of the first ones."""
        clips = self._result.clips_BFCHW
        updates = max(1, min(TIMED_DRAWS, -(-TIMED_CLIPS // len(clips))))
        last = self._step * self._engine.config.optim.accumulation
        first = max(0, last - updates)
        draws = (self._engine.draw(position, clips, self._controls) for position in range(first, first + updates))
        return torch.cat([draw.t_B for draw in draws])

    def velocity_gradient(self) -> Tensor | None:
        """Without the model: its velocity is where the gradient begins."""
        result, bridge = self._result, self._result.bridge
        velocity = result.velocity_BFCHW.clone().requires_grad_()
        denoised, defined_B = bridge.path.denoised(bridge.sample.z_BFCHW, velocity, bridge.anchor_BCHW, bridge.draw.t_B)
        seen = self._engine._inputs(result.step, velocity, denoised, defined_B, result.latents_BFCHW, bridge)
        total = total_loss(seen, self._controls, self._engine.terms)
        if not total.loss.requires_grad:
            return None
        gradient: Tensor | None = torch.autograd.grad(total.loss, velocity, allow_unused=True)[0]
        return gradient


def build_video_engine(config: VideoRunConfig) -> VideoEngine:
    """The engine of a run, with its fault planted if it asks for one."""
    engine = VideoEngine(config, open_clips(config.data))
    if config.fault:
        from qcore.faults import plant  # a resource of demonstrations and tests: healthy runs never load it

        plant(config.fault, engine)
    return engine


def load_video(config: VideoRunConfig, folder: Path) -> tuple[Sampler, Mapping[str, Any]]:
    """Model on the CPU with a checkpoint's weights. Raises `CheckpointError` for a bad folder."""
    checkpoint = load_checkpoint(folder)
    on_cpu = config.with_values({"device": "cpu"})
    assert isinstance(on_cpu, VideoRunConfig)
    engine = build_video_engine(on_cpu)
    restore_model(engine.saved, checkpoint)
    if config.fault:
        restore_optimizer(engine.model, engine.optimizer, checkpoint)
    return ClipSampler(config, engine), checkpoint.state.controls


def _clip_row(pixels_FHWC: np.ndarray) -> dict[str, object]:
    return {"shape": list(pixels_FHWC.shape), "pixels": base64.b64encode(pixels_FHWC.tobytes()).decode("ascii")}
