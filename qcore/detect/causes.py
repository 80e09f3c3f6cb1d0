"""Why a symptom is there: causes that are active, causes that a number rules out, causes that nothing has measured yet.

A symptom (token collapse, repetition, flicker) looks alike whatever it comes from, so its rule names the causes that
it may come from (`Rule.explained_by`) and its card says of each what is known now:

- *active*: the cause's own finding stands, or ended after the symptom began;
- *ruled out*: its number was measured and lies within its limit, and none of its latches has anything bad to say;
- *open*: measured, and not decided: beyond the limit without being a finding, or between the two limits;
- *not measured*: with the series that would tell.

Which number rules a cause out is declared, not guessed: `Rule.clear`, or the limits that `healthy` reads from the
table. A rule with neither is ruled out by its own latches, once each has seen a clear measurement; then the number has
no limit. Names that no table has (a rule of another family, one to come) are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from qcore.detect.finding import AtLeast, Facts, Grade, Role, number
from qcore.detect.healthy import limits_of
from qcore.detect.history import History
from qcore.detect.rule import Clear, Memory, Rule
from qcore.detect.table import RULES
from qcore.detect.table.explanations import EXPLAINED_BY
from qcore.probes import catalog

GRADES: tuple[Grade, ...] = ("broken", "weak", "note")
"""The worst first."""
ROLES: tuple[Role, ...] = ("cause", "symptom")
_LATCH = {"on", "bad", "clear"}
_KNOWN = {rule.name: rule for rule in RULES}


@dataclass(frozen=True)
class Grounds:
    """What a watch knows at the moment at which it explains a symptom."""

    rules: Mapping[str, Rule]
    memories: Mapping[str, Memory]
    latest: Mapping[str, float]
    history: History
    weights: Mapping[str, float]
    facts: Facts
    step: int


@dataclass(frozen=True)
class StandingCase:
    """A finding of a cause: its id, its rule, whether it is active, and the step at which it ended."""

    id: str
    rule: str
    active: bool
    ended: int = 0


@dataclass
class Explanation:
    """What is known of a symptom's causes, as plain data for its evidence.

    Attributes:
        causes: id, name, title, active.
        ruled_out: name, title, and the number with its limit, side and step.
        open: the same, of a number that decides nothing yet.
        not_measured: name, title, and the series that would tell.
    """

    causes: list[dict[str, Any]] = field(default_factory=list)
    ruled_out: list[dict[str, Any]] = field(default_factory=list)
    open: list[dict[str, Any]] = field(default_factory=list)
    not_measured: list[dict[str, Any]] = field(default_factory=list)


def role_of(name: str, evidence: Mapping[str, Any] | None) -> Role:
    """Role of a finding: what its evidence says, else its rule's, as of one that was stored before there were roles; a
    rule that nobody knows names a cause.

    >>> role_of("token_collapse", {}), role_of("token_collapse", {"role": "cause"}), role_of("of_a_stranger", None)
    ('symptom', 'cause', 'cause')
    """
    said = (evidence or {}).get("role")
    if said in ROLES:
        return cast(Role, said)
    return _KNOWN[name].role if name in _KNOWN else "cause"


def grade_of(name: str, evidence: Mapping[str, Any] | None) -> Grade:
    """Grade of a finding, found as `role_of` finds its role.

    >>> grade_of("skipped_files", None)
    'note'
    """
    said = (evidence or {}).get("grade")
    if said in GRADES:
        return cast(Grade, said)
    return _KNOWN[name].grade if name in _KNOWN else "broken"


def clears_of(rule: Rule) -> tuple[Clear, ...]:
    """The numbers that rule a cause out: declared with the rule, or its limits of a healthy run."""
    return rule.clear or tuple(Clear(series, low, high) for series, low, high in limits_of(rule.name))


def explain(symptom: Rule, since: int, cases: Iterable[StandingCase], grounds: Grounds) -> Explanation:
    """What is known now of the causes of a symptom that began at step `since`."""
    found = Explanation()
    by_rule: dict[str, list[StandingCase]] = {}
    for case in cases:
        # a cause that was mended a moment ago is still why: what it has done takes steps to go
        if case.active or case.ended >= since:
            by_rule.setdefault(case.rule, []).append(case)
    for name in symptom.explained_by or EXPLAINED_BY.get(symptom.name, ()):
        rule = grounds.rules.get(name)
        if rule is None or rule is symptom:
            continue
        about = {"name": rule.name, "title": rule.title}
        if name in by_rule:
            found.causes += [{"id": case.id, **about, "active": case.active} for case in by_rule[name]]
            continue
        state, measured = _judge(rule, grounds)
        if state == "not_measured":
            found.not_measured.append({**about, **measured})
        else:
            (found.ruled_out if state == "ruled_out" else found.open).append({**about, **measured})
    return found


def cause_words(explanation: Mapping[str, Any]) -> str:
    """The end of a symptom's title: what it follows from, or that nothing was found.

    >>> cause_words({"causes": []})
    'cause not found'
    >>> cause_words({"causes": [{"title": "The context is ignored", "active": True}]})
    'follows from “The context is ignored”'
    """
    causes = explanation.get("causes") or []
    if not causes:
        return "cause not found"
    first = next((one for one in causes if one["active"]), causes[0])
    # a rule of single terms may have several findings: its title once
    more = len({one["title"] for one in causes}) - 1
    others = f" and {more} more" if more else ""
    if first["active"]:
        return f"follows from “{first['title']}”{others}"
    return f"followed from “{first['title']}”{others}, which is over"


def _judge(rule: Rule, grounds: Grounds) -> tuple[str, dict[str, Any]]:
    """(state, the number or the series that it is missing) of a cause without a finding."""
    latches = list(_latches(grounds.memories.get(rule.name, {})))
    troubled = any(latch["on"] or latch["bad"] for latch in latches)
    if rule.per_term and not _other_terms(grounds.weights):
        nothing = number("terms with a weight beside the cross-entropy", 0.0, "", 0.0)
        return "ruled_out", {**nothing, "step": grounds.step}
    clears = clears_of(rule)
    if not clears:
        measured = _newest(rule, grounds)
        if measured is None or not latches:
            return "not_measured", _missing(rule.reads[0])
        well = not troubled and all(latch["clear"] for latch in latches)
        return "ruled_out" if well else "open", measured
    readings = [_reading(one, rule, grounds) for one in clears]
    # the first one decides: what else speaks against the cause is heard where it was measured
    if readings[0] is None:
        return "not_measured", _missing(clears[0].series or rule.reads[0])
    known = [reading for reading in readings if reading is not None]
    broken = [measured for measured, holds in known if not holds]
    if broken:
        return "open", broken[0]
    return "open" if troubled else "ruled_out", known[0][0]


def _latches(memory: Any) -> Iterator[Mapping[str, Any]]:
    """The latches in a rule's memory, by the form that `update_latch` gives them."""
    if not isinstance(memory, Mapping):
        return
    if memory.keys() >= _LATCH:
        yield memory
        return
    for value in memory.values():
        yield from _latches(value)


def _other_terms(weights: Mapping[str, float]) -> list[str]:
    return [term for term, weight in weights.items() if weight and term not in ("ce", "flow")]


def _reading(clear: Clear, rule: Rule, grounds: Grounds) -> tuple[dict[str, Any], bool] | None:
    """The number of a `Clear` with its limit, and whether it holds; None where it was not measured."""
    low, high = (rule.thresholds[name] if name else None for name in (clear.low, clear.high))
    if clear.fact:
        if (value := grounds.facts.data.get(clear.fact)) is None:
            return None
        label, unit, step = clear.fact.replace("_", " "), "", 0
    else:
        found = _measured(clear, grounds)
        if found is None:
            return None
        series, value, step = found
        words = catalog.series_words(series)
        label, unit = words.title, words.unit
    under, over = low is not None and value < low, high is not None and value > high
    # of two limits the one that is broken, else the upper one
    limit = AtLeast(low) if low is not None and (under or high is None) else high
    return {**number(label, value, unit, limit), "step": step}, not (under or over)


def _measured(clear: Clear, grounds: Grounds) -> tuple[str, float, int] | None:
    """Series, newest value and step; of several terms the one nearest to the limit."""
    names = [clear.series]
    if clear.series.endswith("*"):
        names = [clear.series[:-1] + term for term in _other_terms(grounds.weights)]
    found = [(name, *newest) for name in names if (newest := grounds.history.newest(name)) is not None]
    if not found:
        return None
    ordered = sorted(found, key=lambda one: one[2])
    name, step, value = ordered[-1] if clear.high else ordered[0]
    return name, value, step


def _newest(rule: Rule, grounds: Grounds) -> dict[str, Any] | None:
    """The first of the series that a rule reads and that was measured, without a limit."""
    for name in rule.reads:
        measured = None if name.endswith("*") else grounds.history.newest(name)
        if measured is not None:
            words = catalog.series_words(name)
            return {**number(words.title, measured[1], words.unit), "step": measured[0]}
    return None


def _missing(series: str) -> dict[str, Any]:
    """The series that would tell, in words."""
    return {"series": series, "label": catalog.series_words(series.replace("*", "a term")).title}
