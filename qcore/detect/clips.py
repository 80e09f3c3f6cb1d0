"""Rules about what a flow is trained on: its latents, the times, the frames that the loss reads, and what reaches the
model.
"""

from __future__ import annotations

from dataclasses import dataclass

from qcore.base.words import number_words, percent_words
from qcore.detect.finding import AtLeast, Report, known_numbers, rounded_text, stop, without_fault
from qcore.detect.rule import Limits, Memory, RuleContext, Signal, signal_of, update_latch
from qcore.probes import catalog


def latent_spread(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """What is mixed with unit noise is far larger, smaller or off centre."""
    spread, mean = seen.values.get(catalog.CLIPS_STD), seen.values.get(catalog.CLIPS_MEAN)
    if spread is None or mean is None:
        return []
    store = memory.setdefault("all", {})
    off = not limits["low"] <= spread <= limits["high"] or abs(mean) > limits["mean"]
    update_latch(store, "spread", seen.step, off, clear_after=1)

    def report() -> Report:
        spread, mean = seen.latest.get(catalog.CLIPS_STD, 0.0), seen.latest.get(catalog.CLIPS_MEAN, 0.0)
        title = (
            f"What the flow acts on has a spread of {number_words(spread, 3)} and a mean of {number_words(mean, 3)}, "
            "where noise has 1 and 0"
        )
        numbers = known_numbers(
            ("its standard deviation, at most", spread, "", limits["high"]),
            ("its standard deviation, at least", spread, "", AtLeast(limits["low"])),
            ("distance of its mean from 0", abs(mean), "", limits["mean"]),
        )
        why = "Subtract the data's mean and divide by their standard deviation before noise is added."
        return Report(title, numbers, None, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def time_distribution(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The times that are drawn are not those that `time_sampling` names."""
    distance, chance = seen.values.get(catalog.CLIPS_TIME_DISTANCE), seen.values.get(catalog.CLIPS_TIME_LIMIT)
    if distance is None or chance is None:
        return []
    store = memory.setdefault("all", {})
    update_latch(store, "times", seen.step, distance > max(chance, limits["distance"]), clear_after=1)

    def report() -> Report:
        latest = seen.latest
        low, high = latest.get(catalog.CLIPS_TIME_LOW, 0.0), latest.get(catalog.CLIPS_TIME_HIGH, 1.0)
        values, distance = latest.get(catalog.CLIPS_TIME_VALUES), latest.get(catalog.CLIPS_TIME_DISTANCE, 0.0)
        asked = str(seen.controls.get("time_sampling", "uniform")).replace("_", "-")
        drawn = f"between {rounded_text(low)} and {rounded_text(high)}"
        few = values is not None and values < limits["values"]
        title = f"Times are drawn {drawn}{', of few values' if few else ''}: not {asked}, as asked for"
        numbers = known_numbers(
            ("distance from the distribution asked for", distance, "", latest.get(catalog.CLIPS_TIME_LIMIT)),
            ("smallest time", low, "", None),
            ("largest time", high, "", None),
            ("different times ÷ times", values, "", None),
        )
        why = "A sampler passes through all times; at those that are never drawn the model's velocity is a guess."
        return Report(title, numbers, None, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def untrained_frames(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The gradient of the loss is exactly 0 at some frames."""
    share = seen.values.get(catalog.CLIPS_UNTRAINED_FRAMES)
    if share is None:
        return []
    store = memory.setdefault("all", {})
    update_latch(store, "frames", seen.step, share > limits["share"], clear_after=1)

    def report() -> Report:
        share = seen.latest.get(catalog.CLIPS_UNTRAINED_FRAMES, 0.0)
        numbers = known_numbers(("frames without a gradient", share, "", limits["share"]))
        why = "The loss must read every frame; what the model says of the others is never corrected."
        title = f"{percent_words(share)} of the frames of a clip have no gradient: the loss does not read them"
        return Report(title, numbers, None, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def time_ignored(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Another time changes nothing of the velocity."""
    return _ignored(seen, limits, memory, _Unheard(catalog.CLIPS_TIME_RESPONSE, "time t", "how much noise there is"))


def input_ignored(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Another noisy clip changes nothing of the velocity."""
    return _ignored(seen, limits, memory, _Unheard(catalog.CLIPS_INPUT_RESPONSE, "noisy clip z", "what to denoise"))


@dataclass(frozen=True)
class _Unheard:
    """An input of the model: the series of its response, its name, and what a model without it does not know."""

    series: str
    what: str
    unknown: str


def _ignored(seen: RuleContext, limits: Limits, memory: Memory, about: _Unheard) -> list[Signal]:
    series, what = about.series, about.what
    response = seen.values.get(series)
    if response is None:
        return []
    store = memory.setdefault("all", {})
    update_latch(store, "response", seen.step, response < limits["response"], clear_after=1)

    def report() -> Report:
        response = seen.latest.get(series, 0.0)
        numbers = known_numbers((f"response to another {what}", response, "", AtLeast(limits["response"])))
        title = f"The velocity is the same for another {what} (change ÷ size {number_words(response, 2)})"
        why = f"The model does not know {about.unknown}; look at where {what} enters it."
        return Report(title, numbers, None, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def scrambled_pixels(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The same numbers make a smoother clip in another order of their axes; or, where another order only exchanges time
    with a side of the frame, pixels stay alike along that side and not over time.
    """
    roughness, in_time = seen.values.get(catalog.CLIPS_ROUGHNESS), seen.values.get(catalog.CLIPS_TIME_ALIKE)
    if roughness is None and in_time is None:
        return []
    store = memory.setdefault("all", {})
    in_space, near = (seen.latest.get(name, 0.0) for name in (catalog.CLIPS_SPACE_ALIKE, catalog.CLIPS_TIME_NEAR))
    rough = roughness is not None and roughness > limits["roughness"]
    exchanged = in_time is not None and in_space - in_time > limits["gap"] and near > limits["near"]
    # what never changes along a side is a pattern of bars
    exchanged = exchanged and limits["gap"] < in_space < limits["bars"]
    update_latch(store, "order", seen.step, rough or exchanged, clear_after=1)

    def report() -> Report:
        latest = seen.latest
        roughness, in_time = latest.get(catalog.CLIPS_ROUGHNESS), latest.get(catalog.CLIPS_TIME_ALIKE)
        in_space = latest.get(catalog.CLIPS_SPACE_ALIKE)
        title = (
            f"Read in another order of their axes, the clips are {number_words(roughness, 2)} times smoother"
            if roughness is not None and roughness > limits["roughness"]
            else f"Pixels stay alike along a side of the frame ({rounded_text(in_space or 0.0)}) and not over time "
            f"({rounded_text(in_time or 0.0)})"
        )
        numbers = known_numbers(
            ("roughness ÷ that of the smoothest other reading", roughness, "", limits["roughness"]),
            ("likeness of distant pixels of a frame", in_space, "correlation", None),
            ("likeness of distant frames", in_time, "correlation", None),
        )
        why = "Look at the clips: axes that were reshaped where they had to be permuted interleave rows and frames."
        return Report(title, numbers, None, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)
