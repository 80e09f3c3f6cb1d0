"""Rules about phases and hidden states: no imaginary part in the loss, half of the circle empty, all phases aligned,
the imaginary channel dead; and hidden states that share one direction.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from qcore.base.words import number_words, percent_words
from qcore.detect.finding import (
    PHASE_TERMS,
    AtLeast,
    Report,
    known_numbers,
    number,
    pause,
    remedy,
    room_of,
    rounded_text,
    set_weight,
    without_fault,
)
from qcore.detect.plateau import has_waited_long
from qcore.detect.rule import Limits, Memory, RuleContext, Signal, is_below, is_on, signal_of, update_latch
from qcore.probes import catalog


def real_phases(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """All angles that a weighted phase term sees are 0 or π."""
    share = seen.values.get(catalog.PHASE_REAL_AXIS_SHARE)
    terms = [term for term in sorted(PHASE_TERMS) if seen.weighted(term)]
    store = memory.setdefault("all", {})
    if share is None or (not terms and not is_on(store, "axis")):
        return []
    update_latch(store, "axis", seen.step, bool(terms) and share >= limits["real_axis"])

    def report() -> Report:
        numbers = [number("angles that are 0 or π", share, "", limits["real_axis"])]
        for term in terms:
            norm = seen.latest.get(catalog.grad("norm", term))
            numbers += known_numbers((f"gradient norm of {term}", norm, "", 0.0))
        figure = seen.history.chart("Angles that are 0 or π", "share", {"share": catalog.PHASE_REAL_AXIS_SHARE})
        why = "Until the phase terms read both parts of the wave, they cannot move a phase."
        fixes = [*without_fault(seen.facts), *(set_weight(term, 0.0, why) for term in terms[:1]), pause(why)]
        return Report(f"{percent_words(share)} of the angles in the loss are 0 or π", numbers, figure, fixes[:3])

    return signal_of(store, report)


def half_circle(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Phases cover half of the circle or less. Phases that stand still, or a wave without imaginary part, cover little
    too: those have rules of their own.
    """
    coverage = seen.values.get(catalog.PHASE_COVERAGE)
    if coverage is None:
        return []
    store = memory.setdefault("all", {})
    bad = is_below(coverage, limits["coverage"], limits["release"])
    aligned = seen.latest.get(catalog.PHASE_R, 0.0) > limits["aligned"]
    if bad and (aligned or seen.latest.get(catalog.PHASE_IM_RE_RATIO, 1.0) < limits["dead"]):
        bad = None
    update_latch(store, "coverage", seen.step, bad, raise_after=1 if seen.step == 0 else 2)

    def report() -> Report:
        numbers = known_numbers(
            ("covered share of the circle", coverage, "", AtLeast(limits["coverage"])),
            ("Var(Im z) ÷ Var(Re z)", seen.latest.get(catalog.PHASE_IM_RE_RATIO), "", None),
        )
        figure = seen.history.chart(
            "Covered share of the circle", "share", {"coverage": catalog.PHASE_COVERAGE}, AtLeast(limits["coverage"])
        )
        why = "Give the phase a projection of its own; a run cannot learn its way out of a sign that is built in."
        fixes = [*without_fault(seen.facts), pause(why)]
        return Report(f"Phases fill {percent_words(coverage)} of the circle", numbers, figure, fixes)

    return signal_of(store, report)


def aligned_phases(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Every phase stands still over the sequence: R near 1, no variance in any dimension."""
    order = seen.values.get(catalog.PHASE_R)
    if catalog.TERM_CE in seen.latest and order is not None:
        # kept for the report: what alignment has gained is told beside what it cost
        memory.setdefault("first", [seen.step, order, seen.latest[catalog.TERM_CE]])
    variance = seen.latest.get(catalog.PHASE_DIMENSION_VARIANCE)
    if order is None or variance is None:
        return []
    room = room_of(seen.facts)
    if room is not None and room < limits["room"]:
        return []  # one prediction everywhere is the best there is, and so is one phase
    store = memory.setdefault("all", {})
    bad: bool | None = order > limits["R"] and variance < limits["variance"]
    if not bad and order > limits["release"] and variance < 2 * limits["variance"]:
        # between the two limits nothing is decided: a value that trembles at one limit would come and go
        bad = None
    update_latch(store, "aligned", seen.step, bad, raise_after=2)

    def report() -> Report:
        terms = sorted((term for term in PHASE_TERMS if seen.weighted(term)), key=lambda term: -seen.weights[term])
        step, before, loss = memory.get("first", (None, None, None))
        numbers = known_numbers(
            ("order parameter R", order, "", limits["R"]),
            ("circular variance of a phase", variance, "", AtLeast(limits["variance"])),
            (f"R at step {step:,}", before, "", None),
            ("cross-entropy now", seen.latest.get(catalog.TERM_CE), "nats", None),
            (f"cross-entropy at step {step:,}", loss, "nats", None),
        )
        figure = seen.history.chart("Order parameter of the phases", "R", {"R": catalog.PHASE_R}, limits["R"])
        why = "The terms that reward alignment outweigh the loss; at a twentieth they shape phases and leave them free."
        fixes = [*without_fault(seen.facts), *_lowered(seen, terms, why)]
        fixes = fixes or [pause("No phase term has a weight; look at what makes the phases stand still.")]
        return Report(
            f"All phases are aligned: R = {rounded_text(order, 3)}, variance {rounded_text(variance, 3)}",
            numbers,
            figure,
            fixes,
        )

    return signal_of(store, report)


def _lowered(seen: RuleContext, terms: list[str], why: str) -> list[dict[str, Any]]:
    """A twentieth of the weight of all terms together: as long as one of them is high, phases stay aligned."""
    changes = {
        name: value
        for term in terms
        for name, value in set_weight(term, seen.weights[term] / 20, why)["changes"].items()
    }
    if not changes:
        return []
    values = " and ".join(f"{name} to {number_words(value)}" for name, value in changes.items())
    return [remedy(f"Set {values}", why, "set", changes)]


def dead_imaginary(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The imaginary part of the wave carries next to no variance."""
    ratio = seen.values.get(catalog.PHASE_IM_RE_RATIO)
    if ratio is None:
        return []
    # a ratio that was never higher is a model that began so, not one that lost it
    memory["highest"] = max(ratio, memory.get("highest", ratio))
    store = memory.setdefault("all", {})
    bad = is_below(ratio, limits["ratio"], limits["release"])
    if bad is False and ratio > 1 / limits["release"]:
        bad = None  # now the real part is next to dead: that is no recovery
    update_latch(store, "imaginary", seen.step, bad, raise_after=2)

    def report() -> Report:
        highest = float(memory.get("highest", ratio))
        title = f"The imaginary channel carries {percent_words(ratio)} of the real one's variance"
        if highest > limits["release"]:
            title += f", down from {percent_words(highest)}"
        numbers = [
            number("Var(Im z) ÷ Var(Re z)", ratio, "", AtLeast(limits["ratio"])),
            number("highest so far", highest),
        ]
        figure = seen.history.chart(
            "Var(Im z) ÷ Var(Re z)", "ratio", {"ratio": catalog.PHASE_IM_RE_RATIO}, AtLeast(limits["ratio"])
        )
        why = "Without its imaginary part the wave is a real number, and interference is only a sign."
        return Report(title, numbers, figure, [*without_fault(seen.facts), pause(why)])

    return signal_of(store, report)


def rank_collapse(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Hidden states share one direction *and* span next to no other: before the first step, or, while nothing of the
    context has been learned although the learning rates were large enough, in two measurements later.

    The cosine alone accuses every model whose layers have biases larger than its embeddings, as PyTorch's defaults are:
    they all add the same vector, and behind it the tokens stay apart (healthy starts: cosine up to 0.65 at a rank of
    0.3 and more; without residual connections 0.87 at 0.04). A text of a few letters has few states to tell apart, so
    the rank is held against the smaller of the width and the number of tokens in use, e^(unigram).

    On its way out of the plateau a healthy model's hidden states lean to one direction too, for as long as it takes.
    Where no table of pairs or triples predicts better than frequencies they stay so, and states of a model that does
    predict better than those are told apart, whatever their angle.
    """
    cosine, rank = seen.values.get(catalog.GEOMETRY_MEAN_COSINE), seen.latest.get(catalog.GEOMETRY_EFFECTIVE_RANK)
    store = memory.setdefault("all", {})
    # Where most positions hold the same token, their hidden states are rightly the same.
    repeated = seen.latest.get(catalog.DATA_TARGET_TOP1_SHARE, 0.0) > limits["repeated"]
    if cosine is None or rank is None or (not is_on(store, "direction") and repeated):
        return []
    room, loss = room_of(seen.facts), seen.latest.get(catalog.TERM_CE)
    useless = room is not None and room < limits["room"]
    told_apart = loss is not None and seen.facts.unigram is not None and loss < seen.facts.unigram - limits["room"]
    tokens = math.exp(seen.facts.unigram) if seen.facts.unigram is not None else math.inf
    narrow = rank < limits["rank"] * min(1.0, tokens / max(1, seen.facts.width))
    if seen.step == 0:
        bad = narrow and cosine > limits["cosine"]
    else:
        bad = narrow and cosine > limits["cosine_later"] and has_waited_long(seen, limits)
        bad = bad and not seen.armed and not useless and not told_apart
    clear = cosine <= limits["release"] or not narrow or (seen.step > 0 and told_apart)
    update_latch(
        store, "direction", seen.step, bad or (False if clear else None), raise_after=1 if seen.step == 0 else 2
    )

    def report() -> Report:
        numbers = known_numbers(
            ("mean cosine of hidden states", cosine, "", limits["cosine"]),
            ("effective rank ÷ the largest possible", rank, "", AtLeast(limits["rank"])),
        )
        figure = seen.history.chart(
            "Mean cosine of hidden states", "cosine", {"cosine": catalog.GEOMETRY_MEAN_COSINE}, limits["cosine"]
        )
        why = "Add residual connections around every layer; fewer layers lose less."
        fixes = [*without_fault(seen.facts)]
        if seen.facts.blocks > 2:
            fixes.append(remedy("Start with two layers", why, "new_run", {"layers": 2}))
        fixes.append(pause(why))
        return Report(f"Hidden states share one direction: mean cosine {rounded_text(cosine)}", numbers, figure, fixes)

    # before anything was learned it is the design that makes them so; later something has happened to them
    return [replace(sign, role="cause" if sign.on and sign.since == 0 else None) for sign in signal_of(store, report)]
