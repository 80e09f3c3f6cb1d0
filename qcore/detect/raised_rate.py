"""The rule about a learning rate that was raised too far: a cause, told by what it did.

A rate that was raised is no fault, and a loss that leaves its range has many causes. Together, in this order and close
to each other, they are one: the raise comes first, the trouble begins within a few steps of it, and the rate is still
up. Only changes that somebody made count (a person, a schedule, a rule): a warm-up raises the rate in every run.
"""

from __future__ import annotations

from typing import Any

from qcore.base.words import value_words
from qcore.detect.finding import Report, known_numbers, restore, rounded_text, set_rate, without_fault
from qcore.detect.rule import Limits, Memory, RuleContext, Signal, is_on, signal_of, update_latch
from qcore.detect.tokens import rate_control
from qcore.probes import catalog

_TROUBLE = ("token_collapse", "divergence", "loss_spike", "worse_than_unigram", "worse_than_uniform", "nonfinite")
"""Findings that a rate too high shows itself by."""


def raised_rate(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The loss left its range within a few steps of a learning rate that was raised by far."""
    store = memory.setdefault("all", {})
    control, rate = rate_control(seen)
    trouble = [seen.active[name] for name in _TROUBLE if name in seen.active]
    if not is_on(store, "raised"):
        change = seen.changes.get(control)
        if not trouble or change is None or not _is_raise(change.old, change.new, limits["times"]):
            return []
        began = min(trouble)
        if not change.step <= began <= change.step + limits["steps"]:
            return []
        memory["change"] = {"step": change.step, "old": float(change.old), "new": float(change.new), "began": began}
        update_latch(store, "raised", began, True)
    else:
        still = rate is not None and rate > limits["release"] * memory["change"]["old"]
        update_latch(store, "raised", seen.step, bool(trouble) and still)
    return signal_of(store, lambda: _report(seen, limits, memory["change"], control, rate))


def _is_raise(old: Any, new: Any, times: float) -> bool:
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (old, new))
    return numbers and 0 < times * old < new


def _report(seen: RuleContext, limits: Limits, change: dict[str, Any], control: str, rate: float | None) -> Report:
    loss, base = seen.latest.get(catalog.TERM_CE), seen.history.before(catalog.TERM_CE, change["step"] + 1)
    moved = f"from {value_words(change['old'])} to {value_words(change['new'])} at step {change['step']:,}"
    left = "" if loss is None else f", and the loss left its range: {rounded_text(loss)} nats"
    numbers = known_numbers(
        (f"{control} now", rate, "", limits["release"] * change["old"]),
        (f"{control} before step {change['step']:,}", change["old"], "", None),
        ("steps from the raise to the trouble", float(change["began"] - change["step"]), "steps", None),
        ("cross-entropy now", loss, "nats", None),
        ("cross-entropy before the raise", base, "nats", None),
    )
    figure = seen.history.chart("Cross-entropy", "nats per token", {"ce": catalog.TERM_CE})
    since = int(change["began"])
    back = f"Best is to go back to a checkpoint from before step {since:,}: no loss term recovered such a run."
    why = f"It worked until it was raised {moved}. {back}"
    fixes = [
        *without_fault(seen.facts),
        restore(control, change["old"], since, why),
        set_rate(control, change["old"], why),
    ]
    return Report(f"The learning rate was raised {moved}{left}", numbers, figure, fixes)
