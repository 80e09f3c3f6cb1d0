"""Rules about training held against held-out data: memorised, worse than guessing, a gap where there cannot be one, a
loss that no honest one could be, a loss of the wrong size.

Each looks at the rows that `curves` keeps, one an evaluation, or at the losses of the first step.
"""

from __future__ import annotations

import math
from statistics import median
from typing import Any

from qcore.base.words import number_words, percent_words
from qcore.detect.curves import (
    BLOCK,
    MAD,
    is_waiting,
    loss_lines,
    nats,
    newest_row,
    passes,
    uniform,
    unit,
    warmed_up,
)
from qcore.detect.finding import (
    AtLeast,
    Report,
    known_numbers,
    number,
    pause,
    restore,
    rounded_text,
    stop,
    without_fault,
)
from qcore.detect.rule import Limits, Memory, RuleContext, Signal, is_above, signal_of, update_latch
from qcore.detect.tokens import rate_control
from qcore.probes import catalog

_OFF = 0.15
"""How far, in logarithms, the first step's loss may be from the multiple that it is taken for."""


def overfit(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The held-out loss stands above its lowest while the training loss is below what it was then.

    Within the first pass over the data nothing can be memorised; where passes are counted, it is not looked at.
    """
    row, lowest = newest_row(seen), seen.curves.get("lowest")
    if row is None or lowest is None or is_waiting(seen):
        return []
    store = memory.setdefault("all", {})
    count = passes(seen)
    if row["train"] is None or lowest["train"] is None or (count is not None and count < limits["passes"]):
        return signal_of(store, lambda: _overfit_report(seen, limits, row, lowest))
    rise = row["held_out"] - lowest["held_out"]
    margin = max(nats(seen, limits["rise"]), limits["rise_share"] * lowest["held_out"], limits["noise"] * _wiggle(seen))
    scatter = 2 * math.hypot(row["error"], lowest["error"])
    falls = lowest["train"] - row["train"] > max(scatter, limits["fall_share"] * lowest["train"])
    bad = falls if rise > margin else (False if rise < margin / 2 else None)
    update_latch(store, "rise", seen.step, bad, raise_after=2)
    return signal_of(store, lambda: _overfit_report(seen, limits, row, lowest))


def _wiggle(seen: RuleContext) -> float:
    """Standard deviation of the held-out loss around a smooth curve, from its second differences."""
    losses = [row["held_out"] for row in seen.curves.get("rows", [])][-12:]
    if len(losses) < BLOCK:
        return 0.0
    bends = [abs(a - 2 * b + c) for a, b, c in zip(losses, losses[1:], losses[2:], strict=False)]
    return MAD * median(bends) / math.sqrt(6)


def _overfit_report(seen: RuleContext, limits: Limits, row: dict[str, Any], lowest: dict[str, Any]) -> Report:
    count, best = passes(seen), f"{lowest['step']:,}"
    passed = "" if count is None else f" after {rounded_text(count, 1)} passes over the data"
    title = (
        f"Overfitting since step {best}: held out {rounded_text(lowest['held_out'], 3)} there, "
        f"{rounded_text(row['held_out'], 3)} now{passed}"
    )
    margin = max(nats(seen, limits["rise"]), limits["rise_share"] * lowest["held_out"])
    numbers = known_numbers(
        ("held-out loss above its lowest", row["held_out"] - lowest["held_out"], unit(seen), margin),
        ("lowest held-out loss", lowest["held_out"], unit(seen), None),
        ("step of the lowest held-out loss", lowest["step"], "", None),
        ("training loss at that step", lowest["train"], unit(seen), None),
        ("training loss now", row["train"], unit(seen), None),
        ("passes over the training data", count, "", None),
        ("longest stretch of a sample that stands in training", seen.latest.get(catalog.GENERATION_COPIED), "tokens",
         None),
        ("the same of held-out text", seen.latest.get(catalog.GENERATION_COPIED_HELD_OUT), "tokens", None),
    )  # fmt: skip
    figure = seen.history.chart("Training and held-out loss", unit(seen), loss_lines(seen), lowest["held_out"])
    why = f"The lowest held-out loss was at step {best}: what is trained after it is memorised, not learned."
    fixes = [*without_fault(seen.facts)]
    control, rate = rate_control(seen)
    if rate and control in seen.controls:
        fixes.append(restore(control, rate / 3, lowest["step"] + 1, why))
    return Report(title, numbers, figure, [*fixes, stop(why)])


def worse_than_uniform(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """After the warm-up the held-out loss is above ln V: while the training loss is below it, or without falling."""
    row, even = newest_row(seen), uniform(seen)
    if row is None or even is None:
        return []
    store = memory.setdefault("all", {})
    held_out = row["held_out"]
    margin = limits["margin"] * even
    memory["fell"] = [*memory.get("fell", []), [seen.step, held_out]][-8:]
    bad: bool | None = None
    if held_out < even:
        bad = False
    elif held_out > even + margin and warmed_up(seen) and not is_waiting(seen):
        beaten = row["train"] is not None and row["count"] >= BLOCK and row["train"] < even - margin
        before = [one for at, one in memory["fell"] if seen.step - at >= limits["steps"]]
        still = bool(before) and held_out > (1 - limits["falls"]) * before[-1]
        bad = True if beaten or still else None
    update_latch(store, "above", seen.step, bad, raise_after=2, clear_after=1)

    def report() -> Report:
        since = store["above"]["since"]
        title = (
            f"The held-out loss of {rounded_text(held_out)} nats is above a uniform guess ({rounded_text(even)}), for "
            f"{seen.step - since:,} steps"
        )
        numbers = known_numbers(
            ("held-out loss", held_out, "nats", even),
            ("loss of a uniform guess, ln V", even, "nats", None),
            ("training loss", row["train"], "nats", None),
            ("loss of token frequencies alone", seen.facts.unigram, "nats", None),
            ("lowest held-out loss", (seen.curves.get("lowest") or row)["held_out"], "nats", None),
        )
        figure = seen.history.chart("Training and held-out loss", "nats", loss_lines(seen), even)
        why = "A model that knows nothing scores ln V: this one is sure of what is wrong. Look at how both are scored."
        return Report(title, numbers, figure, [*without_fault(seen.facts), pause(why)])

    return signal_of(store, report)


def worse_than_unigram(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The held-out loss lies still at what token frequencies alone score, although the text has more to give."""
    row, unigram = newest_row(seen), seen.facts.unigram
    best = min((one for one in (seen.facts.trigram, seen.facts.bigram, seen.facts.generator) if one), default=None)
    if row is None or unigram is None or best is None or unigram - best < limits["room"]:
        return []
    store, held_out = memory.setdefault("all", {}), row["held_out"]
    near = limits["near"] * (unigram - best)
    if is_waiting(seen) or held_out < unigram - near:
        memory["still"] = []
        update_latch(store, "plateau", seen.step, False, clear_after=1)
        return signal_of(store, lambda: _plateau_report(seen, limits, row, unigram, best))
    still: list[list[float]] = [*memory.get("still", []), [seen.step, held_out]]
    # still falling: the plateau begins where the fall ends; a loss far above is no plateau of frequencies
    while still and (still[0][1] - held_out > limits["falls"] * (unigram - best) or still[0][1] > unigram + near):
        still.pop(0)
    memory["still"] = still[-16:]
    long = bool(still) and seen.step - still[0][0] >= max(limits["steps"], limits["share"] * _planned(seen))
    taught = seen.latest.get(catalog.OPTIM_LR_SUM, math.inf) > limits["rates"]
    if long and taught and len(still) >= 4:
        is_new = not store.get("plateau", {}).get("on")
        update_latch(store, "plateau", int(still[0][0]) if is_new else seen.step, True)
    return signal_of(store, lambda: _plateau_report(seen, limits, row, unigram, best))


def _planned(seen: RuleContext) -> float:
    return float(seen.controls.get("steps") or 0)


def _plateau_report(seen: RuleContext, limits: Limits, row: dict[str, Any], unigram: float, best: float) -> Report:
    held_out = row["held_out"]
    title = (
        f"Held out {rounded_text(held_out)} nats at step {row['step']:,}: no better than token frequencies "
        f"({rounded_text(unigram)})"
    )
    numbers = known_numbers(
        ("held-out loss", held_out, "nats", unigram - limits["near"] * (unigram - best)),
        ("loss of token frequencies alone", unigram, "nats", None),
        ("what a table of neighbours scores", best, "nats", None),
        ("training loss", row["train"], "nats", None),
        ("Σ learning rate so far", seen.latest.get(catalog.OPTIM_LR_SUM), "", None),
    )
    figure = seen.history.chart("Training and held-out loss", "nats", loss_lines(seen), unigram)
    why = "Nothing of the context is used: look at what the layers get and change before training on."
    return Report(title, numbers, figure, [*without_fault(seen.facts), pause(why)])


def first_loss(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Before the first update the loss is far above ln V, in a model that should start near it."""
    even = uniform(seen)
    if even is None or not seen.facts.starts_level:
        return []
    limit, store = limits["times"] * even + limits["more"], memory.setdefault("all", {})
    held_out = seen.values.get(catalog.EVAL_CE)
    if seen.step == 0:
        found = [one for one in (held_out, seen.values.get(catalog.TERM_CE)) if one is not None]
        if found:
            memory["first"] = min([*found, memory.get("first", math.inf)])
            update_latch(store, "start", 0, memory["first"] > limit, clear_after=1)
    elif held_out is not None and "start" in store and held_out < even:
        update_latch(store, "start", seen.step, False, clear_after=1)

    def report() -> Report:
        first = memory["first"]
        title = (
            f"The loss before the first step is {rounded_text(first)} nats, {rounded_text(first / even, 1)} times that "
            f"of a uniform guess ({rounded_text(even)})"
        )
        numbers = [
            number("loss before the first step", first, "nats", limit),
            number("loss of a uniform guess, ln V", even, "nats"),
        ]
        figure = seen.history.chart("Training and held-out loss", "nats", loss_lines(seen), even)
        why = "A model that knows nothing should say so: the outputs start too large. Scale down what they start with."
        return Report(title, numbers, figure, [*without_fault(seen.facts), pause(why)])

    return signal_of(store, report)


def loss_scale(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The first step's loss is that of before it times, or divided by, the number of micro-batches.

    Both are of the same weights, on batches of the same text: nothing but the way of counting can make them differ so.
    """
    ratio, store = _first_ratio(seen), memory.setdefault("all", {})
    if ratio is not None and "scale" not in store:
        update_latch(store, "scale", 1, _is_scaled(seen, ratio, limits["off"]))
    return signal_of(store, lambda: _scale_report(seen, limits))


def _first_ratio(seen: RuleContext) -> float | None:
    """Loss of the first step ÷ loss before it, where both were measured."""
    first, row = seen.curves.get("first"), seen.curves.get("first_row")
    start = seen.curves.get("at_start")
    if start is None and row is not None and row["step"] == 0:
        start = row["held_out"]
    return first[1] / start if first is not None and first[0] == 1 and start else None


def _is_scaled(seen: RuleContext, ratio: float, off: float) -> bool:
    count = seen.facts.accumulation
    return count > 1 and ratio > 0 and min(abs(math.log(ratio / wanted)) for wanted in (count, 1 / count)) < off


def _scale_report(seen: RuleContext, limits: Limits) -> Report:
    count, ratio = seen.facts.accumulation, _first_ratio(seen) or 1.0
    first = seen.curves["first"][1]
    done = "times" if ratio > 1 else "divided by"
    title = f"The training loss is {done} {count}, the micro-batches of a step: {rounded_text(first)} for "
    title += f"{rounded_text(first / ratio)}"
    off = max(ratio, 1 / ratio)
    numbers = [
        number("loss of the first step ÷ loss before it", ratio, "", None),
        number("how far apart they are", off, "times", math.exp(limits["off"])),
        number("micro-batches of a step", count),
    ]
    figure = seen.history.chart("Training and held-out loss", unit(seen), loss_lines(seen))
    why = "Divide the loss of each micro-batch by their number where it is summed, once; until then curves mislead."
    return Report(title, numbers, figure, [*without_fault(seen.facts), pause(why)])


def gap_at_once(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Training is far below held-out data within the first pass over the data; where nobody counts passes, with a
    held-out loss that has hardly moved from its first value.
    """
    row, first, lowest = newest_row(seen), seen.curves.get("first_row"), seen.curves.get("lowest")
    if row is None or first is None or lowest is None:
        return []
    store = memory.setdefault("all", {})
    if row["train"] is None or row["count"] < BLOCK or is_waiting(seen) or _is_other_task(seen):
        return signal_of(store, lambda: _gap_report(seen, limits, row))
    count, held_out = passes(seen), row["held_out"]
    gap = held_out - row["train"]
    limit = max(nats(seen, limits["gap"]), limits["share"] * held_out, limits["errors"] * row["error"])
    at_once = (
        count < limits["passes"] if count is not None else lowest["held_out"] > limits["moved"] * first["held_out"]
    )
    bad = is_above(gap, limit, limit / 2)
    update_latch(store, "gap", seen.step, bad if at_once or not bad else None, raise_after=2)
    return signal_of(store, lambda: _gap_report(seen, limits, row))


def _is_other_task(seen: RuleContext) -> bool:
    """Whether training is known to be asked for, or scored, otherwise than held-out data: copies, padding, a lag."""
    latest, ratio = seen.latest, _first_ratio(seen)
    return (
        (ratio is not None and _is_scaled(seen, ratio, _OFF))
        or latest.get(catalog.SHIFT_TARGETS_ARE_INPUTS, 0.0) > 0.5
        or latest.get(catalog.DATA_PAD_IS_TARGET, 0.0) > 0.05
        or int(seen.controls.get("label_shift", 1)) != 1
        or seen.controls.get("mask_padding") is False
    )


def _gap_report(seen: RuleContext, limits: Limits, row: dict[str, Any]) -> Report:
    count, held_out, train = passes(seen), row["held_out"], row["train"]
    where = "" if count is None else f" within {percent_words(min(1.0, count))} of the first pass"
    title = (
        f"Training at {rounded_text(train)}, held out at {rounded_text(held_out)}{where}: nothing is memorised so soon"
    )
    if count is None:
        title = f"Training at {rounded_text(train)}, held out at {rounded_text(held_out)}: it has not followed at all"
    limit = max(nats(seen, limits["gap"]), limits["share"] * held_out)
    numbers = known_numbers(
        ("held-out loss above the training loss", held_out - train, unit(seen), limit),
        ("training loss, mean of the last steps", train, unit(seen), None),
        ("its standard error", row["error"], unit(seen), None),
        ("held-out loss", held_out, unit(seen), None),
        ("passes over the training data", count, "", None),
        ("loss of a uniform guess, ln V", uniform(seen), "nats", None),
        ("loss of the text's own generator", seen.facts.generator, "nats", None),
    )
    figure = seen.history.chart("Training and held-out loss", unit(seen), loss_lines(seen))
    why = "The same batches come again, the answer is among the inputs, or held-out data are scored otherwise."
    return Report(title, numbers, figure, [*without_fault(seen.facts), stop(why)])


def below_entropy(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The mean training loss, its scatter allowed for, is under what the generator of the text itself scores, before
    the data can have been memorised.
    """
    row, generator, count = newest_row(seen), seen.facts.generator, passes(seen)
    if row is None or not generator or count is None or row["train"] is None or row["count"] < BLOCK:
        return []
    store, train = memory.setdefault("all", {}), row["train"]
    if _is_other_task(seen):
        return signal_of(store, lambda: _entropy_report(seen, limits, row, generator))
    share = limits["first_pass"] if count < 1 else limits["later"]
    most = train + limits["errors"] * row["error"]
    bad = most < share * generator if count < limits["passes"] else None
    update_latch(store, "below", seen.step, bad or (False if train > generator else None))
    return signal_of(store, lambda: _entropy_report(seen, limits, row, generator))


def _entropy_report(seen: RuleContext, limits: Limits, row: dict[str, Any], generator: float) -> Report:
    train = row["train"]
    title = (
        f"A training loss of {number_words(train, 3)} nats is under what the text allows ({number_words(generator, 3)})"
    )
    share = limits["first_pass"] if (passes(seen) or 0.0) < 1 else limits["later"]
    numbers = known_numbers(
        ("training loss, mean of the last steps", train, "nats", AtLeast(share * generator)),
        ("its standard error", row["error"], "nats", None),
        ("loss of the text's own generator", generator, "nats", None),
        ("held-out loss", row["held_out"], "nats", None),
        ("passes over the training data", passes(seen), "", None),
    )
    figure = seen.history.chart("Training and held-out loss", "nats", loss_lines(seen), AtLeast(generator))
    why = "The training loss itself proves it: the model is given what it is asked for, in training at least."
    return Report(title, numbers, figure, [*without_fault(seen.facts), stop(why)])
