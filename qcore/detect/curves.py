"""What a run's own curves say of it: loss, gradient norm and rate of each step, and held-out losses between them.

Every training loop has these few scalars, so rules that read nothing else serve any run, without logits and without a
model of ours. This file keeps what they share, once a call, in one plain dict of the watch:

* the last 50 losses and norms with a robust centre and spread (median, MAD), renewed every 5 steps: a spike is a
  departure from them, whatever the size of a loss;
* means of 5 steps, and the lowest running median of five of those: what this run had reached;
* one row for each evaluation, with the mean of the training losses since the one before: held-out and training losses
  are only ever compared through such rows.

A change of what is trained on or minimised makes earlier losses another quantity: all of this then starts anew, and
the rules wait 30 steps. A change of the rate restarts nothing, and no change of a cadence does.

The identity behind most of these rules: within the *first pass* over the data a training loss, measured before the
update that it makes, is an honest estimate of the loss on new text, as the held-out loss is. There the two agree, and
nothing can be memorised. `Facts.steps_per_pass` says where that ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from statistics import median
from typing import Any

from qcore.detect.rule import RuleContext
from qcore.probes import catalog

SHARED = "curves"
"""Under which name the watch keeps what this file remembers."""
WINDOW, BLOCK, BLOCKS = 50, 5, 25
FEWEST = 30
"""Losses that a centre and a spread are made of at least."""
MOST_ROWS = 64
_RECENT = 25
WAIT = 30
"""Steps after a restart in which nothing is said."""
MAD = 1.4826
"""A median absolute deviation of normal numbers times this is their standard deviation."""

_OF_THE_RATE = {"learning_rate", "manual_learning_rate", "lr_policy", "warmup_steps", "min_lr_ratio", "steps"}
_OF_NO_LOSS = {
    *_OF_THE_RATE, "beta1", "beta2", "weight_decay", "clip_norm", "budget_percent", "sample_length", "temperature",
    "top_k", "top_p", "keep_checkpoints", "torch_threads", "autopilot", "measured_clips", "solver", "solver_steps",
    "sample_noise_correlation",
}  # fmt: skip
Shared = dict[str, Any]


def restarts_curves(control: str) -> bool:
    """Whether a change of this control makes another quantity of the losses."""
    return control not in _OF_NO_LOSS and not control.endswith("_every")


def observe_curves(shared: Shared, step: int, values: Mapping[str, float]) -> None:
    """Take what arrived of losses, norms, rates and held-out losses; any other call costs two look-ups.

    Step 0 is measured before the first update, on another call than the first step's loss: it is kept apart.
    """
    loss = values.get(catalog.TERM_CE, values.get(catalog.TERM_FLOW))
    if loss is not None:
        shared["by_term"] = True
    elif not shared.get("by_term"):
        loss = values.get(catalog.TRAIN_LOSS)
    if loss is not None and step == 0:
        shared["at_start"] = loss
    elif loss is not None:
        shared.setdefault("first", [step, loss])
        _observe_loss(shared, step, loss)
    _observe_step(shared, step, values, has_loss=loss is not None)
    if (held_out := held_out_of(values)) is not None:
        _observe_held_out(shared, step, held_out)


def _observe_step(shared: Shared, step: int, values: Mapping[str, float], *, has_loss: bool) -> None:
    norm, rate = values.get(catalog.TRAIN_GRAD_NORM), values.get(catalog.TRAIN_LR)
    if norm is not None:
        shared["norm_now"] = norm
        if shared.get("spiking") is None:
            _observe_track(shared.setdefault("norm", _new_track()), norm)
    if rate is not None:
        _observe_rate(shared, step, rate)
    if has_loss:
        shared["longest_gap"] = max(shared.get("longest_gap", 0), shared.get("without_loss", 0))
        shared["without_loss"] = 0
    elif norm is not None or rate is not None:
        shared["without_loss"] = shared.get("without_loss", 0) + 1


def held_out_of(values: Mapping[str, float]) -> float | None:
    """The held-out loss among the values, of tokens or of clips."""
    found = values.get(catalog.EVAL_CE)
    return values.get(catalog.EVAL_FLOW) if found is None else found


def restart_curves(shared: Shared, step: int) -> None:
    """Forget what was reached: from here on the losses are of another kind."""
    for name in ("loss", "norm", "rows", "passed", "lowest", "first_row", "spiking", "resumed"):
        shared.pop(name, None)
    shared["wait"] = step + WAIT


def note_resume(shared: Shared, step: int) -> None:
    """The run was taken up again after `step`: what its last losses were is what its next ones are held against."""
    recent = shared.get("loss", {}).get("recent", [])
    rates = shared.get("rate", {}).get("recent", [])
    if len(recent) >= 2 * BLOCK:
        shared["resumed"] = {
            "step": step,
            "before": sum(recent[-2 * BLOCK :]) / (2 * BLOCK),
            "spread": scatter(recent[-FEWEST:]),
            "rate": rates[-1] if rates else None,
            "after": [],
        }


def scatter(values: list[float]) -> float:
    """Standard deviation of single values around their trend, from how much neighbours differ; 0 for one."""
    changes = [abs(later - earlier) for earlier, later in pairwise(values)]
    return MAD * median(changes) / math.sqrt(2) if changes else 0.0


def _new_track() -> dict[str, Any]:
    return {"recent": [], "count": 0, "centre": None, "spread": None}


def _observe_track(track: dict[str, Any], value: float) -> None:
    """The last 50 values; every 5 of them a new centre and spread, of the values before these five.

    Those five are left out so that a departure cannot hide itself.
    """
    recent = track["recent"]
    if track["count"] % BLOCK == 0 and len(recent) >= FEWEST:
        centre = median(recent)
        track["centre"], track["spread"] = centre, MAD * median(abs(one - centre) for one in recent)
    recent.append(value)
    track["count"] += 1
    if len(recent) > WINDOW:
        del recent[0]


def _observe_loss(shared: Shared, step: int, loss: float) -> None:
    track = shared.setdefault("loss", {**_new_track(), "open": [], "blocks": [], "base": None})
    if shared.get("spiking") is None:  # what a spike is held against stays what it was before
        _observe_track(track, loss)
    shared["step"], shared["now"] = step, loss
    track["open"].append(loss)
    if len(track["open"]) == BLOCK:
        track["blocks"] = [*track["blocks"], sum(track["open"]) / BLOCK][-BLOCKS:]
        track["open"] = []
        if len(track["blocks"]) >= BLOCK:
            recent = median(track["blocks"][-BLOCK:])
            track["base"] = recent if track["base"] is None else min(track["base"], recent)
    passed = shared.setdefault("passed", [])
    passed.append(loss)
    if len(passed) > _RECENT:
        del passed[0]


def _observe_rate(shared: Shared, step: int, rate: float) -> None:
    kept = shared.setdefault("rate", {"first": rate, "older": 0.0, "recent": [], "zero_since": None})
    kept["recent"].append(rate)
    if len(kept["recent"]) > WINDOW:
        kept["older"] = max(kept["older"], kept["recent"].pop(0))
    if rate > 1e-3 * highest_rate(shared):
        kept["zero_since"] = None
    elif kept["zero_since"] is None:
        kept["zero_since"] = step


def highest_rate(shared: Shared) -> float:
    """The largest rate of an update so far; 0 before the first."""
    kept = shared.get("rate")
    return max(kept["older"], *kept["recent"]) if kept else 0.0


def raised_rate(shared: Shared, factor: float = 1.5) -> tuple[float, float] | None:
    """Rate before and rate now, where in the last 50 steps it has passed all that this run ever had by `factor`; a
    restart of a schedule goes back up to what was there before, and is none.
    """
    kept = shared.get("rate")
    if not kept or kept["older"] <= 0 or max(kept["recent"]) <= factor * kept["older"]:
        return None
    return kept["older"], max(kept["recent"])


def _observe_held_out(shared: Shared, step: int, held_out: float) -> None:
    passed = shared.get("passed") or []
    count = len(passed)
    mean = sum(passed) / count if count else None
    error = 0.0
    if mean is not None and count > 1:
        # neighbours' differences: the trend of a falling loss is no scatter
        error = math.sqrt(sum((b - a) ** 2 for a, b in pairwise(passed)) / (2 * (count - 1)) / count)
    row = {"step": step, "held_out": held_out, "train": mean, "error": error, "count": count}
    shared["passed"] = []
    rows = shared.setdefault("rows", [])
    if rows and rows[-1]["step"] == step:
        return
    rows.append(row)
    if len(rows) > MOST_ROWS:
        del rows[0]
    lowest = shared.get("lowest")
    if lowest is None or held_out < lowest["held_out"]:
        shared["lowest"] = row
    shared.setdefault("first_row", row)


# what rules ask


def passes(seen: RuleContext) -> float | None:
    """How many times all training data have come by now; None where nobody knows."""
    per_pass = seen.facts.steps_per_pass
    return seen.step / per_pass if per_pass > 0 else None


def uniform(seen: RuleContext) -> float | None:
    """ln V, what a model scores that knows nothing; None where the vocabulary is not known."""
    return math.log(seen.facts.vocab_size) if seen.facts.family == "text" and seen.facts.vocab_size > 1 else None


def is_waiting(seen: RuleContext) -> bool:
    """Whether the curves have just started anew."""
    return seen.step < seen.curves.get("wait", 0)


def warmed_up(seen: RuleContext) -> bool:
    """Whether the rate has reached its height, as far as that is known, and some steps have been made."""
    return seen.step > max(BLOCK, int(seen.controls.get("warmup_steps") or 0))


def newest_row(seen: RuleContext) -> dict[str, Any] | None:
    """The row of an evaluation that has just arrived; None in any other call."""
    rows = seen.curves.get("rows")
    if not rows or held_out_of(seen.values) is None:
        return None
    row: dict[str, Any] = rows[-1]
    return row if row["step"] == seen.step else None


def nats(seen: RuleContext, value: float) -> float:
    """A limit in nats, for tokens; 0 for losses of another unit, which are judged by shares alone."""
    return value if seen.facts.family == "text" else 0.0


def unit(seen: RuleContext) -> str:
    """Unit of the losses."""
    return "nats" if seen.facts.family == "text" else ""


def loss_lines(seen: RuleContext) -> dict[str, str]:
    """Lines of a chart of both losses, by label."""
    text = seen.facts.family == "text"
    own = catalog.TERM_CE if text else catalog.TERM_FLOW
    by_term = own if seen.curves.get("by_term") else catalog.TRAIN_LOSS
    return {"training": by_term, "held out": catalog.EVAL_CE if text else catalog.EVAL_FLOW}
