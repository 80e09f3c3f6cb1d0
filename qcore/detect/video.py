"""Rules about video: frames that average into one, clips that flicker, and measurements that measure the wrong thing.

What a sample shows depends on how far training has come: before it, clips are their noise; for a while after, they
flicker, in every healthy run; and how long that lasts is no number of steps. So each sample is compared with the one at
half the steps (counted from the newest change of path or noise): what has not become better since then, is no longer
noise, and is seen twice in a row, is a sign. Another noise in sampling than in training, or a velocity that is no
derivative, explains it instead. Reference lines are the held-out clips' own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from qcore.base.words import number_words, percent_words
from qcore.detect.clip_sampler import is_sampled_otherwise, is_sampler_known, spreads_otherwise
from qcore.detect.finding import AtLeast, Report, known_numbers, pause, remedy, rounded_text, stop, without_fault
from qcore.detect.published_guide import guide_remedies
from qcore.detect.rule import Limits, Memory, RuleContext, Signal, is_above, is_below, signal_of, update_latch
from qcore.probes import catalog

_GENERATED, _HELD_OUT, _DATA, _DENOISED = (
    catalog.frames("generated", ""),
    catalog.frames("held_out", ""),
    catalog.frames("data", ""),
    catalog.frames("denoised", ""),
)
_MEASURES = ("divergence", "cosine", "orthogonality", "coherence", "std", "entanglement")
"""What two sets of clips are told apart by: measures without a reference or an anchor of their own."""


_OF_THE_FLOW = ("flow_path", "noise_correlation", "t_star", "anchor_width", "anchor_decay", "repulsion")
"""Controls with which a model learns another velocity than before."""


def averaging_collapse(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Frames of generated clips are nearer to each other, and more alike, than the data's, and hardly move.

    Noise that is shared gives it away from the second sample on: its cause is known. With noise of their own, frames
    must be found so at half the steps too, and not as near as their noise is anyway.
    """
    apart, alike = seen.values.get(_GENERATED + "divergence"), seen.latest.get(_GENERATED + "cosine")
    of_data, alike_in_data = _reference(seen, "divergence"), _reference(seen, "cosine")
    # before the first update samples are noise, which no data resemble
    if apart is None or alike is None or of_data is None or alike_in_data is None or seen.step == 0:
        return []
    store = memory.setdefault("all", {})
    near, high = limits["divergence"] * of_data, _likeness(alike_in_data, limits)
    moves = seen.values.get(_GENERATED + "motion_ratio", 0.0) > limits["motion"]
    # three measures at once: some data hardly move, and some have frames that are alike
    collapsed = apart < near and alike > high and not moves
    ready = _correlation(seen) >= limits["shared"]
    if collapsed and not ready:
        # two samples in a row may share a bad moment; half of the run apart is a state
        before = _value_halfway(seen, _GENERATED + "divergence")
        ready = before is not None and before < near and not _is_noise(seen, apart, limits)
    back = apart > limits["release"] * of_data
    changes = seen.values.get(_GENERATED + "lag_ratio", 1.0)
    # frames that fly apart after an average are no recovery, though the distance alone says so
    coherence, in_data = seen.latest.get(_GENERATED + "coherence", 0.0), _reference(seen, "coherence") or 0.0
    backwards = coherence < limits["backwards"] and in_data > 0
    overshoots = apart > limits["overshoot"] * of_data or changes > limits["overshoot"] or backwards
    bad = (ready or None) if collapsed else (False if back and not overshoots else None)
    # one finding for one cause: where another rule says why, this one is silent
    update_latch(store, "collapse", seen.step, None if bad and _is_explained(seen, limits) else bad, raise_after=2)
    signs = signal_of(store, lambda: _collapse_report(seen, limits))
    # with shared noise it is both the sight and its cause; else something must have made frames alike
    caused = _correlation(seen) >= limits["shared"]
    return [
        replace(sign, retold=sign.moving and back and overshoots, role="cause" if caused else None) for sign in signs
    ]


def _likeness(in_data: float, limits: Limits) -> float:
    """The cosine above which frames are too alike: part of the way from the data's to 1."""
    return in_data + limits["likeness"] * (1 - in_data)


def _collapse_report(seen: RuleContext, limits: Limits) -> Report:
    of_data = _reference(seen, "divergence") or 0.0
    apart, correlation = seen.latest.get(_GENERATED + "divergence", 0.0), _correlation(seen)
    shared = correlation >= limits["shared"]
    ring = seen.controls.get("flow_path") == "ring"
    why = "the noise is the same in all" if shared else "they average into one"
    title = f"Generated frames are {rounded_text(apart)} apart, the data's {rounded_text(of_data)}: {why}"
    alike_in_data = _reference(seen, "cosine")
    moves = seen.latest.get(_GENERATED + "lag_ratio", 1.0)
    if apart > limits["overshoot"] * of_data:
        title = (
            f"Frames averaged into one and now overshoot: {rounded_text(apart)} apart, the data's "
            f"{rounded_text(of_data)}"
        )
    elif apart > limits["release"] * of_data:
        how = f"they change {rounded_text(moves)} times as much as the data's"
        if moves <= limits["overshoot"]:
            how = f"their motion has coherence {rounded_text(seen.latest.get(_GENERATED + 'coherence', 0.0))}"
        title = f"Frames averaged into one and now flicker: {how}"
    numbers = known_numbers(
        ("distance of generated frames", apart, "", AtLeast(limits["divergence"] * of_data)),
        ("distance of the data's frames", of_data, "", None),
        (
            "mean cosine of generated frames",
            seen.latest.get(_GENERATED + "cosine"),
            "",
            None if alike_in_data is None else _likeness(alike_in_data, limits),
        ),
        ("mean cosine of the data's frames", alike_in_data, "", None),
        (
            "how differently samples move ÷ data's",
            seen.latest.get(_GENERATED + "motion_ratio"),
            "",
            AtLeast(limits["motion"]),
        ),
        ("share of the noise that frames have in common", correlation, "", limits["shared"]),
        ("held-out flow loss", seen.latest.get(catalog.EVAL_FLOW), "", None),
    )
    fixes = [*without_fault(seen.facts)]
    if shared:
        fixes.append(
            remedy(
                "Set noise_correlation to 0",
                "Shared noise leaves nothing to select the motion; no path weight can undo it. "
                "Measured: with noise of their own, frames come apart within 50 steps, flicker for 500 and then move.",
                "set",
                {"noise_correlation": 0.0},
            )
        )
    elif ring:
        why = "The ring passes through the anchor at t*, where no noise is left: nothing selects the motion after it."
        fixes.append(remedy("Set flow_path to plain", why, "set", {"flow_path": "plain"}))
    else:
        why = (
            "Frames are pushed apart as far as the data's own, and no further: measured, likeness .67 → .57 (data .57)."
        )
        changes = {"orthogonality_weight": 0.3, "orthogonality_target": "data"}
        fixes.append(remedy("Ask for frames as different as the data's", why, "set", changes))
    fixes += guide_remedies("averaging", seen.controls)
    lines = {
        "generated": _GENERATED + "divergence",
        "predicted": _DENOISED + "divergence",
        "data": _DATA + "divergence",
    }
    figure = seen.history.chart("Distance between frames", "RMS", lines, AtLeast(limits["divergence"] * of_data))
    return Report(title, numbers, figure, fixes)


def data_not_model(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Predicted clips measure bit for bit what the data do; or generated clips what they did one sample before."""
    store = memory.setdefault("all", {})
    same = _count_identical(seen.values, _DENOISED, seen.values, _DATA)
    if same is not None:
        memory["same"] = same
        update_latch(store, "denoised", seen.step, same >= limits["measures"], raise_after=2)
    if _GENERATED + "divergence" in seen.values:
        now = {name: value for name, value in seen.measured(_GENERATED) if name in _MEASURES}
        frozen = _count_identical(now, "", memory.get("sample", {}), "")
        trained = seen.step > memory.get("sampled_at", seen.step)
        memory["sample"], memory["sampled_at"] = now, seen.step
        if frozen is not None and trained:
            memory["frozen"] = frozen
            update_latch(store, "generated", seen.step, frozen >= limits["measures"], raise_after=2)

    def report() -> Report:
        same, frozen = memory.get("same", 0), memory.get("frozen", 0)
        if same >= limits["measures"] or not frozen:
            title = f"{same} measures of predicted clips are bit-identical to the data's: the data were measured"
        else:
            title = f"{frozen} measures of samples have not changed by one bit: no model was sampled"
        numbers = known_numbers(
            ("measures of predicted clips equal to the data's", float(same), "", limits["measures"]),
            ("measures of samples equal to the sample before", float(frozen), "", limits["measures"]),
            ("distance of predicted frames", seen.latest.get(_DENOISED + "divergence"), "", None),
            ("distance of the data's frames", seen.latest.get(_DATA + "divergence"), "", None),
        )
        lines = {"predicted": _DENOISED + "divergence", "data": _DATA + "divergence"}
        figure = seen.history.chart("Distance between frames", "RMS", lines)
        why = "These curves cannot react to training: pass the model's clips to the measurement, not the batch."
        return Report(title, numbers, figure, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def _count_identical(first: Mapping[str, float], prefix: str, second: Mapping[str, float], other: str) -> int | None:
    """How many measures that both have are equal, if all of them are; 0 if one differs; None without any in common."""
    pairs = [
        (first[prefix + name], second[other + name])
        for name in _MEASURES
        if prefix + name in first and other + name in second
    ]
    if not pairs:
        return None
    return len(pairs) if all(a == b for a, b in pairs) else 0


def wrong_velocity(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The velocity that the model is trained on is not the derivative of its path."""
    error = seen.values.get(catalog.FLOW_VELOCITY_ERROR)
    if error is None:
        return []
    store = memory.setdefault("all", {})
    update_latch(store, "velocity", seen.step, is_above(error, limits["error"], limits["error"] / 2), clear_after=1)

    def report() -> Report:
        size = seen.latest.get(_GENERATED + "std_ratio")
        numbers = known_numbers(
            ("‖velocity − finite difference‖ ÷ ‖finite difference‖", error, "", limits["error"]),
            ("standard deviation of samples ÷ data's", size, "", None),
            ("held-out flow loss", seen.latest.get(catalog.EVAL_FLOW), "", None),
        )
        lines = {"error": catalog.FLOW_VELOCITY_ERROR}
        figure = seen.history.chart("Error of the target velocity", "share", lines, limits["error"])
        fixes = [*without_fault(seen.facts)]
        if seen.controls.get("flow_path") not in (None, "plain"):
            why = "The straight line has no weights to normalise; the other paths need their derivative fixed."
            fixes.append(remedy("Set flow_path to plain", why, "set", {"flow_path": "plain"}))
        fixes.append(stop("Samples that follow this velocity do not land at the data, however small the loss."))
        return Report(
            f"The target velocity is {percent_words(error)} away from how the path moves", numbers, figure, fixes
        )

    return signal_of(store, report)


def flicker(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Movements of generated clips do not go on although the data's do, more changes from frame to frame, and neither
    has become better since half the steps.
    """
    coherence, change = seen.values.get(_GENERATED + "coherence"), seen.values.get(_GENERATED + "lag_ratio")
    of_data, lag = _reference(seen, "coherence"), seen.values.get(_GENERATED + "lag_change")
    if coherence is None or change is None or of_data is None or lag is None or seen.step == 0:
        return []
    store = memory.setdefault("all", {})
    flickers = coherence < limits["coherence"] and of_data > limits["data"] and change > limits["change"]
    change_before, before = (_value_halfway(seen, _GENERATED + name) for name in ("lag_ratio", "coherence"))
    stays = (
        change_before is not None
        and before is not None
        and change > limits["falls"] * change_before
        and coherence < before + limits["rises"]
        and not _is_noise(seen, lag, limits)
    )
    # Clips that stand still do not flicker, and are not well for that.
    clear = (coherence >= 0 or change <= (1 + limits["change"]) / 2) and change >= limits["still"]
    bad = (stays or None) if flickers else (False if clear else None)
    # the last of the names: six mistakes make clips flicker, and this one is what is left when they are ruled out
    if bad and (spreads_otherwise(seen) or not is_sampler_known(seen)):
        bad = None
    update_latch(store, "flicker", seen.step, None if bad and _is_explained(seen, limits) else bad, raise_after=2)

    def report() -> Report:
        theirs, datas = rounded_text(coherence, signed=True), rounded_text(of_data, signed=True)
        title = f"Clips flicker: their motion has coherence {theirs}, the data's {datas}"
        alike, alike_in_data = seen.latest.get(_GENERATED + "cosine"), _reference(seen, "cosine")
        numbers = known_numbers(
            ("coherence of generated motion", coherence, "", AtLeast(limits["coherence"])),
            ("coherence of the data's motion", of_data, "", None),
            ("change from frame to frame ÷ data's", change, "", limits["change"]),
            ("how differently samples move ÷ data's", seen.latest.get(_GENERATED + "motion_ratio"), "", None),
            ("mean cosine of generated frames", alike, "", None),
            ("mean cosine of the data's frames", alike_in_data, "", None),
            ("weight of orthogonality", seen.weights.get("orthogonality"), "", None),
        )
        lines = {"generated": _GENERATED + "coherence", "data": _DATA + "coherence"}
        figure = seen.history.chart("Coherence of motion", "cosine", lines, AtLeast(limits["coherence"]))
        fixes = [*without_fault(seen.facts), *_flicker_remedies(seen)]
        fixes += guide_remedies("jitter", seen.controls)
        return Report(title, numbers, figure, fixes)

    return signal_of(store, report)


def _flicker_remedies(seen: RuleContext) -> list[dict[str, Any]]:
    fixes = []
    if seen.weighted("orthogonality") and seen.controls.get("orthogonality_target") == "none":
        why = "Stops pushing once frames are as different as the data's own, so that real motion is not punished."
        fixes.append(remedy("Set orthogonality_target to data", why, "set", {"orthogonality_target": "data"}))
    if 0 < _correlation(seen) < 1:
        why = "With noise of their own, frames learned to move in 150 steps; half in common, in 600; 0.9, not in 400."
        fixes.append(remedy("Set noise_correlation to 0", why, "set", {"noise_correlation": 0.0}))
    if seen.controls.get("flow_path") in ("quantum", "ring"):
        why = "It decides all motion below t*, in few steps: coherence −.3 after 300 updates, where plain has +.28."
        fixes.append(remedy("Set flow_path to plain", why, "set", {"flow_path": "plain"}))
    return fixes[:2] or [pause("Look at the clips: more steps cure flicker that is only unfinished training.")]


def frames_unordered(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Shuffled frames in, shuffled frames out: the model does not know which frame is which, or hardly."""
    response = seen.values.get(catalog.FLOW_POSITION_RESPONSE)
    if response is None:
        return []
    store = memory.setdefault("all", {})
    bad = is_below(response, limits["response"], 2 * limits["response"])
    update_latch(store, "order", seen.step, bad, raise_after=1 if seen.step == 0 else 2)

    def report() -> Report:
        amplification = seen.controls.get("frame_amplification")
        numbers = known_numbers(
            ("change of the velocity when frames are shuffled and put back", response, "", AtLeast(limits["response"])),
            ("factor on the frame embedding", amplification, "", None),
            ("coherence of generated motion", seen.latest.get(_GENERATED + "coherence"), "", None),
        )
        lines = {"response": catalog.FLOW_POSITION_RESPONSE}
        figure = seen.history.chart("Response to the order of frames", "share", lines, AtLeast(limits["response"]))
        fixes = [*without_fault(seen.facts)]
        if isinstance(amplification, int | float) and amplification < 1:
            why = "Strengthens the embedding that tells frames apart; at 5 the response is about 1 before training."
            fixes.append(remedy("Set frame_amplification to 5", why, "set", {"frame_amplification": 5.0}))
        fixes.append(stop("Without an order of frames there is no motion to learn: the model needs a frame embedding."))
        change = f"changes the velocity by {number_words(response, 2)}"
        title = f"Shuffling the frames {change}: the model does not know their order"
        return Report(title, numbers, figure, fixes)

    return signal_of(store, report)


def noise_mismatch(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Samples are drawn with another share of common noise than the model is trained on."""
    sampled = seen.values.get(catalog.FLOW_SAMPLE_NOISE_CORRELATION)
    if sampled is None or seen.step == 0:
        return []
    store = memory.setdefault("all", {})
    trained = _trained_correlation(seen)
    update_latch(store, "noise", seen.step, _correlations_differ(seen, limits), clear_after=1)

    def report() -> Report:
        apart, of_data = seen.latest.get(_GENERATED + "divergence"), _reference(seen, "divergence")
        size = seen.latest.get(_GENERATED + "std_ratio")
        outcome = "" if size is None else f"; samples have {rounded_text(size)} times the data's spread"
        title = f"Trained with {percent_words(trained)} common noise, sampled with {percent_words(sampled)}{outcome}"
        numbers = known_numbers(
            ("share of common noise in training", trained, "", None),
            ("share of common noise in sampling", sampled, "", None),
            ("standard deviation of samples ÷ data's", size, "", None),
            ("distance of generated frames", apart, "", None),
            ("distance of the data's frames", of_data, "", None),
        )
        lines = {"generated": _GENERATED + "divergence", "data": _DATA + "divergence"}
        figure = seen.history.chart("Distance between frames", "RMS", lines)
        why = "Sample with the noise that the model has met: less common noise blows clips up, more of it freezes them."
        as_trained = remedy("Sample as trained", why, "set", {"sample_noise_correlation": -1.0})
        label = f"Set noise_correlation to {number_words(sampled)}"
        learn = remedy(label, "Trains on the noise that is sampled with.", "set", {"noise_correlation": sampled})
        return Report(title, numbers, figure, [as_trained, learn])

    return signal_of(store, report)


def _reference(seen: RuleContext, measure: str) -> float | None:
    """A measure of the held-out clips; of the newest batch where those were not measured."""
    return seen.latest.get(_HELD_OUT + measure, seen.latest.get(_DATA + measure))


def _value_halfway(seen: RuleContext, series: str) -> float | None:
    """A series at half the steps since the newest change of path or noise; None when nothing was sampled by then."""
    since = max((seen.changes[name].step for name in _OF_THE_FLOW if name in seen.changes), default=0)
    return seen.history.at(series, since + (seen.step - since) // 2, since)


def _is_noise(seen: RuleContext, apart: float, limits: Limits) -> bool:
    """Whether frames are as far apart as those of their noise, √(2(1 − ρ)): nothing has been learned yet."""
    noise = math.sqrt(2 * (1 - min(1.0, _correlation(seen))))
    return noise > 0 and abs(apart / noise - 1) < limits["noise"]


def _trained_correlation(seen: RuleContext) -> float:
    return float(seen.controls.get("noise_correlation", seen.latest.get(catalog.FLOW_NOISE_CORRELATION, 0.0)))


def _correlation(seen: RuleContext) -> float:
    """Share of common noise of the newest sample."""
    return seen.latest.get(catalog.FLOW_SAMPLE_NOISE_CORRELATION, _trained_correlation(seen))


def _correlations_differ(seen: RuleContext, limits: Limits) -> bool:
    return abs(_correlation(seen) - _trained_correlation(seen)) > limits["mismatch"]


def _is_explained(seen: RuleContext, limits: Limits) -> bool:
    """Whether another rule says why samples look as they do."""
    return (
        _correlations_differ(seen, limits)
        or seen.latest.get(catalog.FLOW_VELOCITY_ERROR, 0.0) > limits["error"]
        or is_sampled_otherwise(seen)
    )
