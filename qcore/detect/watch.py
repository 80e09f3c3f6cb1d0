"""The watch over one run: it gives each measurement to the rules that read it, and tells what is new.

A pure function of what it was told, in order: no clock, no randomness, no files. `state` holds all of it as JSON, so a
resumed run finds what an undisturbed one finds. On an ordinary step only a few free scalars arrive, and only the rules
that read one of them look. What a symptom follows from is told with it (`causes`), and told again when that changes; of
remedies only those are told that would change something (`remedies`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from qcore.base import BAD_VALUES
from qcore.base.words import change_words, name_words
from qcore.detect.case import FindingCase, case_from_state, check_type, copy_plain
from qcore.detect.causes import Grounds, StandingCase, cause_words, explain
from qcore.detect.curves import SHARED, note_resume, observe_curves, restart_curves, restarts_curves
from qcore.detect.finding import Facts, Report, Verdict, room_of
from qcore.detect.history import History
from qcore.detect.plateau import PlateauDetector
from qcore.detect.remedies import that_change
from qcore.detect.rule import Change, Memory, Rule, RuleContext, Signal
from qcore.detect.table import RULES
from qcore.detect.tokens import failure_report
from qcore.detect.unmeasured import probe_report

VERSION = 3
_READABLE = (2, VERSION)
"""A state of version 2 has cases without role, grade and causes: they take those of their rules."""
TELL_EVERY = 10
"""An active verdict is news again, with new remedies, at every tenth measurement that shows it: what is offered must
not change under a person's hand, but for what the run has by now. Title, numbers and chart of every look are in
`refreshed_verdicts`."""
_MOST_ROUTES = 4096
_OBJECTIVE = frozenset({"label_smoothing", "dominance_threshold", "entropy_floor", "unlikelihood_window"})
_CHANGES_KEPT = 64
_WORDS = 200


class Watch:
    """Detectors over one run. Not thread-safe: it belongs to the training thread."""

    def __init__(self, facts: Facts, rules: Iterable[Rule] = RULES) -> None:
        self.facts = facts
        self.evaluations = 0
        """How often a rule has looked, since the start or the restore."""
        self._rules = {rule.name: rule for rule in rules if facts.family in rule.families}
        self._of_nonfinite = tuple(rule for rule in self._rules.values() if rule.reads_nonfinite)
        self._routes: dict[str, tuple[bool, tuple[Rule, ...]]] = {}
        self._history = History()
        self._plateau_detector = PlateauDetector(facts.unigram, room_of(facts))
        self._memories: dict[str, Memory] = {}
        self._cases: dict[str, FindingCase] = {}
        self._latest: dict[str, float] = {}
        self._weights: dict[str, float] = {}
        self._controls: dict[str, Any] = dict(facts.controls)
        self._changes: dict[str, Change] = {}
        self._objective_step: int | None = None
        self._again: dict[str, Signal] = {}
        self._step = -1

    def observe(self, step: int, values: Mapping[str, float], weights: Mapping[str, float]) -> list[Verdict]:
        """Judge what was measured at `step` (0: before the first update) and say what is new or has changed.

        Values that are not finite are told to the rules that ask for them alone; series that no rule reads are passed
        over. May be called several times a step,
        each with what has just arrived.

        Args:
            weights: effective weight of every term now.
        """
        self._step = step
        self._again.clear()
        self._note_weights(step, weights)
        found: dict[str, float] = {}
        broken: dict[str, float] = {}
        rules: dict[str, Rule] = {}
        for name, value in values.items():
            # a NaN compares as false with every limit: it would pass for healthy
            if not math.isfinite(value):
                broken[name] = value
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
        observe_curves(self._curves, step, found)
        rules |= self._rules_of_nonfinite(found, broken)
        told = self._withdraw_unweighted()
        active = {key: case.since for key, case in self._cases.items() if case.active}
        if rules:
            seen = self._seen(step, found, active, broken)
            # each rule once, however many of its series have arrived
            for rule in rules.values():
                self.evaluations += 1
                memory = self._memories.setdefault(rule.name, {})
                for sign in rule.detector(seen, rule.thresholds, memory):
                    if (key := self._take(rule, sign)) is None:
                        continue
                    told.append(key)
                    # a rule that comes later may read it: what follows from what is judged in one call
                    if (case := self._cases[key]).active:
                        active[key] = case.since
                    else:
                        active.pop(key, None)
        # last, when all rules have spoken: a cause may be found in the same call, after what follows from it
        told += [key for key in self._symptoms_to_tell_again() if key not in told] if told else []
        return [self._told(key) for key in told]

    def _rules_of_nonfinite(self, found: Mapping[str, float], broken: Mapping[str, float]) -> dict[str, Rule]:
        """Rules that look because a value is not finite, or is again."""
        return {
            rule.name: rule
            for rule in self._of_nonfinite
            if broken or not found.keys().isdisjoint(self._memories.get(rule.name, {}).get("all", ()))
        }

    def refreshed_verdicts(self) -> list[Verdict]:
        """The active verdicts that the call just made has shown again without news, as that look has them. A verdict's
        last look is then its last look. Ask right after `observe`: evidence is made of what is known now.
        """
        told = []
        for key, sign in self._again.items():
            case, fresh = self._cases[key], sign.report()
            # the remedies stay: they must not change under a person's hand
            remedies, keeps = case.report.remedies, sign.moving and not sign.retold
            title, numbers = (case.report if keeps else fresh).title, (case.report if keeps else fresh).numbers
            case.report = Report(title, numbers, fresh.figure, remedies)
            case.now = {"step": self._step, "numbers": fresh.numbers} if keeps else None
            if not keeps:
                case.shown = self._step if sign.retold else None
            told.append(self._told(key))
        self._again.clear()
        return told

    def note_event(self, step: int, kind: str, payload: Mapping[str, Any]) -> None:
        """Take note of what has happened to the run; kinds that are not named here say nothing.

        What the loss is made of restarts the baselines that it invalidates; the learning rate restarts none.

        Args:
            kind: `control` (payload name, old, new), a change of a control; `resume`, the run was taken up again as it
                was; `restart`, weights, model or data are others than at the step before.
        """
        if kind == "resume":
            note_resume(self._curves, step)
            if "probe_failed" in self._memories:
                self._memories["probe_failed"]["resumed"] = True
        if kind == "restart":
            restart_curves(self._curves, step)
            self._objective_step = step
        if kind == "failed_sample":
            failed = {"step": step, "prompt": str(payload["prompt"])[:_WORDS], "error": str(payload["error"])[:_WORDS]}
            self._memories.setdefault("failed_samples", {})["failed"] = failed
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
        if restarts_curves(name):
            restart_curves(self._curves, step)
            self._objective_step = step

    def probe_failed(self, step: int, name: str, why: str) -> Verdict:
        """The probe `name` has thrown and is switched off."""
        rule = self._rules["probe_failed"]
        self._memories.setdefault(rule.name, {}).setdefault("failed", {})[name] = why
        key = f"{rule.name}:{name}"
        report = probe_report(self._seen(step, {}), name, why)
        self._cases[key] = FindingCase(rule.name, True, step, step, step, 0, report)
        return self._verdict(key)

    def failure(self, step: int, terms: Iterable[str], message: str) -> Verdict:
        """The loss or the gradient of update `step` was not finite; `message` stands in when no term is named."""
        rule, named = self._rules["nonfinite"], list(terms) or [message]
        memory = self._memories.setdefault(rule.name, {})
        signal = {"on": True, "bad": 1, "clear": 0, "since": step, "last": step}
        memory.update({"failed": step, "terms": named, "all": {"failure": signal}})
        report = failure_report(self._seen(self._step, {}), step, named)
        self._cases[rule.name] = FindingCase(
            rule.name, True, step, step, step, 0, report, role=rule.role, grade=rule.grade
        )
        return self._told(rule.name)

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
            "memories": copy_plain(self._memories),
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
        if state.get("version") not in _READABLE:
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
        self._step = check_type(int, state["step"])
        self._history.restore(state["history"])
        self._plateau_detector.restore(state["pulse"])
        memories = {
            name: check_type(dict, memory)
            for name, memory in state["memories"].items()
            if name in self._rules or name == SHARED
        }
        self._memories = copy_plain(memories)
        self._cases = {
            key: case_from_state(case, self._rules[case["rule"]])
            for key, case in state["cases"].items()
            if case["rule"] in self._rules
        }
        self._latest = {name: _check_number(value) for name, value in state["latest"].items()}
        self._weights = {name: _check_number(value) for name, value in state["weights"].items()}
        self._controls = dict(check_type(dict, state["controls"]))
        self._changes = {name: Change(**change) for name, change in state["changes"].items()}
        for change in self._changes.values():
            check_type(int, change.step)
        self._objective_step = None if state["objective_step"] is None else check_type(int, state["objective_step"])

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
            restart_curves(self._curves, step)
            self._objective_step = step
        self._weights = dict(weights)

    def _withdraw_unweighted(self) -> list[str]:
        """A verdict about a term ends with the term's weight; the ids of those."""
        told = []
        for key, case in self._cases.items():
            _, _, term = key.partition(":")
            if case.active and term and self._rules[case.rule].per_term and not self._weights.get(term):
                self._end(case)
                memory = self._memories[case.rule]
                memory.pop(term, None)
                memory.get("log", {}).pop(term, None)
                told.append(key)
        return told

    @property
    def _curves(self) -> dict[str, Any]:
        """What rules about the curves share: kept among the memories, where a state of before them has none."""
        return self._memories.setdefault(SHARED, {})

    def _seen(
        self,
        step: int,
        values: dict[str, float],
        active: Mapping[str, int] | None = None,
        broken: Mapping[str, float] | None = None,
    ) -> RuleContext:
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
            active={} if active is None else active,
            curves=self._curves,
            broken=broken or {},
        )

    def _take(self, rule: Rule, sign: Signal) -> str | None:
        """Keep a rule's judgement; the verdict's id, when there is something to tell."""
        key = f"{rule.name}:{sign.key}" if sign.key else rule.name
        case = self._cases.get(key)
        if not sign.on:
            if case is None or not case.active:
                return None
            ended = case.report
            self._end(case)
            case.report = Report(ended.title, ended.numbers, sign.report().figure or ended.figure, ended.remedies)
            return key
        role, grade = sign.role or rule.role, sign.grade or rule.grade
        if case is not None and case.active:
            case.moving = sign.moving
            if not sign.moving:  # a case keeps what it was when it was seen last
                case.role, case.grade = role, grade
            else:
                self._again[key] = sign
                return None
            if sign.last < self._step:  # not seen this time: its numbers would show less than what was found
                return None
            case.last = sign.last
            case.looks += 1
            if case.looks % TELL_EVERY:
                self._again[key] = sign
                return None
            case.report, case.shown, case.now = sign.report(), None, None
            return key
        report = sign.report()
        proposed = sorted({name for remedy in report.remedies for name in remedy.get("changes") or {}})
        self._cases[key] = FindingCase(
            rule.name, True, sign.since, sign.last, self._step, 0, report, proposed=proposed, role=role, grade=grade
        )
        return key

    def _symptoms_to_tell_again(self) -> Iterator[str]:
        """The active symptoms whose causes are others than when they were told."""
        for key, case in self._cases.items():
            if case.active and case.role == "symptom" and case.causes is not None:
                known = [(one["id"], one["active"]) for one in case.causes["causes"]]
                found = explain(self._rules[case.rule], case.since, self._standing(key), self._grounds()).causes
                if known != [(one["id"], one["active"]) for one in found]:
                    yield key

    def _standing(self, but: str) -> list[StandingCase]:
        """Every finding beside one."""
        return [
            StandingCase(key, case.rule, case.active, case.ended) for key, case in self._cases.items() if key != but
        ]

    def _grounds(self) -> Grounds:
        return Grounds(
            self._rules, self._memories, self._latest, self._history, self._weights, self.facts, max(self._step, 0)
        )

    def _told(self, key: str) -> Verdict:
        """The verdict, with what is known of its causes and what can be offered now: both belong to this look."""
        case = self._cases[key]
        if case.active:
            is_symptom = case.role == "symptom"
            case.causes = (
                asdict(explain(self._rules[case.rule], case.since, self._standing(key), self._grounds()))
                if is_symptom
                else None
            )
            remedies = that_change(case.report.remedies, self._controls, self.facts.settings)
            case.report = Report(case.report.title, case.report.numbers, case.report.figure, remedies)
        return self._verdict(key)

    def _past_title(self, key: str, case: FindingCase) -> str:
        """Title of a case that is over, in the past tense, with what was changed before it ended."""
        rule, (_, _, term) = self._rules[case.rule], key.partition(":")
        about = f"{name_words(term)}: " if term else ""
        title = f"{about}{rule.past}, up to step {case.last:,}"
        if case.change is None:
            return title
        change = case.change
        moved = change_words(change["name"], change["old"], change["new"])
        return f"{title}; over after {moved} at step {change['step']:,}"

    def _end(self, case: FindingCase) -> None:
        """Note that a case is over, since when, and after which change: one that was proposed, else the newest."""
        case.active, case.moving, case.now, case.ended = False, False, None, self._step
        since = [(name, change) for name, change in self._changes.items() if change.step >= case.since]
        wanted = [one for one in since if one[0] in case.proposed] or since
        if wanted:
            name, change = max(wanted, key=lambda one: one[1].step)
            case.change = {"name": name, "old": change.old, "new": change.new, "step": change.step}

    def _verdict(self, key: str) -> Verdict:
        case = self._cases[key]
        report, causes = case.report, case.causes or {}
        evidence: dict[str, Any] = {"numbers": report.numbers, "figure": report.figure, "raised_at": case.raised}
        evidence |= {"role": case.role, "grade": case.grade, **copy_plain(causes)}
        title = f"{report.title}; {cause_words(causes)}" if case.role == "symptom" else report.title
        # what a cause needs may be the opposite of what its symptoms seem to ask for: its own card says it
        explained = any(one["active"] for one in causes.get("causes", ()))
        if case.moving:
            evidence["moving"] = True
        if case.now is not None:
            evidence["now"] = case.now
        if case.shown is not None and case.shown != case.last:
            evidence["shown_at"] = case.shown
        if not case.active:
            evidence["resolved"] = {"step": case.ended, "change": case.change, "was": title}
        return Verdict(
            id=key,
            name=case.rule,
            since_step=case.since,
            last_step=case.last,
            state="active" if case.active else "resolved",
            evidence=evidence,
            title=title if case.active else self._past_title(key, case),
            explanation=self._rules[case.rule].explanation,
            remedies=report.remedies if case.active and not explained else [],
        )


_REMEMBERED = (
    "_step", "_history", "_plateau_detector", "_memories", "_cases", "_latest", "_weights", "_controls", "_changes",
    "_objective_step",
)  # fmt: skip
"""All that a state holds."""


def _check_number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError(f"{str(value)[:60]!r} is no finite number")
    number: float = value
    return number
