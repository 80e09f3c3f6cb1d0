"""The watch over one run: it gives each measurement to the rules that read it, and tells what is new.

A pure function of what it was told, in order: no clock, no randomness, no files. `state` holds all of it as JSON, so a
resumed run finds what an undisturbed one finds. On an ordinary step only a few free scalars arrive, and only the rules
that read one of them look.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from qcore.base import BAD_VALUES
from qcore.base.words import change_words, name_words
from qcore.detect.finding import Facts, Report, Verdict
from qcore.detect.history import History
from qcore.detect.plateau import PlateauDetector, learnable
from qcore.detect.rule import Change, Memory, Rule, RuleContext, Signal
from qcore.detect.table import RULES
from qcore.detect.tokens import failure_report

VERSION = 2
TELL_EVERY = 10
"""An active verdict is news again, with new remedies, at every tenth measurement that shows it: what is offered must
not change under a person's hand. Title, numbers and chart of every look are in `looked`."""
_MOST_ROUTES = 4096
_OBJECTIVE = frozenset({"label_smoothing", "dominance_threshold", "entropy_floor", "unlikelihood_window"})
_CHANGES_KEPT = 64
T = TypeVar("T")


@dataclass
class _Case:
    """A verdict that was told, and how often it has been seen since."""

    rule: str
    active: bool
    since: int
    last: int
    raised: int
    looks: int
    report: Report
    moving: bool = False
    ended: int = 0
    change: dict[str, Any] | None = None
    """Of a case that is over: the step, and the newest change of a control since it began."""
    proposed: list[str] = field(default_factory=list)
    """Controls that the first report's remedies would have changed."""
    shown: int | None = None
    """Step of the look that `report` is of, where it is not `last`."""


class Watch:
    """Detectors over one run. Not thread-safe: it belongs to the training thread."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.evaluations = 0
        """How often a rule has looked, since the start or the restore."""
        self._rules = {rule.name: rule for rule in RULES if facts.family in rule.families}
        self._routes: dict[str, tuple[bool, tuple[Rule, ...]]] = {}
        self._history = History()
        room = learnable(facts.unigram, facts.bigram, facts.trigram)
        self._plateau_detector = PlateauDetector(facts.unigram, room)
        self._memories: dict[str, Memory] = {}
        self._cases: dict[str, _Case] = {}
        self._latest: dict[str, float] = {}
        self._weights: dict[str, float] = {}
        self._controls: dict[str, Any] = dict(facts.controls)
        self._changes: dict[str, Change] = {}
        self._objective_step: int | None = None
        self._again: dict[str, Signal] = {}
        self._step = -1

    def observe(self, step: int, values: Mapping[str, float], weights: Mapping[str, float]) -> list[Verdict]:
        """Judge what was measured at `step` (0: before the first update) and say what is new or has changed.

        Values that are not finite, and series that no rule reads, are passed over. May be called several times a step,
        each with what has just arrived.

        Args:
            weights: effective weight of every term now.
        """
        self._step = step
        self._again.clear()
        self._note_weights(step, weights)
        found: dict[str, float] = {}
        rules: dict[str, Rule] = {}
        for name, value in values.items():
            # a NaN compares as false with every limit: it would pass for healthy, and `failure` is told of it
            if not math.isfinite(value):
                continue
            # most series are read by no rule; which ones was looked up once
            kept, readers = self._routes.get(name) or self._route(name)
            if not kept:
                continue
            found[name] = self._latest[name] = value
            self._history.add(name, step, value)
            for rule in readers:
                rules[rule.name] = rule
        self._plateau_detector.observe(found)
        told = self._withdraw_unweighted()
        if rules:
            seen = self._seen(step, found)
            # each rule once, however many of its series have arrived
            for rule in rules.values():
                self.evaluations += 1
                memory = self._memories.setdefault(rule.name, {})
                for sign in rule.detector(seen, rule.thresholds, memory):
                    if (verdict := self._take(rule, sign)) is not None:
                        told.append(verdict)
        return told

    def refreshed_verdicts(self) -> list[Verdict]:
        """The active verdicts that the call just made has shown again without news, as that look has them. A verdict's
        last look is then its last look. Ask right after `observe`: evidence is made of what is known now.
        """
        told = []
        for key, sign in self._again.items():
            case, fresh = self._cases[key], sign.report()
            # the remedies stay: they must not change under a person's hand
            case.report = Report(fresh.title, fresh.numbers, fresh.figure, case.report.remedies)
            case.shown = None
            told.append(self._verdict(key))
        self._again.clear()
        return told

    def note_event(self, step: int, kind: str, payload: Mapping[str, Any]) -> None:
        """Take note of a change of a control (kind "control", payload name, old, new); other events say nothing.

        What the loss is made of restarts the baselines that it invalidates; the learning rate restarts none.
        """
        if kind != "control" or "name" not in payload:
            return
        name, new = str(payload["name"]), payload.get("new")
        old = payload.get("old", self._controls.get(name))
        self._controls[name] = new
        # popped first: a mapping keeps the old place of a key, and the oldest are forgotten
        self._changes.pop(name, None)
        self._changes[name] = Change(step, old, new)
        while len(self._changes) > _CHANGES_KEPT:
            del self._changes[next(iter(self._changes))]
        if name.endswith("_weight") or name in _OBJECTIVE:
            self._objective_step = step

    def failure(self, step: int, terms: Iterable[str], message: str) -> Verdict:
        """The loss or the gradient of update `step` was not finite; `message` stands in when no term is named."""
        rule, named = self._rules["nonfinite"], list(terms) or [message]
        memory = self._memories.setdefault(rule.name, {})
        signal = {"on": True, "bad": 1, "clear": 0, "since": step, "last": step}
        memory.update({"failed": step, "terms": named, "all": {"failure": signal}})
        report = failure_report(self._seen(self._step, {}), step, named)
        self._cases[rule.name] = _Case(rule.name, True, step, step, step, 0, report)
        return self._verdict(rule.name)

    @property
    def active(self) -> list[Verdict]:
        """What was found and is not resolved, in the order in which it was first found."""
        return [self._verdict(key) for key, case in self._cases.items() if case.active]

    def state(self) -> dict[str, Any]:
        """A copy of everything the watch remembers, JSON-able; see `restore`."""
        return {
            "version": VERSION,
            "step": self._step,
            "history": self._history.state(),
            "pulse": self._plateau_detector.state(),
            "memories": _copy_plain(self._memories),
            "cases": {key: asdict(case) for key, case in self._cases.items()},
            "latest": dict(self._latest),
            "weights": dict(self._weights),
            "controls": dict(self._controls),
            "changes": {name: asdict(change) for name, change in self._changes.items()},
            "objective_step": self._objective_step,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of `state`, also after a way through JSON. A state of another version is left aside:
        the watch starts anew, as it does for a run that had none.

        Raises ValueError, and changes nothing, for what no watch has written.
        """
        if not isinstance(state, Mapping):
            raise ValueError(f"the memory of the detectors is {str(state)[:60]!r}, not an object")
        if state.get("version") != VERSION:
            return
        # loaded into another watch: what fails half way must not leave half of it here
        fresh = Watch(self.facts)
        try:
            fresh._load(state)
        except BAD_VALUES as error:
            raise ValueError(
                f"the memory of the detectors is damaged ({str(error) or type(error).__name__})"
            ) from error
        for name in _REMEMBERED:
            setattr(self, name, getattr(fresh, name))

    def _load(self, state: Mapping[str, Any]) -> None:
        """Take over a state that nobody has looked at. Raises any of `BAD_VALUES`, half way."""
        self._step = _check_type(int, state["step"])
        self._history.restore(state["history"])
        self._plateau_detector.restore(state["pulse"])
        memories = {
            name: _check_type(dict, memory) for name, memory in state["memories"].items() if name in self._rules
        }
        self._memories = _copy_plain(memories)
        self._cases = {
            key: _case_from_state(case) for key, case in state["cases"].items() if case["rule"] in self._rules
        }
        self._latest = {name: _check_number(value) for name, value in state["latest"].items()}
        self._weights = {name: _check_number(value) for name, value in state["weights"].items()}
        self._controls = dict(_check_type(dict, state["controls"]))
        self._changes = {name: Change(**change) for name, change in state["changes"].items()}
        for change in self._changes.values():
            _check_type(int, change.step)
        self._objective_step = None if state["objective_step"] is None else _check_type(int, state["objective_step"])

    def _route(self, name: str) -> tuple[bool, tuple[Rule, ...]]:
        """Whether a series is kept, and the rules that look when it arrives."""
        rules = self._rules.values()
        route = any(rule.keeps_series(name) for rule in rules), tuple(rule for rule in rules if rule.reads_series(name))
        # names are a stranger's where a run was not written by this program: the table has an end
        if len(self._routes) < _MOST_ROUTES:
            self._routes[name] = route
        return route

    def _note_weights(self, step: int, weights: Mapping[str, float]) -> None:
        if self._weights == weights:
            return
        if self._weights:
            self._objective_step = step
        self._weights = dict(weights)

    def _withdraw_unweighted(self) -> list[Verdict]:
        """A verdict about a term ends with the term's weight."""
        told = []
        for key, case in self._cases.items():
            _, _, term = key.partition(":")
            if case.active and term and self._rules[case.rule].per_term and not self._weights.get(term):
                self._end(case)
                memory = self._memories[case.rule]
                memory.pop(term, None)
                memory.get("log", {}).pop(term, None)
                told.append(self._verdict(key))
        return told

    def _seen(self, step: int, values: dict[str, float]) -> RuleContext:
        return RuleContext(
            facts=self.facts,
            step=step,
            values=values,
            latest=self._latest,
            weights=self._weights,
            history=self._history,
            armed=self._plateau_detector.armed,
            controls=self._controls,
            changes=self._changes,
            objective_step=self._objective_step,
        )

    def _take(self, rule: Rule, sign: Signal) -> Verdict | None:
        """Keep a rule's judgement; the verdict, when there is something to tell."""
        key = f"{rule.name}:{sign.key}" if sign.key else rule.name
        case = self._cases.get(key)
        if not sign.on:
            if case is None or not case.active:
                return None
            ended = case.report
            self._end(case)
            case.report = Report(ended.title, ended.numbers, sign.report().figure or ended.figure, ended.remedies)
            return self._verdict(key)
        if case is not None and case.active:
            case.moving = sign.moving
            if sign.moving:
                case.report, case.shown = sign.report(), self._step
                return self._verdict(key)
            if sign.last < self._step:  # not seen this time: its numbers would show less than what was found
                return None
            case.last = sign.last
            case.looks += 1
            if case.looks % TELL_EVERY:
                self._again[key] = sign
                return None
            case.report, case.shown = sign.report(), None
            return self._verdict(key)
        report = sign.report()
        proposed = sorted({name for remedy in report.remedies for name in remedy.get("changes") or {}})
        self._cases[key] = _Case(rule.name, True, sign.since, sign.last, self._step, 0, report, proposed=proposed)
        return self._verdict(key)

    def _past_title(self, key: str, case: _Case) -> str:
        """Title of a case that is over, in the past tense, with what was changed before it ended."""
        rule, (_, _, term) = self._rules[case.rule], key.partition(":")
        about = f"{name_words(term)}: " if term else ""
        title = f"{about}{rule.past}, up to step {case.last:,}"
        if case.change is None:
            return title
        change = case.change
        moved = change_words(change["name"], change["old"], change["new"])
        return f"{title}; over after {moved} at step {change['step']:,}"

    def _end(self, case: _Case) -> None:
        """Note that a case is over, since when, and after which change: one that was proposed, else the newest."""
        case.active, case.moving, case.ended = False, False, self._step
        since = [(name, change) for name, change in self._changes.items() if change.step >= case.since]
        wanted = [one for one in since if one[0] in case.proposed] or since
        if wanted:
            name, change = max(wanted, key=lambda one: one[1].step)
            case.change = {"name": name, "old": change.old, "new": change.new, "step": change.step}

    def _verdict(self, key: str) -> Verdict:
        case = self._cases[key]
        report = case.report
        evidence: dict[str, Any] = {"numbers": report.numbers, "figure": report.figure, "raised_at": case.raised}
        if case.moving:
            evidence["moving"] = True
        if case.shown is not None and case.shown != case.last:
            evidence["shown_at"] = case.shown
        if not case.active:
            evidence["resolved"] = {"step": case.ended, "change": case.change, "was": report.title}
        return Verdict(
            id=key,
            name=case.rule,
            since_step=case.since,
            last_step=case.last,
            state="active" if case.active else "resolved",
            evidence=evidence,
            title=report.title if case.active else self._past_title(key, case),
            explanation=self._rules[case.rule].explanation,
            remedies=report.remedies if case.active else [],
        )


_REMEMBERED = (
    "_step", "_history", "_plateau_detector", "_memories", "_cases", "_latest", "_weights", "_controls", "_changes",
    "_objective_step",
)  # fmt: skip
"""All that a state holds."""


def _check_type(kind: type[T], value: Any) -> T:
    """The same value. Raises TypeError unless it is of just this type: a truth value is no number."""
    if type(value) is not kind:
        raise TypeError(f"{str(value)[:60]!r} is no {kind.__name__}")
    return value


def _check_number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError(f"{str(value)[:60]!r} is no finite number")
    number: float = value
    return number


def _case_from_state(values: Mapping[str, Any]) -> _Case:
    """A case as `asdict` and JSON have made it."""
    report = Report(**_copy_plain(values["report"]))
    for kind, one in ((str, report.title), (list, report.numbers), (list, report.remedies)):
        _check_type(kind, one)
    for part in (*report.numbers, *report.remedies, *([] if report.figure is None else [report.figure])):
        _check_type(dict, part)
    found = _Case(**{**values, "report": report})
    for whole in (found.since, found.last, found.raised, found.looks, found.ended):
        _check_type(int, whole)
    for truth in (found.active, found.moving):
        _check_type(bool, truth)
    for name in _check_type(list, found.proposed):
        _check_type(str, name)
    if found.change is not None:
        _check_type(dict, found.change)
    if found.shown is not None:
        _check_type(int, found.shown)
    return found


def _copy_plain(value: Any) -> Any:
    """A deep copy of plain data, so that a restored watch shares nothing with the state it came from."""
    if isinstance(value, Mapping):
        return {key: _copy_plain(item) for key, item in value.items()}
    return [_copy_plain(item) for item in value] if isinstance(value, list | tuple) else value
