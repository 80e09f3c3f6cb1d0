"""Rules about predictions and data: padding as a target, collapse onto the end of the text, a run that cannot learn,
numbers that are not finite.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from qcore.base.words import number_words, percent_words
from qcore.detect.finding import (
    AtLeast,
    Grade,
    Report,
    Role,
    known_numbers,
    number,
    pause,
    remedy,
    room_of,
    rounded_text,
    set_rate,
    set_weight,
    without_fault,
)
from qcore.detect.plateau import enough_for_width, has_waited_long
from qcore.detect.published_guide import guide_remedies
from qcore.detect.rule import Limits, Memory, RuleContext, Signal, is_above, is_on, signal_of, update_latch
from qcore.detect.sampler import gives_probabilities
from qcore.probes import catalog

_END_TOKENS = ("eos", "pad")
_MASK_IT = "Masking the padding is the best rescue that was measured; packed rows have none to mask."


def _mask_padding(seen: RuleContext) -> list[dict[str, object]]:
    if seen.controls.get("mask_padding") is False:
        return [remedy("Mask the padding", _MASK_IT, "set", {"mask_padding": True}), *without_fault(seen.facts)]
    if seen.facts.data.get("packed"):
        return without_fault(seen.facts) or [pause("Look at the rows: they are packed, and need no filling.")]
    packed = remedy("Start with packed rows", _MASK_IT, "new_run", {"packing": "packed"})
    return [*without_fault(seen.facts), packed]


def _is_filling(seen: RuleContext, top: float) -> bool:
    """Whether the commonest target may be padding: it is not the unknown token, and where rows are packed and have no
    filling, it is the end of texts or padding.
    """
    if seen.facts.data.get("unknown_share", 0.0) > top / 2:
        return False
    ends = [seen.latest.get(catalog.target_share(token)) for token in _END_TOKENS]
    return not seen.facts.data.get("packed") or any(end is not None and end > top / 2 for end in ends)


def padding_targets(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Padding counts as a target, or one token is most of what there is to predict."""
    store = memory.setdefault("all", {})
    if (top := seen.values.get(catalog.DATA_TARGET_TOP1_SHARE)) is not None:
        bad = is_above(top, limits["top1"], 0.75 * limits["top1"])
        update_latch(store, "top", seen.step, bad and _is_filling(seen, top), clear_after=1)
    if (padding := seen.values.get(catalog.DATA_PAD_IS_TARGET)) is not None:
        update_latch(
            store, "padding", seen.step, is_above(padding, limits["padding"], limits["padding"] / 2), clear_after=1
        )
    if (filling := seen.values.get(catalog.LABELS_PADDING)) is not None:
        # only where targets are the next tokens: of a token that is its own target, ends repeat too
        shifted = seen.latest.get(catalog.LABELS_WRONG, 0.0) > limits["wrong"]
        update_latch(store, "filling", seen.step, filling > limits["filling"] and not shifted, clear_after=1)

    def report() -> Report:
        top, padding = seen.latest.get(catalog.DATA_TARGET_TOP1_SHARE), seen.latest.get(catalog.DATA_PAD_IS_TARGET)
        filling = seen.latest.get(catalog.LABELS_PADDING)
        if is_on(store, "filling") and filling is not None:
            padding = max(padding or 0.0, filling)
        title = (
            f"{percent_words(padding)} of the targets are padding"
            if padding is not None and (padding > limits["padding"] or is_on(store, "filling"))
            else f"One token is {percent_words(top or 0.0)} of all targets"
        )
        numbers = known_numbers(
            ("largest share of one token among the targets", top, "", limits["top1"]),
            ("targets that are padding", padding, "", limits["filling"]),
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
            # a text that never ends is no recovery from one that ends at once
            bad = None if bad is False and predicted < target / limits["ratio"] and is_on(store, "ratio") else bad
            update_latch(store, "ratio", seen.step, None if bad and not seen.armed else bad, raise_after=3)
        signs += signal_of(store, partial(_eos_report, seen, token, limits), token)
    on = [sign for sign in signs if sign.on]
    # One finding for both tokens: the one that is wrong speaks.
    return [replace(sign, key="") for sign in (on or signs)[:1]]


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
    """All learning rates together are less than what runs of this kind needed to leave the plateau (only worth knowing:
    nothing is wrong yet); or they should have been enough, and the context is not used yet (a symptom).

    A plan is judged only while the plateau has not been left: what a plan of now adds up to says nothing about a run
    that an earlier one has taught, such as a fork with a schedule that ends low. Whether it was left is told by the
    information and by the loss: predictions better than token frequencies use the context, whatever else was measured.
    Where the context gives little (`room_of`), there is no plateau to leave.
    """
    store = memory.setdefault("all", {})
    if gives_probabilities(seen):  # no rate and no number of steps helps outputs that stay nearly even
        return []
    planned, spent = seen.values.get(catalog.OPTIM_PLANNED_LR_SUM), seen.latest.get(catalog.OPTIM_LR_SUM, 0.0)
    room = room_of(seen.facts)
    if (loss := seen.values.get(catalog.TERM_CE)) is not None:
        # of single batches the loss scatters by a tenth of a nat
        memory["loss"] = loss if "loss" not in memory else memory["loss"] + limits["share"] * (loss - memory["loss"])
    left = seen.armed or _uses_context(seen, limits, memory) or (room is not None and room < limits["room"])
    if planned is not None or (left and "planned" in store):
        # judged only where it was just measured: an old plan may have been changed since
        low = planned is not None and planned < enough_for_width(seen.facts.width, limits["planned"])
        update_latch(store, "planned", seen.step, low and not left, clear_after=1)
    elif spent >= enough_for_width(seen.facts.width, limits["planned"]) and "planned" in store:
        update_latch(store, "planned", seen.step, False, clear_after=1)
    information = seen.values.get(catalog.TOKENS_MUTUAL_INFORMATION)
    if information is not None:
        old = memory.get("information", information)
        # a running mean and the newest value: one batch of odd texts is neither
        memory["information"] = old + limits["share"] * (information - old)
        least = _least_information(room, limits)
        idle = has_waited_long(seen, limits) and not left
        bad = idle and memory["information"] < least and information < least
        update_latch(store, "plateau", seen.step, bad or (False if left or not idle else None), raise_after=2)
    late = is_on(store, "plateau")
    # a plan that may be short is a cause, and nothing that has gone wrong; a run that stays where it is has one
    case: tuple[Role, Grade] = ("symptom", "weak") if late else ("cause", "note")
    found = signal_of(store, lambda: _stuck_report(seen, limits, late))
    return [replace(sign, role=case[0], grade=case[1]) for sign in found]


def _least_information(room: float | None, limits: Limits) -> float:
    """Information below which the context is not used: .3 nats, or a part of what there is to be had."""
    return limits["information"] if room is None else min(limits["information"], limits["part"] * room)


def _uses_context(seen: RuleContext, limits: Limits, memory: Memory) -> bool:
    """Whether measurements show a context that is used: informed, and a loss below token frequencies; or a mean loss
    that is below them by so much that it proves the information.

    Before its first step a model with tied tables copies its input: informed, at a terrible loss.
    """
    information, loss = seen.latest.get(catalog.TOKENS_MUTUAL_INFORMATION), seen.latest.get(catalog.TERM_CE)
    least = _least_information(room_of(seen.facts), limits)
    if loss is None or seen.facts.unigram is None:
        return False
    if memory.get("loss", loss) < seen.facts.unigram - 2 * least and loss < seen.facts.unigram - least:
        return True
    return information is not None and information >= least and loss < seen.facts.unigram - least


def _stuck_report(seen: RuleContext, limits: Limits, late: bool) -> Report:
    latest, room = seen.latest, room_of(seen.facts)
    planned = latest.get(catalog.OPTIM_PLANNED_LR_SUM, seen.facts.planned_lr_sum)
    spent, information = latest.get(catalog.OPTIM_LR_SUM, 0.0), latest.get(catalog.TOKENS_MUTUAL_INFORMATION)
    least, enough = _least_information(room, limits), enough_for_width(seen.facts.width, limits["planned"])
    if late:
        rates = f"Σ learning rate {number_words(spent, 2)}"
        title = f"Still on the plateau: the context carries {rounded_text(information or 0.0)} nats after {rates}"
    else:
        title = (
            f"The planned steps may be too few: Σ learning rate is {number_words(planned, 2)}, runs of this width "
            f"needed {number_words(enough, 2)}"
        )
    numbers = known_numbers(
        ("Σ learning rate of all planned steps", planned, "", AtLeast(enough)),
        ("Σ learning rate so far", latest.get(catalog.OPTIM_LR_SUM), "", None),
        # a limit is shown where it is what was found: a number in order beside it would contradict the title
        ("information the context carries", information, "nats", AtLeast(least) if late else None),
        ("information that a context could give", room, "nats", None),
        ("cross-entropy", latest.get(catalog.TERM_CE), "nats", None),
        ("loss of token frequencies alone", seen.facts.unigram, "nats", None),
    )
    lines = {"information": catalog.TOKENS_MUTUAL_INFORMATION}
    figure = seen.history.chart("Information the context carries", "nats", lines, AtLeast(least))
    return Report(title, numbers, figure, _stuck_remedies(seen, limits, late, planned, enough))


def _stuck_remedies(
    seen: RuleContext, limits: Limits, late: bool, planned: float, enough: float
) -> list[dict[str, object]]:
    control, rate = rate_control(seen)
    fixes = [*without_fault(seen.facts)]
    wanted = limits["enough"] * enough / limits["planned"]
    if rate is not None and rate < limits["good_rate"]:
        raised = limits["good_rate"] if late else min(limits["good_rate"], rate * wanted / max(planned, 1e-12))
        total = number_words(planned * raised / rate, 2)
        why = "Runs of this size left the plateau at this rate." if late else f"The steps then add up to about {total}."
        if raised > rate:
            fixes.append(set_rate(control, raised, why))
    elif not late and rate is not None:
        steps = int(min(1e7, math.ceil(wanted / rate)))
        fixes.append(
            remedy(f"Train {steps:,} steps", "More steps of this size leave the plateau.", "set", {"steps": steps})
        )
    if late:
        fixes.append(
            pause("The rate was high enough: look at what reaches the weights, and at what they are asked for.")
        )
    return fixes


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
