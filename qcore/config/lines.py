"""Schedules, rules and limits against the controls that they name: which exist, which may change, to which values.

find gives the declaration behind a name; check the declared name of a control that may be set to a value. Both raise
`ConfigError`, and every refusal here names the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from qcore.config.controls import ConfigError, Control
from qcore.config.rule_text import Action, Limit, WhenRule, parse_limits, parse_rules
from qcore.config.schedule_text import Schedule, parse_schedule
from qcore.config.texts import TextLine

Find = Callable[[str], Control]
Check = Callable[[str, object], str]


def checked_schedule(lines: list[str], find: Find, check: Check) -> Schedule:
    """What a schedule says, under the declared names."""
    schedule = parse_schedule(lines)
    changes, ramps = [], []
    for change in schedule.changes:
        with change.line.named():
            changes.append(replace(change, name=check(change.name, change.value)))
    for ramp in schedule.ramps:
        with ramp.line.named():
            name = _number(ramp.name, find, "cannot follow a ramp: it is not a number; set it at single steps")
            for value in ramp.values:
                check(name, value)
            ramps.append(replace(ramp, name=name))
    return Schedule(tuple(changes), tuple(ramps))


def checked_rules(lines: list[str], find: Find, check: Check) -> tuple[WhenRule, ...]:
    """What rules say, under the declared names."""
    return tuple(replace(rule, actions=_actions(rule, find, check)) for rule in parse_rules(lines))


def _actions(rule: WhenRule, find: Find, check: Check) -> tuple[Action, ...]:
    actions = []
    with rule.line.named():
        for action in rule.actions:
            if action.operator == "=":
                name = check(action.name, action.value)
            else:
                name = _number(action.name, find, f"{action.operator} {action.value} is refused: it is not a number")
                if not find(name).live:
                    raise ConfigError(f"{name} cannot change while training: name a live control")
            actions.append(replace(action, name=name))
    return tuple(actions)


def checked_limits(lines: list[str], find: Find) -> dict[str, Limit]:
    """Limits by declared name, each within the control's own range."""
    limits = {}
    for limit in parse_limits(lines):
        with limit.line.named():
            control = find(limit.name)
            if not control.live:
                raise ConfigError(f"{control.name} cannot change while training: it needs no limit")
            for bound in (limit.low, limit.high):
                if bound is not None:
                    control.check(bound)
            limits[control.name] = replace(limit, name=control.name)
    return limits


def _number(name: str, find: Find, otherwise: str) -> str:
    """The declared name of a control that is a number. `ConfigError`, which says `otherwise`, for another."""
    control = find(name)
    if control.kind not in ("float", "int"):
        raise ConfigError(f"{control.name} {otherwise}")
    return control.name


def assignments(found: object, find: Find) -> Iterator[tuple[TextLine, Control, object]]:
    """Line, control and value of everything that a schedule or rules set; of `*=` and `+=` the value that they make of
    the control's default, which is what a model that has nothing for it keeps.
    """
    if isinstance(found, Schedule):
        yield from ((change.line, find(change.name), change.value) for change in found.changes)
        yield from ((ramp.line, find(ramp.name), value) for ramp in found.ramps for value in ramp.values)
    elif isinstance(found, tuple):
        for rule in found:
            for action in rule.actions:
                control = find(action.name)
                yield rule.line, control, _target_value(action, control)


def _target_value(action: Action, control: Control) -> object:
    if action.operator == "=":
        return action.value
    return Limit(control.name).allowed(control, control.default, float(action.target(control.default)))  # type: ignore[arg-type]
