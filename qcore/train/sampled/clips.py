"""Timeline samples of clips, held against the model that is trained; how is in `qcore.diagnostics.sampled_flow`.

The sampler usually draws from averaged weights. What is compared is the trained model's own code with those weights, so
that an average that lags is told apart from a sampler that is another model; the lag has a measure of its own: the flow
loss of the average over that of the weights in training, on the same clips and draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from qcore.diagnostics import rounding_unit, sampled_flow_check, times_outside
from qcore.probes import catalog
from qcore.train.video_engine import HELD_OUT, VideoEngine

CLIPS = 4
_TIMES = 128
_SLACK = 0.25
"""So far beyond the times drawn a sampler may ask: of 128 logit-normal ones, the largest is below .75 once in 10⁸."""


class FlowTrail:
    """Where a sampler's first clips were when, and the times that it told the model."""

    def __init__(self) -> None:
        self.told: list[float] = []
        self._trail: list[tuple[float, Tensor]] = []

    def remember(self, start: int, t: float, z_NFCHW: Tensor) -> None:
        """Take a step of the sampler; only the first piece of clips is kept."""
        if start == 0:
            self._trail.append((t, z_NFCHW[:CLIPS]))

    def hear(self, model: nn.Module, *, on: bool) -> AbstractContextManager[None]:
        """Inside, every time that the model is told is noted, if wanted."""
        return self._listening(model) if on else nullcontext()

    @contextmanager
    def _listening(self, model: nn.Module) -> Iterator[None]:
        handle = model.register_forward_pre_hook(self._hear, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _hear(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        t_B = args[1] if len(args) > 1 else kwargs.get("t_B")
        if isinstance(t_B, Tensor) and t_B.numel():
            self.told.append(float(t_B.flatten()[0]))

    @property
    def times(self) -> list[float]:
        """Times of the solver's steps."""
        return [t for t, _ in self._trail]

    @property
    def points(self) -> list[Tensor]:
        """Where the clips were then."""
        return [z for _, z in self._trail]


def compare_flow(engine: VideoEngine, trail: FlowTrail, settings: Any, controls: Mapping[str, Any]) -> dict[str, float]:
    """Series of how a sampler's way agrees with the trained model's velocity, and of the times it used."""
    if not trail.times:
        return {}
    path, model = engine.path(controls), _sampled_weights(engine, settings)
    with torch.no_grad():
        anchors = engine.sampling_anchors(path, settings, controls, len(trail.points[0]))

    def velocity(z: Tensor, t_N: Tensor) -> Tensor:
        with torch.no_grad():
            return engine.predict(model, z.float(), t_N, anchors, controls).velocity_BFCHW

    engine.model.eval()
    found = sampled_flow_check(trail.times, trail.points, velocity, settings.solver, path.jumps()).scalars()
    trained = _trained_times(engine, controls)
    low, high = float(trained.min()), float(trained.max())
    found |= {
        catalog.SAMPLER_ROUNDING: rounding_unit(engine.model.parameters()),
        catalog.SAMPLER_STEPS: float(len(trail.times) - 1),
        catalog.SAMPLER_TIME_LOW: low,
        catalog.SAMPLER_TIME_HIGH: high,
        catalog.SAMPLER_TIME_FIRST: trail.told[0] if trail.told else trail.times[0],
        catalog.SAMPLER_TIME_LAST: trail.times[-1],
        catalog.SAMPLER_TIME_OUTSIDE: times_outside(trail.told or trail.times[:-1], low, high, _SLACK),
    }
    return {name: value for name, value in found.items() if math.isfinite(value)}


def compare_average(engine: VideoEngine, controls: Mapping[str, Any]) -> dict[str, float]:
    """Series of the averaged weights beside the live ones; none for a model without an average."""
    if engine.ema is None:
        return {}
    clips = engine.held_out()[0]
    draw = engine.draw(HELD_OUT, clips, controls)
    with torch.no_grad():
        bridge = engine.bridge(engine.model.codec.encode(clips), draw, controls)
        engine.model.eval()
        losses = []
        for model in (engine.model, _WithWeights(engine.model, engine.ema.module)):
            sample = bridge.sample
            output = engine.predict(model, sample.z_BFCHW, draw.t_B, bridge.anchor_BCHW, controls, draw.text)
            losses.append(float((output.velocity_BFCHW.float() - sample.velocity_BFCHW.float()).square().mean()))
        live, average = (
            torch.cat([value.flatten() for value in one.parameters()]) for one in (engine.model, engine.ema.module)
        )
        distance = float((average - live).norm() / live.norm().clamp(min=1e-30))
    found = {catalog.AVERAGE_LOSS_RATIO: losses[1] / max(losses[0], 1e-30), catalog.AVERAGE_DISTANCE: distance}
    return {name: value for name, value in found.items() if math.isfinite(value)}


class _WithWeights(nn.Module):
    """A model's own code with the weights of another one of the same shape; nothing is copied."""

    def __init__(self, model: nn.Module, weights: nn.Module) -> None:
        super().__init__()
        # hidden from the module's own lists: it owns neither
        self._call = lambda *args, **kwargs: functional_call(
            model, {**dict(weights.named_parameters()), **dict(weights.named_buffers())}, args, kwargs
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)


def _sampled_weights(engine: VideoEngine, settings: Any) -> nn.Module:
    """The trained model's code with the weights that samples are drawn from."""
    if settings.averaged_weights and engine.ema is not None:
        return _WithWeights(engine.model, engine.ema.module)
    return engine.model


def _trained_times(engine: VideoEngine, controls: Mapping[str, Any]) -> Tensor:
    """Times of the first updates, as they are drawn; at least 128."""
    size = engine.config.optim.batch_size
    clips = engine.dataset.train_batch(engine.config.drawn_seed, 0, size)
    draws = range(-(-_TIMES // size))
    return torch.cat([engine.draw(position, clips, controls).t_B for position in draws])
