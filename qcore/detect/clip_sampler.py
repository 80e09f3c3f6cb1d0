"""Rules about the path that draws clips: is it the velocity that is trained, at the times that are trained on?

The first rests on an identity: a step of the solver is made of the model's velocity and of nothing else. A spread of
samples that is not the data's is a symptom, and is told as one.
"""

from __future__ import annotations

from qcore.base.words import number_words, percent_words
from qcore.detect.finding import AtLeast, Report, known_numbers, pause, rounded_text, stop, without_fault
from qcore.detect.rule import Limits, Memory, RuleContext, Signal, is_on, signal_of, update_latch
from qcore.probes import catalog

VELOCITY, UNITS, OUTSIDE, LAG = 5e-3, 8.0, 0.05, 1.5
LOW, HIGH = 0.4, 2.5
"""Relative difference of velocities that may be rounding, at least and in units of the number type; share of times
outside those trained on; loss of the average ÷ the live weights' from which on it lags; spread of samples ÷ the data's
that is far from it."""
_STD_RATIO = catalog.frames("generated", "std_ratio")
_DIVERGENCE, _OF_DATA = catalog.frames("generated", "divergence"), catalog.frames("held_out", "divergence")


def sampler_velocity(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The sampler moves clips by another velocity than the trained model's at the same point and time."""
    error = seen.values.get(catalog.SAMPLER_VELOCITY_ERROR)
    if error is None:
        return []
    store = memory.setdefault("all", {})
    limit = _velocity_limit(seen)
    # times that were never trained on are another mistake, and make the velocity differ
    outside = seen.values.get(catalog.SAMPLER_TIME_OUTSIDE, 0.0) > limits["outside"]
    update_latch(store, "velocity", seen.step, None if error > limit and outside else error > limit)

    def report() -> Report:
        cosine, mirrored = (
            seen.latest.get(name) for name in (catalog.SAMPLER_VELOCITY_COSINE, catalog.SAMPLER_VELOCITY_MIRRORED)
        )
        if cosine is not None and cosine < -limits["opposite"]:
            title = f"The sampler goes against the model's velocity (cosine {rounded_text(cosine)}): the sign is wrong"
        elif mirrored is not None and mirrored <= min(limit, error / 2):
            title = "The sampler's velocity is the model's at 1 − t: it is told the wrong end of the path"
        else:
            title = f"The sampler's velocity is {percent_words(error)} away from the model's at the same point and time"
        numbers = known_numbers(
            ("sampler's velocity against the model's", error, "", limit),
            ("cosine of both", cosine, "", AtLeast(1 - limit)),
            ("against the model's velocity at 1 − t", mirrored, "", None),
            ("held-out flow loss", seen.latest.get(catalog.EVAL_FLOW), "", None),
            ("standard deviation of samples ÷ data's", seen.latest.get(_STD_RATIO), "", None),
        )
        lines = {"difference": catalog.SAMPLER_VELOCITY_ERROR}
        figure = seen.history.chart("Sampler's velocity against the model's", "relative", lines, limit)
        why = "Hold one step of the sampler against the model's velocity: sign, time, order of patches, scale."
        return Report(title, numbers, figure, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def sampler_times(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The sampler begins or ends elsewhere than at noise and data, or asks at times that were not trained on."""
    outside, first, last, high = (
        seen.values.get(name)
        for name in (
            catalog.SAMPLER_TIME_OUTSIDE,
            catalog.SAMPLER_TIME_FIRST,
            catalog.SAMPLER_TIME_LAST,
            catalog.SAMPLER_TIME_HIGH,
        )
    )
    if outside is None or first is None or last is None or high is None:
        return []
    store = memory.setdefault("all", {})
    update_latch(store, "range", seen.step, outside > limits["outside"])
    update_latch(store, "end", seen.step, last > limits["end"])
    mirrored = seen.values.get(catalog.SAMPLER_VELOCITY_MIRRORED)
    # a model that is told 1 − t begins at 0, which its velocity says better
    told_mirrored = mirrored is not None and mirrored <= _velocity_limit(seen) and first < high / 2
    late = first < high - limits["start"]
    update_latch(store, "start", seen.step, None if late and told_mirrored else late)
    low = seen.values.get(catalog.SAMPLER_TIME_LOW)

    def report() -> Report:
        trained = f"{rounded_text(low or 0.0)} to {rounded_text(high)}"
        if is_on(store, "range"):
            title = f"{percent_words(outside)} of the sampler's times lie outside those trained on, {trained}"
        elif is_on(store, "start"):
            title = f"The sampler begins at t = {number_words(first, 3)}; training goes up to {rounded_text(high)}"
        else:
            title = f"The sampler ends at t = {number_words(last, 3)}, before it is at the data"
        numbers = known_numbers(
            ("first time of the sampler", first, "", AtLeast(high - limits["start"])),
            ("last time of the sampler", last, "", limits["end"]),
            ("sampler's times outside those trained on", outside, "", limits["outside"]),
            ("lowest time trained on", low, "", None),
            ("highest time trained on", high, "", None),
        )
        lines = {"outside": catalog.SAMPLER_TIME_OUTSIDE}
        figure = seen.history.chart("Sampler's times outside those trained on", "share", lines, limits["outside"])
        why = "Give the model the time that the solver is at, in the unit and direction in which it was trained."
        return Report(title, numbers, figure, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def lagging_average(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Clips are drawn from an average that is worse than the weights in training: one that lags, or is not updated."""
    ratio = seen.values.get(catalog.AVERAGE_LOSS_RATIO)
    if ratio is None or seen.step == 0:
        return []
    store = memory.setdefault("all", {})
    bad = True if ratio > limits["ratio"] else (False if ratio <= (1 + limits["ratio"]) / 2 else None)
    update_latch(store, "lag", seen.step, bad, raise_after=2)

    def report() -> Report:
        title = f"Clips are drawn from an average whose loss is {rounded_text(ratio)} times the live weights'"
        numbers = known_numbers(
            ("flow loss of the average ÷ the live weights'", ratio, "", limits["ratio"]),
            ("distance of the average from the live weights", seen.latest.get(catalog.AVERAGE_DISTANCE), "", None),
        )
        lines = {"ratio": catalog.AVERAGE_LOSS_RATIO}
        figure = seen.history.chart("Loss of the average ÷ live", "ratio", lines, limits["ratio"])
        why = "Draw clips from the live weights beside those of the average, and look at both."
        return Report(title, numbers, figure, [*without_fault(seen.facts), pause(why)])

    return signal_of(store, report)


def sample_spread(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Pixels of samples spread far less or far more than the data's, twice in a row."""
    ratio, steps = seen.values.get(_STD_RATIO), seen.values.get(catalog.SAMPLER_STEPS)
    # a few steps of a solver lead to the mean of what could be, whatever the model has learned
    if ratio is None or seen.step == 0 or steps is None or steps < limits["steps"]:
        return []
    store = memory.setdefault("all", {})
    bad = not limits["low"] <= ratio <= limits["high"]
    well = limits["low_release"] <= ratio <= limits["high_release"]
    update_latch(store, "spread", seen.step, True if bad else (False if well else None), raise_after=2)

    def report() -> Report:
        title = f"Samples spread {rounded_text(ratio)} times as far as the data"
        limit: float = AtLeast(limits["low"]) if ratio < 1 else limits["high"]
        numbers = known_numbers(
            ("standard deviation of samples ÷ data's", ratio, "", limit),
            ("distance of generated frames", seen.latest.get(_DIVERGENCE), "", None),
            ("distance of the data's frames", seen.latest.get(_OF_DATA), "", None),
            ("standard deviation of the data", seen.latest.get(catalog.frames("held_out", "std")), "", None),
            (
                "sampler's velocity against the model's",
                seen.latest.get(catalog.SAMPLER_VELOCITY_ERROR),
                "",
                _velocity_limit(seen),
            ),
            ("error of the target velocity", seen.latest.get(catalog.FLOW_VELOCITY_ERROR), "", None),
            ("flow loss of the average ÷ the live weights'", seen.latest.get(catalog.AVERAGE_LOSS_RATIO), "", LAG),
        )
        figure = seen.history.chart("Spread of samples ÷ data's", "ratio", {"samples": _STD_RATIO}, limit)
        why = "Look at the clips, and at the numbers of what may have caused it."
        return Report(title, numbers, figure, [*without_fault(seen.facts), pause(why)])

    return signal_of(store, report)


def is_sampled_otherwise(seen: RuleContext) -> bool:
    """Whether the sampler, and not the model, says why clips look as they do."""
    latest = seen.latest
    return (
        latest.get(catalog.SAMPLER_VELOCITY_ERROR, 0.0) > _velocity_limit(seen)
        or latest.get(catalog.SAMPLER_TIME_OUTSIDE, 0.0) > OUTSIDE
        or latest.get(catalog.SAMPLER_TIME_LAST, 0.0) > OUTSIDE
        or latest.get(catalog.AVERAGE_LOSS_RATIO, 1.0) > LAG
    )


def spreads_otherwise(seen: RuleContext) -> bool:
    """Whether the pixels of the newest samples spread far less or far more than the data's."""
    return not LOW <= seen.latest.get(_STD_RATIO, 1.0) <= HIGH


def is_sampler_known(seen: RuleContext) -> bool:
    """Whether the sampler was held against the model at all."""
    return catalog.SAMPLER_VELOCITY_ERROR in seen.latest and catalog.SAMPLER_TIME_OUTSIDE in seen.latest


def _velocity_limit(seen: RuleContext) -> float:
    return max(VELOCITY, UNITS * seen.latest.get(catalog.SAMPLER_ROUNDING, 0.0))
