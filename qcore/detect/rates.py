"""Rules about the learning rate as it was used: zero while the run goes on, and full at the first update."""

from __future__ import annotations

from qcore.base.words import number_words
from qcore.detect.curves import BLOCK, highest_rate, is_waiting, loss_lines, nats, unit
from qcore.detect.finding import AtLeast, Report, known_numbers, number, pause, rounded_text, set_rate, without_fault
from qcore.detect.rule import Limits, Memory, RuleContext, Signal, signal_of, update_latch
from qcore.detect.tokens import rate_control
from qcore.probes import catalog

_ZERO = 1e-3
"""A rate of this share of the largest is none."""


def rate_zero_early(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The rate is 0, or as good as that, for long and with much of the planned run ahead; nobody has set it so."""
    kept = seen.curves.get("rate")
    store = memory.setdefault("all", {})
    since = kept["zero_since"] if kept else None
    if since is None:
        if store:
            update_latch(store, "zero", seen.step, False, clear_after=1)
        return signal_of(store, lambda: _zero_report(seen, seen.step, 0.0))
    planned = float(seen.controls.get("steps") or 0)
    wanted = max(limits["steps"], limits["share"] * planned if planned else limits["share_alone"] * seen.step)
    early = not planned or planned - since > limits["left"] * planned
    if seen.step - since >= wanted and early and not _is_wanted(seen):
        update_latch(store, "zero", since if not store.get("zero", {}).get("on") else seen.step, True)
    return signal_of(store, lambda: _zero_report(seen, since, planned))


def _is_wanted(seen: RuleContext) -> bool:
    """Whether somebody has set the rate itself to nothing."""
    control, _ = rate_control(seen)
    change = seen.changes.get(control)
    return (
        change is not None and isinstance(change.new, int | float) and change.new <= _ZERO * highest_rate(seen.curves)
    )


def _zero_report(seen: RuleContext, since: int, planned: float) -> Report:
    highest, rate = highest_rate(seen.curves), seen.latest.get(catalog.TRAIN_LR, 0.0)
    of = f" of {planned:,.0f}" if planned else ""
    title = f"The learning rate is {number_words(rate)} since step {since:,}{of}: nothing is learned any more"
    numbers = known_numbers(
        ("learning rate", rate, "", AtLeast(_ZERO * highest)),
        ("largest rate of the run", highest, "", None),
        ("steps at that rate", seen.step - since, "steps", None),
        ("steps that are planned", planned or None, "steps", None),
    )
    figure = seen.history.chart("Learning rate", "", {"rate": catalog.TRAIN_LR})
    why = "The schedule is shorter than the run, or counts faster: plan as many steps as are made."
    fixes = [*without_fault(seen.facts)]
    control, own = rate_control(seen)
    if control in seen.controls and own is not None and own < highest / 2:
        fixes.append(set_rate(control, highest, why))
    return Report(title, numbers, figure, [*fixes, pause(why)])


def missing_warmup(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The rate was full from the first update, and the loss rose far above where it began."""
    shared = seen.curves
    first, kept, track = shared.get("first"), shared.get("rate"), shared.get("loss")
    store = memory.setdefault("all", {})
    if first is None or kept is None or track is None or first[0] > 1 or is_waiting(seen):
        return []
    if seen.step > limits["steps"] and not store:
        return []
    if track["open"] or shared["step"] != seen.step:
        return []
    block = track["blocks"][-1]
    rise = block - first[1]
    limit = max(nats(seen, limits["rise"]), limits["share"] * first[1])
    if rise > limit and seen.step <= limits["steps"] and kept["first"] >= limits["full"] * highest_rate(shared):
        memory["highest"] = max(memory.get("highest", 0.0), block)
        memory["limit"] = limit
        update_latch(store, "spike", seen.step, True)
    elif store:
        update_latch(store, "spike", seen.step, False if rise < 0 else None, clear_after=BLOCK)

    def report() -> Report:
        top = memory["highest"]
        title = f"No warm-up: the loss rose from {rounded_text(first[1])} to {rounded_text(top)} in the first steps"
        numbers = [
            number("loss above that of the first step, mean of 5", top - first[1], unit(seen), memory["limit"]),
            number("rate of the first step", kept["first"]),
            number("largest rate so far", highest_rate(shared)),
        ]
        figure = seen.history.chart("Training loss", unit(seen), {"training": loss_lines(seen)["training"]})
        why = "The first updates are the least certain: let the rate rise over some tens of steps in the next run."
        return Report(title, numbers, figure, [*without_fault(seen.facts), pause(why)])

    return signal_of(store, report)
