"""Rules about numbers that are missing: series that are not finite, a loss that has stopped coming, failed probes.

A NaN compares as false with every limit, so that no other rule can say a word about it. What may rightly be undefined
(a ratio to nothing, a mean over nothing) is left out by whoever measures it, and never arrives as NaN.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from qcore.detect.curves import loss_lines
from qcore.detect.finding import Report, known_numbers, number, pause, without_fault
from qcore.detect.rule import Limits, Memory, RuleContext, Signal, signal_of, update_latch
from qcore.probes import catalog

_MOST = 64
_AT_ONCE = (catalog.EVAL, catalog.TERM)
"""Groups in which one such value is enough."""


def nonfinite_series(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """A measured series is NaN or infinite; or the loss has stopped coming while the rate or the norm goes on."""
    store: dict[str, Any] = memory.setdefault("all", {})
    silent = seen.curves.get("without_loss", 0)
    if not seen.broken and not store and silent <= limits["silent"]:
        return []
    kinds = memory.setdefault("kinds", {})
    for name, value in seen.broken.items():
        if name not in store and len(store) >= _MOST:
            continue
        kinds[name] = "NaN" if math.isnan(value) else "infinite"
        update_latch(store, name, seen.step, True, raise_after=_wanted(name, limits))
    for name in [one for one in store if one in seen.values]:
        if not update_latch(store, name, seen.step, False, raise_after=_wanted(name, limits)) and len(store) > 1:
            del store[name]
    _judge_silence(seen, limits, memory, store, silent)
    return signal_of(store, lambda: _report(seen, memory))


def _wanted(name: str, limits: Limits) -> int:
    """Values in a row: an overflow of half precision makes one gradient infinite, and only skips a step."""
    if name == catalog.TRAIN_GRAD_NORM:
        return int(limits["norms"])
    return 1 if name.partition("/")[0] in _AT_ONCE or name == catalog.TRAIN_LOSS else int(limits["others"])


def _judge_silence(seen: RuleContext, limits: Limits, memory: Memory, store: dict[str, Any], silent: int) -> None:
    usual = seen.curves.get("longest_gap", 0)
    name = loss_lines(seen)["training"]
    if "first" not in seen.curves or name in seen.broken:
        return
    if silent > max(limits["silent"], limits["times"] * usual) and name not in memory["kinds"]:
        memory["kinds"][name] = "missing"
        memory["silent_since"] = seen.step
        update_latch(store, name, seen.curves["step"] + 1, True)


def _report(seen: RuleContext, memory: Memory) -> Report:
    kinds = memory["kinds"]
    on = {name: latch for name, latch in memory["all"].items() if latch["on"]} or memory["all"]
    first = min(on, key=lambda name: on[name]["since"])
    words = catalog.series_words(first)
    more = f" and {len(on) - 1} more" if len(on) > 1 else ""
    kind = kinds.get(first, "NaN")
    title = f"{words.heading} is {kind}{more}, since step {on[first]['since']:,}"
    numbers = [number(f"{name}: {kinds.get(name, 'NaN')} since step", latch["since"]) for name, latch in on.items()][:6]
    numbers += known_numbers(
        *((f"last finite value of {name}", seen.latest.get(name), "", None) for name in list(on)[:3])
    )
    figure = seen.history.chart(words.heading, words.unit, {words.title: first})
    why = f"Nothing can be said of {first} until its values are finite: look at what it is computed from."
    return Report(title, numbers, figure, [*without_fault(seen.facts), pause(why)])


def probe_failed(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """After a failure: over when the run has been taken up again, which switches every probe on."""
    del limits
    if not memory.get("resumed"):
        return []
    memory["resumed"] = False
    return [
        Signal(False, 0, 0, partial(probe_report, seen, name, why), name)
        for name, why in memory.get("failed", {}).items()
    ]


def probe_report(seen: RuleContext, name: str, why: str) -> Report:
    """What is shown of a probe that has thrown at this step."""
    title = f"The measurement {name!r} failed at step {seen.step:,} and is switched off"
    numbers = [number("step at which it failed", seen.step)]
    text = f"{why[:200]} (the log has the traceback). Training goes on without it, and its rules are silent."
    return Report(title, numbers, None, [*without_fault(seen.facts), pause(text)])
