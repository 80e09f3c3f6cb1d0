"""Synthetic video runs for the tests of the detectors: trajectories as measured on moving digits, spoiled at will."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from qcore.detect import Facts, Verdict, Watch

Values = dict[str, float]
TERMS = ("flow", "orthogonality", "decoherence", "temporal", "anchor_kl")
OF_DATA = {
    "divergence": 0.86,
    "cosine": 0.57,
    "orthogonality": 0.42,
    "coherence": 0.66,
    "std": 1.0,
    "entanglement": 0.9,
}
CONTROLS: dict[str, Any] = {
    "flow_path": "plain",
    "noise_correlation": 0.0,
    "sample_noise_correlation": -1.0,
    "t_star": 0.2,
    "repulsion": 5.0,
    "frame_amplification": 5.0,
    "anchor_decay": 0.0,
    "orthogonality_weight": 0.0,
    "orthogonality_target": "none",
    "learning_rate": 4e-3,
    "clip_norm": 1.0,
    "log_variance_limit": 8.0,
}
SAMPLES = {  # step: divergence, cosine, coherence, lag_ratio, motion_ratio, std_ratio
    "healthy": {
        0: (1.40, 0.01, -0.44, 2.77, -0.39, 1.01),
        25: (1.33, 0.29, -0.43, 2.63, -0.40, 1.15),
        50: (0.92, 0.53, -0.30, 1.72, -0.57, 0.98),
        75: (0.77, 0.65, -0.20, 1.25, -0.20, 0.95),
        100: (0.73, 0.66, -0.04, 1.14, 0.03, 0.94),
        150: (0.74, 0.67, 0.10, 1.09, 0.20, 0.96),
        300: (0.71, 0.68, 0.28, 1.01, 0.39, 0.95),
    },
    "shared": {
        0: (0.00, 1.00, np.nan, 0.00, 0.00, 1.00),
        25: (0.12, 0.99, -0.37, 0.23, -0.01, 1.03),
        50: (0.20, 0.95, -0.18, 0.31, -0.01, 0.75),
        100: (0.23, 0.93, -0.19, 0.35, -0.05, 0.63),
        300: (0.22, 0.93, -0.05, 0.30, -0.01, 0.56),
    },
    "ring": {
        0: (1.40, 0.01, -0.44, 2.77, -0.39, 1.01),
        50: (0.92, 0.52, -0.40, 1.78, -0.63, 0.97),
        100: (0.44, 0.84, -0.36, 0.79, -0.34, 0.85),
        150: (0.35, 0.90, -0.39, 0.66, -0.23, 0.85),
        300: (0.22, 0.96, -0.42, 0.43, -0.08, 0.80),
    },
    "pushed": {
        0: (1.40, 0.01, -0.44, 2.77, -0.39, 1.01),
        50: (1.27, 0.16, -0.39, 2.49, -0.95, 1.01),
        100: (0.97, 0.21, -0.36, 1.90, -1.32, 0.80),
        150: (0.93, 0.21, -0.31, 1.77, -1.61, 0.76),
        200: (0.91, 0.20, -0.33, 1.73, -1.87, 0.75),
        300: (0.87, 0.20, -0.34, 1.63, -2.02, 0.71),
    },
    "young": {  # a healthy run of the spherical path, learning slowly
        0: (1.40, 0.01, -0.44, 2.73, -0.38, 1.01),
        40: (1.34, 0.33, -0.42, 2.62, -0.38, 1.19),
        80: (1.06, 0.48, -0.38, 2.03, -0.48, 1.06),
        120: (0.88, 0.58, -0.31, 1.61, -0.50, 0.98),
        160: (0.83, 0.62, -0.24, 1.44, -0.33, 0.99),
        240: (0.82, 0.63, -0.19, 1.37, -0.23, 0.98),
        400: (0.76, 0.67, 0.10, 1.12, 0.20, 0.99),
    },
    "less common": {
        0: (1.40, 0.01, -0.44, 2.77, -0.39, 1.01),
        50: (2.15, 0.07, -0.44, 4.12, -0.66, 1.60),
        300: (2.52, 0.30, -0.41, 4.91, -0.67, 1.95),
    },
    "more common": {
        0: (0.00, 1.00, np.nan, 0.00, 0.00, 1.01),
        50: (0.11, 0.99, -0.36, 0.20, -0.01, 1.15),
        300: (0.08, 1.00, 0.09, 0.12, 0.00, 1.09),
    },
}
AS_TRAINED = {
    "sampler/velocity_error": 4e-7,
    "sampler/velocity_cosine": 1.0,
    "sampler/velocity_mirrored": 0.3,
    "sampler/steps": 20.0,
    "sampler/time_first": 1.0,
    "sampler/time_last": 0.0,
    "sampler/time_outside": 0.0,
    "sampler/time_low": 0.004,
    "sampler/time_high": 0.99,
    "average/loss_ratio": 0.97,
    "average/distance": 0.05,
}
"""What a sample of the trained model, from an average that keeps up, measures beside its clips."""
MEASURES = ("divergence", "cosine", "coherence", "lag_ratio", "motion_ratio", "std_ratio")


def facts(**changes: Any) -> Facts:
    """A small video run; controls as default but for `controls`."""
    known: dict[str, Any] = {
        "kind": "video_flow",
        "family": "video",
        "width": 48,
        "blocks": 2,
        "term_ranges": {name: (-1.0, 1.0) if name == "orthogonality" else (0.0, float("inf")) for name in TERMS},
        "hinges": frozenset({"orthogonality", "decoherence"}),
    }
    return Facts(**{**known, **changes, "controls": {**CONTROLS, **changes.get("controls", {})}})


def weights(**changes: float) -> dict[str, float]:
    """The flow loss alone, but for `changes`."""
    return {**{name: float(name == "flow") for name in TERMS}, **changes}


def sampled(kind: str, step: int, correlation: float = 0.0) -> Values:
    """What a sample of 32 clips measures; no two samples measure the same."""
    rows, rng = SAMPLES[kind], np.random.default_rng(step)
    found = {
        f"frames/generated/{name}": float(np.interp(step, list(rows), column)) * (1 + 1e-3 * float(rng.random()))
        for name, column in zip(MEASURES, zip(*rows.values(), strict=True), strict=True)
    }
    found["frames/generated/lag_change"] = 0.51 * found["frames/generated/lag_ratio"]
    found["flow/sample_noise_correlation"] = correlation
    return found | AS_TRAINED


def measured(step: int, rng: np.random.Generator) -> Values:
    """Everything that a healthy run measures at a step beside its samples."""
    loss = 0.5 + 1.45 * float(np.exp(-step / 60))
    found: Values = {"term/flow": loss * float(np.exp(0.05 * rng.standard_normal())), "train/lr": 4e-3}
    found |= {"train/loss": found["term/flow"], "train/grad_norm": 0.5 + 0.1 * float(rng.random())}
    if step == 0:
        found |= {f"frames/held_out/{name}": value for name, value in OF_DATA.items()}
    if step % 20 == 0:
        for of, factor in (("data", 1.0), ("denoised", 0.8)):
            found |= {
                f"frames/{of}/{name}": factor * value * (1 + 0.02 * float(rng.standard_normal()))
                for name, value in OF_DATA.items()
            }
        found |= {"flow/noise_correlation": 0.0, "flow/t_star": 0.2, "geometry/mean_cosine": 0.7}
        found |= {"grad/norm/flow": 0.5, "weights/dead_share": 0.97 if step == 0 else 0.0}
        found |= {"weights/frozen_blocks": 2.0 if step == 0 else 0.0, "weights/blocks": 2.0}
    if step % 50 == 0:
        found |= {"flow/velocity_error": 1e-9, "flow/position_response": 1.0 if step == 0 else 0.3}
        found |= {"eval/flow": loss}
    return found


def run(
    watch: Watch,
    steps: Iterable[int],
    *,
    samples: str = "healthy",
    correlation: float = 0.0,
    sample_every: int = 25,
    spoil: Callable[[int, Values], Mapping[str, float] | None] | None = None,
    term_weights: Mapping[str, float] | None = None,
    seed: int = 0,
) -> list[Verdict]:
    """Tell a watch a run whose samples are those of a kind; what `spoil` returns is added to the values of a step."""
    told = []
    weighted = weights() if term_weights is None else term_weights
    for step in steps:
        values = measured(step, np.random.default_rng((seed, step)))
        if spoil is not None:
            values |= spoil(step, values) or {}
        told += watch.observe(step, values, weighted)
        if step % sample_every == 0:
            found = sampled(samples, step, correlation)
            if spoil is not None:
                found |= {name: value for name, value in (spoil(step, found) or {}).items() if name in found}
            told += watch.observe(step, found, weighted)
    return told


SAMPLED_OTHERWISE = {
    "sampler_velocity": {"sampler/velocity_error": 0.02, "sampler/velocity_mirrored": 1e-6},
    "sampler_times": {"sampler/time_outside": 1.0, "sampler/velocity_error": 0.4},
    "lagging_average": {"average/loss_ratio": 2.2},
    "sample_spread": {"frames/generated/std_ratio": 7.3},
}
"""What a sampler that is not the trained model measures, by rule."""
