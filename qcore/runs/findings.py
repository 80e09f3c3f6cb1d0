"""Findings as a page or the CLI shows them: what the run's worker wrote, and what a person said about each.

The worker alone writes findings. That a person has seen or muted one is a command like any other, so it can be said of
a finished run too: the newest command about a finding is what counts, whether a worker has taken it or not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from qcore.config import Acknowledge, Mute
from qcore.detect import RULES
from qcore.store import Command as CommandRow
from qcore.store import Finding


@dataclass(frozen=True)
class FindingInfo(Finding):
    """A finding with what was said of it.

    Attributes:
        evidence: {"numbers": […], "figure": …}.
        remedies: {"label", "why", "kind", "changes"} each.
        acknowledged, muted: said by a person.
    """

    acknowledged: bool = False
    muted: bool = False

    @property
    def needs_attention(self) -> bool:
        """Whether it calls for attention: active, not muted, and nobody has acknowledged it."""
        return self.state == "active" and not self.acknowledged and not self.muted


@dataclass(frozen=True)
class RuleInfo:
    """What a detector looks for.

    Attributes:
        faults: codes of the bank.
        thresholds: every number it compares with.
        false_alarms: how often it spoke in healthy runs, as measured.
        reads: series that make it look.
    """

    name: str
    faults: tuple[str, ...]
    title: str
    explanation: str
    thresholds: dict[str, float]
    false_alarms: str
    reads: tuple[str, ...]


def rule_infos() -> list[RuleInfo]:
    """The table of rules, in the order of the fault bank."""
    return [
        RuleInfo(
            name=rule.name,
            faults=rule.faults,
            title=rule.title,
            explanation=rule.explanation,
            thresholds=dict(rule.thresholds),
            false_alarms=rule.false_alarms,
            reads=rule.reads,
        )
        for rule in RULES
    ]


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
            **vars(finding),
            # One that was raised anew since then calls again.
            acknowledged=finding.since_step <= acknowledged.get(finding.id, -1),
            muted=finding.id in muted,
        )
        for finding in findings
    ]
    return sorted(infos, key=lambda info: (info.state != "active", info.since_step, info.id))
