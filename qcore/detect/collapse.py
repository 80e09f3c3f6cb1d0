"""The rule about collapse in mid-run: early signs that a model loses what it had learned.

Loss and gradient norm come every step and scatter with the batch, so they are judged as means of five steps, against
a baseline that is itself robust, by a margin that grows with the scatter that was measured. Every sign waits until the
model has learned something (`Seen.armed`); after a person or a schedule changes what the loss is made of, baselines
start anew and the signs wait 30 steps, because the loss then moves for a good reason. A change of the learning rate
restarts nothing: what follows it is the run's own doing.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import Any

from qcore.base.words import percent_words, value_words
from qcore.detect.finding import (
    AtLeast,
    Report,
    known_numbers,
    pause,
    restore,
    rounded_text,
    set_rate,
    set_weight,
    without_fault,
)
from qcore.detect.plateau import BLOCK
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
from qcore.detect.tokens import rate_control
from qcore.probes import catalog

_KEPT = 25
_FEWEST = 6
_JUMP = 3.0
"""A learning rate that grew by this factor is named as the cause."""
_AGAINST = -0.3
"""A term whose gradient has this cosine with the loss, or less, is worth switching off."""


def token_collapse(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Loss above its baseline · gradient norm or likeness of hidden states above their medians while the loss is not
    at its best · information below its maximum · one token wins more than it should.
    """
    store: Store = memory.setdefault("all", {})
    changed = seen.objective_step
    if changed is not None and changed > memory.get("since", -1) and not any(one["on"] for one in store.values()):
        for name in ("ce", "norm", "cosine", "information"):
            memory.pop(name, None)
        memory["since"], memory["wait"] = changed, changed + int(limits["wait"])
    _note_restart(seen, limits, memory)
    waiting = seen.step < memory.get("wait", 0)
    _judge_loss(seen, limits, memory, store, waiting)
    _judge_gradient(seen, limits, memory, store, waiting)
    _judge_information(seen, limits, memory, store, waiting)
    _judge_likeness(seen, limits, memory, store, waiting)
    _judge_share(seen, limits, memory, store)
    return signal_of(store, lambda: _report(seen, limits, memory))


def _note_restart(seen: RuleContext, limits: Limits, memory: Memory) -> None:
    """A schedule that starts its rate anew lifts the loss for a while, as it is meant to. A rate that the run has not
    had before is no restart.
    """
    rate = seen.latest.get(catalog.TRAIN_LR)
    if rate is None:
        return
    before, highest = memory.get("rate", rate), memory.get("highest_rate", 0.0)
    if _JUMP * before < rate <= highest:
        memory["wait"] = max(memory.get("wait", 0), seen.step + int(limits["wait"]))
    memory["rate"], memory["highest_rate"] = rate, max(rate, highest)


def _judge_loss(seen: RuleContext, limits: Limits, memory: Memory, store: Store, waiting: bool) -> None:
    """Mean of five steps against the lowest running median of five such means; and against the loss of token
    frequencies, which nothing that was changed on purpose should bring back.
    """
    loss, unigram = seen.values.get(catalog.TERM_CE), seen.facts.unigram
    if loss is None or not seen.weighted("ce"):
        return
    kept = memory.setdefault("ce", {"open": [], "blocks": [], "base": None, "excess": 0.0, "noise": 0.0})
    base = kept["base"]
    if base is not None and seen.armed:
        jump = max(limits["ce_jump"], limits["noise"] * kept["noise"] * BLOCK**0.5)
        update_latch(
            store, "jump", seen.step, is_above(loss - base, jump, jump / 4), raise_after=3, clear_after=3 * BLOCK
        )
    block = _block(kept, loss)
    if block is None:
        return
    if unigram is not None and seen.armed:
        update_latch(
            store, "plateau", seen.step, is_above(block, unigram, unigram - limits["ce"]), raise_after=2, clear_after=3
        )
    blocks = kept["blocks"]
    if waiting:  # a baseline from the way to the new level would be too low
        blocks.clear()
        return
    kept["noise"] = _scatter(blocks)
    if len(blocks) >= 5:
        recent = median(blocks[-5:])
        kept["base"] = recent if base is None else min(base, recent)
    if kept["base"] is None:
        return
    kept["excess"] = block - kept["base"]
    if seen.armed:
        high = max(limits["ce"], limits["noise"] * kept["noise"])
        update_latch(store, "ce", seen.step, is_above(kept["excess"], high, high / 2), raise_after=2, clear_after=3)


def _judge_gradient(seen: RuleContext, limits: Limits, memory: Memory, store: Store, waiting: bool) -> None:
    """Mean of five steps against the median of the last 25 such means. A healthy gradient also grows when the loss
    falls faster, so the loss must stand above its baseline too.
    """
    norm = seen.values.get(catalog.TRAIN_GRAD_NORM)
    if norm is None:
        return
    kept = memory.setdefault("norm", {"open": [], "blocks": [], "ratio": 1.0})
    before = list(kept["blocks"])
    block = _block(kept, norm)
    if block is None or len(before) < _FEWEST:
        return
    kept["ratio"] = block / max(median(before), 1e-12)
    if is_on(store, "norm"):
        kept["blocks"] = before  # what it is compared with stays what it was before
    if seen.armed and not waiting:
        worse = _is_loss_worse(memory, limits)
        bad = is_above(kept["ratio"], limits["norm_ratio"], 0.8 * limits["norm_ratio"])
        update_latch(store, "norm", seen.step, bad if worse or not bad else None, raise_after=2, clear_after=3)


def _judge_information(seen: RuleContext, limits: Limits, memory: Memory, store: Store, waiting: bool) -> None:
    information = seen.values.get(catalog.TOKENS_MUTUAL_INFORMATION)
    if information is None or not seen.armed or waiting:
        return
    kept = memory.setdefault("information", {"mean": information, "highest": 0.0})
    kept["mean"] += limits["share"] * (information - kept["mean"])
    kept["highest"] = max(kept["highest"], kept["mean"])
    low, release = limits["information"] * kept["highest"], (1 + limits["information"]) / 2 * kept["highest"]
    update_latch(store, "information", seen.step, is_below(information, low, release), raise_after=2)


def _judge_likeness(seen: RuleContext, limits: Limits, memory: Memory, store: Store, waiting: bool) -> None:
    cosine = seen.values.get(catalog.GEOMETRY_MEAN_COSINE)
    if cosine is None or not seen.armed or waiting:
        return
    kept = memory.setdefault("cosine", {"values": []})
    values = kept["values"]
    if len(values) >= _FEWEST:
        bad = is_above(cosine, median(values) + limits["cosine"], median(values) + limits["cosine"] / 2)
        worse = _is_loss_worse(memory, limits)
        update_latch(store, "cosine", seen.step, bad if worse or not bad else None, raise_after=2)
    # the baseline stands still while it judges: otherwise a slow collapse would become its own norm
    if not is_on(store, "cosine"):
        kept["values"] = [*values, cosine][-_KEPT:]


def _judge_share(seen: RuleContext, limits: Limits, memory: Memory, store: Store) -> None:
    """The winner's share of the predictions minus that of the commonest target, once it has been small."""
    share = seen.values.get(catalog.TOKENS_TOP1_SHARE)
    target = seen.values.get(catalog.TOKENS_TARGET_TOP1_SHARE)
    if share is None or target is None or not seen.armed:
        return
    excess = share - target
    # every model predicts one token at first; only a share that has been small twice can have grown
    memory["calm"] = memory.get("calm", 0) + 1 if excess < limits["top1_calm"] else memory.get("calm", 0)
    if memory["calm"] >= 2:
        update_latch(store, "top1", seen.step, is_above(excess, limits["top1"], limits["top1_calm"]), raise_after=2)


def _block(kept: dict[str, Any], value: float) -> float | None:
    """Collect one step; the mean of five once they are together, also kept among the last 25."""
    kept["open"].append(value)
    if len(kept["open"]) < BLOCK:
        return None
    mean = float(sum(kept["open"]) / BLOCK)
    kept["open"] = []
    kept["blocks"] = [*kept["blocks"], mean][-_KEPT:]
    return mean


def _scatter(blocks: list[float]) -> float:
    """Standard deviation of a block around the trend, from the median step between neighbours; 0 for few blocks."""
    if len(blocks) < _FEWEST:
        return 0.0
    # differences, since the loss itself falls: its spread over a window would be mostly trend
    steps = [later - earlier for earlier, later in pairwise(blocks)]
    middle = median(steps)
    # 0.6745 turns a median deviation into a standard one, √2 a difference of two into one
    return median(abs(step - middle) for step in steps) / (0.6745 * 2**0.5)


def _is_loss_worse(memory: Memory, limits: Limits) -> bool:
    """Whether the loss stands clearly above its baseline: what tells a collapse from faster learning."""
    kept = memory.get("ce")
    return kept is not None and kept["excess"] > max(limits["ce_worse"], limits["noise"] / 2 * kept["noise"])


def _report(seen: RuleContext, limits: Limits, memory: Memory) -> Report:
    latest, store = seen.latest, memory["all"]
    loss, information = memory.get("ce", {}), memory.get("information", {})
    base, excess = loss.get("base"), loss.get("excess", 0.0)
    ratio = memory.get("norm", {}).get("ratio")
    highest = information.get("highest")
    share, target = latest.get(catalog.TOKENS_TOP1_SHARE), latest.get(catalog.TOKENS_TARGET_TOP1_SHARE)
    chart = seen.history.chart
    # several signals may be on at once; the title says the one that a person understands first: the loss, then what the
    # model says, then what only an instrument sees
    if any(is_on(store, name) for name in ("ce", "jump", "plateau")):
        now = latest.get(catalog.TERM_CE, 0.0)
        # a run that never left the plateau has no best of its own: token frequencies are what it had to beat
        best = seen.facts.unigram or 0.0 if base is None else base
        what = "token frequencies" if base is None else "its best"
        title = (
            f"The loss has left its range: {rounded_text(now)} nats, {rounded_text(now - best, signed=True)} against "
            f"{what}"
        )
        figure = chart(
            "Cross-entropy", "nats per token", {"ce": catalog.TERM_CE}, None if base is None else base + limits["ce"]
        )
    elif is_on(store, "top1") and share is not None and target is not None:
        title = f"One token takes {percent_words(share)} of the predictions"
        title = f"{title}; the commonest target has {percent_words(target)}"
        lines = {"most predicted": catalog.TOKENS_TOP1_SHARE, "commonest target": catalog.TOKENS_TARGET_TOP1_SHARE}
        figure = chart("Share of one token", "share", lines)
    elif is_on(store, "information") and highest is not None:
        now = latest.get(catalog.TOKENS_MUTUAL_INFORMATION, 0.0)
        title = f"The context carries {rounded_text(now)} nats, down from {rounded_text(highest)}"
        limit = AtLeast(limits["information"] * highest)
        figure = chart(
            "Information the context carries", "nats", {"information": catalog.TOKENS_MUTUAL_INFORMATION}, limit
        )
    elif is_on(store, "cosine"):
        cosine = rounded_text(latest.get(catalog.GEOMETRY_MEAN_COSINE, 0.0))
        title = f"Hidden states grow alike: mean cosine {cosine}"
        figure = chart("Mean cosine of hidden states", "cosine", {"cosine": catalog.GEOMETRY_MEAN_COSINE})
    else:
        title = f"The gradient is {rounded_text(ratio or 0.0, 1)} times its usual size while the loss grows"
        figure = chart("Gradient norm", "norm", {"gradient norm": catalog.TRAIN_GRAD_NORM})
    # the newest step is only evidence for the jump; a slow rise is judged by means of five
    newest = latest.get(catalog.TERM_CE) if is_on(store, "jump") and base is not None else None
    numbers = known_numbers(
        (
            "cross-entropy above its best, newest step",
            None if newest is None or base is None else newest - base,
            "nats",
            max(limits["ce_jump"], limits["noise"] * loss.get("noise", 0.0) * BLOCK**0.5),
        ),
        ("cross-entropy above its best, mean of 5 steps", excess if base is not None else None, "nats", limits["ce"]),
        ("gradient norm ÷ its median", ratio, "", limits["norm_ratio"]),
        (
            "information the context carries",
            latest.get(catalog.TOKENS_MUTUAL_INFORMATION),
            "nats",
            None if highest is None else AtLeast(limits["information"] * highest),
        ),
        ("share of the most predicted token", share, "", None if target is None else target + limits["top1"]),
        ("distinct predictions ÷ distinct targets", latest.get(catalog.TOKENS_COVERAGE), "", None),
        ("learning rate", latest.get(catalog.TRAIN_LR), "", None),
    )
    return Report(title, numbers, figure, _remedies(seen, memory))


def _remedies(seen: RuleContext, memory: Memory) -> list[dict[str, Any]]:
    signals = memory["all"].values()
    # the oldest signal that is still on: a checkpoint after it has the trouble inside
    since = min(signal["since"] for signal in ([one for one in signals if one["on"]] or list(signals)))
    back = f"Best is to go back to a checkpoint from before step {since:,}: no loss term recovered such a run."
    fixes = [*without_fault(seen.facts)]
    control, rate = rate_control(seen)
    change = seen.changes.get(control)
    if rate is not None:
        target, why = rate / 10, back
        # a rate that was raised by far is the likelier cause: back to what worked, rather than a tenth of a guess
        if change is not None and isinstance(change.old, int | float) and rate > _JUMP * change.old:
            target, why = (
                min(target, change.old),
                f"It was raised from {value_words(change.old)} at step {change.step:,}. {back}",
            )
        fixes += [restore(control, target, since, why), set_rate(control, target, why)]
    # measured at the last hidden state; a term without a measurement counts as harmless
    pulls = {term: seen.latest.get(catalog.grad("cos", term), 0.0) for term in seen.weights if seen.weighted(term)}
    worst = min(pulls, key=lambda term: pulls[term], default="ce")
    if pulls.get(worst, 0.0) < _AGAINST and len(fixes) < 3:
        fixes.append(
            set_weight(worst, 0.0, f"Its gradient points against the loss (cosine {rounded_text(pulls[worst])}).")
        )
    return [*fixes, pause(back)]
