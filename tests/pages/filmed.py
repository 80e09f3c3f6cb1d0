"""Video runs as a trainer with all its probes would leave them, made without training: squares that drift, noise that
clears, samples that begin as ghosts and come apart.
"""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import numpy as np

from qcore.config import default_run
from qcore.lab import ExactFlowResult
from qcore.runs.layout import CONFIG_FILE
from qcore.store import DATABASE_NAME, Event, Finding, Generation, RunWriter, Status

FRAMES, SIDE, CLIPS = 8, 8, 4
TERMS = ["flow", "orthogonality", "decoherence", "temporal", "anchor_kl"]
MODULES = ["patches", "layers.0.space", "layers.0.time", "layers.1.space", "layers.1.time", "head"]
OF_DATA = {
    "divergence": 0.85,
    "cosine": 0.57,
    "orthogonality": 0.41,
    "energy": 0.58,
    "lag_change": 0.51,
    "coherence": 0.66,
    "motion_variance": 0.26,
    "std": 1.0,
    "entanglement": 0.76,
}
WEIGHT = {"orthogonality": 0.02, "temporal": 0.4}


def write_video_run(
    folder: Path,
    name: str,
    *,
    last: int = 200,
    every: int = 20,
    sample_every: int = 100,
    channels: int = 1,
    anchor: bool = True,
    findings: tuple[Finding, ...] = (),
    skipped: tuple[dict[str, str], ...] = (),
    state: str = "finished",
    changes: dict[str, Any] | None = None,
) -> Path:
    """Write `folder/name` with arrays and scalars at step 0 and every `every` steps up to `last`; returns its path."""
    path = folder / name
    path.mkdir(parents=True)
    wanted = {"flow_path": "quantum" if anchor else "plain", "noise_correlation": 1.0, "steps": max(1, last)}
    config = default_run("video_flow").with_values(wanted | (changes or {}))
    (path / CONFIG_FILE).write_text(config.to_yaml(), encoding="utf-8")
    data = drifting(CLIPS, channels)
    with RunWriter(path / DATABASE_NAME) as writer:
        for key, value in (
            ("preset", "video"),
            ("kind", "video_flow"),
            ("family", "video"),
            ("clip", {"frames": FRAMES, "channels": channels, "height": SIDE, "width": SIDE}),
            ("data_frames", OF_DATA),
            ("skipped_files", list(skipped)),
            ("term_names", TERMS),
            ("module_names", MODULES),
            ("disabled_probes", {}),
            ("parameters", 186_000),
        ):
            writer.set_meta(key, value)
        for step in range(0, last + 1, every):
            done = step / max(1, last)
            log_scalars(writer, step, done, anchor)
            writer.log_arrays(step, "frames", frames_arrays(data, done, step))
            writer.log_arrays(step, "path", path_arrays(step, anchor))
            if anchor:
                writer.log_arrays(step, "anchor", anchor_arrays(data))
            writer.log_arrays(step, "gradients", gradient_arrays(done))
            writer.log_arrays(step, "modules", module_arrays(step))
            if step and step % sample_every == 0:
                made = generated(data, done)
                writer.log_arrays(step, "generated", generated_arrays(made, done))
                for seed in (0, 1):
                    writer.put_generation(generation(made, step, seed, "timeline"))
        change = {"name": "noise_correlation", "old": 1.0, "new": 0.0}
        writer.add_event(Event(1, last // 2, time.time(), "person", "control", change))
        for finding in findings:
            writer.put_finding(finding)
        extra = {"loss": 0.31, "eval_flow": 0.297, "frames_per_second": 4_321.0}
        writer.set_status(Status(state, last, last, time.time(), 1, "here", extra=extra))
    return path


def drifting(count: int, channels: int = 1) -> np.ndarray:
    """Blurred squares that drift, each its own way: uint8 [N, F, H, W, C]."""
    rng = np.random.default_rng(3)
    start, way = rng.uniform(2, 5, (count, 1, 2)), rng.uniform(-0.6, 0.6, (count, 1, 2))
    centre = (start + way * np.arange(FRAMES)[:, None])[:, :, :, None, None]
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")).astype(float)
    light = np.exp(-np.square(grid - centre).sum(2) / 2.5)
    return np.repeat((255 * light).astype(np.uint8)[..., None], channels, axis=4)


def ghosts(clips: np.ndarray) -> np.ndarray:
    """Every frame the mean of its clip."""
    return np.repeat(clips.mean(1, keepdims=True).astype(np.uint8), clips.shape[1], axis=1)


def mixed(clips: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """`share` of the other clips."""
    return ((1 - share) * clips + share * other).astype(np.uint8)


def generated(data: np.ndarray, done: float) -> np.ndarray:
    """Ghosts that come apart while the run goes on."""
    return mixed(ghosts(data), data, done)


def similarity(done: float) -> np.ndarray:
    """Cosine that fades with the distance of frames, the more the further the run is."""
    frame = np.arange(FRAMES)
    return np.exp(-done * np.abs(frame[:, None] - frame) / 4).astype(np.float32)


def singular(done: float) -> np.ndarray:
    """One value at first, then several."""
    value = np.exp(-np.arange(FRAMES) * (3 - 2.3 * done))
    return (value / value.sum()).astype(np.float32)


def lags(done: float) -> np.ndarray:
    """Change that grows with the distance of frames."""
    return (done * np.sqrt(np.arange(1, FRAMES) / FRAMES)).astype(np.float32)


def frames_arrays(data: np.ndarray, done: float, step: int) -> dict[str, np.ndarray]:
    """What the frames probe keeps."""
    rng = np.random.default_rng(step)
    t = np.linspace(0.9, 0.3, len(data)).astype(np.float32)
    noise = rng.integers(0, 256, data.shape).astype(np.uint8)
    noised = np.stack([mixed(clip, other, float(time)) for clip, other, time in zip(data, noise, t, strict=True)])
    return {
        "data": data,
        "noised": noised,
        "denoised": generated(data, done),
        "t": t,
        "similarity_data": similarity(1.0),
        "similarity_denoised": similarity(done),
        "singular_data": singular(1.0),
        "singular_denoised": singular(done),
        "lag_change_data": lags(1.0),
        "lag_change_denoised": lags(done),
    }


def path_arrays(step: int, anchor: bool) -> dict[str, np.ndarray]:
    """A path with a bump of the anchor and a jump, or the straight line; and 32 times."""
    t = np.linspace(0, 1, 101)
    bump = np.exp(-(((t - 0.2) / 0.1) ** 2)) * anchor
    total = t + bump + (1 - t)
    drawn = np.random.default_rng(step).uniform(0, 1, 32)
    weights = {"alpha": t / total, "beta": bump / total, "gamma": (1 - t) / total, "sampled": drawn, "t": t}
    found = {name: value.astype(np.float32) for name, value in weights.items()}
    return found | {"jumps": np.array([0.2] if anchor else [], np.float32)}


def anchor_arrays(data: np.ndarray) -> dict[str, np.ndarray]:
    """Mean picture of each clip and how far its frames are from it."""
    return {
        "mean": data.mean(1).astype(np.uint8),
        "spread": (data.std(1).mean(3) / 80).astype(np.float32),
    }


def generated_arrays(made: np.ndarray, done: float) -> dict[str, np.ndarray]:
    """What a sample leaves beside its clips."""
    t = np.linspace(1, 0, 21)
    return {
        "clips": np.repeat(made, 2, axis=0),
        "similarity_generated": similarity(done),
        "singular_generated": singular(done),
        "lag_change_generated": lags(done),
        "tomography_t": t.astype(np.float32),
        "tomography": np.stack([singular(done * (1 - time)) for time in t]),
        "seed": np.arange(8),
    }


def generation(made: np.ndarray, step: int, seed: int, kind: str, **more: Any) -> Generation:
    """A finished generation as the store keeps it."""
    tokens = [
        {"shape": list(clip.shape), "pixels": base64.b64encode(np.ascontiguousarray(clip)).decode()} for clip in made
    ]
    settings = {
        "sample_seed": seed,
        "solver": "euler",
        "solver_steps": 20,
        "sample_noise_correlation": -1.0,
        "source": "live",
        "step": step,
    }
    stats = {"coherence": 0.1 + step / 1000, "lag_ratio": 0.5, "motion_ratio": 0.2, "divergence": 0.4}
    fields = {"settings": settings, "tokens": tokens, "stats": stats, "status": "done"} | more
    return Generation(f"{kind}-{step}-{seed}", step, time.time(), kind, f"seed {seed}", **fields)


def log_scalars(writer: RunWriter, step: int, done: float, anchor: bool) -> None:
    """One row of every series that the pages draw."""
    values = {
        "train/loss": 0.3 + 0.7 * np.exp(-4 * done),
        "train/lr": 4e-3 * (1 - done),
        "train/grad_norm": 0.7,
        "train/step_ms": 22.0,
        "train/frames_per_second": 4_321.0,
        "eval/flow": 0.31 + 0.7 * np.exp(-4 * done),
        "flow/position_response": 0.4 * done,
        "flow/velocity_error": 1e-6,
        "flow/t_star": 0.2,
        "flow/noise_correlation": 1.0,
        "flow/sample_noise_correlation": 1.0,
        "geometry/effective_rank": 0.5,
        "geometry/mean_cosine": 0.1,
        "cost/frames_ms": 4.0,
        "cost/frames_every": 20,
        "cost/total_percent": 1.4,
    }
    if anchor:
        values |= {"anchor/entropy": 1.2 - done, "anchor/mean": 0.0, "anchor/spread": 0.6 - 0.2 * done}
    for index, term in enumerate(TERMS):
        values[f"term/{term}"] = (0.3 + 0.7 * np.exp(-4 * done)) / (1 + index)
    for term, ratio in {"flow": 1.0, **WEIGHT}.items():
        values |= {f"grad/ratio/{term}": ratio, f"grad/cos/{term}": 1.0 if term == "flow" else 0.2 - 0.5 * done}
    for source, near in (("data", 1.0), ("denoised", 0.5 + 0.4 * done), ("generated", 0.2 + 0.7 * done)):
        for measure, value in OF_DATA.items():
            values[f"frames/{source}/{measure}"] = value * near
        if source != "data":
            values |= {f"frames/{source}/{ratio}_ratio": near for ratio in ("lag", "motion", "std")}
    writer.log_scalars(step, {name: float(value) for name, value in values.items()})


def gradient_arrays(done: float) -> dict[str, np.ndarray]:
    """Three active terms."""
    cosine = np.eye(3) + 0.2 * (1 - np.eye(3))
    return {
        "norm": np.array([1.0, 0.02, 0.4], np.float32),
        "cosine": cosine.astype(np.float32),
        "terms": np.array([0, 1, 3], np.int32),
    }


def module_arrays(step: int) -> dict[str, np.ndarray]:
    """Healthy modules."""
    rng = np.random.default_rng(step)
    count = len(MODULES)
    return {
        "dead_share": np.zeros(count, np.float32),
        "update_ratio": (1e-3 * np.exp(rng.normal(0, 0.5, count))).astype(np.float32),
        "grad_norm": np.ones(count, np.float32),
        "parameters": np.full(count, 31_000),
    }


def exact_flow(settings: Any) -> ExactFlowResult:
    """A stand-in for the closed-form flow: only independent noise gives different motions."""
    if settings.seed == 13:
        raise ValueError("seed = 13 is refused: take another")
    clips = np.repeat(drifting(4), 4, axis=0)
    shared = settings.noise_correlation == 1
    measures = {"divergence": 0.44, "coherence": -1e-14 if shared else 0.67, "motion_ratio": 0.0}
    return ExactFlowResult(
        clips=clips,
        data=clips,
        distinct=62 if settings.path == "ring" else 1 if shared else 20 if settings.noise_correlation == 0.999 else 62,
        samples=64,
        scalars={"data": dict(OF_DATA), "generated": measures},
        trajectory_t=np.linspace(1, 0, 5, dtype=np.float32),
        trajectory=np.linspace(0, 0.4, 5, dtype=np.float32),
        seconds=0.5,
    )
