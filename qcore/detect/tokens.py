"""Rules about predictions and data: padding as a target, collapse onto the end of the text, a run that cannot learn,
numbers that are not finite.
"""

from __future__ import annotations

import math
from functools import partial

from qcore.base.words import number_words, percent_words
from qcore.detect.finding import (
    AtLeast,
    Report,
    known_numbers,
    number,
    pause,
    remedy,
    rounded_text,
    set_rate,
    set_weight,
    without_fault,
)
from qcore.detect.plateau import NO_ROOM, has_waited_long, learnable, least_information
from qcore.detect.published_guide import guide_remedies
from qcore.detect.rule import Limits, Memory, RuleContext, Signal, is_above, is_on, signal_of, update_latch
from qcore.probes import catalog

_END_TOKENS = ("eos", "pad")
_MASK_IT = "Masking the padding is the best rescue that was measured; packed rows have none to mask."


def _mask_padding(seen: RuleContext) -> list[dict[str, object]]:
    if seen.controls.get("mask_padding") is False:
        return [remedy("Mask the padding", _MASK_IT, "set", {"mask_padding": True}), *without_fault(seen.facts)]
    packed = remedy("Start with packed rows", _MASK_IT, "new_run", {"packing": "packed"})
    return [*without_fault(seen.facts), packed]


def padding_targets(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Padding counts as a target, or one token is most of what there is to predict."""
    store = memory.setdefault("all", {})
    if (top := seen.values.get(catalog.DATA_TARGET_TOP1_SHARE)) is not None:
        update_latch(store, "top", seen.step, is_above(top, limits["top1"], 0.75 * limits["top1"]), clear_after=1)
    if (padding := seen.values.get(catalog.DATA_PAD_IS_TARGET)) is not None:
        update_latch(
            store, "padding", seen.step, is_above(padding, limits["padding"], limits["padding"] / 2), clear_after=1
        )

    def report() -> Report:
        top, padding = seen.latest.get(catalog.DATA_TARGET_TOP1_SHARE), seen.latest.get(catalog.DATA_PAD_IS_TARGET)
        title = (
            f"{percent_words(padding)} of the targets are padding"
            if padding is not None and padding > limits["padding"]
            else f"One token is {percent_words(top or 0.0)} of all targets"
        )
        numbers = known_numbers(
            ("largest share of one token among the targets", top, "", limits["top1"]),
            ("targets that are padding", padding, "", limits["padding"]),
        )
        lines = {"predicted end": catalog.predicted_share("eos"), "target end": catalog.target_share("eos")}
        figure = seen.history.chart("Share of the end-of-sequence token", "share", lines)
        return Report(title, numbers, figure, _mask_padding(seen))

    return signal_of(store, report)


def eos_collapse(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The end of sequence (or padding) is predicted far more often than it comes.

    Where it is most of the targets, by half of what is left to 1; otherwise by three times its share, once the model
    is off the plateau, on which a frequent token rightly wins everywhere.
    """
    signs = []
    for token in _END_TOKENS:
        predicted, target = (seen.values.get(side(token)) for side in (catalog.predicted_share, catalog.target_share))
        if predicted is None or target is None:
            continue
        store = memory.setdefault(token, {})
        if target > limits["padding_share"]:
            high, release = (target + share * (1 - target) for share in (limits["headroom"], limits["headroom"] / 2))
            update_latch(store, "padding", seen.step, is_above(predicted, high, release), raise_after=2)
        else:
            high = max(limits["share"], limits["ratio"] * target)
            bad = is_above(predicted, high, high / 2)
            update_latch(store, "ratio", seen.step, None if bad and not seen.armed else bad, raise_after=3)
        signs += signal_of(store, partial(_eos_report, seen, token, limits), token)
    on = [sign for sign in signs if sign.on]
    # One finding for both tokens: the one that is wrong speaks.
    return [Signal(bool(on), sign.since, sign.last, sign.report) for sign in (on or signs)[:1]]


def _eos_report(seen: RuleContext, token: str, limits: Limits) -> Report:
    predicted, target = (seen.latest.get(side(token), 0.0) for side in (catalog.predicted_share, catalog.target_share))
    name = "The end of sequence" if token == "eos" else "Padding"
    title = f"{name} is predicted at {percent_words(predicted)} of the positions"
    title = f"{title}; it is {percent_words(target)} of the targets"
    numbers = known_numbers(
        ("share of the predictions", predicted, "", max(limits["share"], limits["ratio"] * target)),
        ("share of the targets", target, "", None),
        ("its mean probability", seen.latest.get(catalog.TOKENS_EOS_PROBABILITY), "", None),
        ("targets that are padding", seen.latest.get(catalog.DATA_PAD_IS_TARGET), "", None),
    )
    lines = {"predicted": catalog.predicted_share(token), "target": catalog.target_share(token)}
    figure = seen.history.chart("Share of the token", "share", lines)
    fixes = _mask_padding(seen)
    if target <= limits["padding_share"]:
        why = "Punishes a false end only; a weight of w pins its probability near 1/w and does not teach the rest."
        fixes.append(remedy("Set eos_weight to 0.5", why, "set", {"eos_weight": 0.5}))
    return Report(title, numbers, figure, fixes)


def stuck(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """All learning rates together cannot leave the plateau; or they should have, and the context is not used yet.

    A plan is judged only while the plateau has not been left: what a plan of now adds up to says nothing about a run
    that an earlier one has taught, such as a fork with a schedule that ends low. A text whose neighbours tell nothing
    has no plateau; where they tell little, little is asked of the context.
    """
    facts = seen.facts
    room = learnable(facts.unigram, facts.bigram, facts.trigram)
    if room is not None and room < NO_ROOM:
        return []
    limits = {
        **limits,
        "planned": least_planned(facts.width, limits),
        "information": least_information(room, limits["information"]),
    }
    store = memory.setdefault("all", {})
    planned, spent = seen.values.get(catalog.OPTIM_PLANNED_LR_SUM), seen.latest.get(catalog.OPTIM_LR_SUM, 0.0)
    if planned is not None or (seen.armed and "planned" in store):
        # judged only where it was just measured: an old plan may have been changed since
        low = planned is not None and planned < limits["planned"]
        update_latch(
            store, "planned", seen.step, low and not seen.armed and not _uses_context(seen, limits), clear_after=1
        )
    elif spent >= limits["planned"] and "planned" in store:
        update_latch(store, "planned", seen.step, False, clear_after=1)
    information = seen.values.get(catalog.TOKENS_MUTUAL_INFORMATION)
    if information is not None:
        old = memory.get("information", information)
        # a running mean and the newest value: one batch of odd texts is neither
        memory["information"] = old + limits["share"] * (information - old)
        idle = has_waited_long(seen, limits) and not seen.armed
        bad = idle and memory["information"] < limits["information"] and information < limits["information"]
        update_latch(store, "plateau", seen.step, bad or (False if seen.armed or not idle else None), raise_after=2)
    return signal_of(store, lambda: _stuck_report(seen, limits, is_on(store, "plateau")))


def least_planned(width: int, limits: Limits) -> float:
    """Σ learning rate that a run of this width needs to leave the plateau, at least.

    A step of AdamW moves every weight by about the rate, and an output that sums over the width by rate × width: wider
    models leave sooner.
    """
    return limits["planned"] * min(1.0, limits["width"] / max(1, width))


def _uses_context(seen: RuleContext, limits: Limits) -> bool:
    """Whether the newest measurements show a context that is used: informed, and a loss below token frequencies.

    Before its first step a model with tied tables copies its input: informed, at a terrible loss.
    """
    information, loss = seen.latest.get(catalog.TOKENS_MUTUAL_INFORMATION), seen.latest.get(catalog.TERM_CE)
    if information is None or loss is None or seen.facts.unigram is None:
        return False
    return information >= limits["information"] and loss < seen.facts.unigram - limits["information"]


def _stuck_report(seen: RuleContext, limits: Limits, on_plateau: bool) -> Report:
    latest = seen.latest
    planned = latest.get(catalog.OPTIM_PLANNED_LR_SUM, seen.facts.planned_lr_sum)
    spent, information = latest.get(catalog.OPTIM_LR_SUM, 0.0), latest.get(catalog.TOKENS_MUTUAL_INFORMATION)
    late = on_plateau and information is not None
    if on_plateau and information is not None:
        rates = f"Σ learning rate {number_words(spent, 2)}"
        title = f"Stuck on the plateau: the context carries {rounded_text(information)} nats after {rates}"
    else:
        title = f"The planned steps cannot leave the plateau: Σ learning rate is {number_words(planned, 2)}"
    numbers = known_numbers(
        ("Σ learning rate of all planned steps", planned, "", AtLeast(limits["planned"])),
        ("Σ learning rate so far", latest.get(catalog.OPTIM_LR_SUM), "", None),
        ("information the context carries", information, "nats", AtLeast(limits["information"])),
        ("cross-entropy", latest.get(catalog.TERM_CE), "nats", None),
        ("loss of token frequencies alone", seen.facts.unigram, "nats", None),
    )
    lines = {"information": catalog.TOKENS_MUTUAL_INFORMATION}
    figure = seen.history.chart("Information the context carries", "nats", lines, AtLeast(limits["information"]))
    control, rate = rate_control(seen)
    fixes = [*without_fault(seen.facts)]
    if not late and rate is not None and rate < limits["good_rate"]:
        raised = min(limits["good_rate"], rate * limits["enough"] / max(planned, 1e-12))
        total = number_words(planned * raised / rate, 2)
        fixes.append(set_rate(control, raised, f"The steps then add up to about {total}."))
    elif not late and rate is not None:
        steps = int(min(1e7, math.ceil(limits["enough"] / rate)))
        fixes.append(
            remedy(f"Train {steps:,} steps", "More steps of this size leave the plateau.", "set", {"steps": steps})
        )
    else:
        why = "A run of this size left the plateau at this rate; a smaller one may only need more steps."
        fixes.append(set_rate(control, limits["good_rate"], why))
    return Report(title, numbers, figure, fixes)


def rate_control(seen: RuleContext) -> tuple[str, float | None]:
    """The control that sets the learning rate under the policy in force, and its value; the newest rate if unknown."""
    manual = seen.controls.get("lr_policy") == "manual"
    control = "manual_learning_rate" if manual else "learning_rate"
    value = seen.controls.get(control, seen.latest.get(catalog.TRAIN_LR))
    return control, None if value is None else float(value)


def nonfinite(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """After a failure: resolved once the run has been resumed and made finite steps beyond it."""
    if "failed" not in memory or seen.step < memory["failed"]:
        return []
    store = memory["all"]
    update_latch(store, "failure", seen.step, False, clear_after=int(limits["steps"]))
    return signal_of(store, lambda: failure_report(seen, memory["failed"], memory["terms"]))


def failure_report(seen: RuleContext, step: int, terms: list[str]) -> Report:
    """What is shown when the loss or the gradient of update `step` was not finite in `terms`."""
    names = ", ".join(terms[:3]) + (f" and {len(terms) - 3} more" if len(terms) > 3 else "")
    numbers = [number("step that failed", step)]
    numbers += known_numbers(
        ("last finite loss", seen.latest.get(catalog.TRAIN_LOSS), "nats", None),
        ("last finite gradient norm", seen.latest.get(catalog.TRAIN_GRAD_NORM), "", None),
        ("learning rate", seen.latest.get(catalog.TRAIN_LR), "", None),
    )
    numbers += [number(f"weight of {term}", seen.weights[term]) for term in terms if term in seen.weights]
    figure = seen.history.chart("Loss before the failure", "loss", {"loss": catalog.TRAIN_LOSS})
    fixes = [*without_fault(seen.facts)]
    why = "The optimizer did not step: resume from the last good weights without this term."
    fixes += [set_weight(term, 0.0, why) for term in terms if seen.weighted(term) and term != "ce"][:1]
    control, rate = rate_control(seen)
    if rate is not None and len(fixes) < 3:
        why = "A tenth of the rate often passes the place; going back to an earlier checkpoint is safer still."
        fixes.append(set_rate(control, rate / 10, why))
    if seen.facts.family == "video":
        fixes += guide_remedies("nan", seen.controls)
    if not fixes:
        fixes.append(pause("Resume from the last good weights, paused, and look at the terms one by one."))
    return Report(f"Not finite at step {step:,}: {names or 'the loss'}", numbers, figure, fixes)
