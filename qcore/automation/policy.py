"""What rules and the autopilot would do at a step: a pure function of what they were shown, in order.

The autopilot acts on causes only, and with remedies only that helped where the fault was planted
(`qcore.detect.remedies`): a symptom may have another cause than the one that its remedy is for, and what nobody has
tried is a guess. `held_back` says of a finding why nothing is done about it. A person's own rules may name anything.

No torch, no files, no clock: the trainer carries the proposals out, and a dry run over a finished run's series only
lists them. Bounds, largest change and cool-down hold for every control that anything but a person changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcore.base import BAD_VALUES
from qcore.config import (
    COOL_DOWN,
    RESTORE,
    Compared,
    ConfigError,
    IsActive,
    Limit,
    WhenRule,
    check_limits,
    check_live,
    check_rules,
    finding_names,
    live_controls,
)
from qcore.detect import Verdict, helps, role_of

AUTOPILOT, RULE = "autopilot", "rule"
_CONFIRMED = 5
"""Steps for which a finding must have been active before the autopilot acts: what passes by itself needs no remedy."""


@dataclass(frozen=True)
class Proposal:
    """What should happen now.

    Attributes:
        author: rule or autopilot.
        reason: the rule's text, or finding and remedy, for the event.
        changes: control → value, bounds kept.
        verbs: restore, pause, checkpoint.
        before: step before which the trouble began, for `restore`.
    """

    author: str
    reason: str
    changes: dict[str, Any]
    verbs: tuple[str, ...] = ()
    before: int = 0


class Automation:
    """Rules, limits and autopilot of one run. Belongs to one thread; `state` is JSON and goes into every checkpoint."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._latest: dict[str, float] = {}
        self._texts: tuple[list[str], list[str]] = ([], [])
        self._rules: tuple[WhenRule, ...] = ()
        self._limits: dict[str, Limit] = {}
        self._memory: dict[str, dict[str, Any]] = {}
        self._changed: dict[str, int] = {}

    def observe(self, values: Mapping[str, float]) -> None:
        """Take note of measurements; conditions compare the newest value of a series."""
        self._latest.update(values)

    def proposals(
        self, step: int, controls: Mapping[str, Any], active: Sequence[Verdict], muted: Iterable[str] = ()
    ) -> list[Proposal]:
        """What rules and autopilot want after `step` updates, in order: rules first. Call it once a step.

        Args:
            active: the active findings.
            muted: ids of findings that a person muted; the autopilot leaves them alone.
        """
        self._read(controls["rules"], controls["limits"])
        found = [proposal for rule in self._rules if (proposal := self._ask(rule, step, controls, active))]
        if controls["autopilot"]:
            patience, left_alone = int(controls["autopilot_patience"]), set(muted)
            for verdict in active:
                if (
                    verdict.id not in left_alone
                    and not held_back(verdict)
                    and (remedy := self._next_remedy(verdict, step, controls, patience))
                ):
                    found.append(remedy)
        return found

    def changed(self, step: int, name: str) -> None:
        """A control was changed at a step by anything but a person: its cool-down begins."""
        self._changed[name] = step

    def allowed(self, step: int, name: str, old: Any, value: Any) -> Any:
        """The value that limits allow instead of `value`; `old` while the control cools down."""
        limit = self._limits.get(name, Limit(name))
        every = COOL_DOWN if limit.every is None else limit.every
        # one cool-down for rules and autopilot together: two rules that pull at one control would swing it
        if name in self._changed and step - self._changed[name] < every:
            return old
        control = live_controls(self._kind)[name]
        if control.kind not in ("float", "int"):
            return value
        return control.check(limit.allowed(control, float(old), float(value)))

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {
            "memory": {text: dict(memory) for text, memory in self._memory.items()},
            "changed": dict(self._changed),
            "latest": dict(self._latest),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of `state`; an empty one changes nothing. Raises ValueError, and changes nothing, for a
        damaged one.
        """
        if not state:
            return
        try:
            # all three are read before one is taken: half of a memory would be worse than none
            memory = {text: _checked_memory(found) for text, found in state["memory"].items()}
            changed = {name: _checked_step(step) for name, step in state["changed"].items()}
            latest = {name: _checked_number(value) for name, value in state["latest"].items()}
        except BAD_VALUES as error:
            raise ValueError(
                f"the memory of rules and autopilot is damaged ({str(error) or type(error).__name__})"
            ) from error
        self._memory, self._changed, self._latest = memory, changed, latest

    def _read(self, rules: list[str], limits: list[str]) -> None:
        if self._texts != (rules, limits):
            self._texts = (list(rules), list(limits))
            self._rules, self._limits = check_rules(rules, self._kind), check_limits(limits, self._kind)

    def _ask(
        self, rule: WhenRule, step: int, controls: Mapping[str, Any], active: Sequence[Verdict]
    ) -> Proposal | None:
        # by the rule's text: one that is edited is another rule and begins anew
        memory = self._memory.setdefault(rule.text, {"held": 0, "times": 0, "last": None, "since": step})
        if not all(self._holds(condition, active) for condition in rule.conditions):
            memory["held"] = 0
            return None
        # where a `restore` must go back to: the step at which the condition began to hold, not the one at which it has
        # held long enough
        memory["since"] = step if not memory["held"] else memory["since"]
        memory["held"] += 1
        resting = memory["last"] is not None and step - memory["last"] < rule.every
        if memory["held"] < rule.lasting or resting or memory["times"] >= rule.times:
            return None
        wanted = {}
        for action in rule.actions:
            old = controls[action.name]
            target = action.target(float(old)) if action.operator != "=" else action.value
            wanted[action.name] = self._limit_change(step, action.name, old, target)
        # limits may have left a value where it is: nothing has happened, and the count of times is not used up
        changes = {name: value for name, value in wanted.items() if value != controls[name]}
        if not changes and not rule.verbs:
            return None
        memory["times"] += 1
        memory["last"] = step
        began = [verdict.since_step for verdict in active if any(_means_finding(c, verdict) for c in rule.conditions)]
        return Proposal(RULE, rule.text, changes, rule.verbs, min([*began, memory["since"]]))

    def _holds(self, condition: IsActive | Compared, active: Sequence[Verdict]) -> bool:
        if isinstance(condition, IsActive):
            return any(_means_finding(condition, verdict) for verdict in active)
        value = self._latest.get(condition.series)
        return value is not None and condition.holds(value)

    def _limit_change(self, step: int, name: str, old: Any, value: Any) -> Any:
        if live_controls(self._kind)[name].kind in ("float", "int"):
            return self.allowed(step, name, old, value)
        return self.allowed(step, name, old, check_live(name, value, self._kind)[1])

    def _next_remedy(self, verdict: Verdict, step: int, controls: Mapping[str, Any], patience: int) -> Proposal | None:
        """The first remedy of a finding that was not tried yet, once the one before has had its time."""
        key = f"{AUTOPILOT} {verdict.id}"
        memory = self._memory.get(key)
        # asked at every step while the finding stands, so a gap means that it was gone
        if memory is None or step - memory["seen"] > 1:  # resolved in between: a new case
            memory = self._memory[key] = {"tried": [], "last": None, "first": step}
        memory["seen"] = step
        # a remedy takes effect over steps: the next one at once would hide what the first has done
        waiting = memory["last"] is not None and step - memory["last"] < patience
        if waiting or step - memory["first"] < min(_CONFIRMED, step):
            return None
        for remedy in verdict.remedies:
            if not _may_act(verdict, remedy) or remedy["label"] in memory["tried"]:
                continue
            try:
                changes = {
                    name: self._limit_change(step, name, controls[name], value)
                    for name, value in remedy["changes"].items()
                }
            except (ConfigError, KeyError):  # a remedy for another family's control
                memory["tried"].append(remedy["label"])
                continue
            changes = {name: value for name, value in changes.items() if value != controls[name]}
            verbs = (RESTORE,) if remedy["kind"] == RESTORE else ()
            if not changes and not verbs:
                continue
            reached = all(changes.get(name, controls[name]) == value for name, value in remedy["changes"].items())
            # a remedy cut short by a limit is not done: it goes on from there after the patience
            if reached:
                memory["tried"].append(remedy["label"])
            memory["last"] = step
            return Proposal(AUTOPILOT, f"{verdict.title}: {remedy['label']}", changes, verbs, verdict.since_step)
        return None


def held_back(verdict: Verdict) -> str:
    """Why the autopilot does nothing about a finding; empty when it may.

    >>> seen = Verdict("stuck", "stuck", 3, 9, "active", {"role": "symptom", "causes": []}, "Stuck", "", [])
    >>> held_back(seen)
    'it is a symptom, and its cause was not found'
    """
    if role_of(verdict.name, verdict.evidence) == "symptom":
        causes = [one["title"] for one in verdict.evidence.get("causes") or () if one.get("active")]
        return f"it follows from “{causes[0]}”" if causes else "it is a symptom, and its cause was not found"
    acting = [remedy for remedy in verdict.remedies if remedy["kind"] in ("set", RESTORE)]
    if not acting:
        return "no remedy of it changes the run"
    if not any(_may_act(verdict, remedy) for remedy in acting):
        return "none of its remedies was seen to help where the fault was planted"
    return ""


def _may_act(verdict: Verdict, remedy: Mapping[str, Any]) -> bool:
    return remedy["kind"] in ("set", RESTORE) and helps(verdict.name, remedy)


def _checked_memory(found: Mapping[str, Any]) -> dict[str, Any]:
    """What is remembered of a rule or a finding. Raises one of `BAD_VALUES` for anything else."""
    if "tried" in found:
        return {
            "tried": [str(label) for label in found["tried"]],
            "last": None if found["last"] is None else _checked_step(found["last"]),
            "first": _checked_step(found["first"]),
            "seen": _checked_step(found["seen"]),
        }
    return {
        "held": _checked_step(found["held"]),
        "times": _checked_step(found["times"]),
        "last": None if found["last"] is None else _checked_step(found["last"]),
        "since": _checked_step(found["since"]),
    }


def _checked_step(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{str(value)[:60]!r} is no step or count")
    return value


def _checked_number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"{str(value)[:60]!r} is no number")
    number: float = value
    return number


def _means_finding(condition: IsActive | Compared, verdict: Verdict) -> bool:
    if not isinstance(condition, IsActive) or verdict.name not in finding_names(condition.name):
        return False
    return not condition.key or verdict.id == f"{verdict.name}:{condition.key}"
