"""Run folders as a trainer with all its probes would leave them, made without training: plausible, smooth and seeded.

Phases lock from step to step, kernels sharpen, terms turn against each other; a transformer has attention instead of
phases.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from qcore.config import default_run
from qcore.runs.layout import CONFIG_FILE, LABELS_FILE
from qcore.store import DATABASE_NAME, Event, Finding, RunWriter, Status

STORY = (
    "once a small bear found the old red kite in a quiet garden . it was anna 's kite , and she looked for it all "
    "day . the bear took it home . anna was glad and gave him honey . they played until the moon rose ."
)
WORDS = STORY.split(" ")
TERMS = ["ce", "diversity", "dominance", "entropy_floor", "eos", "unlikelihood", "z_loss", "local_energy", "coherence"]
ACTIVE_TERMS = (0, 1, 7, 8)
WINDOWS = (1, 2, 4, 8, 16)


def write_run(
    folder: Path,
    name: str,
    *,
    kind: str = "phase_lm",
    layers: int = 3,
    heads: int = 4,
    last: int = 400,
    every: int = 40,
    tokens: int = 48,
    leak: bool = False,
    findings: tuple[Finding, ...] = (),
    state: str = "finished",
    scalars_every: int | None = None,
) -> Path:
    """Write `folder/name` with arrays and scalars at step 0 and every `every` steps up to `last`; returns its path."""
    path = folder / name
    path.mkdir(parents=True)
    changes = {"kind": kind, "layers": layers, "heads": heads, "width": 24 * heads, "steps": max(1, last)}
    phases = {} if kind == "transformer" else {"phases": 8 * heads}
    config = default_run().with_values(changes | phases)
    (path / CONFIG_FILE).write_text(config.to_yaml(), encoding="utf-8")
    vocabulary = sorted(set(WORDS))
    (path / LABELS_FILE).write_text(json.dumps(vocabulary), encoding="utf-8")
    ids = np.array([vocabulary.index(WORDS[place % len(WORDS)]) for place in range(tokens)], dtype=np.int32)
    modules, sizes = _modules(layers)
    with RunWriter(path / DATABASE_NAME) as writer:
        writer.set_meta("preset", "tiny")
        for key, value in (
            ("kind", kind),
            ("term_names", TERMS),
            ("module_names", modules),
            ("heads", heads),
            ("layers", layers),
            ("disabled_probes", {"signs": "RuntimeError: the sizes of two tensors disagree"}),
        ):
            writer.set_meta(key, value)
        for step in range(0, last + 1, every):
            done = step / max(1, last)
            rng = np.random.default_rng(step)
            log_scalars(writer, step, done, rng, kind, layers)
            if kind == "phase_lm":
                writer.log_arrays(step, "phase", phase_arrays(done, layers, heads))
            writer.log_arrays(
                step, "interference", {"kernels": kernels(done, layers, heads, tokens, kind), "tokens": ids}
            )
            writer.log_arrays(step, "causality", causality_arrays(done, rng, leak))
            writer.log_arrays(step, "gradients", gradient_arrays(done))
            writer.log_arrays(step, "modules", module_arrays(done, sizes, rng))
            value = np.exp(-np.arange(48) * (0.08 + 0.1 * done)).astype(np.float32)
            writer.log_arrays(step, "spectrum", {"eigenvalues": value / value.sum()})
            if step % 4000 == 0:
                writer.flush()
        for step in range(0, last + 1, scalars_every or every):
            writer.log_scalars(
                step, {"train/loss": 6.0 * np.exp(-step / max(1, last)), "train/step_ms": 41.0, "train/lr": 1e-3}
            )
        change = {"name": "diversity_weight", "old": 0.0, "new": 0.1}
        writer.add_event(Event(1, last // 3, time.time(), "person", "control", change))
        for finding in findings:
            writer.put_finding(finding)
        writer.set_status(Status(state, last, last, time.time(), 1, "here", extra={"loss": 2.2}))
    return path


def log_scalars(writer: RunWriter, step: int, done: float, rng: Any, kind: str, layers: int) -> None:
    """One row of every series that the pages draw."""
    noise = 0.01 * rng.standard_normal(64)
    values = {
        "interference/constructive": 1.0 if kind == "transformer" else 0.56 + 0.14 * done + noise[0],
        "interference/participation": 0.9 - 0.6 * done + noise[1],
        "interference/entropy": 0.97 - 0.3 * done + noise[2],
        "geometry/effective_rank": 0.62 - 0.2 * done + noise[3],
        "geometry/mean_cosine": 0.05 + 0.1 * done + noise[4],
        "weights/update_ratio": 1e-3,
        "causality/leak": 0.0,
        "cost/total_percent": 2.4,
    }
    values["interference/destructive"] = 1 - values["interference/constructive"]
    for probe, (cost, every) in _COSTS.items():
        values |= {f"cost/{probe}_ms": cost, f"cost/{probe}_every": every}
    for index in ACTIVE_TERMS:
        name = TERMS[index]
        values[f"grad/norm/{name}"] = 2.0 * np.exp(-index / 3) * (1 + noise[5 + index])
        values[f"grad/ratio/{name}"] = (
            1.0 if name == "ce" else 0.02 * (1 + index) * 10 ** (done - 0.5 + noise[5 + index])
        )
        values[f"grad/cos/{name}"] = (
            1.0 if name == "ce" else float(np.clip(0.4 - 0.13 * index * done + noise[9], -1, 1))
        )
    if kind == "phase_lm":
        for layer in range(layers + 1):
            values[f"phase/R_layer{layer}"] = 0.15 + (0.1 + 0.12 * layer) * done + noise[20 + layer % 8]
        values |= {
            "phase/R": 0.2 + 0.3 * done + noise[30],
            "phase/coverage": 1.0,
            "phase/im_re_ratio": 0.96 + 3 * noise[31],
            "phase/dimension_variance": 0.8 - 0.2 * done + noise[32],
            "phase/semantic_coherence": 0.1 + 0.4 * done + noise[33],
            "phase/real_axis_share": 0.0,
        }
        for place, width in enumerate(WINDOWS):
            values[f"phase/window_{width}"] = (
                min(1.0, (0.64**place) * (1 + 0.4 * done) + noise[40 + place]) if place else 1.0
            )
    writer.log_scalars(step, {name: float(value) for name, value in values.items()})


def phase_arrays(done: float, layers: int, heads: int, phases: int = 32) -> dict[str, np.ndarray]:
    """What the phase probe keeps: from spread phases to a loose lock near 40°."""
    rng = np.random.default_rng(7)
    count = layers + 1
    centres = np.deg2rad(-175 + 10 * np.arange(36))
    width = 0.2 + 2.2 * done * np.linspace(0.2, 1, count)[:, None]
    histogram = np.exp(width * np.cos(centres - np.deg2rad(40)))
    frequency = np.linspace(0, 0.5, 33)
    peaks = np.exp(-(((frequency - 0.12) / 0.03) ** 2)) + 0.6 * np.exp(-(((frequency - 0.38) / 0.02) ** 2))
    power = 0.01 + np.linspace(0.4, 1, count)[:, None] * (peaks + 2 * done * np.exp(-frequency / 0.02))
    spread = rng.uniform(-np.pi, np.pi, 400) * (1 - 0.75 * done)
    heads_LH = 0.15 + 0.6 * done * rng.uniform(0.2, 1, (count, heads))
    windows = np.array([0.64**place for place in range(5)]) * np.ones((count, 1))
    return {
        "resultant": np.repeat(heads_LH, phases // heads, axis=1).astype(np.float32),
        "heads": heads_LH.astype(np.float32),
        "histogram": (histogram / histogram.sum(1, keepdims=True)).astype(np.float32),
        "spectrum": (power / power.sum(1, keepdims=True)).astype(np.float32),
        "windows": np.clip(windows * (1 + 0.5 * done * np.linspace(0, 1, count)[:, None]), 0, 1).astype(np.float32),
        "portrait_phase": np.angle(np.exp(1j * (spread + 0.7))).astype(np.float32),
        "portrait_amplitude": (0.5 + 0.25 * rng.gamma(3, 0.5, 400)).astype(np.float32),
        "portrait_position": np.sort(rng.integers(0, 128, 400)).astype(np.int32),
    }


def kernels(done: float, layers: int, heads: int, tokens: int, kind: str) -> np.ndarray:
    """[L, H, N, N], lower triangular; interference with both signs in [−1, 1], attention with rows that sum to 1."""
    t, j = np.arange(tokens)[:, None], np.arange(tokens)
    found = np.zeros((layers, heads, tokens, tokens), dtype=np.float32)
    for layer in range(layers):
        for head in range(heads):
            near = np.exp(-(t - j).clip(0) / (2 + 6 * head)) * (0.3 + done)
            wave = np.cos((t - j) * (0.25 + 0.3 * layer)) + 0.4 * np.cos(j * (1 + head)) * done
            score = near * wave + 0.15 * np.sin(3.0 * t * (j + 1) * (layer + 1))
            if kind == "transformer":
                weight = np.where(j <= t, np.exp(4 * score), 0)
                found[layer, head] = weight / weight.sum(1, keepdims=True)
            else:
                found[layer, head] = np.tril(score) / (1 + 0.3 * t)
    return found


def causality_arrays(done: float, rng: Any, leak: bool) -> dict[str, np.ndarray]:
    """Eight cuts of 64 positions; 0 up to each cut, unless there is a leak."""
    cuts = np.sort(rng.choice(62, 8, replace=False)).astype(np.int32)
    position = np.arange(64)
    size = np.exp(rng.normal(-1 + 2 * done, 0.8, (8, 64)) - 0.03 * (position - cuts[:, None]).clip(0))
    change = np.where(position <= cuts[:, None], 0, size)
    if leak:
        change += np.where((position > cuts[:, None] - 6) & (position <= cuts[:, None]), 0.04, 0)
    return {"cuts": cuts, "change": change.astype(np.float32)}


def gradient_arrays(done: float) -> dict[str, np.ndarray]:
    """Four active terms, the last of which turns against the cross-entropy."""
    count = len(ACTIVE_TERMS)
    cosine = np.eye(count) + 0.2 * (1 - np.eye(count))
    cosine[0, -1] = cosine[-1, 0] = 0.4 - 1.1 * done
    norm = 2 * np.exp(-np.array(ACTIVE_TERMS) / 3)
    return {
        "norm": norm.astype(np.float32),
        "cosine": cosine.astype(np.float32),
        "terms": np.array(ACTIVE_TERMS, dtype=np.int32),
    }


def module_arrays(done: float, sizes: np.ndarray, rng: Any) -> dict[str, np.ndarray]:
    """Healthy modules, a half-dead table and a dead projection."""
    dead = np.zeros(len(sizes))
    dead[1], dead[-2] = 0.45, 1.0
    ratio = 1e-3 * np.exp(rng.normal(0, 0.6, len(sizes)) - done)
    ratio[-2] = 0.0
    return {
        "dead_share": dead.astype(np.float32),
        "update_ratio": ratio.astype(np.float32),
        "grad_norm": np.ones(len(sizes), dtype=np.float32),
        "parameters": sizes,
    }


def finding(name: str = "harmful_term", **changes: Any) -> Finding:
    """A finding with evidence and one remedy of each kind."""
    steps = list(range(0, 400, 10))
    fields: dict[str, Any] = {
        "id": f"{name}:diversity",
        "name": name,
        "since_step": 120,
        "last_step": 390,
        "state": "active",
        "evidence": {
            "numbers": [
                {"label": "cosine with the cross-entropy", "value": -0.73, "unit": "", "limit": -0.5},
                {"label": "pull", "value": 0.91, "unit": "× cross-entropy", "limit": 0.5},
            ],
            "figure": {
                "title": "Cosine with the cross-entropy",
                "y_title": "cosine",
                "lines": [{"name": "diversity", "steps": steps, "values": [0.3 - step / 400 for step in steps]}],
                "limit": -0.5,
            },
        },
        "title": "The diversity term pulls against the cross-entropy",
        "explanation": "What the text teaches, this term undoes: their gradients point in opposite directions, and the "
        "term's is nearly as strong. The loss can fall while the samples get worse.",
        "remedies": [
            {
                "label": "Take a tenth of its weight",
                "why": "It then steers instead of fighting.",
                "kind": "set",
                "changes": {"diversity_weight": 0.03},
            },
            {"label": "Pause", "why": "Look at the samples before it goes on.", "kind": "pause", "changes": {}},
            {"label": "Stop", "why": "Nothing good will come of it.", "kind": "stop", "changes": {}},
            {
                "label": "Start again without it",
                "why": "A run that has unlearned seldom recovers.",
                "kind": "new_run",
                "changes": {"diversity_weight": 0.0, "steps": 3},
            },
        ],
    }
    return Finding(**(fields | changes))


_COSTS = {
    "tokens": (0.9, 10),
    "phase": (3.1, 20),
    "gradients": (48.0, 100),
    "causality": (14.2, 200),
    "kernels": (2.2, 50),
}


def _modules(layers: int) -> tuple[list[str], np.ndarray]:
    names, sizes = ["embedding", "encoding.semantic", "encoding", "encoding.amplitude"], [36_000, 12_000, 97, 3_100]
    for layer in range(layers):
        parts = {
            "interference_norm": 96,
            "interference": 4_708,
            "interference.out": 9_216,
            "quantum": 0,
            "quantum.enter": 24_800,
            "quantum.out": 18_432,
            "ffn.up": 36_864,
            "ffn.down": 18_432,
        }
        for part, size in parts.items():
            if size:
                names.append(f"layers.{layer}.{part}")
                sizes.append(size)
    return [*names, "norm"], np.array([*sizes, 96], dtype=np.int64)
