"""Rules about a loss that leaves its range: a spike with what came before it, a loss that keeps rising, a jump where a
run was taken up again.

All are told from the scalars of each step. A spike is a departure of many median deviations from the running median; a
batch of other text makes one, too, and is told apart by how it ends: the loss falls back as abruptly as it rose, and no
held-out loss has moved. Neither the model nor its rate is to blame then.
"""

from __future__ import annotations

from typing import Any

from qcore.base.words import number_words
from qcore.detect.curves import (
    BLOCK,
    is_waiting,
    loss_lines,
    nats,
    raised_rate,
    scatter,
    uniform,
    unit,
)
from qcore.detect.finding import Report, known_numbers, pause, restore, rounded_text, without_fault
from qcore.detect.rule import Limits, Memory, RuleContext, Signal, Store, is_above, is_on, signal_of, update_latch
from qcore.detect.tokens import rate_control
from qcore.probes import catalog

_CALM, _LONG, _ODD = 3, 12, 10
"""Steps of calm that end a spike; steps after which it is the model's, whatever its end; most odd batches in a row."""


def loss_spike(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The loss of single steps against the median of 50, in median deviations."""
    track, event = seen.curves.get("loss"), seen.curves.get("spiking")
    store = memory.setdefault("all", {})
    if track is None or track["centre"] is None or seen.curves["step"] != seen.step or memory.get("at") == seen.step:
        return []
    memory["at"] = seen.step
    _note_norm(seen, limits, memory)
    excess = seen.curves["now"] - track["centre"]
    if event is None:
        limit = max(
            limits["deviations"] * track["spread"], nats(seen, limits["least"]), limits["share"] * abs(track["centre"])
        )
        if excess <= limit or is_waiting(seen):
            if not store:
                return []
            update_latch(store, "model", seen.step, False, clear_after=BLOCK)
            update_latch(store, "batch", seen.step, False, clear_after=int(limits["clear"]))
            return signal_of(store, lambda: _spike_report(seen, limits, memory))
        event = _begin(seen, track, limit, memory)
    _follow(seen, event, excess)
    if event["calm"] >= _CALM:
        seen.curves.pop("spiking")
        _end(seen, event, memory, store)
    elif event["last"] - event["start"] >= _LONG and not event["restart"]:
        _tell_long(seen, event, memory, store)
        if seen.step - event["start"] > limits["longest"]:  # this is where the loss is now: another rule's matter
            for name in ("spiking", "loss", "norm"):
                seen.curves.pop(name, None)
    return signal_of(store, lambda: _spike_report(seen, limits, memory))


def _end(seen: RuleContext, event: dict[str, Any], memory: Memory, store: Store) -> None:
    """A spike is over: a foreign batch is told, and one of the model that lasted; others are forgotten."""
    odd = _is_odd_batch(event)
    if _is_foreign(seen, event) if odd else event["last"] - event["start"] >= BLOCK and not event["restart"]:
        memory["shown"] = event
        update_latch(store, "batch" if odd else "model", event["start"], True)


def _tell_long(seen: RuleContext, event: dict[str, Any], memory: Memory, store: Store) -> None:
    memory["shown"] = event
    if not is_on(store, "model"):
        update_latch(store, "model", event["start"], True)
    update_latch(store, "model", seen.step, True if event["last"] == seen.step else None)


def _note_norm(seen: RuleContext, limits: Limits, memory: Memory) -> None:
    """Since when the gradient norm is out of its range; forgotten after a few steps inside."""
    track, norm = seen.curves.get("norm"), seen.curves.get("norm_now")
    if track is None or track["centre"] is None or norm is None:
        return
    if norm - track["centre"] > max(limits["deviations"] * track["spread"], track["centre"]):
        memory.setdefault("norm_at", seen.step)
        memory["norm_last"] = seen.step
    elif seen.step - memory.get("norm_last", seen.step) > BLOCK and seen.curves.get("spiking") is None:
        memory.pop("norm_at", None)


def _begin(seen: RuleContext, track: dict[str, Any], limit: float, memory: Memory) -> dict[str, Any]:
    rates = seen.curves.get("rate", {}).get("recent", [])
    raised = raised_rate(seen.curves)
    rows = seen.curves.get("rows") or [{}]
    event = {
        "start": seen.step,
        "centre": track["centre"],
        "spread": track["spread"],
        "limit": limit,
        "peak": 0.0,
        "peak_at": seen.step,
        "last": seen.step,
        "end": 0.0,
        "calm": 0,
        "norm_at": memory.get("norm_at"),
        "raised": list(raised) if raised else None,
        # a schedule that goes back up to a rate that was there before is allowed a rise
        "restart": raised is None and bool(rates) and max(rates) > 2 * max(min(rates), 1e-12),
        "held_out": rows[-1].get("held_out"),
    }
    seen.curves["spiking"] = event
    return event


def _follow(seen: RuleContext, event: dict[str, Any], excess: float) -> None:
    if excess > event["limit"] / 4:
        event["calm"], event["last"], event["end"] = 0, seen.step, excess
    else:
        event["calm"] += 1
    if excess > event["peak"]:
        event["peak"], event["peak_at"] = excess, seen.step


def _is_odd_batch(event: dict[str, Any]) -> bool:
    """Whether the loss fell back as abruptly as it had risen, and no gradient or rate had grown before it."""
    early = event["norm_at"] is not None and event["norm_at"] < event["start"]
    short = event["last"] - event["start"] < _ODD
    return short and event["end"] > event["peak"] / 2 and not early and event["raised"] is None


def _is_foreign(seen: RuleContext, event: dict[str, Any]) -> bool:
    """Whether that batch was worse than one that the model knows nothing about; without a vocabulary, three times."""
    loss, even = event["centre"] + event["peak"], uniform(seen)
    return bool(loss > (3 * event["centre"] if even is None else max(even, 1.5 * event["centre"])))


def _spike_report(seen: RuleContext, limits: Limits, memory: Memory) -> Report:
    event, even = memory["shown"], uniform(seen)
    loss, start = event["centre"] + event["peak"], event["start"]
    length = event["last"] - start + 1
    rows = [row for row in seen.curves.get("rows", []) if row["step"] >= start]
    after = rows[-1]["held_out"] if rows else None
    odd = _is_odd_batch(event)
    usual = f"{rounded_text(loss)} where {rounded_text(event['centre'])} is usual"
    if odd:
        which = f"An odd batch at step {start:,}" if length == 1 else f"{length} odd batches from step {start:,} on"
        title = f"{which}: a loss of {usual}, and back at once"
        why = (
            f"Look at the rows of update {start:,}: the model was not to blame, and has not changed its held-out loss."
        )
    else:
        title = f"The loss spiked at step {start:,}: {usual}; {_first_sign(event)}"
        why = "Best is to go on from before the spike with a smaller rate; clipping bounds what one batch can do."
    numbers = known_numbers(
        ("loss above its running median", event["peak"], unit(seen), event["limit"]),
        ("median deviations", event["peak"] / event["spread"] if event["spread"] > 0 else None, "", None),
        ("steps out of range", length, "steps", None),
        ("gradient norm out of range since step", event["norm_at"], "", None),
        ("largest rate before", event["raised"][0] if event["raised"] else None, "", None),
        ("rate at the spike", event["raised"][1] if event["raised"] else None, "", None),
        ("held-out loss before", event["held_out"], unit(seen), None),
        ("held-out loss after", after, unit(seen), None),
        ("loss of a uniform guess, ln V", even, "nats", None),
    )
    label = "training"
    figure = seen.history.chart("Training loss", unit(seen), {label: loss_lines(seen)[label]})
    fixes = [*without_fault(seen.facts)]
    control, rate = rate_control(seen)
    if not odd and rate and control in seen.controls:
        lower = event["raised"][0] if event["raised"] else rate / 3
        fixes.append(restore(control, lower, start, why))
    return Report(title, numbers, figure, [*fixes, pause(why)])


def _first_sign(event: dict[str, Any]) -> str:
    if event["raised"]:
        return f"the rate had risen from {number_words(event['raised'][0])} to {number_words(event['raised'][1])}"
    at = event["norm_at"]
    if at is not None and at < event["start"]:
        return f"the gradient had left its range {event['start'] - at} steps before"
    return "the gradient left its range with it" if at is not None else "no gradient or rate had left its range before"


def divergence(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Means of five steps far above the lowest that this run had reached, for long, and held-out data agree."""
    shared = seen.curves
    track = shared.get("loss")
    if track is None or track["base"] is None or track["open"] or shared["step"] != seen.step or is_waiting(seen):
        return []
    block, base = track["blocks"][-1], track["base"]
    store = memory.setdefault("all", {})
    limit = max(
        nats(seen, limits["rise"]), limits["share"] * abs(base), limits["noise"] * scatter(track["blocks"][:-BLOCK])
    )
    bad = is_above(block - base, limit, limit / 2)
    if bad:
        memory.setdefault("began", seen.step)
    elif bad is False:
        memory.pop("began", None)
    began = memory.get("began", seen.step)
    rows = shared.get("rows") or []
    after, agrees = int(limits["blocks"]), True
    if not rows:
        after = int(limits["blocks_alone"])
    elif rows[-1]["step"] < began:
        agrees = seen.step - began > limits["patience"]
    else:
        agrees = rows[-1]["held_out"] - shared["lowest"]["held_out"] > limits["follows"] * (block - base)
    memory["bad"] = memory.get("bad", 0) + 1 if bad else 0
    if bad and memory["bad"] >= after and agrees and not is_on(store, "rise"):
        update_latch(store, "rise", began, True)
    update_latch(store, "rise", seen.step, (True if is_on(store, "rise") else None) if bad else bad, raise_after=999,
                 clear_after=3)  # fmt: skip

    def report() -> Report:
        since, rate = store["rise"]["since"], seen.latest.get(catalog.TRAIN_LR)
        title = (
            f"The loss diverges: {rounded_text(block)}, {rounded_text(block - base, signed=True)} above its lowest, "
            f"since step {since:,}"
        )
        raised = raised_rate(shared)
        numbers = known_numbers(
            ("loss above its lowest, mean of 5 steps", block - base, unit(seen), limit),
            ("lowest, median of 5 such means", base, unit(seen), None),
            ("newest held-out loss", rows[-1]["held_out"] if rows else None, unit(seen), None),
            ("lowest held-out loss", shared["lowest"]["held_out"] if rows else None, unit(seen), None),
            ("gradient norm", seen.latest.get(catalog.TRAIN_GRAD_NORM), "", None),
            ("learning rate", rate, "", None),
            ("largest rate before", raised[0] if raised else None, "", None),
        )
        figure = seen.history.chart("Training and held-out loss", unit(seen), loss_lines(seen), base + limit)
        why = f"What was learned is lost: go back to before step {since:,}, with a smaller rate."
        fixes = [*without_fault(seen.facts)]
        control, own = rate_control(seen)
        if own and control in seen.controls:
            fixes.append(restore(control, raised[0] if raised else own / 10, since, why))
        return Report(title, numbers, figure, [*fixes, pause(why)])

    return signal_of(store, report)


def resume_jump(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The first losses after a run was taken up again against its last ones before."""
    shared = seen.curves
    resumed, store = shared.get("resumed"), memory.setdefault("all", {})
    if shared.get("step") != seen.step or memory.get("at") == seen.step:
        return []
    memory["at"] = seen.step
    if resumed is None:
        if is_on(store, "jump"):
            recent = shared.get("loss", {}).get("recent", [])[-BLOCK:]
            near = bool(recent) and sum(recent) / len(recent) - memory["before"] < memory["limit"] / 2
            update_latch(store, "jump", seen.step, False if near else None, clear_after=BLOCK)
            return signal_of(store, lambda: _jump_report(seen, memory))
        return []
    resumed["after"].append(shared["now"])
    if len(resumed["after"]) % BLOCK:
        return []
    after = sum(resumed["after"][-BLOCK:]) / BLOCK
    limit = max(
        limits["deviations"] * resumed["spread"] / BLOCK**0.5, nats(seen, limits["least"]),
        limits["share"] * abs(resumed["before"]),
    )  # fmt: skip
    if after - resumed["before"] > limit:
        rate = seen.latest.get(catalog.TRAIN_LR)
        memory |= {"before": resumed["before"], "after": after, "limit": limit, "rates": [resumed["rate"], rate]}
        memory["step"] = resumed["step"]
        update_latch(store, "jump", resumed["step"] + 1, True)
        shared.pop("resumed")
    elif len(resumed["after"]) >= 2 * BLOCK:
        shared.pop("resumed")
        update_latch(store, "jump", seen.step, False, clear_after=1)
    return signal_of(store, lambda: _jump_report(seen, memory))


def _jump_report(seen: RuleContext, memory: Memory) -> Report:
    before, after, (old, new) = memory["before"], memory["after"], memory["rates"]
    raised = bool(old and new and new > 1.5 * old)
    title = (
        f"The loss jumped at the resume after step {memory['step']:,}: from {rounded_text(before)} to "
        f"{rounded_text(after)}"
    )
    if raised:
        title = f"{title}, with the rate from {number_words(old)} to {number_words(new)}"
    numbers = known_numbers(
        ("loss above what it was before", after - before, unit(seen), memory["limit"]),
        ("mean of 10 steps before", before, unit(seen), None),
        ("mean of 5 steps after", after, unit(seen), None),
        ("rate before", old, "", None),
        ("rate after", new, "", None),
    )
    figure = seen.history.chart("Training loss", unit(seen), {"training": loss_lines(seen)["training"]})
    why = (
        "The schedule began anew: let it go on where it was."
        if raised
        else "What the optimizer had gathered, or the place in the data, was not taken along: both belong in the state."
    )
    return Report(title, numbers, figure, [*without_fault(seen.facts), pause(why)])
