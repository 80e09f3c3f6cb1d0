"""The exact-flow panel's work: no network, the closed-form velocity of some clips, followed from noise to data."""

from __future__ import annotations

import time
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from qcore.config import ClipsConfig
from qcore.data import ClipDataset, open_clips
from qcore.diagnostics import FrameReference, frame_reference, frame_statistics
from qcore.flow import ExactFlow, PathSettings, distinct_motions, make_path, statistical_anchor
from qcore.runs.exact_flow_records import ExactFlowResult, ExactFlowSettings
from qcore.sampling import clip_noise, clip_seeds

CLIPS = 1024
STEPS = 40
SHOWN = 16


@lru_cache(maxsize=1)
def _load_known_clips() -> tuple[ClipDataset, Tensor, FrameReference]:
    """The clips that the flow knows; the same for every setting."""
    dataset = open_clips(ClipsConfig(clips=CLIPS * 2))
    clips = dataset.train_batch(0, 0, CLIPS)
    return dataset, clips, frame_reference(clips)


def run_exact_flow(settings: ExactFlowSettings) -> ExactFlowResult:
    """See `qcore.lab.exact_flow`."""
    started = time.perf_counter()
    dataset, clips, reference = _load_known_clips()
    path = make_path(settings.path, PathSettings(t_star=settings.t_star, repulsion=settings.repulsion))
    generator = torch.Generator().manual_seed(settings.seed)
    anchor_noise = torch.randn(3, len(clips), *clips.shape[2:], generator=generator)
    anchors = statistical_anchor(path.name, clips, anchor_noise)
    flow = ExactFlow(path, clips, anchors, settings.noise_correlation)
    noise = clip_noise(clips.shape[1:], settings.noise_correlation, clip_seeds(settings.seed, settings.samples))
    times: list[float] = []
    apart: list[float] = []

    def watch(t: float, z_NFCHW: Tensor) -> None:
        times.append(t)
        apart.append(frame_statistics(z_NFCHW).divergence)

    with torch.no_grad():
        samples = flow.sample(noise, method="euler", steps=STEPS, on_step=watch)
    measured = {
        name: frame_statistics(found, reference=reference).scalars()
        for name, found in (("data", clips), ("generated", samples))
    }

    def to_frames(found: Tensor) -> np.ndarray:
        pixels = dataset.to_pixels(found[:SHOWN]).permute(0, 1, 3, 4, 2)
        return np.ascontiguousarray(pixels.numpy())

    return ExactFlowResult(
        clips=to_frames(samples),
        data=to_frames(clips),
        distinct=distinct_motions(samples, clips),
        samples=settings.samples,
        scalars=measured,
        trajectory_t=np.asarray(times, dtype=np.float32),
        trajectory=np.asarray(apart, dtype=np.float32),
        seconds=time.perf_counter() - started,
    )
