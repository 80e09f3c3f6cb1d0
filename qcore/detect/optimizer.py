"""Rules about what the optimizer did: weights that it does not know, cannot move, or moves otherwise than it says.

All rest on identities that hold exactly in a healthy run: every trainable weight is in a group, no step begins with a
gradient, the weights follow the scheduled rate, a weight with gradient and rate moves. Their limits are wide of
rounding and not fitted to any run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qcore.base.words import number_words, percent_words
from qcore.detect.finding import AtLeast, Report, known_numbers, pause, remedy, rounded_text, stop, without_fault
from qcore.detect.rule import Limits, Memory, RuleContext, Signal, is_above, is_below, signal_of, update_latch
from qcore.probes import catalog

_Number = tuple[str, float | None, str, float | None]


def weights_without_optimizer(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Trainable weights in no parameter group, or a matrix in the model that is no parameter at all."""
    store = memory.setdefault("all", {})
    unknown, fixed = (
        seen.values.get(name) for name in (catalog.WEIGHTS_WITHOUT_OPTIMIZER, catalog.WEIGHTS_FIXED_SHARE)
    )
    if unknown is not None:
        update_latch(store, "groups", seen.step, unknown > limits["share"], clear_after=1)
    if fixed is not None:
        update_latch(store, "fixed", seen.step, is_above(fixed, limits["fixed"], limits["fixed"]), clear_after=1)

    def report() -> Report:
        share = seen.latest.get(catalog.WEIGHTS_WITHOUT_OPTIMIZER, 0.0)
        matrices = seen.latest.get(catalog.WEIGHTS_FIXED_SHARE, 0.0)
        numbers = [
            ("trainable weights in no parameter group", share, "", limits["share"]),
            ("matrices that are no parameters ÷ all weights", matrices, "", limits["fixed"]),
            ("modules with gradient that did not move", seen.latest.get(catalog.UPDATE_STILL_MODULES), "", None),
        ]
        if share > limits["share"]:
            title = f"The optimizer does not know {percent_words(share)} of the trainable weights"
            why = "Build the optimizer over the parameters of the model that is trained, after the last change of it."
        else:
            title = f"The output depends on a matrix that is no parameter, of {percent_words(matrices)} of the weights"
            why = "Make the tensor an nn.Parameter of the model and build the optimizer after that."
        return _report(seen, title, numbers, None, [stop(why)])

    return signal_of(store, report)


def frozen_weights(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Weights that are switched off for training: whole blocks of them, or a large share."""
    share = seen.values.get(catalog.WEIGHTS_UNTRAINED_SHARE)
    if share is None:
        return []
    blocks = seen.values.get(catalog.WEIGHTS_UNTRAINED_BLOCKS, 0.0)
    store = memory.setdefault("all", {})
    bad = blocks > limits["blocks"] or share > limits["share"]
    update_latch(store, "frozen", seen.step, bad, clear_after=1)

    def report() -> Report:
        numbers: list[_Number] = [
            ("weights that need no gradient", share, "", limits["share"]),
            ("blocks that need no gradient", blocks, "blocks", limits["blocks"]),
            ("blocks of the model", seen.latest.get(catalog.WEIGHTS_BLOCKS), "blocks", None),
        ]
        title = f"{percent_words(share)} of the weights are switched off for training"
        if blocks:
            every = seen.latest.get(catalog.WEIGHTS_BLOCKS, blocks)
            title += f", {rounded_text(blocks, 0)} of {rounded_text(every, 0)} blocks"
        why = "Set requires_grad of these parameters to True and build the optimizer after that, unless it is meant so."
        return _report(seen, title, numbers, catalog.WEIGHTS_UNTRAINED_SHARE, [stop(why)])

    return signal_of(store, report)


def still_weights(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Modules with a gradient and a rate of which not one weight moved, although the update was large enough."""
    modules = seen.values.get(catalog.UPDATE_STILL_MODULES)
    if modules is None:
        return []
    store = memory.setdefault("all", {})
    update_latch(store, "still", seen.step, modules > limits["modules"], clear_after=1)

    def report() -> Report:
        numbers: list[_Number] = [
            ("modules with gradient that did not move", modules, "modules", limits["modules"]),
            ("weights with gradient that did not move", seen.latest.get(catalog.UPDATE_STILL_SHARE), "", None),
            ("updates lost to rounding", seen.latest.get(catalog.UPDATE_LOST_SHARE), "", None),
            ("learning rate in the optimizer", seen.latest.get(catalog.UPDATE_RATE_USED), "", None),
        ]
        counted = "1 module has" if modules == 1 else f"{rounded_text(modules, 0)} modules have"
        title = f"{counted} a gradient and did not move"
        why = "Something puts these weights back after each step, or the optimizer moves a copy of them: look there."
        return _report(seen, title, numbers, catalog.UPDATE_STILL_SHARE, [stop(why)])

    return signal_of(store, report)


def lost_to_rounding(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Updates that are smaller than half of the last digit of weights that are kept in few digits."""
    lost, coarse = (seen.values.get(name) for name in (catalog.UPDATE_LOST_SHARE, catalog.UPDATE_COARSE_SHARE))
    if lost is None or coarse is None:
        return []
    store = memory.setdefault("all", {})
    # in float32 only a rate near 0 loses updates, which is the schedule's business
    bad = False if coarse <= limits["coarse"] else is_above(lost, limits["lost"], limits["lost"] / 2)
    update_latch(store, "lost", seen.step, bad)

    def report() -> Report:
        numbers: list[_Number] = [
            ("updates lost to rounding", lost, "", limits["lost"]),
            ("weights kept in fewer digits than float32", coarse, "", limits["coarse"]),
            ("learning rate that the weights followed", seen.latest.get(catalog.UPDATE_RATE_MOVED), "", None),
        ]
        title = f"{percent_words(lost)} of the updates are lost to rounding: the weights are kept in too few digits"
        why = "Keep the weights in float32 and use autocast for the passes: an update is smaller than their last digit."
        return _report(seen, title, numbers, catalog.UPDATE_LOST_SHARE, [stop(why)])

    return signal_of(store, report)


def stale_gradient(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Steps that began with the gradient of an earlier one."""
    share = seen.values.get(catalog.UPDATE_LEFTOVER)
    if share is None:
        return []
    store = memory.setdefault("all", {})
    update_latch(store, "left", seen.step, share > limits["share"])

    def report() -> Report:
        numbers: list[_Number] = [
            ("steps that began with an earlier gradient", share, "", limits["share"]),
            ("gradient norm before clipping", seen.latest.get(catalog.TRAIN_GRAD_NORM), "", None),
        ]
        title = f"A gradient of an earlier step is still there at {percent_words(share)} of the steps"
        why = "Call optimizer.zero_grad() before the first backward pass of every step: each update sums older ones."
        return _report(seen, title, numbers, catalog.TRAIN_GRAD_NORM, [stop(why)])

    return signal_of(store, report)


def gradient_below_eps(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Gradients that are smaller than the optimizer's epsilon."""
    ratio = seen.values.get(catalog.UPDATE_EPS_RATIO)
    if ratio is None:
        return []
    store = memory.setdefault("all", {})
    update_latch(store, "small", seen.step, is_below(ratio, limits["ratio"], 2 * limits["ratio"]))

    def report() -> Report:
        numbers: list[_Number] = [
            ("size of the gradients ÷ epsilon of the optimizer", ratio, "", AtLeast(limits["ratio"])),
            ("gradient norm before clipping", seen.latest.get(catalog.TRAIN_GRAD_NORM), "", None),
            ("size of an update ÷ size of the weights", seen.latest.get(catalog.UPDATE_RATIO), "", None),
        ]
        title = f"The gradients are {number_words(ratio, 2)} times the optimizer's epsilon, so updates shrink"
        why = (
            "Scale the loss up, or lower eps of the optimizer: below it the step is no longer of the size of the rate."
        )
        return _report(seen, title, numbers, catalog.UPDATE_EPS_RATIO, [pause(why)])

    return signal_of(store, report)


def wrong_rate(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The rate in the optimizer's groups, or the one that the weights followed, is not the scheduled one."""
    used = seen.values.get(catalog.UPDATE_RATE_USED)
    planned, lowest = seen.values.get(catalog.TRAIN_LR), seen.values.get(catalog.UPDATE_RATE_LOWEST)
    if used is None or planned is None or planned <= 0:
        return []
    store = memory.setdefault("all", {})
    low, high = 1 / limits["factor"], limits["factor"]
    update_latch(store, "groups", seen.step, not low <= used / planned <= high or lowest == 0, clear_after=1)
    moved = seen.values.get(catalog.UPDATE_RATE_MOVED)
    lost, still = (seen.latest.get(name, 0.0) for name in (catalog.UPDATE_LOST_SHARE, catalog.UPDATE_STILL_MODULES))
    # rounding and weights that are put back have rules of their own
    if moved is not None and lost <= limits["lost"] and not still:
        update_latch(store, "moved", seen.step, not low <= moved / planned <= high, clear_after=1)

    def report() -> Report:
        really = seen.latest.get(catalog.UPDATE_RATE_MOVED, used)
        told = really if low <= used / planned <= high and lowest != 0 else used
        numbers: list[_Number] = [
            ("scheduled learning rate", planned, "", None),
            ("learning rate in the optimizer", used, "", None),
            ("lowest learning rate in the optimizer", lowest, "", None),
            ("learning rate that the weights followed", seen.latest.get(catalog.UPDATE_RATE_MOVED), "", None),
        ]
        title = f"The optimizer moves with a learning rate of {number_words(told, 2)}, not {number_words(planned, 2)}"
        if lowest == 0 and low <= used / planned <= high:
            title = f"A parameter group has the learning rate 0, while {number_words(planned, 2)} is scheduled"
        why = "Set the rate of every parameter group from the schedule at each step, and let nothing change it after."
        return _report(seen, title, numbers, catalog.UPDATE_RATE_USED, [stop(why)])

    return signal_of(store, report)


def accumulation_lost(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Micro-batches whose gradient is not in the accumulated one."""
    return _of_weights(seen, limits, memory, _LOST)


def accumulation_undivided(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Micro-batches that are all in the accumulated gradient with more than their share."""
    return _of_weights(seen, limits, memory, _UNDIVIDED)


def accumulation_uneven(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Micro-batches that count alike although they hold unlike numbers of targets."""
    return _of_weights(seen, limits, memory, _UNEVEN)


def has_weights(seen: RuleContext) -> bool:
    """Whether the accumulated gradient was taken apart in this call, and is a sum of what the micro-batches give."""
    residual = seen.values.get(catalog.ACCUMULATION_RESIDUAL)
    return residual is not None and residual < _EXPLAINED


_EXPLAINED = 0.1


def _is_lost(smallest: float, largest: float, unevenness: float, limits: Limits) -> bool:
    del unevenness
    return smallest < limits["smallest"] < limits["largest"] < largest


def _is_undivided(smallest: float, largest: float, unevenness: float, limits: Limits) -> bool:
    del largest, unevenness
    return smallest > limits["smallest"]


def _is_uneven(smallest: float, largest: float, unevenness: float, limits: Limits) -> bool:
    return unevenness < limits["unevenness"] and smallest < 1 < largest and largest / smallest > limits["spread"]


def _lost_title(count: int, smallest: float, largest: float) -> str:
    return f"The gradient of {count} micro-batches lacks at least one of them: one weighs {percent_words(smallest)}"


def _undivided_title(count: int, smallest: float, largest: float) -> str:
    return f"The gradients of {count} micro-batches are {number_words(smallest, 2)} times what one batch would give"


def _uneven_title(count: int, smallest: float, largest: float) -> str:
    shares = f"{percent_words(smallest)} to {percent_words(largest)} of their share"
    return f"{count} micro-batches of unlike size weigh alike: {shares} of the targets"


@dataclass(frozen=True)
class _Mistake:
    """How the weights of micro-batches can be wrong."""

    judge: Callable[[float, float, float, Limits], bool]
    """Of the smallest and the largest weight relative to their shares, and their unevenness."""
    title: Callable[[int, float, float], str]
    where: str
    """Where in a loop it is made."""


_LOST = _Mistake(_is_lost, _lost_title, "zero_grad() stands inside the loop of micro-batches")
_UNDIVIDED = _Mistake(_is_undivided, _undivided_title, "the loss of a micro-batch is not divided by their number")
_UNEVEN = _Mistake(_is_uneven, _uneven_title, "each loss is a mean over its own targets: sum them over all")


def _of_weights(seen: RuleContext, limits: Limits, memory: Memory, mistake: _Mistake) -> list[Signal]:
    """The sign of a rule about the weights of micro-batches; they are only measured where the gradient is wrong."""
    error = seen.values.get(catalog.ACCUMULATION_ERROR)
    if error is None:
        return []
    store = memory.setdefault("all", {})
    smallest, largest, unevenness = (
        seen.values.get(name, 1.0)
        for name in (catalog.ACCUMULATION_SMALLEST, catalog.ACCUMULATION_LARGEST, catalog.ACCUMULATION_UNEVENNESS)
    )
    is_told = has_weights(seen) and error > limits["error"]
    bad = is_told and mistake.judge(smallest, largest, unevenness, limits)
    if not bad and not store:
        return []
    update_latch(store, "weights", seen.step, bad)

    def report() -> Report:
        count = seen.facts.accumulation
        numbers: list[_Number] = [
            ("‖accumulated − one batch‖ ÷ ‖one batch‖", error, "", limits["error"]),
            ("smallest weight of a micro-batch ÷ its share", smallest, "", None),
            ("largest weight of a micro-batch ÷ its share", largest, "", None),
            ("micro-batches of a step", float(count), "", None),
        ]
        why = f"One micro-batch a step needs no accumulation, until the loop is fixed: {mistake.where}."
        fixes = [remedy("Start without accumulation", why, "new_run", {"accumulation": 1})]
        return _report(seen, mistake.title(count, smallest, largest), numbers, catalog.ACCUMULATION_ERROR, fixes)

    return signal_of(store, report)


def _report(
    seen: RuleContext, title: str, numbers: Sequence[_Number], charted: str | None, fixes: list[dict[str, Any]]
) -> Report:
    """A report whose chart is that of one series."""
    words = None if charted is None else catalog.series_words(charted)
    figure = None if words is None else seen.history.chart(words.heading, words.unit, {words.title: words.name})
    return Report(title, known_numbers(*numbers), figure, [*without_fault(seen.facts), *fixes])
