"""Synthetic runs for the tests of the detectors: a healthy one with its real transients, and ways to spoil it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from qcore.detect import Facts, Verdict, Watch

TERMS = ("ce", "label_smoothing", "diversity", "dominance", "entropy_floor", "eos", "unlikelihood", "z_loss")
PHASE_TERMS = ("local_energy", "global_energy", "entanglement", "stability", "coherence")
RANGES = {
    **{name: (0.0, float("inf")) for name in TERMS},
    "dominance": (0.0, 1.0),
    "eos": (0.0, 1.0),
    "local_energy": (-1.0, 1.0),
    "global_energy": (-1.0, 0.0),
    "entanglement": (-1.0, 0.0),
    "stability": (0.0, 1.0),
    "coherence": (0.0, 0.8),
}
UNIGRAM, BIGRAM, GENERATOR = 4.45, 2.2, 0.6
Values = dict[str, float]


def micro_batches(error: float, smallest: float, largest: float, unevenness: float) -> Values:
    """An accumulated gradient that was taken apart."""
    weights_of_them = {"smallest": smallest, "largest": largest, "unevenness": unevenness, "residual": 1e-4}
    return {"accumulation/error": error} | {f"accumulation/{name}": value for name, value in weights_of_them.items()}


WELL_FED: Values = {
    "labels/wrong": 0.0,
    "labels/trained": 1.0,
    "labels/covered": 1.0,
    "labels/without_gradient": 0.0,
    "labels/padding": 0.0,
    "labels/ends": 300.0,
    "labels/end_targets": 299.0,
    "batches/rows": 512.0,
    "batches/distinct": 512.0,
    "batches/possible": 512.0,
    "batches/distinct_in_update": 1.0,
    "batches/spread": 0.97,
    "batches/continued": -0.01,
}
"""Targets and rows of a healthy run."""

AT_START: dict[str, tuple[Values, dict[str, float], dict[str, Any]]] = {
    "future_leak": ({"causality/leak": 0.4}, {}, {}),
    "constant_term:diversity": ({"term/diversity": 3.7123, "grad/norm/diversity": 0.0}, {"diversity": 0.5}, {}),
    "saturated_term:entropy_floor": (
        {"term/entropy_floor": -0.5, "grad/norm/entropy_floor": 0.0},
        {"entropy_floor": 0.5},
        {"hinges": frozenset(), "term_ranges": {"entropy_floor": (-0.5, 0.0)}},
    ),
    "real_phases": (
        {"phase/real_axis_share": 1.0, "term/coherence": 0.4127, "grad/norm/coherence": 0.0},
        {"coherence": 0.02},
        {},
    ),
    "wrong_sign:local_energy": ({"energy/sign/local_energy": -1.0}, {"local_energy": 0.02}, {}),
    "unscaled_term:local_energy": (
        {"term/local_energy": -21.3, "grad/ratio/local_energy": 5.0, "grad/cos/local_energy": 0.1},
        {"local_energy": 0.02},
        {},
    ),
    "lost_accumulation": ({"accumulation/error": 0.8}, {}, {"accumulation": 4}),
    "accumulation_lost": (micro_batches(0.8, 0.0, 1.0, 1.0), {}, {"accumulation": 4}),
    "accumulation_undivided": (micro_batches(3.0, 4.0, 4.0, 0.0), {}, {"accumulation": 4}),
    "accumulation_uneven": (micro_batches(0.3, 0.6, 2.0, 0.0), {}, {"accumulation": 4}),
    "weights_without_optimizer": ({"weights/without_optimizer": 0.9}, {}, {}),
    "frozen_weights": (
        {"weights/untrained_share": 0.5, "weights/untrained_blocks": 2.0, "weights/frozen_blocks": 2.0},
        {},
        {},
    ),
    "still_weights": ({"update/still_modules": 3.0, "update/still_share": 0.4}, {}, {}),
    "lost_to_rounding": ({"update/lost_share": 0.6, "update/coarse_share": 1.0, "update/still_share": 0.6}, {}, {}),
    "stale_gradient": ({"update/leftover": 0.9}, {}, {}),
    "gradient_below_eps": ({"update/eps_ratio": 0.03}, {}, {}),
    "wrong_rate": ({"train/lr": 3e-3, "update/rate_used": 1e-7, "update/rate_moved": 1e-7}, {}, {}),
    "frozen_blocks": ({"weights/frozen_blocks": 2.0, "weights/dead_share": 0.6}, {}, {}),
    "unused_weights": ({"weights/dead_share": 0.4}, {}, {}),
    "half_circle": ({"phase/coverage": 0.5}, {}, {}),
    "padding_targets": ({"data/pad_is_target": 0.7, "data/target_top1_share": 0.79}, {}, {}),
    "context_ignored": ({"causality/context_response": 0.0}, {}, {}),
    "batch_dependence": ({"batch/dependence": 0.2}, {}, {}),
    "unshifted_labels": ({"shift/targets_are_inputs": 1.0}, {}, {}),
    "label_lag": ({"labels/wrong": 1.0, "labels/lag": 2.0, "labels/lag_share": 1.0}, {}, {}),
    "answers_in_inputs": (
        {"labels/wrong": 0.05, "labels/lag": 0.0, "labels/lag_share": 0.1, "labels/shown": 1.0},
        {},
        {},
    ),
    "foreign_targets": (
        {"labels/wrong": 1.0, "labels/lag": 3.0, "labels/lag_share": 0.1, "labels/other_row": 1.0},
        {},
        {},
    ),
    "few_targets": ({"labels/wrong": 0.0, "labels/trained": 0.02, "labels/covered": 0.02}, {}, {}),
    "end_never_target": ({"labels/wrong": 0.0, "labels/ends": 300.0, "labels/end_targets": 0.0}, {}, {}),
    "repeated_batches": ({"batches/rows": 204.0, "batches/distinct": 12.0, "batches/possible": 204.0}, {}, {}),
    "neighbouring_batches": ({"batches/spread": 0.01, "batches/distinct": 200.0, "batches/possible": 200.0}, {}, {}),
    "stuck": ({"optim/planned_lr_sum": 0.015}, {}, {}),
    "rank_collapse": ({"geometry/mean_cosine": 0.7, "geometry/effective_rank": 0.1}, {}, {}),
    "random_evaluation": ({"repeat/difference": 1.3}, {}, {}),
    "softmax_twice": ({"head/probability_share": 1.0}, {}, {}),
    "cache_mismatch": ({"sampler/cache_error": 0.4, "sampler/cache_first": 1.0, "causality/leak": 0.0}, {}, {}),
    "sampler_mismatch": ({"sampler/score_error": 0.2, "causality/leak": 0.0}, {}, {}),
    "prompt_ignored": ({"sampler/score_error": 0.2, "sampler/score_without_prompt": 3e-7}, {}, {}),
    "round_trip": ({"round_trip/loss": 0.3}, {}, {}),
    "failed_samples": ({"sampler/failed_share": 0.5}, {}, {}),
}
"""Faults of the construction by the id of their finding: what is measured at step 0, term weights, other facts."""


def facts(**changes: Any) -> Facts:
    """A small phase model on stories."""
    known: dict[str, Any] = {
        "kind": "phase_lm",
        "vocab_size": 200,
        "width": 64,
        "blocks": 3,
        "unigram": UNIGRAM,
        "bigram": BIGRAM,
        "trigram": 1.3,
        "generator": GENERATOR,
        "planned_lr_sum": 0.6,
        "term_ranges": RANGES,
        "hinges": frozenset({"dominance", "entropy_floor"}),
        "controls": {"learning_rate": 3e-3, "lr_policy": "cosine", "steps": 400},
    }
    return Facts(**{**known, **changes})


def weights(**changes: float) -> dict[str, float]:
    """Cross-entropy alone, but for `changes`."""
    return {**{name: float(name == "ce") for name in (*TERMS, *PHASE_TERMS)}, **changes}


def healthy_loss(step: int) -> float:
    """A run of the tiny preset: 7.4 at the start, the plateau of token frequencies around step 20, 0.75 at the end."""
    known = [(0, 7.4), (5, 6.8), (10, 5.8), (20, 4.6), (30, 3.6), (40, 2.7), (60, 1.85), (80, 1.4), (100, 1.1)]
    known += [(150, 0.88), (250, 0.78), (400, 0.74), (10_000, 0.7)]
    return float(np.interp(step, *zip(*known, strict=True)))


def healthy(step: int, rng: np.random.Generator, *, noise: float = 0.08) -> Values:
    """Everything that a healthy run measures at a step, with its transients and a scatter as of batches of 8 rows."""
    at_plateau = np.exp(-(((step - 20) / 8) ** 2))
    loss = healthy_loss(step) + noise * rng.standard_normal()
    norm = float(np.interp(step, [0, 6, 20, 60, 400], [3.3, 2.7, 0.75, 0.72, 0.5]))
    found = {
        "train/loss": loss,
        "term/ce": loss,
        "train/lr": 3e-3 * min(1.0, step / 51),
        "train/grad_norm": norm * float(np.exp(0.2 * rng.standard_normal())),
    }
    if step % 10 == 0:
        information = float(np.interp(step, [0, 10, 20, 30, 50, 100, 400], [2.5, 0.7, 0.08, 0.7, 2.1, 3.2, 3.7]))
        top = 0.09 + 0.7 * at_plateau + 0.02 * rng.random()
        found |= {
            "tokens/mutual_information": information * (1 + 0.04 * rng.standard_normal()),
            "tokens/top1_share": float(top),
            "tokens/target_top1_share": 0.09,
            "tokens/predicted_eos": 0.1 * float(at_plateau) + 0.03,
            "tokens/target_eos": 0.03,
            "tokens/predicted_pad": 0.0,
            "tokens/target_pad": 0.0,
            "tokens/coverage": 0.8,
            "tokens/row_variance": 1e-4 + 0.3 * min(1.0, step / 100),
            "optim/lr_sum": 3e-3 * (max(0, step - 51) + min(step, 51) ** 2 / 102),
            "shift/copy_rate": 0.9 if step == 0 else 0.02,
            "shift/ce_here": 0.5 if step == 0 else 6.0,
            "shift/ce_next": loss,
            "shift/targets_are_inputs": 0.01,
        }
    if step % 20 == 0:
        found |= {
            "phase/coverage": 1.0,
            "phase/R": 0.35,
            "phase/dimension_variance": 0.6,
            "phase/im_re_ratio": 0.9,
            "phase/real_axis_share": 0.0,
            "geometry/mean_cosine": 0.1 + 0.5 * float(at_plateau),
            "geometry/effective_rank": 0.6 - 0.4 * float(at_plateau),
        }
    if step % 50 == 0:
        found |= {
            "grad/norm/ce": norm,
            "grad/ratio/ce": 1.0,
            "grad/cos/ce": 1.0,
            "weights/dead_share": 0.01,
            "weights/frozen_blocks": 0.0,
            "weights/blocks": 3.0,
            "weights/without_optimizer": 0.0,
            "weights/fixed_share": 0.0,
            "weights/untrained_share": 0.0,
            "weights/untrained_blocks": 0.0,
            "update/still_modules": 0.0,
            "update/still_share": 1e-4,
            "update/lost_share": 1e-4,
            "update/coarse_share": 0.0,
            "update/leftover": 0.0,
            "update/eps_ratio": 1e5,
            "update/rate_used": found["train/lr"],
            "update/rate_lowest": found["train/lr"],
            "update/rate_moved": found["train/lr"] * (1 + 1e-4),
            "eval/ce": healthy_loss(step) + 0.02 * rng.standard_normal(),
        }
    if step % 100 == 0:
        found |= {
            "causality/leak": 0.0,
            "causality/context_response": 0.8,
            "batch/dependence": 0.0,
            "strict/gap": 1e-6 * rng.standard_normal(),
            "strict/ce": loss,
            "strict/teacher_forced": loss,
            "generation/repetition": 0.7 if step <= 100 else 0.1,
        }
    if step == 0:
        found |= {"data/target_top1_share": 0.09, "data/pad_is_target": 0.0, "optim/planned_lr_sum": 0.6}
    return found


def run(
    watch: Watch,
    steps: Iterable[int],
    *,
    spoil: Callable[[int, Values], Mapping[str, float] | None] | None = None,
    term_weights: Mapping[str, float] | None = None,
    seed: int = 0,
    noise: float = 0.08,
) -> list[Verdict]:
    """Tell a watch a healthy run, spoiled at will: what `spoil` returns is added to the values of the step."""
    told = []
    for step in steps:
        values = healthy(step, np.random.default_rng((seed, step)), noise=noise)
        if spoil is not None:
            values |= spoil(step, values) or {}
        told += watch.observe(step, values, weights() if term_weights is None else term_weights)
    return told


def names(verdicts: Iterable[Verdict]) -> set[str]:
    """The names of the findings that were raised."""
    return {verdict.name for verdict in verdicts if verdict.state == "active"}


def first(verdicts: Iterable[Verdict], name: str) -> Verdict:
    """The verdict that raised a finding."""
    return next(verdict for verdict in verdicts if verdict.name == name)
