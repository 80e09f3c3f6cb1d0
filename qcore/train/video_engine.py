"""One optimizer step and one evaluation of a video flow model, without threads, files or clocks.

All random numbers of a micro-batch (noise, times, anchor draws) are one `Draw`, a pure function of (seed, position):
a step repeats bit for bit, and a probe can look at the same path at a neighbouring time. The flow acts on the latents
of the model's codec; what is measured and shown is decoded back to pixels.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from qcore.automation.learning_rate import learning_rate
from qcore.config import VideoRunConfig
from qcore.data import ClipDataset, TextStates
from qcore.flow import Path, PathSample, PathSettings, correlated_noise, make_path, statistical_anchor
from qcore.models import AnchorOutput, VideoFlow, VideoOutput, build_video_model, fit_codec
from qcore.models.video.ltx import LTXVideo
from qcore.objectives import VIDEO_TERMS, Total, VideoTermInputs, measure_terms, total_loss
from qcore.probes import catalog
from qcore.sampling import clip_noise, clip_seeds, draw_clips
from qcore.train.engine import RANDOM_LOCK, BaseEngine, StepResult, make_optimizer

MEASURED_CLIPS = 8
ANCHOR_CLIPS = 256
CODEC_STEPS = 300
HELD_OUT = 1 << 31
"""Positions from here on are draws of the held-out batches; updates never come so far."""
_ANCHOR_DRAW = HELD_OUT - 1


@dataclass(frozen=True)
class Draw:
    """What a micro-batch is drawn with: random numbers, standard normal but for t in [0, 1), and its clips' prompts.

    Attributes:
        anchor: three for the statistical recipes.
        posterior, jitter: for the anchor network, None without one.
        text: prompt embeddings, where the data bring them.
    """

    own_BFCHW: Tensor
    shared_BCHW: Tensor
    anchor_3BCHW: Tensor
    t_B: Tensor
    posterior_BCHW: Tensor | None = None
    jitter_BFCHW: Tensor | None = None
    text: TextStates | None = None


@dataclass(frozen=True)
class Bridge:
    """Latents on their way to noise: the path in force, its noise and anchor, the point z_t and the velocity there."""

    path: Path
    noise_BFCHW: Tensor
    anchor_BCHW: Tensor
    anchor_output: AnchorOutput | None
    draw: Draw
    sample: PathSample


@dataclass(frozen=True)
class VideoResult(StepResult):
    """A step of a video model, with its last micro-batch for the probes (detached).

    clips: standardised pixels · latents: what the flow acts on · denoised: x̂₀ of the prediction, in latents; where
    `defined_B` is false the path says nothing of the data at that time.
    """

    step: int
    clips_BFCHW: Tensor
    latents_BFCHW: Tensor
    bridge: Bridge
    velocity_BFCHW: Tensor
    denoised_BFCHW: Tensor
    defined_B: Tensor
    hidden_BND: Tensor


class VideoEngine(BaseEngine):
    """Model, averaged model, optimizer and clips of one video run on its device."""

    config: VideoRunConfig
    model: VideoFlow | LTXVideo
    unit = "frames"
    eval_name = catalog.EVAL_FLOW
    speed_name = catalog.TRAIN_FRAMES_PER_SECOND

    def __init__(self, config: VideoRunConfig, dataset: ClipDataset) -> None:
        super().__init__(config)
        self.dataset = dataset
        with RANDOM_LOCK:
            self.model = build_video_model(config.model, dataset.shape, seed=config.seed)
            self._fit_codec()
        self._take_prompt()
        self.model.to(self.device)
        decay = config.model.ema_decay
        self.ema = AveragedModel(self.model, multi_avg_fn=_averaging(decay)) if decay else None
        self.saved = nn.ModuleDict({"model": self.model, "ema": self.ema}) if self.ema else self.model
        self.optimizer = make_optimizer(self.model)
        self.terms = VIDEO_TERMS
        self._dropout = float(getattr(config.model, "lora_dropout", 0.0))
        self._validation: list[Tensor] | None = None

    # one step

    def step(self, step: int, controls: Mapping[str, Any]) -> VideoResult:
        rate = self._prepare(step, controls)
        self._to_training()
        self.optimizer.zero_grad(set_to_none=True)
        summed: dict[str, Tensor] = {}
        frames, accumulation = 0, self.config.optim.accumulation
        with self._dropout_stream(step, self._dropout):
            for position in range((step - 1) * accumulation, step * accumulation):
                clips = self._train_batch(position)
                seen = self._forward(step, clips, self.draw(position, clips, controls), controls)
                self._backward(step, total_loss(seen.inputs, controls, self.terms), 1 / accumulation, summed)
                frames += len(clips) * clips.shape[1]
        terms, grad_norm, skipped = self._finish(step, controls, summed)
        if self.ema is not None and not skipped:
            self.ema.update_parameters(self.model)
        return seen.result(terms.pop("loss"), terms, grad_norm, rate, frames, skipped)

    def preview(self, controls: Mapping[str, Any]) -> VideoResult:
        clips = self._train_batch(0)
        self.model.eval()
        with torch.no_grad():
            seen = self._forward(1, clips, self.draw(0, clips, controls), controls)
            total = total_loss(seen.inputs, controls, self.terms)
        terms = {name: float(part) for name, part in total.parts.items()}
        frames = len(clips) * clips.shape[1]
        return seen.result(float(total.loss), terms, math.nan, learning_rate(1, controls), frames, False)

    def measure_terms(self, result: VideoResult, controls: Mapping[str, Any]) -> dict[str, float]:
        """Every term on the step's last micro-batch, without gradient, whatever its weight."""
        bridge = result.bridge
        seen = self._inputs(
            result.step, result.velocity_BFCHW, result.denoised_BFCHW, result.defined_B, result.latents_BFCHW, bridge
        )
        measured = measure_terms(seen, controls, self.terms)
        return {name: float(value) for name, value in measured.items()}

    def evaluate(self, controls: Mapping[str, Any]) -> float:
        """Mean squared error of the velocity on the fixed held-out batches, with the same draws at every step."""
        self.model.eval()
        summed, count = 0.0, 0
        with torch.no_grad():
            for number, clips in enumerate(self.held_out()):
                seen = self._forward(1, clips, self.draw(HELD_OUT + number, clips, controls), controls)
                difference = seen.inputs.velocity_BFCHW.float() - seen.inputs.target_BFCHW.float()
                summed += float(difference.square().mean()) * len(clips)
                count += len(clips)
        return summed / max(1, count)

    def graph(self, result: VideoResult, controls: Mapping[str, Any]) -> Total:
        return self._total(result, slice(0, MEASURED_CLIPS), controls)

    def gradients(self, result: VideoResult, controls: Mapping[str, Any]) -> dict[str, Tensor | None]:
        return self._gradients_of(self._total(result, slice(None), controls))

    def _total(self, result: VideoResult, rows: slice, controls: Mapping[str, Any]) -> Total:
        self.model.eval()
        draw = _rows(result.bridge.draw, rows)
        seen = self._forward(result.step, result.clips_BFCHW[rows], draw, controls, autocast=False)
        return total_loss(seen.inputs, controls, self.terms)

    # the way from clips to the terms

    def draw(self, position: int, clips_BFCHW: Tensor, controls: Mapping[str, Any]) -> Draw:
        """The random numbers of micro-batch `position`; they do not depend on what the controls stand at, but for the
        distribution of t.
        """
        trained = position < _ANCHOR_DRAW  # held-out draws stay those of the weights' seed: forks are judged alike
        seed = self.config.drawn_seed if trained else self.config.seed
        generator = torch.Generator().manual_seed((seed << 32) + position)
        shape = (len(clips_BFCHW), *self.model.latent_shape)
        batch, frame = shape[0], (shape[0], *shape[2:])

        def normal(*size: int) -> Tensor:
            return torch.randn(size, generator=generator).to(self.device)

        if controls["time_sampling"] == "uniform":
            t_B = torch.rand(batch, generator=generator)
        else:
            t_B = torch.randn(batch, generator=generator).sigmoid().clamp(max=1 - 1e-6)
        network = self.model.anchor_network is not None
        return Draw(
            own_BFCHW=normal(*shape),
            shared_BCHW=normal(*frame),
            anchor_3BCHW=normal(3, *frame),
            t_B=t_B.to(self.device),
            posterior_BCHW=normal(*frame) if network else None,
            jitter_BFCHW=normal(*shape) if network else None,
            text=self._text(position),
        )

    def _text(self, position: int) -> TextStates | None:
        """Prompts of the clips of a batch; of a held-out one beyond the positions of training."""
        size = self.config.optim.batch_size
        if position < HELD_OUT:
            return self.dataset.train_text(self.config.drawn_seed, position, size)
        text = self.dataset.validation_text(size * self.config.probes.eval_batches)
        at = (position - HELD_OUT) * size
        return text and TextStates(text.states_BLE[at : at + size], text.mask_BL[at : at + size])

    def path(self, controls: Mapping[str, Any]) -> Path:
        """The path that the controls ask for; a learned t* takes the place of the control's."""
        return make_path(
            controls["flow_path"],
            PathSettings(
                t_star=self.model.t_star_value(controls["t_star"]),
                anchor_width=controls["anchor_width"],
                anchor_decay=controls["anchor_decay"],
                repulsion=controls["repulsion"],
            ),
        )

    def anchor(
        self, path: Path, latents_BFCHW: Tensor, draw: Draw, controls: Mapping[str, Any]
    ) -> tuple[Tensor, AnchorOutput | None]:
        """The anchor of each clip [B, C, H, W], and what the anchor network said, if there is one."""
        network = self.model.anchor_network
        if network is None:
            return statistical_anchor(path.name, latents_BFCHW, draw.anchor_3BCHW), None
        assert draw.jitter_BFCHW is not None
        assert draw.posterior_BCHW is not None
        output = network(
            latents_BFCHW,
            superposition=controls["superposition"],
            jitter_BFCHW=controls["anchor_jitter"] * draw.jitter_BFCHW,
            log_variance_limit=controls["log_variance_limit"],
        )
        return network.sample(output, draw.posterior_BCHW), output

    def bridge(self, latents_BFCHW: Tensor, draw: Draw, controls: Mapping[str, Any]) -> Bridge:
        """Latents, mixed with noise and anchor as the controls ask."""
        path = self.path(controls)
        noise = correlated_noise(draw.own_BFCHW, draw.shared_BCHW, controls["noise_correlation"])
        anchor, output = self.anchor(path, latents_BFCHW, draw, controls)
        sample = self.velocity_target(path, noise, anchor, latents_BFCHW, draw.t_B)
        return Bridge(path, noise, anchor, output, draw, sample)

    def velocity_target(
        self, path: Path, noise_BFCHW: Tensor, anchor_BCHW: Tensor, latents_BFCHW: Tensor, t_B: Tensor
    ) -> PathSample:
        """The point on the path at t and the velocity that the model is to predict there."""
        return path.sample(noise_BFCHW, anchor_BCHW, latents_BFCHW, t_B)

    def predict(
        self,
        model: nn.Module,
        z_BFCHW: Tensor,
        t_B: Tensor,
        anchor_BCHW: Tensor | None,
        controls: Mapping[str, Any],
        text: TextStates | None = None,
    ) -> VideoOutput:
        """Call a model (the live one or its average) as the controls ask."""
        shown = anchor_BCHW if self.config.model.anchor_input else None
        prompt: dict[str, Tensor] = {}
        if text is not None:
            prompt = {"text_BLE": text.states_BLE.to(self.device), "text_mask_BL": text.mask_BL.to(self.device)}
        output: VideoOutput = model(
            z_BFCHW, t_B, amplification=controls["frame_amplification"], anchor_BCHW=shown, **prompt
        )
        return output

    def _forward(
        self,
        step: int,
        clips_BFCHW: Tensor,
        draw: Draw,
        controls: Mapping[str, Any],
        *,
        autocast: bool = True,
    ) -> _Forward:
        with torch.no_grad():
            latents = self.model.codec.encode(clips_BFCHW)
        bridge = self.bridge(latents, draw, controls)
        z_BFCHW, t_B = bridge.sample.z_BFCHW, draw.t_B
        with self._autocast() if autocast else contextlib.nullcontext():
            output = self.predict(self.model, z_BFCHW, t_B, bridge.anchor_BCHW, controls, draw.text)
        velocity = output.velocity_BFCHW.float()
        denoised, defined_B = bridge.path.denoised(z_BFCHW, velocity, bridge.anchor_BCHW, t_B)
        inputs = self._inputs(step, velocity, denoised, defined_B, latents, bridge)
        return _Forward(step, clips_BFCHW, latents, bridge, inputs, output.hidden_BND)

    @staticmethod
    def _inputs(
        step: int,
        velocity_BFCHW: Tensor,
        denoised_BFCHW: Tensor,
        defined_B: Tensor,
        latents_BFCHW: Tensor,
        bridge: Bridge,
    ) -> VideoTermInputs:
        """What the loss terms see of a prediction."""
        output = bridge.anchor_output
        return VideoTermInputs(
            velocity_BFCHW=velocity_BFCHW,
            target_BFCHW=bridge.sample.velocity_BFCHW,
            denoised_BFCHW=denoised_BFCHW,
            defined_B=defined_B,
            clips_BFCHW=latents_BFCHW,
            t_B=bridge.draw.t_B,
            t_star=float(torch.as_tensor(bridge.path.settings.t_star).detach()),
            anchor_mean_BCHW=output.mean_BCHW if output else None,
            anchor_log_variance_BCHW=output.log_variance_BCHW if output else None,
            step=step,
        )

    # what is measured and shown

    def measured_frames(self, result: VideoResult) -> dict[str, Tensor]:
        """Standardised pixels to be measured: the batch's own clips, and the predicted ones where the path defines
        them.
        """
        with torch.no_grad():
            denoised = self.model.codec.decode(result.denoised_BFCHW[result.defined_B])
        return {"data": result.clips_BFCHW, "denoised": denoised}

    def shown(self, clips_NFCHW: Tensor) -> np.ndarray:
        """Pixels to be looked at of standardised clips: u8 [N, F, H, W, C]."""
        return np.ascontiguousarray(self.dataset.to_pixels(clips_NFCHW).permute(0, 1, 3, 4, 2).cpu().numpy())

    def measured_samples(self, samples_NFCHW: Tensor) -> Tensor:
        """Standardised pixels of generated clips, to be measured."""
        return samples_NFCHW

    def sampled_model(self, settings: Any) -> nn.Module:
        """The averaged model that clips are drawn from, or the live one."""
        return self.ema if settings.averaged_weights and self.ema is not None else self.model

    def sample(
        self,
        settings: Any,
        controls: Mapping[str, Any],
        count: int,
        *,
        on_step: Callable[[int, float, Tensor], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[Tensor]:
        """Yield pieces of `count` clips in standardised pixels [≤16, F, C, H, W].

        Args:
            settings: `ClipSamplingConfig`.
        """
        model = self.sampled_model(settings)
        model.eval()
        path = self.path(controls)
        seeds = clip_seeds(settings.sample_seed, count)
        noise = clip_noise(self.model.latent_shape, sampling_correlation(settings, controls), seeds).to(self.device)
        with torch.no_grad():
            anchors = self.sampling_anchors(path, settings, controls, count)

        def velocity(piece: slice) -> Callable[[Tensor, Tensor], Tensor]:
            anchor = None if anchors is None else anchors[piece]
            return lambda z, t: self.predict(model, z, t, anchor, controls).velocity_BFCHW.float()

        pieces = draw_clips(velocity, noise, settings, jumps=path.jumps(), on_step=on_step, stop=stop)
        for latents in pieces:
            with torch.no_grad():
                yield self.model.codec.decode(latents)

    def sampling_anchors(self, path: Path, settings: Any, controls: Mapping[str, Any], count: int) -> Tensor | None:
        """Anchors for a model that is shown one, else None. data: of held-out clips · prior: standard normal for a
        network of anchors, whose posterior the KL term pulls there; else normal, with the mean and spread of training.
        """
        if not self.config.model.anchor_input:
            return None
        from_data = settings.anchor_source == "data"
        if not from_data and self.model.anchor_network is not None:
            return self._frame_noise(settings, count)
        if from_data:
            held_out = self.dataset.validation_clips(count).to(self.device)
            clips = held_out[torch.arange(count) % len(held_out)]
        else:
            clips = self.dataset.train_batch(self.config.seed, 0, min(ANCHOR_CLIPS, self.dataset.train_count))
            clips = clips.to(self.device)
        latents = self.model.codec.encode(clips)
        anchors, _ = self.anchor(path, latents, self.draw(_ANCHOR_DRAW, clips, controls), controls)
        if from_data:
            return anchors
        return anchors.mean(0) + anchors.std(0) * self._frame_noise(settings, count)

    def _frame_noise(self, settings: Any, count: int) -> Tensor:
        """Standard normal [N, C, H, W] in latents, from seeds that the clips' own noise does not use."""
        seeds = clip_seeds(settings.sample_seed + 1, count)
        return clip_noise((1, *self.model.latent_shape[1:]), 0.0, seeds)[:, 0].to(self.device)

    # data

    def _train_batch(self, position: int) -> Tensor:
        batch = self.dataset.train_batch(self.config.drawn_seed, position, self.config.optim.batch_size)
        return batch.to(self.device, non_blocking=True)

    def held_out(self) -> list[Tensor]:
        """The fixed batches of evaluation."""
        if self._validation is None:
            batches = self.dataset.validation_batches(self.config.optim.batch_size, self.config.probes.eval_batches)
            self._validation = [batch.to(self.device) for batch in batches]
        return self._validation

    def _take_prompt(self) -> None:
        """Latents may bring prompt embeddings; the run speaks to the model with those of its first held-out clip."""
        text = self.dataset.validation_text(1)
        if text is not None and isinstance(self.model, LTXVideo):
            self.model.use_text(text.states_BLE[0], text.mask_BL[0])

    def _fit_codec(self) -> None:
        """Train the autoencoder, if there is one, before the flow sees any latent."""
        size, seed = self.config.optim.batch_size, self.config.seed
        batches = (self.dataset.train_batch(seed, position, size) for position in itertools.count())
        fit_codec(self.model.codec, batches, CODEC_STEPS, seed)


@dataclass(frozen=True)
class _Forward:
    """A forward pass with its graph."""

    step: int
    clips_BFCHW: Tensor
    latents_BFCHW: Tensor
    bridge: Bridge
    inputs: VideoTermInputs
    hidden_BND: Tensor

    def result(
        self, loss: float, terms: dict[str, float], grad_norm: float, rate: float, frames: int, skipped: bool
    ) -> VideoResult:
        """What probes may read, without the graph."""
        inputs, bridge = self.inputs, self.bridge
        output = bridge.anchor_output and AnchorOutput(
            bridge.anchor_output.mean_BCHW.detach(), bridge.anchor_output.log_variance_BCHW.detach()
        )
        sample = PathSample(bridge.sample.z_BFCHW.detach(), bridge.sample.velocity_BFCHW.detach())
        return VideoResult(
            loss,
            terms,
            grad_norm,
            rate,
            frames,
            skipped,
            self.step,
            self.clips_BFCHW,
            self.latents_BFCHW,
            Bridge(bridge.path, bridge.noise_BFCHW, bridge.anchor_BCHW.detach(), output, bridge.draw, sample),
            inputs.velocity_BFCHW.detach(),
            inputs.denoised_BFCHW.detach(),
            inputs.defined_B,
            self.hidden_BND.detach(),
        )


def sampling_correlation(settings: Any, controls: Mapping[str, Any]) -> float:
    """Share of common noise when clips are drawn: the settings', or the training's where that is below 0."""
    wanted = float(settings.sample_noise_correlation)
    return float(controls["noise_correlation"]) if wanted < 0 else wanted


def _rows(draw: Draw, rows: slice) -> Draw:
    return Draw(
        draw.own_BFCHW[rows],
        draw.shared_BCHW[rows],
        draw.anchor_3BCHW[:, rows],
        draw.t_B[rows],
        None if draw.posterior_BCHW is None else draw.posterior_BCHW[rows],
        None if draw.jitter_BFCHW is None else draw.jitter_BFCHW[rows],
        draw.text and TextStates(draw.text.states_BLE[rows], draw.text.mask_BL[rows]),
    )


def _averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential average that starts fast: weight of the past min(decay, (1 + n)/(10 + n)) at update n."""

    def average(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - kept)

    return average
