"""Rules about gradients: terms that move nothing, pull the wrong way or too hard, and weights that nothing reaches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from qcore.base.words import name_words, number_words, percent_words
from qcore.detect.finding import (
    PHASE_TERMS,
    AtLeast,
    Facts,
    Report,
    known_numbers,
    number,
    remedy,
    room_of,
    rounded_text,
    set_weight,
    stop,
    without_fault,
)
from qcore.detect.optimizer import has_weights
from qcore.detect.rule import (
    Limits,
    Memory,
    RuleContext,
    Signal,
    Store,
    is_above,
    is_below,
    is_on,
    signal_of,
    update_latch,
)
from qcore.probes import catalog

_SCOPES = ("grad", "hidden")
"""Where gradients of terms are compared: over all parameters, and, oftener, at the last hidden state."""
_HOW = ("against", "drowns", "turns")
_OPPOSED = ("label_smoothing",)
"""Terms whose gradient is the negative of the cross-entropy's wherever the sum of the two is at rest. They keep the
order of the predictions at any weight that they may have, so a cosine of −1 says that training is done and no more."""
_MEAN_TERMS = ("diversity", "dominance")
"""Terms of the mean prediction: a micro-batch has another mean than the big batch, so their gradients may differ."""

_RATIO = catalog.grad("ratio", "").removesuffix("/")


def constant_term(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """A weighted term whose gradient is exactly 0 although its value is neither satisfied nor at a bound."""
    return _gradient_free(seen, limits, memory, "constant")


def saturated_term(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """A weighted term whose gradient is exactly 0 because its value sits at a bound that is not its goal."""
    return _gradient_free(seen, limits, memory, "saturated")


def _gradient_free(seen: RuleContext, limits: Limits, memory: Memory, wanted: str) -> list[Signal]:
    signs = []
    for term, kind in _without_gradient(seen, limits, memory):
        store = memory.setdefault(term, {})
        update_latch(store, "gradient", seen.step, kind == wanted)
        signs += signal_of(store, partial(_gradient_free_report, seen, term, wanted), term)
    return signs


def _without_gradient(seen: RuleContext, limits: Limits, memory: Memory) -> Iterator[tuple[str, str]]:
    """(term, "constant" | "saturated" | "") of every weighted term that was measured; "": alive or rightly at rest.

    One measurement must do before the first step, so a bound is told by its value: someone wrote it down, so it is
    the declared bound or a short decimal, which a measured value is by chance once in thousands. If such a value moves
    later, still without gradient, it was no bound. A term that once had a gradient and lost it is saturated.
    """
    log = memory.setdefault("log", {})
    for term, norm in seen.measured(catalog.grad("norm", "")):
        # On the very rows of the gradient: a hinge may be met there and not in the rest of the batch.
        value = seen.values.get(catalog.grad("value", term), seen.latest.get(catalog.term(term)))
        if not seen.weighted(term) or value is None:
            continue
        known_as = log.setdefault(term, {"alive": False, "kind": ""})
        if norm != 0:
            log[term] = {"alive": True, "kind": ""}
            yield term, ""
        elif _is_at_rest(seen.facts, term, value) or (term in PHASE_TERMS and _is_on_real_axis(seen, limits)):
            yield term, ""
        else:
            at_bound = _is_at_bound(seen.facts, term, value)
            if known_as["kind"] == "saturated" and not at_bound and not known_as["alive"]:
                known_as["kind"] = "constant"
            elif not known_as["kind"]:
                known_as["kind"] = "saturated" if at_bound or known_as["alive"] else "constant"
            yield term, known_as["kind"]


def _is_at_rest(facts: Facts, term: str, value: float) -> bool:
    """At rest where it may be: a hinge at 0, a term that cannot be below 0 at 0, a phase term at its lowest (fault P2
    has a rule of its own). Any other lowest value is a bound that somebody set.
    """
    low = facts.term_ranges.get(term, (0.0, math.inf))[0]
    if term in facts.hinges or low == 0:
        return abs(value) <= 1e-6
    return term in PHASE_TERMS and value <= low + 1e-6


def _is_on_real_axis(seen: RuleContext, limits: Limits) -> bool:
    """Phases that are 0 or π only have no gradient either; that has a rule of its own."""
    return seen.latest.get(catalog.PHASE_REAL_AXIS_SHARE, 0.0) >= limits["real_axis"]


def _is_at_bound(facts: Facts, term: str, value: float) -> bool:
    for bound in facts.term_ranges.get(term, ()):
        if math.isfinite(bound) and abs(value - bound) < 1e-5 * (1 + abs(bound)):
            return True
    # a bound that somebody has typed has few digits; a value that training has reached has many
    hundredths = 100 * value
    return value != 0 and abs(hundredths - round(hundredths)) < 1e-6 + 1e-6 * abs(hundredths)


def _gradient_free_report(seen: RuleContext, term: str, kind: str) -> Report:
    value, weight = seen.latest.get(catalog.term(term), 0.0), seen.weights.get(term, 0.0)
    norm = seen.latest.get(catalog.grad("norm", term), 0.0)
    what = f"sits at {number_words(value)}" if kind == "saturated" else f"is {number_words(value)}"
    numbers = [
        number(f"gradient norm of {term}", norm, "", AtLeast(0.0)),
        number(f"value of {term}", value),
        number(f"weight of {term}", weight),
    ]
    figure = seen.history.chart(f"Value of {term}", term, {term: catalog.term(term)})
    why = "It adds a number to the loss and nothing to the gradient, so switching it off changes no weight."
    title = f"{name_words(term)} {what} and has no gradient"
    return Report(title, numbers, figure, [*without_fault(seen.facts), set_weight(term, 0.0, why)])


def wrong_sign(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """One descent step on a weighted term lowers the coherence that it is named for."""
    signs = []
    for term, sign in seen.measured(catalog.energy_sign("")):
        if not seen.weighted(term):
            continue
        store = memory.setdefault(term, {})
        update_latch(store, "sign", seen.step, is_below(sign, limits["sign"], 0.0))
        signs += signal_of(store, partial(_sign_report, seen, term, sign, limits), term)
    return signs


def _sign_report(seen: RuleContext, term: str, sign: float, limits: Limits) -> Report:
    numbers = [
        number("effect of a descent step on its coherence (+1 raises, −1 lowers)", sign, "", AtLeast(limits["sign"])),
        number(f"weight of {term}", seen.weights.get(term, 0.0)),
    ]
    figure = seen.history.chart(f"Value of {term}", term, {term: catalog.term(term)})
    why = "A weight cannot be negative, so the sign must be fixed in the code; until then the term does harm."
    fixes = [*without_fault(seen.facts), set_weight(term, 0.0, why)]
    return Report(f"Minimising {name_words(term)} lowers the coherence it is named for", numbers, figure, fixes)


def unscaled_term(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """A weighted term outside its declared range; or, before the first step, one without a range whose gradient
    dwarfs that of the cross-entropy. A large gradient of a term in its range is a matter of its weight: harmful_term.
    """
    touched: dict[str, Store] = {}
    for name, value in seen.values.items():
        family, _, term = name.rpartition("/")
        if term == "ce" or family not in (catalog.TERM, _RATIO) or not seen.weighted(term):
            continue
        if family == catalog.TERM:
            bad: bool | None = not seen.in_range(term, value, limits["tolerance"])
            # nothing is remembered of a term that was never out of its range
            if not bad and term not in memory:
                continue
        else:
            bounded = all(map(math.isfinite, seen.facts.term_ranges.get(term, (-math.inf, math.inf))))
            # a term with a range is judged by its value; and once training runs, its pull is a matter of its weight
            if bounded or (seen.step > 0 and not is_on(memory.get(term, {}), family)):
                continue
            bad = is_above(value, limits["ratio"], limits["ratio"] / 2)
        touched[term] = memory.setdefault(term, {})
        update_latch(touched[term], family, seen.step, bad)
    return [
        sign
        for term, store in touched.items()
        for sign in signal_of(store, partial(_unscaled_report, seen, term, limits), term)
    ]


def _unscaled_report(seen: RuleContext, term: str, limits: Limits) -> Report:
    low, high = seen.facts.term_ranges.get(term, (-math.inf, math.inf))
    value, ratio = seen.latest.get(catalog.term(term)), seen.latest.get(catalog.grad("ratio", term))
    weight = seen.weights.get(term, 0.0)
    out = value is not None and not seen.in_range(term, value, limits["tolerance"])
    if out:
        assert value is not None
        title = f"{name_words(term)} is {number_words(value)}, outside its range {_range(low, high)}"
        edge = high if value > high else AtLeast(low)
        # the weight that would make its value what its range allows
        shrink = max(abs(edge), 1.0) / max(abs(value), 1e-12)
    else:
        times = number_words(ratio or 0.0, 3)
        title = f"The weighted gradient of {name_words(term)} is {times} times that of the cross-entropy"
        edge, shrink = None, 1.0
    if ratio is not None and ratio > limits["ratio"]:
        shrink = limits["healthy_ratio"] / ratio
    numbers = known_numbers(
        (f"value of {term}", value, "", edge),
        ("its weighted gradient ÷ that of the cross-entropy", ratio, "", limits["ratio"]),
        (f"weight of {term}", weight, "", None),
    )
    figure = seen.history.chart(f"Value of {term}", term, {term: catalog.term(term)}, edge)
    why = "Brings its pull to the size it would have as a mean; the term itself must be divided by what it sums over."
    fixes = [*without_fault(seen.facts), set_weight(term, weight * shrink, why)]
    return Report(title, numbers, figure, [*fixes, set_weight(term, 0.0, "Leaves the cross-entropy alone.")])


def _range(low: float, high: float) -> str:
    if math.isfinite(low) and math.isfinite(high):
        return f"of {number_words(low)} to {number_words(high)}"
    return f"from {number_words(low)} up" if math.isfinite(low) else f"up to {number_words(high)}"


def harmful_term(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """A weighted term that pulls against the cross-entropy with comparable force, or drowns it."""
    signs: dict[str, list[Signal]] = {}
    after = int(limits["measurements"])
    for scope in _SCOPES:
        for term, ratio in seen.measured(f"{scope}/ratio/"):
            value, cosine = seen.latest.get(catalog.term(term)), seen.values.get(f"{scope}/cos/{term}")
            if term == "ce" or not seen.weighted(term) or not seen.weighted("ce"):
                continue
            if value is not None and not seen.in_range(term, value):
                continue  # its scale is wrong, which has a rule of its own
            store = memory.setdefault(term, {})
            # smoothed labels pull against the cross-entropy at the common minimum of both, by their definition
            if cosine is not None and term not in _OPPOSED:
                against: bool | None = cosine < limits["cosine"] and ratio > limits["against_ratio"]
                calm = cosine > limits["cosine"] / 2 or ratio < limits["against_ratio"] / 2
                update_latch(
                    store, f"{scope}: against", seen.step, against or (False if calm else None), raise_after=after
                )
                turned = cosine < limits["turned_cosine"] and ratio > limits["turned_ratio"]
                before = seen.history.before(f"{scope}/ratio/{term}", seen.step)
                rising = before is not None and ratio > limits["turned_growth"] * before
                update_latch(store, f"{scope}: turns", seen.step, (turned and rising) or (False if calm else None))
            drowned = is_above(ratio, limits["ratio"], limits["ratio"] / 2)
            update_latch(store, f"{scope}: drowns", seen.step, drowned, raise_after=after)
            # What is told are the numbers of a scope that shows it.
            shown = next((one for one in _SCOPES if any(is_on(store, f"{one}: {how}") for how in _HOW)), scope)
            signs[term] = signal_of(store, partial(_harmful_report, seen, term, limits, shown), term)
    return [sign for found in signs.values() for sign in found]


def _harmful_report(seen: RuleContext, term: str, limits: Limits, scope: str) -> Report:
    ratio, cosine = seen.latest.get(f"{scope}/ratio/{term}", 0.0), seen.latest.get(f"{scope}/cos/{term}")
    weight = seen.weights.get(term, 0.0)
    if cosine is not None and cosine <= limits["turned_cosine"]:
        force = f"cosine {rounded_text(cosine)} at {number_words(ratio, 2)} times its force"
        title = f"{name_words(term)} pulls against the cross-entropy: {force}"
    else:
        title = f"{name_words(term)} drowns the cross-entropy: {number_words(ratio, 2)} times its gradient"
    numbers = known_numbers(
        ("cosine with the gradient of the cross-entropy", cosine, "", AtLeast(limits["cosine"])),
        (
            "its weighted gradient ÷ that of the cross-entropy",
            ratio,
            "",
            limits["ratio"] if ratio > limits["ratio"] else limits["against_ratio"],
        ),
        (f"weight of {term}", weight, "", None),
    )
    lines = {"gradient ratio": f"{scope}/ratio/{term}", "cosine": f"{scope}/cos/{term}"}
    figure = seen.history.chart(f"{term} against the cross-entropy", "ratio, cosine", lines, AtLeast(limits["cosine"]))
    fixes = [*without_fault(seen.facts)]
    if ratio > limits["healthy_ratio"]:
        why = f"At this weight its pull is {percent_words(limits['healthy_ratio'])} of the cross-entropy's."
        fixes.append(set_weight(term, weight * limits["healthy_ratio"] / ratio, why))
    fixes.append(set_weight(term, 0.0, "Leaves the cross-entropy alone."))
    return Report(title, numbers, figure, fixes)


def lost_accumulation(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The accumulated gradient differs from that of the same rows as one batch."""
    error = seen.values.get(catalog.ACCUMULATION_ERROR)
    if error is None:
        return []
    store = memory.setdefault("all", {})
    mean_terms = any(seen.weighted(term) for term in _MEAN_TERMS)
    limit = limits["mean_term_error"] if mean_terms else limits["error"]
    bad = is_above(error, limit, limit / 2)
    if has_weights(seen) and seen.values.get(catalog.ACCUMULATION_LARGEST, 0.0) > limits["largest"]:
        bad = False  # it was taken apart, and what is wrong has a name of its own
    update_latch(store, "error", seen.step, bad)

    def report() -> Report:
        count = seen.facts.accumulation
        numbers = [
            number("‖accumulated − one batch‖ ÷ ‖one batch‖", error, "", limit),
            number("micro-batches of a step", count),
        ]
        figure = seen.history.chart(
            "Error of the accumulated gradient", "share", {"error": catalog.ACCUMULATION_ERROR}, limit
        )
        why = "One micro-batch a step needs no accumulation, so nothing can be lost until the loop is fixed."
        fixes = [*without_fault(seen.facts), remedy("Start without accumulation", why, "new_run", {"accumulation": 1})]
        title = f"The gradient of {count} micro-batches is {percent_words(error)} away from that of one batch"
        return Report(title, numbers, figure, fixes)

    return signal_of(store, report)


def frozen_blocks(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Blocks of the model in which no parameter gets a gradient."""
    frozen = seen.values.get(catalog.WEIGHTS_FROZEN_BLOCKS)
    if frozen is None or _is_behind_new_head(seen):
        return []
    # blocks that are switched off for training have a rule of their own
    frozen -= seen.values.get(catalog.WEIGHTS_UNTRAINED_BLOCKS, 0.0)
    store = memory.setdefault("all", {})
    update_latch(store, "frozen", seen.step, frozen > limits["blocks"])

    def report() -> Report:
        blocks = seen.latest.get(catalog.WEIGHTS_BLOCKS, float(seen.facts.blocks))
        numbers = known_numbers(
            ("blocks without gradient", frozen, "blocks", 0.0),
            ("blocks of the model", blocks, "blocks", None),
            ("parameters without gradient", seen.latest.get(catalog.WEIGHTS_DEAD_SHARE), "", None),
        )
        figure = seen.history.chart("Blocks without gradient", "blocks", {"frozen": catalog.WEIGHTS_FROZEN_BLOCKS})
        why = "These blocks keep their random weights whatever happens; look for a detach or no_grad between blocks."
        title = f"{rounded_text(frozen, 0)} of {rounded_text(blocks, 0)} blocks get no gradient"
        return Report(title, numbers, figure, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def _is_behind_new_head(seen: RuleContext) -> bool:
    """A video model's head starts at 0, and before the first update nothing behind it has a gradient."""
    return seen.facts.family == "video" and seen.step == 0


def unused_weights(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """A large share of the parameters gets no gradient, although no whole block is frozen.

    Weights that had a gradient and lost it are no mistake of the design: something has killed them (a learning rate
    that blew up leaves units that are never positive again), so that case is a symptom.
    """
    share = seen.values.get(catalog.WEIGHTS_DEAD_SHARE)
    if share is None or _is_behind_new_head(seen):
        return []
    share -= seen.values.get(catalog.WEIGHTS_UNTRAINED_SHARE, 0.0)
    store = memory.setdefault("all", {})
    # whole blocks, and a table that something else than a parameter has taken the place of, have rules of their own
    frozen = (
        seen.latest.get(catalog.WEIGHTS_FROZEN_BLOCKS, 0.0) > 0 or seen.latest.get(catalog.WEIGHTS_FIXED_SHARE, 0.0) > 0
    )
    fewest = memory["fewest"] = min(share, memory.get("fewest", share))
    lost = fewest <= limits["share"] / 2
    room = room_of(seen.facts)
    # a model whose best is one prediction everywhere needs few of its units, and loses nothing with the others
    idle = lost and room is not None and room < limits["room"]
    bad = None if frozen else is_above(share, limits["share"], limits["share"] / 2)
    update_latch(store, "dead", seen.step, bad and not idle)

    def report() -> Report:
        numbers = known_numbers(
            ("parameters without gradient", share, "", limits["share"]),
            ("fewest so far", fewest, "", None),
            ("effective rank of the hidden states", seen.latest.get(catalog.GEOMETRY_EFFECTIVE_RANK), "", None),
            ("held-out cross-entropy", seen.latest.get(catalog.EVAL_CE), "nats", seen.facts.bigram),
            ("loss of a table of token pairs", seen.facts.bigram, "nats", None),
        )
        lines = {"without gradient": catalog.WEIGHTS_DEAD_SHARE}
        figure = seen.history.chart("Parameters without gradient", "share", lines, limits["share"])
        why = "The unused weights cost time and memory; connect them to the output or take them out."
        title = f"{percent_words(share)} of the parameters get no gradient"
        if lost:
            title = f"{percent_words(share)} of the parameters have lost their gradient; it was {percent_words(fewest)}"
            why = "They have died in training: look at what came before, such as a learning rate that was too high."
        return Report(title, numbers, figure, [*without_fault(seen.facts), stop(why)])

    return [replace(sign, role="symptom" if lost else "cause") for sign in signal_of(store, report)]
