"""The learning rate of a step: a pure function of the step and the board, so a live change takes effect at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def learning_rate(step: int, controls: Mapping[str, Any]) -> float:
    """Learning rate of update `step` (1-based).

    warm-up: lr·step/(warmup_steps+1) up to step warmup_steps · cosine: from lr at the end of the warm-up to
    lr·min_lr_ratio at `steps`, lr·(m + (1−m)·½(1+cos πp)), p the share of the way · constant: lr after the warm-up ·
    manual: manual_learning_rate at every step. Past `steps` the cosine stays at its end.
    """
    if controls["lr_policy"] == "manual":
        return float(controls["manual_learning_rate"])
    peak, warmup = float(controls["learning_rate"]), int(controls["warmup_steps"])
    if step <= warmup:
        return peak * step / (warmup + 1)
    if controls["lr_policy"] == "constant":
        return peak
    share = min(1.0, (step - warmup) / max(1, int(controls["steps"]) - warmup))
    floor = float(controls["min_lr_ratio"])
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share)))
