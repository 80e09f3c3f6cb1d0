"""Rules about what a prediction may depend on: the future, its batch mates, its own target, its context."""

from __future__ import annotations

from qcore.base.words import number_words, percent_words
from qcore.detect.finding import (
    AtLeast,
    Report,
    known_numbers,
    number,
    remedy,
    room_of,
    rounded_text,
    stop,
    without_fault,
)
from qcore.detect.rule import Limits, Memory, RuleContext, Signal, is_above, is_below, is_on, signal_of, update_latch
from qcore.detect.sampler import is_random
from qcore.detect.targets import broken_by, shift_remedies
from qcore.probes import catalog


def future_leak(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Three proofs: outputs before a cut move when what follows it changes; the loss of prefixes alone differs from
    the teacher-forced one; the held-out loss is under what the generator of the text itself scores.
    """
    store = memory.setdefault("all", {})
    values, latest, generator = seen.values, seen.latest, seen.facts.generator
    if is_random(seen):  # two equal calls differ: a change says nothing of what caused it
        return signal_of(store, lambda: _leak_report(seen, limits))
    if (leak := values.get(catalog.CAUSALITY_LEAK)) is not None:
        update_latch(store, "leak", seen.step, leak > limits["leak"])
    # Rows that depend on their batch mates also change when they are scored as prefixes; that has a rule of its own.
    mixed = latest.get(catalog.BATCH_DEPENDENCE, 0.0) > limits["mates"]
    if (gap := values.get(catalog.STRICT_GAP)) is not None and not mixed:
        update_latch(store, "gap", seen.step, is_above(abs(gap), limits["gap"], limits["gap"] / 2), raise_after=2)
    # Padding and copies are easier than the text: where they are targets, its generator is no floor.
    easier = latest.get(catalog.DATA_PAD_IS_TARGET, 0.0) > limits["easier"]
    easier = easier or latest.get(catalog.SHIFT_TARGETS_ARE_INPUTS, 0.0) > limits["copies"]
    easier = easier or latest.get(catalog.LABELS_WRONG, 0.0) > limits["wrong"]
    if (held_out := values.get(catalog.EVAL_CE)) is not None and generator is not None and not easier:
        floor = generator * (1 - limits["undercut"])
        update_latch(store, "undercut", seen.step, is_below(held_out, floor, generator), raise_after=2)
    return signal_of(store, lambda: _leak_report(seen, limits))


def _leak_report(seen: RuleContext, limits: Limits) -> Report:
    latest, generator = seen.latest, seen.facts.generator
    leak, gap, held_out = (latest.get(name) for name in (catalog.CAUSALITY_LEAK, catalog.STRICT_GAP, catalog.EVAL_CE))
    floor = None if generator is None else generator * (1 - limits["undercut"])
    chart = seen.history.chart
    # the surest proof first: what the model does, then what it scores, then what no honest loss could be
    if leak is not None and leak > limits["leak"]:
        title = f"Future tokens change earlier outputs: {number_words(leak, 2)} of the response"
        figure = chart(
            "Change before the cut ÷ change after it", "share", {"leak": catalog.CAUSALITY_LEAK}, limits["leak"]
        )
    elif gap is not None and abs(gap) > limits["gap"] / 2:
        title = f"Scored on prefixes alone, the loss is {number_words(gap, 3, signed=True)} nats away"
        figure = None
    else:
        allowed = number_words(generator or 0.0, 3)
        title = f"A held-out loss of {number_words(held_out or 0.0, 3)} nats is under what the text allows ({allowed})"
        figure = chart(
            "Held-out cross-entropy", "nats per token", {"held-out": catalog.EVAL_CE}, AtLeast(generator or 0.0)
        )
    if figure is None:
        lines = {"prefixes alone": catalog.STRICT_CE, "teacher-forced": catalog.STRICT_TEACHER_FORCED}
        figure = chart("Cross-entropy of the same positions", "nats per token", lines)
    numbers = known_numbers(
        ("change before the cut ÷ change after it", leak, "", limits["leak"]),
        ("prefix-only against teacher-forced loss", None if gap is None else abs(gap), "nats", limits["gap"]),
        ("held-out cross-entropy", held_out, "nats", None if floor is None else AtLeast(floor)),
        ("loss of the text's own generator", generator, "nats", None),
    )
    why = "No metric of this run can be trusted: generation has no future tokens to look at."
    return Report(title, numbers, figure, [*without_fault(seen.facts), stop(why)])


def batch_dependence(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """A row's logits move when the other rows of its batch are replaced."""
    store = memory.setdefault("all", {})
    change = seen.values.get(catalog.BATCH_DEPENDENCE)
    if change is None or is_random(seen):
        return []
    update_latch(store, "mates", seen.step, is_above(change, limits["change"], limits["change"] / 10))

    def report() -> Report:
        figure = seen.history.chart(
            "Change of a row when its batch mates change",
            "share",
            {"change": catalog.BATCH_DEPENDENCE},
            limits["change"],
        )
        numbers = [number("relative change of the row's logits", change, "", limits["change"])]
        why = "Look for statistics or decisions taken over the whole batch, such as its variance or its median."
        remedies = [*without_fault(seen.facts), stop(why)]
        return Report(
            f"Other rows of the batch change a row's output by {percent_words(change)}", numbers, figure, remedies
        )

    return signal_of(store, report)


def unshifted_labels(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The targets are the inputs; or the model copies, and what it is trained on is the loss of copying.

    Copying alone proves nothing: with tied tables every model copies before its first step, at a high loss.
    """
    store = memory.setdefault("all", {})
    latest, values = seen.latest, seen.values
    same = values.get(catalog.SHIFT_TARGETS_ARE_INPUTS)
    # where most targets are one token, equal neighbours are padding, not a leak
    padded = latest.get(catalog.DATA_TARGET_TOP1_SHARE, 0.0) > limits["padding"]
    if same is not None and not padded:
        update_latch(store, "data", seen.step, is_above(same, limits["same"], limits["same"] / 2))
    copied = values.get(catalog.SHIFT_COPY_RATE)
    here, after, trained = (
        latest.get(name) for name in (catalog.SHIFT_CE_HERE, catalog.SHIFT_CE_NEXT, catalog.TERM_CE)
    )
    if copied is not None and here is not None and after is not None and trained is not None and not padded:
        # what is trained falls with the loss of copying and not with that of the next token
        follows = after - here > limits["gap"] and abs(trained - here) < limits["follows"] * (after - here)
        update_latch(store, "model", seen.step, copied > limits["copied"] and follows, raise_after=2)
    if catalog.LABELS_WRONG in values:
        some = broken_by(seen, limits) == "lag" and latest.get(catalog.LABELS_LAG) == 0
        update_latch(store, "some", seen.step, some, clear_after=1)

    def report() -> Report:
        share, wrong = latest.get(catalog.SHIFT_TARGETS_ARE_INPUTS), latest.get(catalog.LABELS_WRONG)
        copied_share = percent_words(latest.get(catalog.SHIFT_COPY_RATE, 1.0))
        title = (
            f"{percent_words(share)} of the targets are the input at their own position"
            if share is not None and share > limits["same"]
            else f"{percent_words(wrong)} of the targets are the input at their own position, not the next token"
            if wrong is not None and is_on(store, "some")
            else f"The model copies its input at {copied_share} of the positions"
        )
        numbers = known_numbers(
            ("targets equal to their own input", share, "", limits["same"]),
            ("targets that are not the next token", wrong, "", limits["wrong"]),
            ("predictions equal to their own input", latest.get(catalog.SHIFT_COPY_RATE), "", limits["copied"]),
            ("loss against the input itself", here, "nats", None),
            ("loss against the true next token", after, "nats", None),
        )
        lines = {"the input itself": catalog.SHIFT_CE_HERE, "the true next token": catalog.SHIFT_CE_NEXT}
        figure = seen.history.chart("Cross-entropy against", "nats per token", lines)
        why = "The labels must be the inputs shifted by one position; until they are, training teaches copying."
        return Report(title, numbers, figure, shift_remedies(seen, why))

    return signal_of(store, report)


def context_ignored(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Another context changes nothing, or every position of a row gets the same prediction."""
    store = memory.setdefault("all", {})
    response, variance = (
        seen.values.get(catalog.CAUSALITY_CONTEXT_RESPONSE),
        seen.values.get(catalog.TOKENS_ROW_VARIANCE),
    )
    if response is not None and not is_random(seen):
        bad = is_below(response, limits["response"], 10 * limits["response"])
        # before training a path that is not there is a fact of the model; later one odd probe is not enough
        update_latch(store, "response", seen.step, bad, raise_after=1 if seen.step == 0 else 2)
    room = room_of(seen.facts)
    # where the context has nothing to give, the best prediction is the same at every position
    if variance is not None and (room is None or room >= limits["room"]):
        bad = is_below(variance, limits["row_variance"], 10 * limits["row_variance"])
        update_latch(store, "variance", seen.step, bad, raise_after=2)

    def report() -> Report:
        latest = seen.latest
        response, variance = latest.get(catalog.CAUSALITY_CONTEXT_RESPONSE), latest.get(catalog.TOKENS_ROW_VARIANCE)
        if response is not None and response < 10 * limits["response"]:
            title = f"Another context changes the predictions by {number_words(response, 2)}: it is not read"
        else:
            title = f"Every position of a row gets the same prediction (variance {number_words(variance or 0.0, 2)})"
        numbers = known_numbers(
            ("response of later predictions to another context", response, "", AtLeast(limits["response"])),
            ("variance of the prediction within a row", variance, "", AtLeast(limits["row_variance"])),
            ("information the context carries", latest.get(catalog.TOKENS_MUTUAL_INFORMATION), "nats", None),
            ("held-out cross-entropy", latest.get(catalog.EVAL_CE), "nats", None),
            ("loss of token frequencies alone", seen.facts.unigram, "nats", None),
        )
        lines = {"response": catalog.CAUSALITY_CONTEXT_RESPONSE}
        figure = seen.history.chart(
            "Response to another context", "÷ spread of logits", lines, AtLeast(limits["response"])
        )
        why = "No weight of a loss term brings back a path from the context to the output; the model must be repaired."
        return Report(title, numbers, figure, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def repetition(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Samples loop while the held-out loss has improved and is still above the bigram's.

    Loops alone are no fault, healthy small models loop too; a loss that a table of word pairs beats, after enough
    training to pass it, is what makes them one.
    """
    share, bigram = seen.values.get(catalog.GENERATION_REPETITION), seen.facts.bigram
    held_out = seen.latest.get(catalog.EVAL_CE)
    if catalog.EVAL_CE in seen.values:
        # the first held-out loss: improvement is what tells a trained model that loops from one that has not begun
        memory.setdefault("first", held_out)
    if share is None or bigram is None or held_out is None:
        return []
    store = memory.setdefault("all", {})
    beaten = held_out > bigram + limits["margin"]
    improved = memory["first"] - held_out > limits["improved"] if "first" in memory else False
    trained = seen.latest.get(catalog.OPTIM_LR_SUM, 0.0) > limits["lr_sum"]
    looping = share > limits["repetition"]
    memory["looping"] = memory.get("looping", 0) + 1 if looping else 0
    # once word pairs are beaten, loops are the sampler's matter
    clear = held_out < bigram or share <= limits["repetition"] / 2
    bad = trained and beaten and improved and memory["looping"] >= 2
    update_latch(store, "loops", seen.step, bad or (False if clear else None))

    def report() -> Report:
        loss = f"a loss that word pairs beat ({rounded_text(held_out)} nats)"
        title = f"{percent_words(share)} of each sample repeats itself, at {loss}"
        numbers = known_numbers(
            ("tokens in repeated stretches", share, "", limits["repetition"]),
            ("distinct pairs of tokens", seen.latest.get(catalog.GENERATION_DISTINCT_2), "", None),
            ("held-out cross-entropy now", held_out, "nats", bigram),
            ("held-out cross-entropy at first", memory.get("first"), "nats", None),
            ("loss of a table of token pairs", bigram, "nats", None),
        )
        figure = seen.history.chart("Held-out cross-entropy", "nats per token", {"held-out": catalog.EVAL_CE}, bigram)
        fixes = [*without_fault(seen.facts)]
        if not seen.weighted("unlikelihood"):
            why = (
                "Penalises tokens that were just generated; it treats the symptom, the loss must still pass the bigram."
            )
            fixes.append(remedy("Set unlikelihood_weight to 0.3", why, "set", {"unlikelihood_weight": 0.3}))
        fixes.append(remedy("Pause the run", "Look at the samples and at what the layers mix.", "pause"))
        return Report(title, numbers, figure, fixes)

    return signal_of(store, report)
