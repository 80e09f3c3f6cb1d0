"""A finding's badges, grade and causes, in words and HTML: the same on cards, in tables and in the control room.

A grade has a colour only while the finding stands: red is broken, orange weak, blue a note. What is in transition is
violet, neither wrong as it was nor well; green is kept for what is well again.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

from pages.session import selection
from pages.widgets import boxes
from qcore.lab import FindingInfo
from qcore.viz import change_words, limit_words, name_words, number_words, spell_out_numbers

GRADES = ("broken", "weak", "note")
ACTIVE, RESOLVED, MUTED = KINDS = ("active", "resolved", "muted")
_GRADES: Mapping[str, tuple[selection.Color, str]] = {
    "broken": ("red", "Broken: what is trained, measured or generated is not what it is taken for."),
    "weak": ("orange", "Weak: it works, and less well than it could."),
    "note": ("blue", "Worth knowing: nothing is wrong yet."),
}
_ROLES = {
    "cause": "Names what is wrong.",
    "symptom": "Follows from something else: what it may be is listed, with what was ruled out.",
}
_STATES: Mapping[str, tuple[selection.Color, str, str]] = {
    "moving": (
        "violet",
        "in transition",
        "The newest measurements no longer show it, and it is not well yet: they lie between the two limits, or on the "
        "other side of the healthy range.",
    ),
    "seen": ("gray", "acknowledged", "Wrong now; a user has acknowledged it."),
    RESOLVED: ("green", "resolved", "Was wrong; the measurements are back in their range, on both of its sides."),
    MUTED: ("gray", "muted", "Muted by a user: it raises no alert."),
}
BOX: Mapping[str, boxes.Kind] = {"broken": "error", "weak": "warning", "note": "info"}
"""How the control room draws what calls for attention, by the worst grade."""


def kind_of(finding: FindingInfo) -> str:
    """`active`, `resolved` or `muted`."""
    return MUTED if finding.muted else RESOLVED if finding.state == RESOLVED else ACTIVE


def urgency(finding: FindingInfo) -> tuple[int, bool, int, bool, int]:
    """What sorts findings: active first, new ones, the worst grade, causes before symptoms, the earliest."""
    return (
        KINDS.index(kind_of(finding)),
        finding.acknowledged,
        GRADES.index(finding.grade),
        finding.role == "symptom",
        finding.since_step,
    )


def count_words(findings: Iterable[FindingInfo]) -> str:
    """How many findings there are of each grade: `2 broken · 1 note`."""
    grades = [finding.grade for finding in findings]
    return " · ".join(f"{grades.count(grade)} {grade}" for grade in GRADES if grade in grades)


def worst_grade(findings: Iterable[FindingInfo]) -> str:
    """The worst grade of some findings; `note` for none."""
    return min((finding.grade for finding in findings), key=GRADES.index, default="note")


def colour_of(grade: str) -> selection.Color:
    """The colour of a grade."""
    return _GRADES[grade][0]


def badges_html(finding: FindingInfo) -> str:
    """Grade, role and state of a finding."""
    kind, evidence = kind_of(finding), finding.evidence or {}
    state = "moving" if finding.condition == "in transition" else "seen" if finding.acknowledged else ""
    state = kind if kind != ACTIVE else state
    at = _look(evidence)
    data = {"finding": finding.id, "last": finding.last_step if at is None else at}
    colour, about = _GRADES[finding.grade]
    parts = []
    if kind == ACTIVE:
        quiet = state in ("moving", "seen")
        parts.append(boxes.badge_html(finding.grade, "gray" if quiet else colour, about, grade=finding.grade, **data))
    if state:
        colour, word, about = _STATES[state]
        # the first badge says of which finding and look the card is
        parts.append(boxes.badge_html(word, colour, about, state=state, **({} if parts else data)))
    parts.append(boxes.badge_html(finding.role, "gray", _ROLES[finding.role], role=finding.role))
    return "".join(parts)


def when_words(finding: FindingInfo) -> str:
    """When it was found, when a measurement showed it last, of which look its numbers are, and after what it ended."""
    over = finding.state == RESOLVED
    evidence = finding.evidence or {}
    since = f"step {finding.since_step:,}" if finding.since_step else "before the first step"
    first = f"{'found at' if over else 'since'} {since}" if finding.since_step else f"{'found ' if over else ''}{since}"
    until = f", last seen at step {finding.last_step:,}" if finding.last_step > finding.since_step else ""
    at = _look(evidence)
    look = "" if over or at is None else f", here as of step {at:,}"
    return f"{first}{until}{look}{_end_words(evidence) if over else ''} · {name_words(finding.name)}"


def _look(evidence: Mapping[str, Any]) -> int | None:
    """Step of the look that the card is of, where that is not the last one that showed the finding."""
    now = evidence.get("now") or {}
    return now.get("step", evidence.get("shown_at"))


def _end_words(evidence: Mapping[str, Any]) -> str:
    ended = evidence.get("resolved") or {}
    step, change = ended.get("step"), ended.get("change")
    if not isinstance(step, int):
        return ""
    by = ""
    if change:
        by = f" by {change_words(change['name'], change['old'], change['new'])} at step {change['step']:,}"
    return f", resolved at step {step:,}{by}"


def numbers_html(numbers: Iterable[Mapping[str, Any]]) -> str:
    """Measured values, each beside the limit that it is held against."""
    rows = []
    for number in numbers:
        unit, limit = html.escape(str(number.get("unit") or "")), number.get("limit")
        against = html.escape(limit_sentence(limit, number.get("side")))
        label, value = html.escape(name_words(str(number["label"]))), number_words(number["value"])
        rows.append(f"<tr><td>{label}</td><td><b>{value}</b> {unit}</td><td>{against}</td></tr>")
    return f'<table class="evidence">{"".join(rows)}</table>' if rows else ""


def limit_sentence(limit: float | None, side: str | None) -> str:
    """What a number is held against: `should be at most 0.336`."""
    words = limit_words(limit, side)
    return f"should be {words}" if words and side else words


def now_html(finding: FindingInfo) -> str:
    """Of a finding in transition: what the newest look has measured, and at which step."""
    now = (finding.evidence or {}).get("now") or {}
    if finding.state == RESOLVED or not now.get("numbers"):
        return ""
    return f'<p class="lab-small">Now, at step {int(now["step"]):,}:</p>{numbers_html(now["numbers"])}'


def causes_html(finding: FindingInfo) -> str:
    """Of a symptom: what it follows from, what was ruled out and by which number, and what nobody has measured."""
    evidence = finding.evidence or {}
    if finding.role != "symptom" or evidence.get("ruled_out") is None:
        return ""
    causes = [_cause(one) for one in evidence.get("causes") or ()]
    parts = [f"<p><b>Follows from:</b> {', '.join(causes)}. What to do is on its card.</p>"] if causes else []
    if not causes:
        parts.append("<p><b>Cause not found.</b></p>")
    parts.append(_listed("Ruled out", [_measured(one) for one in evidence["ruled_out"]]))
    parts.append(_listed("Not decided", [_measured(one) for one in evidence.get("open") or ()]))
    missing = [f"{_title(one)}: needs {html.escape(str(one['label']))}" for one in evidence.get("not_measured") or ()]
    parts.append(_listed("Not measured", missing))
    return f'<div class="finding-causes">{"".join(parts)}</div>'


def _listed(title: str, lines: list[str]) -> str:
    """A list that opens on a click: it is long, and read when one asks."""
    if not lines:
        return ""
    items = "".join(f"<li>{line}</li>" for line in lines)
    return f"<details><summary>{title} ({len(lines)})</summary><ul>{items}</ul></details>"


def _title(one: Mapping[str, Any]) -> str:
    return html.escape(spell_out_numbers(str(one["title"])))


def _cause(one: Mapping[str, Any]) -> str:
    return f"“{_title(one)}”{'' if one.get('active') else ', which is over'}"


def _measured(one: Mapping[str, Any]) -> str:
    limit = limit_words(one.get("limit"), one.get("side"))
    unit = html.escape(f" {one['unit']}" if one.get("unit") else "")
    held = f" (should be {html.escape(limit)})" if limit else ""
    number = f"{html.escape(name_words(str(one['label'])))} <b>{number_words(one['value'])}</b>{unit}{held}"
    return f"{_title(one)}: {number}, step {int(one['step']):,}"
