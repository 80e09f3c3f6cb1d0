"""Findings as a page or the CLI shows them: what the run's worker wrote, and what a person said about each.

The worker alone writes findings. That a person has seen or muted one is a command like any other, so it can be said of
a finished run too: the newest command about a finding is what counts, whether a worker has taken it or not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from qcore.config import Acknowledge, Mute
from qcore.detect import (
    RULES,
    Clear,
    Rule,
    clears_of,
    grade_of,
    measured_remedies,
    offered,
    remedy_key,
    role_of,
    tried_words,
)
from qcore.store import Command as CommandRow
from qcore.store import Finding


@dataclass(frozen=True)
class FindingInfo(Finding):
    """A finding with what was said of it.

    Attributes:
        evidence: {"numbers": […], "figure": …}.
        remedies: {"label", "why", "kind", "changes", "tried"} each; none that was tried and found to be of no use.
        acknowledged, muted: said by a person.
    """

    acknowledged: bool = False
    muted: bool = False

    @property
    def needs_attention(self) -> bool:
        """Whether it calls for attention: active, not muted, and nobody has acknowledged it."""
        return self.state == "active" and not self.acknowledged and not self.muted

    @property
    def role(self) -> str:
        """`cause` or `symptom`."""
        return role_of(self.name, self.evidence)

    @property
    def grade(self) -> str:
        """`broken`, `weak` or `note`."""
        return grade_of(self.name, self.evidence)

    @property
    def condition(self) -> str:
        """`active`, `in transition` (it no longer shows, and is not well yet) or `resolved`."""
        moving = self.state == "active" and bool((self.evidence or {}).get("moving"))
        return "in transition" if moving else self.state


@dataclass(frozen=True)
class RuleLimit:
    """A number within which a cause is ruled out.

    Attributes:
        measure: a series, or a fact of the data.
        low, high: what a healthy value is at least, and at most.
    """

    measure: str
    low: float | None
    high: float | None


@dataclass(frozen=True)
class TriedRemedy:
    """What came of a remedy: `helped` of `runs` planted runs."""

    remedy: str
    helped: int
    runs: int


@dataclass(frozen=True)
class RuleInfo:
    """What a detector looks for.

    Attributes:
        faults: codes of the bank.
        thresholds: every number it compares with.
        false_alarms: how often it spoke in healthy runs, as measured.
        reads: series that make it look.
        role, grade: as a finding's.
        explained_by: of a symptom, names of the causes that it may come from, those that are in the table.
        limits: which numbers rule it out as a cause.
        remedies: what was tried where its fault was planted.
    """

    name: str
    faults: tuple[str, ...]
    title: str
    explanation: str
    thresholds: dict[str, float]
    false_alarms: str
    reads: tuple[str, ...]
    role: str
    grade: str
    explained_by: tuple[str, ...]
    limits: tuple[RuleLimit, ...]
    remedies: tuple[TriedRemedy, ...]


def rule_infos() -> list[RuleInfo]:
    """The table of rules, in the order of the fault bank."""
    known = {rule.name for rule in RULES}
    return [
        RuleInfo(
            name=rule.name,
            faults=rule.faults,
            title=rule.title,
            explanation=rule.explanation,
            thresholds=dict(rule.thresholds),
            false_alarms=rule.false_alarms,
            reads=rule.reads,
            role=rule.role,
            grade=rule.grade,
            explained_by=tuple(name for name in rule.explained_by if name in known),
            limits=tuple(_limit(rule, clear) for clear in clears_of(rule)),
            remedies=tuple(TriedRemedy(key, *tried) for key, tried in measured_remedies(rule.name)),
        )
        for rule in RULES
    ]


def _limit(rule: Rule, clear: Clear) -> RuleLimit:
    low, high = (rule.thresholds[name] if name else None for name in (clear.low, clear.high))
    return RuleLimit(clear.series or f"{clear.fact} of the data", low, high)


def finding_infos(findings: Iterable[Finding], commands: Iterable[CommandRow]) -> list[FindingInfo]:
    """Findings with what was said about them: active before resolved, the earliest first."""
    acknowledged: dict[str, float] = {}
    muted: set[str] = set()
    for row in commands:
        if row.status == "refused":
            continue
        if row.kind == Acknowledge.kind:
            acknowledged[row.payload["finding"]] = math.inf if row.step is None else row.step
        elif row.kind == Mute.kind:
            (muted.add if row.payload["muted"] else muted.discard)(row.payload["finding"])
    infos = [
        FindingInfo(
            **{**vars(finding), "remedies": offered(finding.name, finding.remedies or [])},
            # One that was raised anew since then calls again.
            acknowledged=finding.since_step <= acknowledged.get(finding.id, -1),
            muted=finding.id in muted,
        )
        for finding in findings
    ]
    return sorted(infos, key=lambda info: (info.state != "active", info.since_step, info.id))


__all__ = [
    "FindingInfo", "RuleInfo", "RuleLimit", "TriedRemedy", "finding_infos", "remedy_key", "rule_infos", "tried_words",
]  # fmt: skip
