"""A case: a finding as the watch remembers it between two looks, and the way back from a checkpoint.

What a checkpoint holds is a file that anybody may have written: every value that is used later is checked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from qcore.detect.causes import GRADES, ROLES, Explanation
from qcore.detect.finding import Grade, Report, Role
from qcore.detect.rule import Rule

T = TypeVar("T")


@dataclass
class FindingCase:
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
    role: Role = "cause"
    grade: Grade = "broken"
    now: dict[str, Any] | None = None
    """Of a case in transition: step and numbers of the newest look; `report` is of the last one that showed it."""
    causes: dict[str, Any] | None = None
    """Of a symptom: what was known of its causes when it was last told (`Explanation`)."""


def check_type(kind: type[T], value: Any) -> T:
    """The same value. Raises TypeError unless it is of just this type: a truth value is no number."""
    if type(value) is not kind:
        raise TypeError(f"{str(value)[:60]!r} is no {kind.__name__}")
    return value


def case_from_state(values: Mapping[str, Any], rule: Rule) -> FindingCase:
    """A case as `asdict` and JSON have made it; what an earlier version did not write is the rule's."""
    report = Report(**copy_plain(values["report"]))
    for kind, one in ((str, report.title), (list, report.numbers), (list, report.remedies)):
        check_type(kind, one)
    for part in (*report.numbers, *report.remedies, *([] if report.figure is None else [report.figure])):
        check_type(dict, part)
    found = FindingCase(**{"role": rule.role, "grade": rule.grade, **values, "report": report})
    if found.role not in ROLES or found.grade not in GRADES:
        raise ValueError(f"a finding is {str(found.role)[:20]!r} and {str(found.grade)[:20]!r}")
    if found.causes is not None:
        found.causes = _checked_causes(found.causes)
    _check_case(found)
    return found


def _check_case(found: FindingCase) -> None:
    for whole in (found.since, found.last, found.raised, found.looks, found.ended):
        check_type(int, whole)
    for truth in (found.active, found.moving):
        check_type(bool, truth)
    for name in check_type(list, found.proposed):
        check_type(str, name)
    if found.change is not None:
        check_type(dict, found.change)
    if found.now is not None:
        check_type(int, found.now["step"])
        for one in check_type(list, found.now["numbers"]):
            check_type(dict, one)
    if found.shown is not None:
        check_type(int, found.shown)


def _checked_causes(values: Any) -> dict[str, Any]:
    """What was known of a symptom's causes. Raises what a value of another type raises."""
    causes = asdict(Explanation(**check_type(dict, copy_plain(values))))
    for found in causes.values():
        for one in check_type(list, found):
            check_type(dict, one)
    for one in causes["causes"]:
        check_type(str, one["id"])
        check_type(str, one["title"])
        check_type(bool, one["active"])
    return causes


def copy_plain(value: Any) -> Any:
    """A deep copy of plain data, so that a restored watch shares nothing with the state it came from."""
    if isinstance(value, Mapping):
        return {key: copy_plain(item) for key, item in value.items()}
    return [copy_plain(item) for item in value] if isinstance(value, list | tuple) else value
