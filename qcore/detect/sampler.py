"""Rules about the path that generates text: is it the model that is trained, drawn as the settings say?

They rest on numbers that are equal but for rounding; where another finding says why they are not (a model that is
random in evaluation, or whose whole pass sees the future), these rules are silent. So are they where that has not been
measured.
"""

from __future__ import annotations

from typing import Any

from qcore.base.words import number_words, percent_words
from qcore.detect.finding import AtLeast, Report, known_numbers, pause, rounded_text, stop, without_fault
from qcore.detect.rule import Limits, Memory, RuleContext, Signal, is_on, signal_of, update_latch
from qcore.probes import catalog

RANDOM = 1e-4
"""A difference of two equal calls, ÷ the spread of the logits, from which on no question to a model has one answer; it
is exactly 0 in evaluation."""
PROBABILITIES = 0.99
_LEAK, _GAP = 1e-6, 0.05
_LOOK = "Ask the model for samples by hand, and look at what it says of each token."
_WHY_STOP = "No sample says anything about the model that is trained until both paths are one."


def is_random(seen: RuleContext) -> bool:
    """Whether two equal calls in evaluation gave different answers."""
    return seen.latest.get(catalog.REPEAT_DIFFERENCE, 0.0) > RANDOM


def gives_probabilities(seen: RuleContext) -> bool:
    """Whether the outputs are probabilities already."""
    return seen.latest.get(catalog.HEAD_PROBABILITY_SHARE, 0.0) > PROBABILITIES


def random_evaluation(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Two equal calls in evaluation differ."""
    store = memory.setdefault("all", {})
    difference = seen.values.get(catalog.REPEAT_DIFFERENCE)
    if difference is None:
        return []
    update_latch(store, "calls", seen.step, difference > limits["difference"], clear_after=1)

    def report() -> Report:
        numbers = known_numbers(
            ("difference of two equal calls ÷ spread of the logits", difference, "", limits["difference"]),
            ("dropout", _number(seen.controls.get("dropout")), "", None),
        )
        lines = {"difference": catalog.REPEAT_DIFFERENCE}
        figure = seen.history.chart("Difference of two equal calls", "÷ spread", lines, limits["difference"])
        why = "Call model.eval() before evaluating and sampling, and model.train() after it."
        title = f"Two equal calls in evaluation are {number_words(difference, 2)} of the logits' spread apart"
        return Report(title, numbers, figure, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def softmax_twice(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The output layer gives probabilities, of which the loss takes the softmax again."""
    store = memory.setdefault("all", {})
    share = seen.values.get(catalog.HEAD_PROBABILITY_SHARE)
    if share is None:
        return []
    update_latch(store, "head", seen.step, share > limits["share"], clear_after=1)

    def report() -> Report:
        numbers = known_numbers(
            ("positions whose outputs are none below 0 and sum to 1", share, "", limits["share"]),
            ("cross-entropy", seen.latest.get(catalog.TERM_CE), "nats", None),
        )
        figure = seen.history.chart(
            "Outputs that are probabilities", "share", {"share": catalog.HEAD_PROBABILITY_SHARE}
        )
        why = "Return the logits: the loss and the sampler take their softmax themselves."
        title = f"The outputs are probabilities at {percent_words(share)} of the positions: softmax is taken twice"
        return Report(title, numbers, figure, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def cache_mismatch(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The step that generates gives other logits than the whole pass on the same ids, or none that are finite."""
    store = memory.setdefault("all", {})
    values = seen.values
    error, nonfinite = values.get(catalog.SAMPLER_CACHE_ERROR), values.get(catalog.SAMPLER_CACHE_NONFINITE)
    score, limit = values.get(catalog.SAMPLER_SCORE_ERROR), rounding_limit(seen, limits)
    if _both_are_comparable(seen):
        bad = error is not None and error > limit
        # samples ask the cached step only where what they noted is not the model's
        if score is not None:
            update_latch(store, "samples", seen.step, bad and score > limit)
        if error is not None and (score is None or score <= limit):
            update_latch(store, "probe", seen.step, bad)
        if bad:
            memory.update(first=values.get(catalog.SAMPLER_CACHE_FIRST), error=error)
    if nonfinite is not None:
        update_latch(store, "nonfinite", seen.step, nonfinite > 0)
        if nonfinite > 0:
            memory["nonfinite"] = nonfinite

    def report() -> Report:
        first = memory.get("first")
        place = "" if first is None else f", from token {int(first):,} on"
        if is_on(store, "nonfinite"):
            share = percent_words(memory.get("nonfinite", 0.0))
            title = f"{share} of the cached step's logits are not finite, where the whole pass has numbers"
        else:
            apart = number_words(memory.get("error") or 0.0, 2)
            title = f"The cached step is {apart} of the logits' spread away from the whole pass{place}"
        numbers = known_numbers(
            ("cached step against whole pass ÷ spread", memory.get("error"), "", rounding_limit(seen, limits)),
            ("first token that differs, from 0", first, "", None),
            ("logits of the cached step that are not finite", memory.get("nonfinite"), "", 0.0),
            ("rounding of the number type", seen.latest.get(catalog.SAMPLER_ROUNDING), "", None),
            ("future seen by the whole pass", seen.latest.get(catalog.CAUSALITY_LEAK), "", _LEAK),
        )
        lines = {"cached step": catalog.SAMPLER_CACHE_ERROR}
        figure = seen.history.chart("Cached step against whole pass", "÷ spread", lines, rounding_limit(seen, limits))
        why = "Compare positions, masks and what is kept in the cache with the forward pass, token by token."
        return Report(title, numbers, figure, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def sampler_mismatch(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Samples are not drawn from the trained model, or not as the settings ask."""
    score = seen.values.get(catalog.SAMPLER_SCORE_ERROR)
    if score is None:
        return []
    store = memory.setdefault("all", {})
    values, limit = seen.values, rounding_limit(seen, limits)
    differs = score > limit
    other = (
        values.get(catalog.SAMPLER_CACHE_ERROR, 0.0) > limit
        or values.get(catalog.SAMPLER_CACHE_NONFINITE, 0.0) > 0
        or leaves_prompt_out(seen, limit)
    )
    comparable = _both_are_comparable(seen)
    # where another finding says why they differ, this is no measurement of the sampler
    update_latch(store, "model", seen.step, None if differs and (other or not comparable) else differs)
    apart = values.get(catalog.SAMPLER_DRAW_ERROR)
    evidence = values.get(catalog.SAMPLER_DRAW_EVIDENCE)
    impossible = values.get(catalog.SAMPLER_DRAW_IMPOSSIBLE)
    if apart is not None and not is_random(seen):
        update_latch(store, "probability", seen.step, apart > limits["draw"] * limit / limits["rounding"])
    if not is_random(seen):
        drawn = (evidence is not None and evidence > limits["evidence"]) or (
            impossible is not None and impossible > limits["impossible"]
        )
        if evidence is not None or impossible is not None:
            update_latch(store, "draws", seen.step, drawn)
    if any(signal["on"] for signal in store.values()):
        memory["seen"] = dict(seen.measured(catalog.member(catalog.SAMPLER, "")))
    return signal_of(store, lambda: _mismatch_report(seen, limits, memory.get("seen", {}), store))


def _mismatch_report(seen: RuleContext, limits: Limits, found: dict[str, float], store: dict[str, Any]) -> Report:
    limit, asked = rounding_limit(seen, limits), _number(seen.controls.get("temperature"))
    used, first = found.get("draw_temperature"), found.get("score_first")
    if is_on(store, "model"):
        place = "" if first is None else f" from token {int(first):,} on"
        apart = number_words(found.get("score_error", 0.0), 2)
        title = f"Samples are not of the trained model: {apart} of the logits' spread away from it{place}"
    elif is_on(store, "probability") and used is not None:
        title = f"Tokens are drawn at temperature {rounded_text(used)}, which is not what the settings ask for"
    elif is_on(store, "probability"):
        nats = rounded_text(min(found.get("draw_error", 0.0), 1e3))
        title = f"Tokens are drawn with probabilities {nats} nats away from what the settings ask for"
    elif found.get("draw_impossible", 0.0) > limits["impossible"]:
        share = percent_words(found["draw_impossible"])
        title = f"{share} of the tokens drawn have no probability under the settings"
    elif found.get("draw_agreement", 0.0) > PROBABILITIES:
        title = f"The likeliest token is taken at {percent_words(found['draw_agreement'])} of the draws, not by chance"
    else:
        nats = rounded_text(found.get("draw_evidence", 0.0), 0)
        title = f"Tokens do not follow their probabilities: another way of drawing is e^{nats} times likelier"
    numbers = known_numbers(
        ("samples against the trained model ÷ spread", found.get("score_error"), "", limit),
        ("first generated token that differs, from 0", first, "", None),
        ("drawing probabilities against the settings", found.get("draw_error"), "nats", limits["draw"]),
        ("temperature that was really used", used, "", None),
        ("temperature asked for", asked, "", None),
        ("evidence for another way of drawing", found.get("draw_evidence"), "nats", limits["evidence"]),
        ("tokens that could not be drawn", found.get("draw_impossible"), "", limits["impossible"]),
        ("log-probability of what was drawn", found.get("draw_log_probability"), "nats", None),
        ("log-probability expected", found.get("draw_expected"), "nats", None),
        ("drawn tokens that are the likeliest", found.get("draw_agreement"), "", None),
    )
    lines = {"samples": catalog.SAMPLER_SCORE_ERROR}
    figure = seen.history.chart("Samples against the trained model", "÷ spread", lines, limit)
    return Report(title, numbers, figure, [*without_fault(seen.facts), stop(_WHY_STOP)])


def prompt_ignored(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Samples are those of the model without their prompt, or begin alike whatever the prompt is."""
    store = memory.setdefault("all", {})
    values = seen.values
    if catalog.SAMPLER_SCORE_ERROR in values and not is_random(seen):
        limit = rounding_limit(seen, limits)
        left_out = leaves_prompt_out(seen, limit)
        update_latch(store, "left_out", seen.step, left_out, clear_after=1)
        if left_out:
            memory["without"] = values.get(catalog.SAMPLER_SCORE_WITHOUT_PROMPT)
    response = values.get(catalog.SAMPLER_PROMPT_RESPONSE)
    context = seen.latest.get(catalog.CAUSALITY_CONTEXT_RESPONSE)
    # a model that does not read its context reads no prompt either, and has a finding of its own
    if response is not None and context is not None and context > limits["context"] and not is_random(seen):
        update_latch(store, "response", seen.step, response <= limits["response"], clear_after=1)

    def report() -> Report:
        if is_on(store, "left_out"):
            apart = number_words(memory.get("without") or 0.0, 2)
            title = f"The sampler leaves the prompt out: samples are those of the model without it, to {apart}"
        else:
            title = "Samples of different prompts begin with predictions 0 apart: the prompt is not read"
        numbers = known_numbers(
            (
                "samples against the model with the prompt ÷ spread",
                seen.latest.get(catalog.SAMPLER_SCORE_ERROR),
                "",
                rounding_limit(seen, limits),
            ),
            ("samples against the model without the prompt ÷ spread", memory.get("without"), "", None),
            (
                "response of samples to their prompt",
                seen.latest.get(catalog.SAMPLER_PROMPT_RESPONSE),
                "",
                AtLeast(limits["response"]),
            ),
            ("response of the model to another context", context, "", AtLeast(limits["context"])),
        )
        lines = {"response": catalog.SAMPLER_PROMPT_RESPONSE}
        figure = seen.history.chart("Response of samples to their prompt", "probability", lines)
        why = "Look at how the prompt becomes ids, and at what the first call of the model is given."
        return Report(title, numbers, figure, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def never_ends(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The model gives samples no chance to end where most texts of the data have ended."""
    store = memory.setdefault("all", {})
    expected, allowed = (
        seen.values.get(catalog.SAMPLER_END_EXPECTED),
        seen.values.get(catalog.SAMPLER_END_PROBABILITY),
    )
    ended = seen.values.get(catalog.SAMPLER_ENDED_SHARE)
    if expected is None or allowed is None or ended is None or not seen.armed or is_random(seen):
        return []
    # near-greedy samples fall into loops, in which healthy models see no end either
    cold = (_number(seen.controls.get("temperature")) or 1.0) < limits["temperature"]
    short = expected < limits["expected"] or cold
    bad = ended == 0 and allowed < limits["share"] * expected
    update_latch(store, "ends", seen.step, None if short and bad else bad, raise_after=2, clear_after=1)

    def report() -> Report:
        numbers = known_numbers(
            ("samples that end by themselves", ended, "", None),
            ("texts of the data that would have ended", expected, "", None),
            ("ends that the model allows a sample", allowed, "", AtLeast(limits["share"] * expected)),
            ("share of ends among the targets", seen.latest.get(catalog.target_share("eos")), "", None),
            ("mean probability of the end, teacher-forced", seen.latest.get(catalog.TOKENS_EOS_PROBABILITY), "", None),
        )
        lines = {"allowed": catalog.SAMPLER_END_PROBABILITY, "data": catalog.SAMPLER_END_EXPECTED}
        figure = seen.history.chart("Ends of samples", "ends a sample", lines)
        cause = "" if seen.latest.get(catalog.target_share("eos"), 1.0) > 0 else ": no end is among the targets"
        title = (
            f"No sample ends where {percent_words(expected)} of the texts have ended; the model allows "
            f"{number_words(allowed, 2)} ends a sample{cause}"
        )
        return Report(title, numbers, figure, [*without_fault(seen.facts), pause(_LOOK)])

    return signal_of(store, report)


def failed_samples(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """A sample of the fixed prompts or seeds ended with an error, or all are empty."""
    store = memory.setdefault("all", {})
    failed, empty = seen.values.get(catalog.SAMPLER_FAILED_SHARE), seen.values.get(catalog.SAMPLER_EMPTY_SHARE)
    if failed is None:
        return []
    update_latch(store, "failed", seen.step, failed > limits["share"], clear_after=1)
    if empty is not None and failed == 0:
        update_latch(store, "empty", seen.step, empty >= limits["empty"], raise_after=2, clear_after=1)
    last: dict[str, Any] = memory.get("failed") or {}

    def report() -> Report:
        shown = " ".join(str(last.get("error", "")).split())
        prompt = " ".join(str(last.get("prompt", "")).split())[:40]
        if is_on(store, "failed") or not is_on(store, "empty"):
            title = f"{percent_words(failed)} of the samples failed{f' (“{prompt}”)' if prompt else ''}: {shown}"
        else:
            title = (
                f"{percent_words(empty or 1.0)} of the samples are empty: the first token drawn is the end of the text"
            )
        numbers = known_numbers(
            ("samples that failed", failed, "", limits["share"]),
            ("samples that are empty", empty, "", None),
            (
                "logits of the cached step that are not finite",
                seen.latest.get(catalog.SAMPLER_CACHE_NONFINITE),
                "",
                0.0,
            ),
            ("mean probability of the end, teacher-forced", seen.latest.get(catalog.TOKENS_EOS_PROBABILITY), "", None),
        )
        lines = {"failed": catalog.SAMPLER_FAILED_SHARE, "empty": catalog.SAMPLER_EMPTY_SHARE}
        figure = seen.history.chart("Samples that failed", "share", lines)
        return Report(title, numbers, figure, [*without_fault(seen.facts), pause(_LOOK)])

    return signal_of(store, report)


def round_trip(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Ids of the data are other ones after they were text."""
    loss = seen.values.get(catalog.ROUND_TRIP_LOSS)
    if loss is None:
        return []
    store = memory.setdefault("all", {})
    update_latch(store, "ids", seen.step, loss > limits["loss"], clear_after=1)

    def report() -> Report:
        numbers = known_numbers(("ids that do not come back through text", loss, "", limits["loss"]))
        why = "Prompts and samples go through the same functions: neither is what the model was trained on."
        title = f"{percent_words(loss)} of the data's ids are other ones after ids → text → ids"
        return Report(title, numbers, None, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def rounding_limit(seen: RuleContext, limits: Limits) -> float:
    """What may be rounding, ÷ the spread of the logits: a least part, or so many units of the number type."""
    return max(limits["rounding"], limits["units"] * seen.latest.get(catalog.SAMPLER_ROUNDING, 0.0))


def leaves_prompt_out(seen: RuleContext, limit: float) -> bool:
    """Whether the samples of this call are those of the model without their prompt, and not those with it."""
    score, without = (
        seen.values.get(catalog.SAMPLER_SCORE_ERROR),
        seen.values.get(catalog.SAMPLER_SCORE_WITHOUT_PROMPT),
    )
    same_start = seen.values.get(catalog.SAMPLER_PROMPT_RESPONSE) == 0
    return score is not None and score > limit and ((without is not None and without <= limit) or same_start)


def _both_are_comparable(seen: RuleContext) -> bool:
    """Whether the whole pass can be held against a step: it is known to repeat itself, and not to see the future."""
    leak, gap = seen.latest.get(catalog.CAUSALITY_LEAK), seen.latest.get(catalog.STRICT_GAP, 0.0)
    return leak is not None and leak <= _LEAK and abs(gap) <= _GAP and not is_random(seen)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
